package copier

import (
	"crypto/sha256"
	"hash"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// maxUnanswered is how many chunks of an upload may wait, however small they
// are: each takes some memory besides its data.
const maxUnanswered = 16_384

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
	pending    int    // bytes unanswered
	unanswered int    // chunks
	seq        uint64 // of the last chunk
	ended      bool   // the empty chunk has come
	end        *service.Request
	failure    error
	finished   bool

	changed chan struct{} // something of the above did
	failed  chan struct{} // closed with the failure
}

func newUpload(r request, format script.Format, p *progress) *upload {
	return &upload{
		window: r.window, stall: r.stall, digest: sha256.New(), format: format, progress: p,
		changed: make(chan struct{}, 1), failed: make(chan struct{}),
	}
}

// take receives a chunk. It reports false when the copy has finished.
func (u *upload) take(r *service.Request) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.finished {
		return false
	}
	u.pending += len(r.Data)
	u.unanswered++
	if err := u.checkLocked(r); err != nil {
		u.failLocked(err)
	}
	u.ended = u.ended || len(r.Data) == 0
	if u.failure != nil {
		r.Data = nil // it only waits for its answer, whatever comes meanwhile
	}
	u.waiting = append(u.waiting, r)
	u.wakeLocked()
	return true
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
	case u.pending > u.window && u.pending > len(r.Data):
		return service.Errorf(service.CodeInvalidRequest, "%d bytes are unanswered, the window holds %d", u.pending, u.window)
	case u.unanswered > maxUnanswered:
		return service.Errorf(service.CodeInvalidRequest, "more than %d chunks are unanswered", maxUnanswered)
	}
	u.seq = seq
	return nil
}

func (u *upload) wakeLocked() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
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
	u.wakeLocked()
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
		if digest := r.Header.Get(service.HeaderDigest); digest != "" && !service.SameDigest(u.digest, digest) {
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
	u.mu.Unlock()
	r.Answer(service.Reply{Header: seqHeader(r)}, nil)
}

func seqHeader(r *service.Request) nats.Header {
	return nats.Header{service.HeaderSeq: {r.Header.Get(service.HeaderSeq)}}
}

// finish takes no more chunks, and returns those that are unanswered.
func (u *upload) finish() []*service.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finished = true
	unanswered := u.waiting
	if u.current != nil {
		unanswered = append([]*service.Request{u.current}, unanswered...)
	}
	if u.end != nil {
		unanswered = append(unanswered, u.end)
	}
	return unanswered
}

// answer answers what finish has returned: the end with reply, or everything
// with err.
func (u *upload) answer(unanswered []*service.Request, reply service.Reply, err error) {
	for _, r := range unanswered {
		answer, failure := service.Reply{}, err
		switch {
		case r == u.end && err == nil:
			answer = reply
			answer.Header = seqHeader(r)
		case err == nil: // it came after the end
			failure = service.Errorf(service.CodeGone, "the copy has ended")
		}
		r.Answer(answer, failure)
	}
}
