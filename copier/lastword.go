package copier

import (
	"sync"

	"github.com/pgbridge/pgbridge/internal/service"
)

// lastWord is the error of a copy for whoever asks first. It is all that is left of an
// upload once that has ended.
type lastWord struct {
	mu  sync.Mutex // guards err
	err error      // nil: there is nothing to tell
}

func (l *lastWord) keep(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// receive answers a chunk that comes after the end, the first one.
func (l *lastWord) receive(r *service.Request) bool {
	l.mu.Lock()
	err := l.err
	l.err = nil
	l.mu.Unlock()
	if err == nil {
		return false
	}
	r.Answer(service.Reply{}, err)
	return true
}
