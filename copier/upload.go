package copier

import (
	"crypto/sha256"
	"hash"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// maxUnanswered is how many chunks of an upload may wait, however small they
// are: each takes some memory besides its data.
const maxUnanswered = 16_384

// chunkCost is that memory, in bytes.
const chunkCost = 1 << 10

// upload is a copy in from chunks: the goroutine that receives requests fills
// it, and another one empties it into a connection. A chunk is answered when
// that one comes for more.
type upload struct {
	window int
	stall  time.Duration

	// The reader's.
	digest   hash.Hash
	bytes    int64
	marker   *endMarker
	format   script.Format
	progress *progress
	current  *service.Request // being read
	rest     []byte           // of it

	mu         sync.Mutex // guards the rest
	waiting    []*service.Request
	hold       *budget.Hold // the window, or what is unanswered if that is more
	pending    int          // bytes unanswered
	unanswered int          // chunks
	seq        uint64       // of the last chunk
	ended      bool         // the empty chunk has come
	end        *service.Request
	failure    error
	concluded  bool // end is being answered
	finished   bool

	last    *lastWord     // once it has finished
	changed wait.Signal   // something of the above did
	failed  chan struct{} // closed with the failure
}

// newUpload returns an upload whose window hold holds already.
func newUpload(r request, format script.Format, p *progress, hold *budget.Hold) *upload {
	return &upload{
		hold: hold, window: r.window, stall: r.stall, digest: sha256.New(), format: format, progress: p,
		changed: wait.NewSignal(), failed: make(chan struct{}), last: new(lastWord),
	}
}

// receive takes a request to <tx>.data.<id>.
func (u *upload) receive(r *service.Request) bool {
	return len(r.Tokens) == 3 && (u.take(r) || u.last.receive(r))
}

// take receives a chunk. It reports false when the copy has finished.
func (u *upload) take(r *service.Request) bool {
	shed(r)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.finished {
		return false
	}
	u.pending += len(r.Data)
	u.unanswered++
	if u.failure != nil && u.unanswered > maxUnanswered+1 {
		u.unanswered--
		r.Answer(service.Reply{}, u.failure)
		return true
	}
	if err := u.checkLocked(r); err != nil {
		u.failLocked(err)
	}
	if err := u.holdLocked(); err != nil {
		u.failLocked(service.AsError(err))
	}
	u.ended = u.ended || len(r.Data) == 0
	if u.failure != nil {
		r.Data = nil // it only waits for its answer, whatever comes meanwhile
	}
	u.waiting = append(u.waiting, r)
	u.changed.Raise()
	return true
}

// holdLocked counts what is unanswered in the memory that requests may take. A chunk
// holds its data and what is known of it.
func (u *upload) holdLocked() error {
	return u.hold.Set(max(u.window, u.pending+u.unanswered*chunkCost))
}

// checkLocked says what is wrong with the chunk that has come last.
func (u *upload) checkLocked(r *service.Request) error {
	seq, err := strconv.ParseUint(r.Header.Get(service.HeaderSeq), 10, 64)
	switch {
	case err != nil:
		return service.Errorf(service.CodeInvalidRequest, "header %s: want the number of the chunk", service.HeaderSeq)
	case u.ended:
		return service.Errorf(service.CodeInvalidRequest, "chunk %d comes after the end of the data", seq)
	case seq != u.seq+1:
		return service.Errorf(service.CodeInvalidRequest, "chunk %d comes after chunk %d: one was lost, repeated or overtaken", seq, u.seq)
	case len(r.Data) > 0 && u.pending > u.window && u.pending > len(r.Data): // the end brings nothing
		return service.Errorf(service.CodeInvalidRequest, "%d bytes are unanswered, the window holds %d", u.pending, u.window)
	case u.unanswered > maxUnanswered:
		return service.Errorf(service.CodeInvalidRequest, "more than %d chunks are unanswered", maxUnanswered)
	}
	u.seq = seq
	return nil
}

// Fail makes reading end with err; the first one counts.
func (u *upload) Fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failLocked(err)
}

func (u *upload) failLocked(err error) {
	if u.failure == nil {
		u.failure = err
		close(u.failed)
	}
	u.changed.Raise()
}

// Failed is closed when the upload has failed.
func (u *upload) Failed() <-chan struct{} { return u.failed }

// Read returns data of the next chunk, or of what is left of the last, when
// there is some. It is io.EOF after the empty chunk, whose digest was compared,
// and timeout when there was nothing for the stall time.
func (u *upload) Read(p []byte) (int, error) {
	if len(u.rest) == 0 {
		u.answerCurrent()
		if err := u.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// next waits for a chunk.
func (u *upload) next() error {
	silence := time.NewTimer(u.stall)
	defer silence.Stop()
	for {
		r, err := u.first()
		switch {
		case err != nil:
			return err
		case r != nil:
			return u.begin(r)
		}
		select {
		case <-u.changed:
		case <-silence.C:
			u.Fail(service.Errorf(service.CodeTimeout, "no chunk came for %s", u.stall))
		}
	}
}

// first takes the chunk that has waited longest, if there is one.
func (u *upload) first() (*service.Request, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failure != nil {
		return nil, u.failure
	}
	if len(u.waiting) == 0 {
		return nil, nil
	}
	r := u.waiting[0]
	u.waiting[0] = nil
	u.waiting = u.waiting[1:]
	if len(r.Data) == 0 {
		u.end = r
	} else {
		u.current = r
	}
	return r, nil
}

// begin looks at a chunk before it is read.
func (u *upload) begin(r *service.Request) error {
	if len(r.Data) == 0 {
		if digest := r.Header.Get(service.HeaderDigest); digest != "" && !api.SameDigest(u.digest, digest) {
			err := service.Errorf(service.CodeInvalidRequest, "the digest of what has come is another one than the client's")
			u.Fail(err)
			return err
		}
		return io.EOF
	}
	if err := u.marker.check(r.Data); err != nil {
		u.Fail(err)
		return err
	}
	_, _ = u.digest.Write(r.Data)
	u.bytes += int64(len(r.Data))
	u.progress.add(lines(u.format, r.Data), len(r.Data))
	u.rest = r.Data
	return nil
}

// answerCurrent tells the client that a chunk was handed to the connection.
func (u *upload) answerCurrent() {
	u.mu.Lock()
	r := u.current
	if r == nil || u.failure != nil {
		u.mu.Unlock()
		return
	}
	u.current = nil
	u.pending -= len(r.Data)
	u.unanswered--
	_ = u.holdLocked() // less than before
	u.mu.Unlock()
	r.Answer(service.Reply{Header: seqHeader(r)}, nil)
}

func seqHeader(r *service.Request) nats.Header {
	return nats.Header{service.HeaderSeq: {r.Header.Get(service.HeaderSeq)}}
}

// maxFarewells bounds how often an upload that has ended looks for chunks that came
// while it answered others.
const maxFarewells = 16

var errGone = service.Errorf(service.CodeGone, "the copy has ended")

// conclude ends the copy: it answers the end of the data with reply, or everything
// that is unanswered with err. Chunks that come meanwhile are answered behind those,
// so that nobody hears that the copy is gone before the reason, and who has heard the
// reason hears that it is gone. It reports false where err was told nobody, so that the
// last word is kept for the next chunk.
func (u *upload) conclude(reply service.Reply, err error) (told bool) {
	told = err == nil
	for range maxFarewells {
		unanswered := u.takeUnanswered(told, err)
		if len(unanswered) == 0 {
			break
		}
		if told && err != nil {
			err = errGone
		}
		u.answer(unanswered, reply, err)
		told = true
	}
	u.answer(u.finish(), reply, errGone)
	return told
}

// takeUnanswered returns what is unanswered. Where there is nothing the upload takes
// no more chunks, and keeps an error that was not told.
func (u *upload) takeUnanswered(told bool, err error) []*service.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	unanswered := u.unansweredLocked()
	if u.finished = len(unanswered) == 0; u.finished && !told {
		u.last.keep(err)
	}
	return unanswered
}

// finish takes no more chunks, and returns those that are unanswered.
func (u *upload) finish() []*service.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finished = true
	u.hold.Close()
	return u.unansweredLocked()
}

// unansweredLocked takes what is unanswered out, the end of the data last.
func (u *upload) unansweredLocked() []*service.Request {
	var all []*service.Request
	if u.current != nil {
		all = append(all, u.current)
	}
	all = append(all, u.waiting...)
	if u.end != nil && !u.concluded {
		all, u.concluded = append(all, u.end), true
	}
	u.current, u.waiting = nil, nil
	return all
}

// answer answers what was unanswered: the end with reply, or everything with err.
func (u *upload) answer(unanswered []*service.Request, reply service.Reply, err error) {
	for _, r := range unanswered {
		answer, failure := service.Reply{}, err
		switch {
		case r == u.end && err == nil:
			answer = reply
			answer.Header = seqHeader(r)
		case err == nil: // it came after the end
			failure = errGone
		}
		r.Answer(answer, failure)
	}
}
