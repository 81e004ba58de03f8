// Package bridge carries PostgreSQL notifications to NATS.
//
// A Bridge listens on PostgreSQL channels and publishes each notification on
// a NATS subject. What it promises, for each channel:
//
//   - Order: events leave in PostgreSQL's commit order.
//   - Loss: nothing is missing outside an announced [Gap]. NOTIFY keeps nothing
//     for a listener that is away, so every reconnect is an unknown loss; the
//     bridge says between which moments of PostgreSQL's clock it lies, and puts
//     the gap where the missing events would have been.
//   - Duplicates: none. One replica publishes at a time, and JetStream events
//     carry ids that chain each to its predecessor.
//
// Data flows one way, each box a goroutine with one owner:
//
//	PostgreSQL ── lib/pq ──► listener ──► sequencer ──► queue ──► corePublisher ───► NATS
//	    ▲                                     ▲    └──► queue ──► streamPublisher ─► JetStream
//	    └────────── markers ── control ───────┘
//
// The control session holds the advisory lock that makes this replica the
// publishing one, and sends markers: notifications to the bridge itself. A
// marker that comes back proves the whole path, tells PostgreSQL's time, ends
// every pending loss with a gap, and starts a new epoch, in which the events
// of each channel are counted from 1. All listeners see notifications in one
// order, so replicas number alike without talking to each other.
//
// A replica is in one of these states:
//
//	          lock taken and own marker back
//	standby ──────────────────────────────────► publishing
//	   ▲                                          │     ▲
//	   │ another replica's                        │ lock│ lock taken again,
//	   │ publishing marker                    lost▼     │ own marker back
//	   └──────────────────────────────────────── orphan
//
// A replica that lost NATS keeps the lock until another one offers to publish.
// An orphan has lost the lock and keeps receiving into its bounded queue; as
// long as no other replica took over nothing is lost. Where
// its listening broke too, another may have published unseen: then, if it ever
// saw another replica, it gives up what it has queued and stands by.
package bridge
