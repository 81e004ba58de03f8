package pull

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/stream"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	expiry    = 30 * time.Second // of a request
	heartbeat = 5 * time.Second
	again     = time.Second // after the server could not serve one
	drain     = 2 * time.Second

	// words is more than the server says about requests while nobody listens.
	words = 64

	// acknowledgements is what the reply subjects of a consumer's messages begin with.
	acknowledgements = "$JS.ACK."
)

var (
	// ErrTooLong says that the next message is longer than may be waiting.
	ErrTooLong = errors.New("the next message is too long")
	// ErrForbidden says that NATS has refused what asks the consumer.
	ErrForbidden = errors.New("NATS forbids asking the consumer")
)

// Options say what is asked for.
type Options struct {
	JetStream        jetstream.JetStream
	Stream, Consumer string
	Batch            int // messages that may be waiting; at least 1
	Bytes            int // of them; zero: no limit
}

// Puller asks for messages. Its methods are for one goroutine.
type Puller struct {
	nc      *nats.Conn
	sub     *nats.Subscription
	to      string // where the consumer is asked
	request []byte
	batch   int

	asked      bool   // and it has not said that this is over
	got        int    // messages since then
	reconnects uint64 // when that was

	messages chan *nats.Msg
	status   chan nats.Status
	ended    chan struct{} // closed when no more messages come
}

// Words of the server about a request, see
// https://docs.nats.io/reference/reference-protocols/nats_api_reference.
const (
	statusHeader     = "Status"
	statusAlive      = "100"
	statusBadRequest = "400"
	statusNoMessages = "404"
	statusTimeout    = "408"
	statusNobody     = "503"
)

// Open begins to ask. It does not block.
func Open(o Options) (*Puller, error) {
	p := &Puller{
		nc: o.JetStream.Conn(), to: stream.APIPrefix(o.JetStream) + "CONSUMER.MSG.NEXT." + o.Stream + "." + o.Consumer, batch: o.Batch,
		request:  fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}`, o.Batch, o.Bytes, expiry, heartbeat),
		messages: make(chan *nats.Msg, o.Batch+words), ended: make(chan struct{}),
	}
	var err error
	if p.sub, err = p.nc.ChanSubscribe(p.nc.NewInbox(), p.messages); err != nil {
		return nil, err
	}
	// nats.go calls it twice for some kinds: for Drain, and for Unsubscribe.
	ended := sync.OnceFunc(func() { close(p.ended) })
	p.sub.SetClosedHandler(func(string) { ended() })
	p.status = p.nc.StatusChanged(nats.CONNECTED)
	return p, nil
}

// Next returns a message. It waits for one until ctx ends; another error says that asking
// this way is over.
func (p *Puller) Next(ctx context.Context) (*nats.Msg, error) {
	silence := time.NewTimer(2 * heartbeat)
	defer silence.Stop()
	for {
		if err := p.ask(); err != nil {
			return nil, err
		}
		select {
		case m := <-p.messages:
			if !ours(m) {
				continue
			}
			if m.Reply != "" {
				p.got++
				p.asked = p.asked && p.got < p.batch
				return m, nil
			}
			served, err := p.heard(ctx, m)
			if err != nil {
				return nil, err
			}
			if served {
				silence.Reset(2 * heartbeat)
			}
		case <-p.status:
			silence.Reset(2 * heartbeat)
		case <-silence.C:
			if p.nc.IsConnected() {
				return nil, p.silent()
			}
			silence.Reset(2 * heartbeat)
		case <-p.ended:
			return nil, nats.ErrBadSubscription
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask asks for messages, unless that was done. A server that we are no longer connected to
// has forgotten what it was asked.
func (p *Puller) ask() error {
	reconnects := p.nc.Stats().Reconnects
	if p.asked && p.reconnects == reconnects || !p.nc.IsConnected() {
		return nil
	}
	p.asked, p.got, p.reconnects = true, 0, reconnects
	return p.nc.PublishRequest(p.to, p.sub.Subject, p.request)
}

// silent says why nothing comes. NATS tells of a refusal in words only.
func (p *Puller) silent() error {
	said := p.nc.LastError()
	if errors.Is(said, nats.ErrPermissionViolation) && strings.Contains(strings.ToLower(said.Error()), "publish to \""+strings.ToLower(p.to)+"\"") {
		return fmt.Errorf("%w: publish %s", ErrForbidden, p.to)
	}
	return jetstream.ErrNoHeartbeat
}

// heard takes what the server says about the request, and reports whether it is served or
// has ended in good order.
func (p *Puller) heard(ctx context.Context, m *nats.Msg) (served bool, err error) {
	status, description := m.Header.Get(statusHeader), strings.ToLower(m.Header.Get("Description"))
	switch {
	case status == statusAlive:
		return true, nil
	case status == statusBadRequest:
		return false, fmt.Errorf("%w: %s", jetstream.ErrBadRequest, description)
	case status == statusNobody:
		return false, nats.ErrNoResponders
	case strings.Contains(description, "consumer deleted"):
		return false, jetstream.ErrConsumerDeleted
	}
	none := p.asked && p.got == 0
	p.asked = false
	switch {
	case status == statusNoMessages || status == statusTimeout || strings.Contains(description, "batch completed"):
		return true, nil
	case strings.Contains(description, "exceeds maxbytes"):
		if none {
			return false, ErrTooLong
		}
		return true, nil
	}
	wait.For(ctx, again) // there are too many requests, or no leader
	return false, nil
}

// Close ends the asking, and calls giveBack for what has come and was not returned.
func (p *Puller) Close(giveBack func(*nats.Msg)) {
	p.nc.RemoveStatusListener(p.status)
	if err := p.sub.Drain(); err != nil {
		_ = p.sub.Unsubscribe()
	}
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for over := false; !over; {
		select {
		case m := <-p.messages:
			returned(m, giveBack)
			continue
		case <-p.ended:
		case <-ctx.Done():
			_ = p.sub.Unsubscribe()
		}
		over = true
	}
	for {
		select {
		case m := <-p.messages:
			returned(m, giveBack)
		default:
			return
		}
	}
}

// ours reports whether a message is the consumer's, or the server's word. Who knows, or
// guesses, where a consumer delivers can have answers to requests of his own sent there.
func ours(m *nats.Msg) bool {
	if m.Reply == "" {
		return m.Header.Get(statusHeader) != ""
	}
	return strings.HasPrefix(m.Reply, acknowledgements)
}

func returned(m *nats.Msg, giveBack func(*nats.Msg)) {
	if m.Reply != "" && ours(m) {
		giveBack(m)
	}
}
