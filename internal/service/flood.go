package service

import "time"

const (
	// unseen is how many further requests with the subject of one that was dropped for a
	// flood are dropped without a look: they are its owner's. It is few beside what had
	// come by then.
	unseen = 1 << 10
	// unseenFor is far more than that takes. What comes later is no part of the flood.
	unseenFor = 100 * time.Millisecond
)

// flood is what was dropped last because too much waits for a look. The faster the
// rest of it is got rid of, the fewer messages of others are lost.
type flood struct {
	subject string
	left    int // of unseen
	until   time.Time
}

// floodBehind is the one that a request on a subject, which came then, was dropped for.
func floodBehind(subject string, came time.Time) flood {
	return flood{subject, unseen, came.Add(unseenFor)}
}

// again reports whether a message is more of it.
func (f *flood) again(subject string) bool {
	if f.left == 0 || subject != f.subject {
		return false
	}
	f.left--
	if time.Now().After(f.until) {
		f.left = 0
		return false
	}
	return true
}
