package cursors

import (
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// New returns what makes a [txrunner.Runner] serve cursors; it belongs into
// [txrunner.Config.Extensions] of one Runner.
func New() txrunner.Extension {
	r := &registry{metrics: newMetrics(), open: make(map[string]*set), partings: partings{pages: make(map[string]parting)}}
	return &pinned.Extension{
		Name: verb, Accepts: accepts, Open: r.serveOpen, Metrics: r.metrics,
		Verbs: map[string]pinned.Verb{
			"fetch":  {Serve: r.serve((*set).serveFetch), Held: true, Late: r.partings.lateFetch},
			"move":   {Serve: r.serve((*set).serveMove), Held: true},
			"close":  {Serve: r.serve((*set).serveClose), Held: true, Late: lateClose},
			"stream": {Serve: r.serveStream, Held: true},
		},
	}
}

// lateClose answers a close after the end that it asks for.
func lateClose(_ *service.Request, reason string) (service.Reply, bool) {
	return service.Reply{Data: []byte(emptyObject)}, reason == readToEnd || reason == lastClosed
}
