// Package sequence decides what number an event has, where a gap stands and
// whether this replica publishes. It does no I/O, starts no goroutine and never
// blocks, so that a simulation can run several replicas through every order of
// faults.
//
// Replicas agree by markers: notifications that they send to themselves and to
// each other, which PostgreSQL delivers to everybody at the same place in the
// order of notifications.
//
// A replica's states, and what leads from one to another:
//
//	standby ──── lock taken ───────► candidate
//	candidate ── lock lost ────────► standby
//	candidate ── own marker back ──► publishing
//	publishing ─ lock lost ────────► orphan
//	publishing ─ lock taken ───────► returning
//	publishing ─ superseded ───────► candidate
//	publishing ─ contradicted ─────► returning
//	orphan ───── lock taken ───────► returning
//	orphan ───── superseded ───────► standby
//	returning ── own marker back ──► publishing
//	returning ── lock lost ────────► orphan
//	returning ── superseded ───────► candidate
//
// A standby and a candidate keep what the publishing replica has not proved to be
// published. The others queue events, and only a publishing replica publishes them. A replica is superseded when another one
// holds the lock, when it took the lock again and another may have published in
// between, and also when another may have published unseen: when it is not
// publishing, may not be alone, and its connection has not proved since it began
// that nobody else held the lock.
//
// Nobody's word moves anything. A database user who may NOTIFY can send what looks
// like a marker, so one counts only from the backend that holds the lock. A
// publishing replica that is contradicted publishes nothing until its next marker
// is back: where that left the same session as its last one, the lock was its own
// all the time, and the contradiction was a lie.
package sequence
