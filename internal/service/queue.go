package service

import "sync"

// queue holds the requests that wait and runs as many batches at a time as it
// may. Requests with one key form a lane: a lane is served one batch at a
// time, in order, and goes to the back of the line after each batch, so a
// busy key does not starve the others. A few workers stay when there is no
// work: a new one would have to grow its stack again.
type queue struct {
	serve            func(batch []*Request)
	concurrency      int
	maxBatch         int
	maxWaiting       int
	maxWaitingPerKey int // zero: no limit

	mu      sync.Mutex // guards all below
	lanes   map[string]*lane
	ready   []*lane // lanes with something to serve that nobody serves
	waiting int     // requests in all lanes
	running int     // workers that are not resting
	resting []chan struct{}
	closing bool // no worker rests any more

	workers sync.WaitGroup
}

// maxResting is how many workers stay without work.
const maxResting = 64

type lane struct {
	key     string
	waiting []*Request
	busy    bool // in queue.ready, or being served
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

// add puts r at the end of the lane for key; an empty key is a lane of its
// own. It does not block. The error says that too many requests wait.
func (q *queue) add(key string, r *Request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= q.maxWaiting {
		return Errorf(CodeBusy, "%d requests are waiting already", q.maxWaiting)
	}
	l := q.lane(key)
	if q.maxWaitingPerKey > 0 && l.full(q.maxWaitingPerKey) {
		return Errorf(CodeBusy, "%d requests are waiting already", q.maxWaitingPerKey)
	}
	q.waiting++
	l.waiting = append(l.waiting, r)
	if l.busy {
		return nil
	}
	l.busy = true
	q.ready = append(q.ready, l)
	if q.running < q.concurrency {
		q.running++
		q.start()
	}
	return nil
}

// start has another worker work, the one that has rested least.
func (q *queue) start() {
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

func (q *queue) lane(key string) *lane {
	if key == "" {
		return &lane{}
	}
	l := q.lanes[key]
	if l == nil {
		l = &lane{key: key}
		q.lanes[key] = l
	}
	return l
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
	if len(q.ready) == 0 {
		q.running--
		if q.closing || len(q.resting) == maxResting {
			return nil, nil, nil
		}
		wake = make(chan struct{})
		q.resting = append(q.resting, wake)
		return nil, nil, wake
	}
	l := q.ready[0]
	q.ready[0] = nil
	q.ready = q.ready[1:]
	n := min(q.maxBatch, len(l.waiting))
	batch := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	l.serving = true
	q.waiting -= n
	return l, batch, nil
}

// release puts a served lane back in line, or forgets it if it is empty.
func (q *queue) release(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.serving = false
	if len(l.waiting) > 0 {
		q.ready = append(q.ready, l)
		return
	}
	l.busy = false
	delete(q.lanes, l.key)
}
