package service

import "sync"

// queue holds the requests that wait and runs as many batches at a time as it
// may. Requests with one key form a lane: a lane is served one batch at a
// time, in order, and goes to the back of the line after each batch, so a
// busy key does not starve the others. Workers exist only while there is
// work.
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
	running int     // workers

	workers sync.WaitGroup
}

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
		q.workers.Go(q.work)
	}
	return nil
}

// wait returns when everything that was added has been served. Nothing may be
// added meanwhile.
func (q *queue) wait() { q.workers.Wait() }

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
		l, batch := q.take()
		if l == nil {
			return
		}
		q.serve(batch)
		q.release(l)
	}
}

// take returns the first lane in line and its next batch, or nil, which ends
// the worker.
func (q *queue) take() (*lane, []*Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ready) == 0 {
		q.running--
		return nil, nil
	}
	l := q.ready[0]
	q.ready[0] = nil
	q.ready = q.ready[1:]
	n := min(q.maxBatch, len(l.waiting))
	batch := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	l.serving = true
	q.waiting -= n
	return l, batch
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
