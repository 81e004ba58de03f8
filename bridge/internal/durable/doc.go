// Package durable carries events from PostgreSQL's write-ahead log to a
// JetStream stream. What it promises, as long as JetStream keeps what it has
// acknowledged:
//
//   - Loss: nothing that was committed is missing from the stream outside an
//     announced gap. The log is kept until the stream has acknowledged.
//   - Duplicates: none in the stream. Every message names the stream's last
//     sequence, so the stream refuses what comes from a replica that fell behind,
//     and a replica begins after the stream's last message.
//   - Order: that of the commits.
//
// Where to go on is the later of three positions: what the slot was confirmed
// up to, the stream's last message, and a row in the database. Each alone can
// be missing or too old. From there a session goes through these states:
//
//	             position in the slot's past
//	      ┌──────────────────────────────────────────┐
//	      │                                          ▼
//	resume ──► skipping, until the position comes ──► publishing
//	      │                 │ it does not come       ▲
//	      │                 ▼                        │
//	      └──────────► comparing, event by event with the stream
//
// Any doubt that the stream's end cannot settle ends the session, and the next
// one resumes.
package durable
