package jobs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/stream"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// puller asks a consumer for one job after the other. The library's way of doing that
// takes a job without a body that has a header Status for the server's word about the
// request: such a job was never taken, came back for ever, and kept or ended whoever had
// asked. What the server says itself has no reply subject, and each job has one. Its
// methods are for one goroutine.
type puller struct {
	nc      *nats.Conn
	sub     *nats.Subscription
	to      string // where the consumer is asked
	request []byte

	asked      bool   // and it has not said that this is over
	reconnects uint64 // when that was

	messages chan *nats.Msg
	status   chan nats.Status
	ended    chan struct{} // closed when no more messages come
}

// Words of the server about a request for a job, see
// https://docs.nats.io/reference/reference-protocols/nats_api_reference.
const (
	statusHeader     = "Status"
	statusAlive      = "100"
	statusBadRequest = "400"
	statusNoMessages = "404"
	statusTimeout    = "408"

	// pulled is more than there ever are: a job, and what is said about one request.
	pulled = 64
)

// pull begins to ask the consumer of a stream. It does not block.
func pull(js jetstream.JetStream, name, consumer string) (*puller, error) {
	p := &puller{
		nc: js.Conn(), to: stream.APIPrefix(js) + "CONSUMER.MSG.NEXT." + name + "." + consumer,
		request:  fmt.Appendf(nil, `{"batch":1,"expires":%d,"idle_heartbeat":%d}`, pullExpiry, pullHeartbeat),
		messages: make(chan *nats.Msg, pulled), ended: make(chan struct{}),
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

// next returns a job. It waits for one until ctx ends; an error says that asking this way
// is over.
func (p *puller) next(ctx context.Context) (*nats.Msg, error) {
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for {
		if err := p.ask(); err != nil {
			return nil, err
		}
		select {
		case m := <-p.messages:
			if m.Reply != "" {
				p.asked = false
				return m, nil
			}
			served, err := p.heard(ctx, m)
			if err != nil {
				return nil, err
			}
			if served {
				silence.Reset(2 * pullHeartbeat)
			}
		case <-p.status:
			silence.Reset(2 * pullHeartbeat)
		case <-silence.C:
			if p.nc.IsConnected() {
				return nil, jetstream.ErrNoHeartbeat
			}
			silence.Reset(2 * pullHeartbeat)
		case <-p.ended:
			return nil, nats.ErrBadSubscription
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask asks for a job, unless that was done. A server that we are no longer connected to has
// forgotten what it was asked.
func (p *puller) ask() error {
	reconnects := p.nc.Stats().Reconnects
	if p.asked && p.reconnects == reconnects || !p.nc.IsConnected() {
		return nil
	}
	p.asked, p.reconnects = true, reconnects
	return p.nc.PublishRequest(p.to, p.sub.Subject, p.request)
}

// heard takes what the server says about the request, and reports whether it is served or
// has ended in good order.
func (p *puller) heard(ctx context.Context, m *nats.Msg) (served bool, err error) {
	status, description := m.Header.Get(statusHeader), strings.ToLower(m.Header.Get("Description"))
	switch {
	case status == statusAlive:
		return true, nil
	case status == statusBadRequest:
		return false, fmt.Errorf("%w: %s", jetstream.ErrBadRequest, description)
	case strings.Contains(description, "consumer deleted"):
		return false, jetstream.ErrConsumerDeleted
	}
	p.asked = false
	if status == statusNoMessages || status == statusTimeout {
		return true, nil
	}
	wait.For(ctx, lookAgainPause) // nobody listens, there are too many requests, or no leader
	return false, nil
}

// close ends the asking, and hands back what has come meanwhile.
func (p *puller) close() {
	p.nc.RemoveStatusListener(p.status)
	if err := p.sub.Drain(); err != nil {
		_ = p.sub.Unsubscribe()
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for over := false; !over; {
		select {
		case m := <-p.messages:
			giveBack(m)
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
			giveBack(m)
		default:
			return
		}
	}
}

func giveBack(m *nats.Msg) {
	if m.Reply != "" {
		_ = m.Nak() // lost, it is delivered again a little later
	}
}
