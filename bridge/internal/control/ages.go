package control

import (
	"sync"
	"time"
)

const (
	// agesEvery is how often the oldest transaction is looked for.
	agesEvery = 5 * time.Second
	// keptAges is how many looks are kept. Where there are more every other one is
	// forgotten, so that they reach back for as long as this replica has looked.
	keptAges = 128
	// unseenAge is the age of transactions that this replica's role does not see, or
	// that were over before it looked.
	unseenAge = time.Minute
)

// ages remembers when the oldest transactions began that there were. What is committed
// after a moment belongs to a transaction that began later, or that ran at that moment,
// and so at every look before it or later than that. Its methods may be called
// concurrently.
type ages struct {
	mu    sync.Mutex // guards what follows
	looks []look     // the oldest first
	last  time.Time  // when the newest was taken, by this process's clock
}

type look struct {
	at     time.Time // by PostgreSQL's clock
	oldest time.Time // when the oldest transaction began; at, if there was none
	hidden bool      // there may be older ones
}

// due reports whether it is time to look again.
func (a *ages) due() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.last) >= agesEvery
}

// note takes what was seen.
func (a *ages) note(l look) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = time.Now()
	if a.looks = append(a.looks, l); len(a.looks) < keptAges {
		return
	}
	for i := range keptAges / 2 {
		a.looks[i] = a.looks[2*i]
	}
	a.looks = a.looks[:keptAges/2]
}

// begin is when the oldest transaction began that ran at a moment, or before that.
func (a *ages) begin(moment time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	unseen := moment.Add(-unseenAge)
	for i := len(a.looks) - 1; i >= 0; i-- {
		l := a.looks[i]
		switch {
		case l.at.After(moment):
			continue
		case !l.hidden:
			return earlier(l.oldest, moment)
		}
		return earlier(l.oldest, l.at.Add(-unseenAge))
	}
	if len(a.looks) > 0 { // what ran then may be over, or was there at the first look
		return earlier(unseen, a.looks[0].oldest)
	}
	return unseen
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
