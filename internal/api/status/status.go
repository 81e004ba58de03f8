// Package status holds the words of the wire that tell an operator what a replica
// does, and which channels there are. Server and client both read and write them, as
// they do those of package api.
package status

import "time"

// Replica is what one replica answers. It says nothing that lets anybody use a
// transaction, and shows no payload, parameter or row.
type Replica struct {
	Replica     string           `json:"replica"` // random, new at each start
	Version     string           `json:"version"`
	StartedAt   time.Time        `json:"started_at"`
	State       string           `json:"state"`    // publishing, standby or orphan
	Problems    []string         `json:"problems"` // why it is not ready; none: it is
	Channels    int              `json:"channels"` // listened to
	Scripts     int              `json:"scripts"`
	QueueBytes  map[string]int64 `json:"queue_bytes"` // waiting for NATS, by delivery
	JobsRunning int              `json:"jobs_running"`
	Connections []Connections    `json:"connections"`
	// Open is how many pinned transactions there are; Transactions are the oldest of
	// them, as many as fit.
	Open         int           `json:"open_transactions"`
	Transactions []Transaction `json:"transactions"`
}

// Connections are those to PostgreSQL for one purpose.
type Connections struct {
	Pool string `json:"pool"`
	Used int    `json:"used"`
	Idle int    `json:"idle"`
}

// Transaction is a pinned transaction.
type Transaction struct {
	Key       string    `json:"key"` // tells it from others, and opens nothing
	Caller    string    `json:"caller,omitempty"`
	Script    string    `json:"script,omitempty"` // that it works on, or did last
	State     string    `json:"state"`            // active, failed or held
	Busy      bool      `json:"busy"`             // a request is being served on it
	BegunAt   time.Time `json:"begun_at"`
	ExpiresAt time.Time `json:"expires_at"`
	PID       uint32    `json:"pid"` // of the backend
}

// ChannelsRequest asks for the channels that come after one.
type ChannelsRequest struct {
	After string `json:"after,omitempty"`
}

// Channels lists channels. Where there are more, Next is what to ask after.
type Channels struct {
	Channels []Channel `json:"channels"`
	Next     string    `json:"next,omitempty"`
}

// Channel is a channel that pgbridge listens to.
type Channel struct {
	Name     string `json:"name"`
	Subject  string `json:"subject"`  // of its events, with * for what a payload decides
	Gap      string `json:"gap"`      // of its gaps
	Delivery string `json:"delivery"` // core, jetstream or durable
	Notify   bool   `json:"notify"`   // clients may notify it
}
