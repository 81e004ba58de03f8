package event

import "time"

// Epoch is the stretch of notifications after one marker. Within it the events
// of each channel are numbered from 1, on every replica alike.
type Epoch struct {
	ID    string
	Time  time.Time // carried by the marker: the epoch's events were committed after it
	Clock Clock
}

// Clock maps this process's clock to an upper bound of PostgreSQL's: a marker
// carries PostgreSQL's time at some moment after it was sent.
type Clock struct {
	Server time.Time // PostgreSQL's clock, as a marker carried it
	Sent   time.Time // this process's clock when that marker was sent
}

// Bound returns a time that PostgreSQL's clock had not passed at the local
// moment at.
func (c Clock) Bound(at time.Time) time.Time { return c.Server.Add(at.Sub(c.Sent)) }
