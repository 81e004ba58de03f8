package copier

import (
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// fewHeaders is how many bytes of headers a chunk may bring that wait with it, out of
	// chunkCost.
	fewHeaders = 512
	// longestHeader is more than a number or a digest has.
	longestHeader = 128
)

// shed has a chunk let go of headers that nobody reads. They would be memory that no
// window counts, and the data is a part of the message that they came in.
func shed(r *service.Request) {
	bytes := 0
	for name, values := range r.Header {
		for _, value := range values {
			bytes += len(name) + len(value)
		}
	}
	if bytes <= fewHeaders {
		return
	}
	kept := nats.Header{}
	for _, name := range []string{service.HeaderSeq, service.HeaderDigest} {
		if value := r.Header.Get(name); value != "" {
			kept.Set(name, strings.Clone(value[:min(len(value), longestHeader)]))
		}
	}
	r.Header, r.Data = kept, slices.Clone(r.Data)
}
