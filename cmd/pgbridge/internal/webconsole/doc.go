// Package webconsole is the page that operators look at: what pgbridge does, live,
// over HTTP.
//
//	sampler ──every 5 s──► history ──┐
//	bridge, runner ──► snapshots ────┼─► views ──► one answer, or a stream of events
//	PostgreSQL, NATS ◄── looks ──────┘                  while somebody watches
//
// What it promises:
//
//   - It only reads. There is no request that changes anything.
//   - It shows no payload, parameter or row; payloads only where Config says so.
//   - What it costs does not grow with the number of those who watch: a snapshot is
//     shared by all of them, PostgreSQL and NATS are asked once in a while whoever
//     asks, and at most [maxStreams] streams are open. When nobody watches, nothing
//     but the history is kept.
//   - It answers to the names it is known by, so that no web page elsewhere can have
//     a browser read it, and the page runs no script but its own.
//
// The JSON is that of the snapshots' own fields, for the page alone: no program
// should depend on it.
package webconsole
