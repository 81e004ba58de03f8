// Package pinned holds pinned transactions: open transactions that requests act
// on, each on a connection of its own, with a lease and one turn at a time.
//
// [Transactions] are those of this replica. A [Transaction] is one of them. An
// [Extension], such as the packages cursors and copier make, is a further kind of
// work on scripts, which it does as a [Task] on a pinned transaction: a client's,
// or one that was begun for it.
//
// A pinned transaction is in one of these states:
//
//	         a statement fails
//	active ─────────────────────► failed
//	  │ ▲                           │ │
//	  │ └────── rollback_to ────────┘ │
//	  │ commit, rollback, lease over, │ rollback, commit, lease over,
//	  │ result too large, stop,       │ stop, connection lost
//	  ▼ connection lost               ▼
//	ended ◄───────────────────────────┘
//
// It can be held after COMMIT, for cursors that outlive that; then it serves those
// alone, until the last is closed or the lease is over.
//
// What it promises:
//
//   - One turn: requests on a transaction are served one at a time, in the order
//     received. Whoever has the turn has the connection alone. Only rollback, touch
//     and what is for a [Receiver], a chunk or an acknowledgement, take no turn.
//   - The outcome decides: after each turn the connection itself says what became
//     of the transaction.
//   - An end: a lease that is over, a rollback and a stop cancel what is being done,
//     and the connection goes back to its pool clean.
//
// Locks: [Transactions] and [Transaction] have one each, and nobody holds both, nor
// calls anything of anybody else's while holding one.
package pinned
