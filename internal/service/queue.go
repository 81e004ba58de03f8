package service

import (
	"sync"

	"github.com/pgbridge/pgbridge/internal/budget"
)

// queue holds the requests that wait and runs as many batches at a time as it
// may. Requests with one key form a lane: a lane is served one batch at a time,
// in order, and goes to the back of its line after each batch. Each owner has a
// line of its own, and the lines take turns, so neither a busy key nor a busy
// owner starves the others; nor may one owner have all places to wait or all
// workers. A few workers stay when there is no work: a new one would have to
// grow its stack again.
type queue struct {
	serve            func(batch []*Request)
	concurrency      int
	maxBatch         int
	maxWaiting       int
	maxWaitingPerKey int     // zero: no limit
	share            float64 // of places and workers, for one owner

	mu      sync.Mutex // guards all below
	lanes   map[string]*lane
	lines   map[string]*line // of owners who wait or are served
	turns   []*line          // lines with a lane that nobody serves
	waiting int              // requests in all lanes
	running int              // workers that are not resting
	serving int              // batches
	resting []chan struct{}
	closing bool // no worker rests any more

	workers sync.WaitGroup
}

// maxResting is how many workers stay without work.
const maxResting = 64

// line is what one owner has in the queue.
type line struct {
	owner   string
	lanes   []*lane // with something to serve that nobody serves
	waiting int     // requests
	serving int     // batches
}

type lane struct {
	key     string
	line    *line // of whoever began it
	waiting []*Request
	busy    bool // in line.lanes, or being served
	serving bool
}

// full reports whether another request would be over the limit. One that
// nobody has taken yet from an idle lane does not count: it is as good as
// being served.
func (l *lane) full(limit int) bool {
	if !l.serving {
		limit++
	}
	return len(l.waiting) >= limit
}

// room reports whether an owner may have one more request wait. It is for who would
// rather not take the memory that add wants its caller to have.
func (q *queue) room(owner string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := 0
	if l := q.lines[owner]; l != nil {
		waiting = l.waiting
	}
	return budget.Fits(q.maxWaiting, q.waiting, waiting, 1, q.share)
}

// add puts r at the end of its lane; an empty key is a lane of its own. It does
// not block. The error says that too many requests wait.
func (q *queue) add(p Place, r *Request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	own := q.line(p.Owner)
	if !budget.Fits(q.maxWaiting, q.waiting, own.waiting, 1, q.share) {
		return Errorf(CodeBusy, "%d requests are waiting already, %d of them of this kind or caller", q.waiting, own.waiting)
	}
	l := q.lane(p.Key, own)
	if q.maxWaitingPerKey > 0 && l.full(q.maxWaitingPerKey) {
		return Errorf(CodeBusy, "%d requests are waiting already", q.maxWaitingPerKey)
	}
	q.lines[l.line.owner] = l.line
	if l.key != "" {
		q.lanes[l.key] = l
	}
	q.waiting++
	l.line.waiting++
	l.waiting = append(l.waiting, r)
	if l.busy {
		return nil
	}
	l.busy = true
	q.enqueue(l)
	if q.mayServe(l.line) {
		q.start()
	}
	return nil
}

// enqueue puts a lane at the end of its owner's line.
func (q *queue) enqueue(l *lane) {
	if len(l.line.lanes) == 0 {
		q.turns = append(q.turns, l.line)
	}
	l.line.lanes = append(l.line.lanes, l)
}

// start has another worker work, the one that has rested least, where there may
// be one more.
func (q *queue) start() {
	if q.running >= q.concurrency {
		return
	}
	q.running++
	if last := len(q.resting) - 1; last >= 0 {
		close(q.resting[last])
		q.resting = q.resting[:last]
		return
	}
	q.workers.Go(q.work)
}

// wait returns when everything that was added has been served. Nothing may be
// added meanwhile.
func (q *queue) wait() {
	q.mu.Lock()
	q.closing = true
	for _, wake := range q.resting {
		close(wake)
	}
	q.running += len(q.resting)
	q.resting = nil
	q.mu.Unlock()
	q.workers.Wait()
}

// now returns how many requests wait and how many batches are being served.
func (q *queue) now() (waiting, serving int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.serving
}

func (q *queue) line(owner string) *line {
	if l := q.lines[owner]; l != nil {
		return l
	}
	return &line{owner: owner}
}

func (q *queue) lane(key string, own *line) *lane {
	if l := q.lanes[key]; key != "" && l != nil {
		return l
	}
	return &lane{key: key, line: own}
}

func (q *queue) work() {
	for {
		l, batch, wake := q.take()
		switch {
		case l != nil:
			q.serve(batch)
			q.release(l)
		case wake != nil:
			<-wake
		default:
			return
		}
	}
}

// take returns the first lane in line and its next batch. Without one the worker
// rests until wake is closed, or ends where that is nil.
func (q *queue) take() (_ *lane, _ []*Request, wake chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.next()
	if l == nil {
		q.running--
		if q.closing || len(q.resting) == maxResting {
			return nil, nil, nil
		}
		wake = make(chan struct{})
		q.resting = append(q.resting, wake)
		return nil, nil, wake
	}
	n := min(q.maxBatch, len(l.waiting))
	batch := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	l.serving = true
	l.line.waiting -= n
	q.waiting -= n
	return l, batch, nil
}

// mayServe reports whether an owner may have another worker.
func (q *queue) mayServe(l *line) bool {
	return budget.Fits(q.concurrency, q.serving, l.serving, 1, q.share)
}

// next takes a lane out of the first line whose owner may have another worker.
func (q *queue) next() *lane {
	for i, own := range q.turns {
		if !q.mayServe(own) {
			continue
		}
		l := own.lanes[0]
		own.lanes[0] = nil
		own.lanes = own.lanes[1:]
		copy(q.turns[i:], q.turns[i+1:])
		q.turns[len(q.turns)-1] = nil
		q.turns = q.turns[:len(q.turns)-1]
		if len(own.lanes) > 0 {
			q.turns = append(q.turns, own)
		}
		own.serving++
		q.serving++
		return l
	}
	return nil
}

// release puts a served lane back in line, or forgets it if it is empty. What
// its owner could not have before may be had now, by more workers than one.
func (q *queue) release(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.serving = false
	l.line.serving--
	q.serving--
	if len(l.waiting) > 0 {
		q.enqueue(l)
	} else {
		l.busy = false
		delete(q.lanes, l.key)
	}
	if own := l.line; own.waiting == 0 && own.serving == 0 {
		delete(q.lines, own.owner)
	}
	if len(q.turns) > 1 {
		q.start()
	}
}
