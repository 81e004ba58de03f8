package bridge

import "github.com/pgbridge/pgbridge/bridge/internal/sequence"

// Status is a snapshot for people.
type Status struct {
	Replica    string             `json:"replica"`     // random, new at each start
	State      string             `json:"state"`       // publishing, standby or orphan
	Channels   int                `json:"channels"`    // listened to
	QueueBytes map[Delivery]int64 `json:"queue_bytes"` // waiting for NATS
}

// Status returns a snapshot.
func (b *Bridge) Status() Status {
	return Status{
		Replica: b.seq.Replica, State: publicState(b.seq.State()), Channels: len(b.listener.WantedChannels()) - 1,
		QueueBytes: map[Delivery]int64{DeliveryCore: b.seq.Core.Bytes(), DeliveryJetStream: b.seq.Stream.Bytes()},
	}
}

// publicState leaves out what lasts only until a marker comes back.
func publicState(s sequence.State) string {
	switch s {
	case sequence.Candidate:
		s = sequence.Standby
	case sequence.Returning:
		s = sequence.Orphan
	}
	return s.String()
}
