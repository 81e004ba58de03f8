// Package bridge carries PostgreSQL notifications to NATS.
//
// A Bridge listens on PostgreSQL channels and publishes each notification on
// a NATS subject. What it promises, for each channel:
//
//   - Order: events leave in PostgreSQL's commit order.
//   - Loss: nothing is missing outside an announced [Gap]. NOTIFY keeps nothing
//     for a listener that is away, so some events may be missing after every
//     reconnect. The gap says between which moments of PostgreSQL's clock they
//     were committed, and stands where they would have been.
//   - Duplicates: none. One replica publishes at a time, and JetStream events
//     carry ids that chain each to its predecessor.
//
// Data flows one way, each box a goroutine with one owner:
//
//	PostgreSQL ── lib/pq ──► listener ──► sequencer ──► queue ──► core publisher ───► NATS
//	    ▲                                     ▲    └──► queue ──► stream publisher ─► JetStream
//	    └────────── markers ── control ───────┘
//
// The parts are packages below internal: listen, control, sequence, queue and
// publish, and event for what travels between them. This package checks the
// configuration, connects the parts and runs them.
//
// The control session holds the advisory lock that makes this replica the
// publishing one, and sends markers: notifications to the bridge itself. A
// marker that comes back proves the whole path, tells PostgreSQL's time, ends
// every pending loss with a gap, and starts a new epoch, in which the events
// of each channel are counted from 1. All listeners see notifications in one
// order, so replicas number alike without talking to each other.
//
// A replica is a standby, publishing, or an orphan; package sequence draws how
// one becomes the other. It publishes when it holds the lock and its own marker
// came back, and stands by when it sees the marker of another that publishes.
//
// A replica that lost NATS keeps the lock until another one offers to publish.
// An orphan has lost the lock and keeps receiving into its bounded queue; as
// long as no other replica took over nothing is lost. Where
// its listening broke too, another may have published unseen: then, if it ever
// saw another replica, it gives up what it has queued and stands by.
package bridge
