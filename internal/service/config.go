package service

import (
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

const defaultGrace = 25 * time.Second

// Config describes a service. Name, Version and ReplyPrefixes are required;
// the zero value of any other field means its documented default.
type Config struct {
	// Name of the micro service, A-Z a-z 0-9 _ -.
	Name string
	// Version of the program, semantic.
	Version string
	// Description for people who discover the service.
	Description string
	// Metadata is shown by discovery. It is called for every answer, possibly
	// from several goroutines. Nil means none.
	Metadata func() map[string]string
	// Lasting is the connection of private endpoints and of streams of chunks. NATS
	// cuts a connection that more is sent to than it can be read, and whoever may
	// only send requests to other endpoints does not reach this one. A stream goes
	// there when both connections lead to the same server, which then knows for
	// certain who listens; one that cannot go there notices a client that has gone by
	// the stall time alone. Nil means the service's own connection.
	Lasting *nats.Conn
	// QueueGroup that all replicas share. Default: the name.
	QueueGroup string
	// ReplyPrefixes are the tokens a reply subject may begin with: _INBOX
	// allows _INBOX.x and not _INBOXES.x. Requests that want their answer
	// elsewhere are dropped: NATS does not check a reply subject against the
	// permissions of its sender, so the answer would go wherever this process
	// may publish.
	ReplyPrefixes []string
	// Refuse says why requests are refused now, where they are. It must not
	// block. Nil means that they never are.
	Refuse func() error
	// Budget is what requests may hold in memory, from their receipt to their
	// answer. Nil means no limit.
	Budget *budget.Budget
	// Share is how much of an endpoint's waiting places and workers one owner
	// may have alone, above 0 and at most 1. Default budget.DefaultShare.
	Share float64
	// MaxBodyBytes is how long a request's body may be, where it is not taken
	// directly; a longer one is answered too_large. Zero means as long as a
	// message can be.
	MaxBodyBytes int
	// StopGrace is how long handlers may go on after Run's context ended.
	// Default 25 s.
	StopGrace time.Duration
	// Answered is told of each answer to a request that runs something: the script,
	// empty where the request brings its own SQL, the error if there is one, and how
	// long it took since the request was received. It must not block. Nil: nobody is.
	Answered func(script string, failure *Error, took time.Duration)
	// Tracer begins a span for each request that is served. Nil means none.
	Tracer *tracing.Tracer
	// Logger receives what no client is told. Nil means none.
	Logger *zap.Logger
}

var prefixPattern = regexp.MustCompile(`^[^\s.*>]+(\.[^\s.*>]+)*$`)
