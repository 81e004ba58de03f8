package copier

import (
	"crypto/rand"
	"regexp"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	defaultChunk = 128 << 10
	// maxObjectName keeps the subject that the name becomes below NATS's limit.
	maxObjectName = 1024
)

// idPattern is one token that needs no encoding.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// request is what a client asks of a copy, with limits applied.
type request struct {
	id     string
	chunk  int // bytes
	window int // bytes
	stall  time.Duration
	object *api.Object // nil: chunks
}

// readRequest takes the fields that only a copy has; maxChunk is what fits a
// message, and buckets are those that the script names.
func (c *Copier) readRequest(f service.Fields, maxChunk int, buckets []string) (request, error) {
	r := request{id: rand.Text(), chunk: min(defaultChunk, maxChunk), window: c.config.WindowBytes, stall: c.config.Stall}
	if err := f.Read("id", "a string", &r.id); err != nil {
		return r, err
	}
	if !idPattern.MatchString(r.id) {
		return r, service.Errorf(service.CodeInvalidRequest, "field \"id\": want 1 to 128 of A-Z a-z 0-9 _ -")
	}
	var err error
	if r.chunk, err = f.Bytes("chunk_bytes", r.chunk, maxChunk); err != nil {
		return r, err
	}
	if r.window, err = f.Bytes("window_bytes", r.window, c.config.WindowBytes); err != nil {
		return r, err
	}
	r.window = max(r.window, r.chunk)
	stall, err := f.Duration("stall_ms")
	if err != nil {
		return r, err
	}
	if stall > 0 {
		r.stall = min(stall, c.config.Stall)
	}
	if r.object, err = readObject(f, buckets); err != nil {
		return r, err
	}
	return r, f.End()
}

func readObject(f service.Fields, buckets []string) (*api.Object, error) {
	fields, err := f.Object("object")
	if fields == nil || err != nil {
		return nil, err
	}
	var o api.Object
	inner := service.Fields(fields)
	for name, into := range map[string]*string{"bucket": &o.Bucket, "name": &o.Name} {
		if err := inner.Read(name, "a string", into); err != nil {
			return nil, err
		}
	}
	if err := inner.End(); err != nil {
		return nil, err
	}
	switch {
	case o.Name == "" || len(o.Name) > maxObjectName || !service.Storable(o.Name):
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"object\": want a name of 1 to %d bytes without NUL", maxObjectName)
	case !slices.Contains(buckets, o.Bucket):
		return nil, service.Errorf(service.CodeDenied, "the script's setting bucket does not name the bucket %q", o.Bucket)
	}
	return &o, nil
}

// opening is the message that comes before any chunk.
func (r request) opening(tx string) api.CopyOpening {
	return api.CopyOpening{ID: r.id, Tx: tx, ChunkBytes: r.chunk, WindowBytes: r.window, StallMS: r.stall.Milliseconds()}
}
