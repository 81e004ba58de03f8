package copier

import (
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
)

// FuzzUpload wants chunks to be taken in their order only, whatever their
// headers hold.
func FuzzUpload(f *testing.F) {
	f.Add("1", "2", []byte("a"), []byte{})
	f.Add("1", "1", []byte("a"), []byte("b"))
	f.Add("1", "2", []byte("longer than the window"), []byte{})
	f.Add("", "-1", []byte{}, []byte{})
	f.Add("18446744073709551616", "+1", []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaa"), []byte("a"))
	f.Fuzz(func(t *testing.T, first, second string, data, more []byte) {
		u := newTestUpload(10)
		for _, c := range []struct {
			seq  string
			data []byte
		}{{first, data}, {second, more}} {
			u.take(&service.Request{Header: nats.Header{service.HeaderSeq: {c.seq}}, Data: c.data})
		}
		inOrder := number(first) == 1 && number(second) == 2 && len(data) > 0
		roomy := len(data) == 0 || len(more) == 0 || len(data)+len(more) <= 10
		if taken := u.failure == nil; taken != (inOrder && roomy) {
			t.Fatalf("chunks %q and %q of %d and %d bytes: %v", first, second, len(data), len(more), u.failure)
		}
		if u.failure != nil && service.AsError(u.failure).Code != service.CodeInvalidRequest {
			t.Fatalf("the failure is %v", u.failure)
		}
	})
}

// number is 0 for what is none.
func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
