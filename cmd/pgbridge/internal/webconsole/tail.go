package webconsole

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
)

const (
	tailEvery   = 250 * time.Millisecond
	maxTailed   = 50      // events at a time; those beyond are counted
	maxShown    = 4 << 10 // bytes of a payload
	tailPending = 1000    // events that wait to be shown
	tailBytes   = 1 << 20 // of them
)

// Tailed are events as they came, since the last of the like.
type Tailed struct {
	Events  []Event
	Skipped int // that came besides
}

// Event is one on its way to subscribers.
type Event struct {
	At      time.Time // when it was seen
	Subject string
	ID      string
	Payload string
	Bytes   int  // of the whole payload
	Cut     bool // the rest of it is not shown
	Binary  bool // it is no text
}

var (
	errNoPayloads = errors.New("payloads are not shown: the setting console.payloads is off")
	errNoNATS     = errors.New("NATS is not connected")
)

// serveTail sends the events of a channel as they come, where that is allowed.
func (c *Console) serveTail(rw http.ResponseWriter, r *http.Request) {
	if !c.config.Payloads || c.config.Watch == nil {
		c.refuse(rw, http.StatusForbidden, errNoPayloads)
		return
	}
	subject, err := c.subjectOf(r.Context(), r.URL.Query().Get("channel"))
	if err != nil {
		c.refuse(rw, http.StatusNotFound, err)
		return
	}
	select {
	case c.tails <- struct{}{}:
		defer func() { <-c.tails }()
	default:
		c.crowded(rw)
		return
	}
	nc, err := c.config.Watch()
	if err != nil {
		c.refuse(rw, http.StatusServiceUnavailable, errNoNATS)
		return
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = sub.SetPendingLimits(tailPending, tailBytes)
	}
	if err != nil {
		c.refuse(rw, http.StatusServiceUnavailable, errNoNATS)
		return
	}
	s, ctx, end := c.openStream(rw, r)
	if s == nil {
		return
	}
	defer end()
	t := tail{sub: sub, stream: s, filter: strings.ToLower(r.URL.Query().Get("filter"))}
	t.run(ctx)
}

// subjectOf is where a channel's events go.
func (c *Console) subjectOf(ctx context.Context, channel string) (string, error) {
	all, err := c.looks.channels.get(ctx)
	if err != nil {
		return "", err
	}
	for i := range all {
		if all[i].Name == channel {
			return all[i].Subject, nil
		}
	}
	return "", errNoChannel
}

// tail shows one viewer what comes on a subject.
type tail struct {
	sub    *nats.Subscription
	stream *stream
	filter string // in the payload, whatever its case; empty: any
	lost   int    // that found no room to wait, and were told of
}

func (t *tail) run(ctx context.Context) {
	if t.stream.send("tail", []byte(`{"Events":[],"Skipped":0}`)) != nil {
		return
	}
	for ctx.Err() == nil {
		some, err := t.collect(ctx)
		if err != nil {
			body, _ := json.Marshal(explainTail(err))
			_ = t.stream.send("fault", body)
			return
		}
		if len(some.Events) == 0 && some.Skipped == 0 {
			err = t.stream.beat()
		} else if body, encodeErr := json.Marshal(some); encodeErr == nil {
			err = t.stream.send("tail", body)
		}
		if err != nil {
			return
		}
	}
}

// collect takes what comes for a moment.
func (t *tail) collect(ctx context.Context) (Tailed, error) {
	some := Tailed{Events: []Event{}}
	until, cancel := context.WithTimeout(ctx, tailEvery)
	defer cancel()
	for {
		m, err := t.sub.NextMsgWithContext(until)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // counted below
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			lost, _ := t.sub.Dropped()
			some.Skipped += lost - t.lost
			t.lost = lost
			return some, nil
		case err != nil:
			return some, err
		}
		t.take(m, &some)
	}
}

func (t *tail) take(m *nats.Msg, some *Tailed) {
	if t.filter != "" && !strings.Contains(strings.ToLower(string(m.Data)), t.filter) {
		return
	}
	if len(some.Events) == maxTailed {
		some.Skipped++
		return
	}
	some.Events = append(some.Events, newEvent(m))
}

func newEvent(m *nats.Msg) Event {
	e := Event{At: time.Now().UTC(), Subject: m.Subject, ID: m.Header.Get(api.HeaderID), Bytes: len(m.Data)}
	data := m.Data
	if len(data) > maxShown {
		data, e.Cut = data[:maxShown], true
		for n := 0; n < utf8.UTFMax && !utf8.Valid(data); n++ { // the cut may be in a character
			data = data[:len(data)-1]
		}
	}
	if e.Binary = !utf8.Valid(data); !e.Binary {
		e.Payload = string(data)
	}
	return e
}

// explainTail says why events are not shown.
func explainTail(err error) string {
	if errors.Is(err, nats.ErrPermissionViolation) {
		return "NATS does not let pgbridge's connection for requests read these subjects"
	}
	return "the subscription has ended"
}
