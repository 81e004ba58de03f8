// Package jobs takes jobs from a JetStream work queue, has each run once and
// publishes its result:
//
//	                 another error, or the last attempt
//	       ┌───────────────────────────────────────────────┐
//	stream ─► run ─► committed ─► result acknowledged ─► job acknowledged
//	  ▲        │                      │ it was not
//	  │        │ unavailable, busy,   │
//	  │        │ unknown, or one of   ▼
//	  └────────┴─ several attempts ──┴── given back with a delay
//
// It promises one commit for each job id, whatever is delivered again and
// wherever a process dies: the id is stored by the run's own transaction, with
// its reply, and what is delivered again gets that reply. It forgets an id only
// when nothing of that age is left in the stream.
//
// There are Concurrency workers, and each asks for one job when it can start
// one. While the streams, the table of ids or PostgreSQL is away none does.
package jobs
