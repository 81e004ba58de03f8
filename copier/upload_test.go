package copier

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

func newTestUpload(window int) *upload {
	return newUpload(request{window: window, stall: time.Minute}, script.Text, new(progress), nil)
}

func chunk(seq int, data string) *service.Request {
	return &service.Request{Header: nats.Header{service.HeaderSeq: {strconv.Itoa(seq)}}, Data: []byte(data)}
}

func TestFailedUploadHoldsNoData(t *testing.T) {
	t.Parallel()
	u := newTestUpload(10)
	for i := range 100 {
		u.take(chunk(i+1, "12345678"))
	}
	held := 0
	for _, r := range u.waiting {
		held += len(r.Data)
	}
	if code := service.AsError(u.failure).Code; code != service.CodeInvalidRequest || held > 10 || len(u.waiting) != 100 {
		t.Errorf("%d bytes are held in %d chunks after %v", held, len(u.waiting), u.failure)
	}
}

// What is known of a chunk takes memory, too, however small the chunk is.
func TestTinyChunksCount(t *testing.T) {
	t.Parallel()
	memory := budget.New(4<<20, 1)
	u := newUpload(request{window: 1 << 20, stall: time.Minute}, script.Text, new(progress), memory.Hold("x"))
	for u.failure == nil && u.seq < maxUnanswered {
		u.take(chunk(int(u.seq)+1, "x"))
	}
	if u.failure == nil || service.AsError(u.failure).Code != service.CodeTooLarge || u.seq > 5000 {
		t.Errorf("%d chunks were taken, with the error %v", u.seq, u.failure)
	}
	u.unansweredLocked() // they are not to be answered here
	u.finish()
	if err := memory.Hold("y").Grow(4 << 20); err != nil {
		t.Errorf("something is held when the upload is over: %v", err)
	}
}

// The headers of a chunk are no part of the window, and do not wait with it.
func TestHeadersOfChunksAreNotKept(t *testing.T) {
	t.Parallel()
	u := newTestUpload(1 << 20)
	message := make([]byte, 1<<20)
	r := chunk(1, "")
	r.Data = append(message[:1<<19], "12345678"...)[1<<19:]
	r.Header.Set(service.HeaderDigest, "SHA-256="+strings.Repeat("x", 44))
	r.Header.Set("Other", strings.Repeat("x", 1<<19))
	long := chunk(2, "x")
	long.Header.Set(service.HeaderDigest, strings.Repeat("x", 1<<19))
	usual := chunk(3, "x")
	usual.Header.Set("Other", "x")
	for _, one := range []*service.Request{r, long, usual} {
		if !u.take(one) || u.failure != nil {
			t.Fatal(u.failure)
		}
	}
	held := 0
	for _, one := range u.waiting {
		held += cap(one.Data)
		for name, values := range one.Header {
			held += len(name) + len(values[0])
		}
	}
	if held > 3*chunkCost || string(r.Data) != "12345678" || r.Header.Get(service.HeaderDigest) == "" || long.Header.Get(service.HeaderDigest) == "" || usual.Header.Get("Other") == "" {
		t.Errorf("%d bytes are held, the chunks are %q %v, %v, %v", held, r.Data, r.Header, long.Header, usual.Header)
	}
}

func TestUploadOfCountlessChunks(t *testing.T) {
	t.Parallel()
	u := newTestUpload(1 << 20)
	for i := range maxUnanswered {
		u.take(chunk(i+1, "x"))
	}
	if u.failure != nil {
		t.Fatal(u.failure)
	}
	u.take(chunk(maxUnanswered+1, "x"))
	if u.failure == nil {
		t.Error("an upload takes any number of chunks that nobody has read")
	}
}
