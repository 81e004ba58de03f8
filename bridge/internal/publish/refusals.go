package publish

import "time"

const (
	refusedTries = 3           // of a message that is refused for its own sake
	refusedFor   = time.Minute // until its subject is tried again
	maxRefusals  = 1024        // subjects that are remembered
)

// refusals are the subjects on which NATS or the stream takes nothing, whatever
// happens to other subjects. The zero value is ready to use.
type refusals struct {
	subjects map[string]*refusal
}

type refusal struct {
	tries int
	until time.Time // zero: not given up
}

func (r *refusals) empty() bool { return len(r.subjects) == 0 }

// has reports whether nothing is to be published on the subject now.
func (r *refusals) has(subject string) bool {
	e := r.subjects[subject]
	return e != nil && time.Now().Before(e.until)
}

// note remembers that the subject was refused to something.
func (r *refusals) note(subject string) *refusal {
	e := r.subjects[subject]
	if e == nil {
		if r.subjects == nil || len(r.subjects) >= maxRefusals {
			r.subjects = map[string]*refusal{}
		}
		e = &refusal{}
		r.subjects[subject] = e
	}
	return e
}

// count counts a refusal of a message that was alone in flight. True means that
// there were enough of them.
func (r *refusals) count(subject string) (enough bool) {
	e := r.note(subject)
	e.tries++
	if e.tries < refusedTries {
		return false
	}
	e.until = time.Now().Add(refusedFor)
	return true
}

// stored forgets a subject on which a message was stored.
func (r *refusals) stored(subject string) { delete(r.subjects, subject) }

// renew lets every subject be tried once more: another connection may have other
// permissions.
func (r *refusals) renew() {
	for _, e := range r.subjects {
		if !e.until.IsZero() {
			e.until = time.Now()
		}
	}
}

// expire forgets what was given up long ago and not tried since.
func (r *refusals) expire() {
	for subject, e := range r.subjects {
		if !e.until.IsZero() && time.Since(e.until) > refusedFor {
			delete(r.subjects, subject)
		}
	}
}
