// Package session is one PostgreSQL connection with what is prepared on it, a
// pipeline of statements, and one way to cancel what it does. It knows nothing of
// NATS, of requests or of who asks.
//
// What it promises:
//
//   - One round trip: everything that is sent between two calls of
//     [Pipeline.Sync] travels together. What is prepared on a connection, a
//     script's statements and this program's own, is prepared once.
//   - Types that are true: beside a script's statements a statement is prepared that
//     fails when tables or types are no longer what they were. [Pipeline.Check]
//     executes it within the transaction, [Session.Moved] after an error.
//   - Nothing left behind: what clients' statements have left in the session is
//     taken away before it is used again, in a transaction of its own, whatever
//     their text is: by [Pipeline.Finish] in the round trip of COMMIT, else by
//     [Session.Clean]. A session of a pool is a clean one.
//   - No stray cancel: PostgreSQL may receive a cancel request after the
//     statement it was meant for. The session notes every request, however it was
//     made, and puts a statement that does nothing in its way before it sends the
//     next one: see [Session.Settle].
//
// A connection is outside a transaction, in one, or in a failed one, as
// PostgreSQL itself says with each answer; whoever holds it brings it back:
//
//	idle ── BEGIN ──► in a transaction ── error ──► failed
//	  ▲                      │                        │
//	  └──── COMMIT, Rollback ┴──────── Rollback ──────┘
//
// A connection that cannot be brought back is closed, and its [Pool] makes
// another.
package session
