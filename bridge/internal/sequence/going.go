package sequence

import "time"

const (
	shortestIntent = 100 * time.Millisecond
	longestIntent  = time.Second
	// intentMargin is for clocks that do not go alike.
	intentMargin = 10 * time.Millisecond
	// fenceAfter is how long a standby waits for the publishing replica to say that it
	// goes on, before it says itself that it did not.
	fenceAfter = 100 * time.Millisecond
	// peerGone is how long another replica is remembered that sends no marker.
	peerGone = 4 * 15 * time.Second
)

// going is how core NATS goes on at the replica that publishes.
type going struct {
	peerAt time.Time     // another replica's marker came
	coreAt time.Time     // an event came
	wanted bool          // a marker that lets more be published
	trip   time.Duration // of a marker's commit, of late
}

// followed is what a replica that does not publish knows of the one that does.
type followed struct {
	told   bool      // it says in its markers what it may publish
	lapses time.Time // what it said does not hold for what it receives later
	// fence is the number in the queue behind which it publishes nothing; 0: none yet.
	fence uint64
	until time.Time // what is before the fence was committed before, by PostgreSQL's clock
}

func (f *followed) forget() { *f = followed{lapses: f.lapses} }

// horizon is how much time a marker gives: enough for the next one.
func (g *going) horizon() time.Duration {
	return min(max(4*g.trip, shortestIntent), longestIntent)
}
