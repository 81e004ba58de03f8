// Package inlet reads what a PostgreSQL server sends, or whoever sits on the link
// to it, and lets through what a driver can be trusted with. The server is not.
//
// What it promises:
//
//   - Memory is taken for what has come, or was found to be allowed, and not for what
//     a message says of its length: see [Frontend].
//   - What a server tells at any length, its parameters and notices, fills nothing.
//   - lib/pq, which believes a message's form, gets only such as have it: see [Strict].
package inlet

// The codes of errors that stand in the place of a row for which there is no memory.
const (
	StateNoMemory = "PGB01" // now
	StateTooLarge = "PGB02" // ever
)

// Routine is where such an error says that it comes from. Its code alone proves nothing:
// SQL raises errors with any code.
const Routine = "pgbridge"
