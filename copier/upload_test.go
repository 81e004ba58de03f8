package copier

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

func newTestUpload(window int) *upload {
	return newUpload(request{window: window, stall: time.Minute}, script.Text, new(progress))
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
