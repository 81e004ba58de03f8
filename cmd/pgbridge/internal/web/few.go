package web

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// mostScrapes is far more than there are scrapers. What each is answered is some
// hundred kilobytes that are kept until it has read them.
const mostScrapes = 8

// few bounds how many requests to a handler are served at a time. One too many takes the
// place of the one that has been for the longest time: its client may not be reading.
type few struct {
	most int

	mu      sync.Mutex // guards the rest
	serving []*http.ResponseController
}

func (f *few) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		this := http.NewResponseController(rw)
		f.enter(this)
		defer f.leave(this)
		next.ServeHTTP(rw, r)
	})
}

// enter ends another answer where there are too many: what it still writes fails.
func (f *few) enter(this *http.ResponseController) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.serving) == f.most {
		_ = f.serving[0].SetWriteDeadline(time.Unix(1, 0)) // every connection of a server has one
		f.serving = f.serving[1:]
	}
	f.serving = append(f.serving, this)
}

func (f *few) leave(this *http.ResponseController) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serving = slices.DeleteFunc(f.serving, func(other *http.ResponseController) bool { return other == this })
}
