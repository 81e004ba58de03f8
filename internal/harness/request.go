package harness

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// Subject puts the prefix before a subject that has none.
func Subject(s string) string {
	if strings.HasPrefix(s, "pgbridge.") {
		return s
	}
	return "pgbridge." + s
}

// Try sends a request below the prefix, or below a transaction's subject, with
// headers given as names and values in turn. It may be used by any goroutine.
func (w *World) Try(to, body string, headers ...string) (Reply, error) {
	m := nats.NewMsg(Subject(to))
	m.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	answer, err := w.Client.RequestMsg(m, Patience)
	if err != nil {
		return Reply{}, fmt.Errorf("request %s: %w", to, err)
	}
	return Read(answer)
}

// Ask does the same, and ends the test where there is no answer.
func (w *World) Ask(to, body string, headers ...string) Reply {
	w.T.Helper()
	r, err := w.Try(to, body, headers...)
	if err != nil {
		w.T.Fatal(err)
	}
	return r
}

// Works asks and wants no error.
func (w *World) Works(to, body string, headers ...string) Reply {
	w.T.Helper()
	r := w.Ask(to, body, headers...)
	if r.Error != nil {
		w.T.Fatalf("%s %s: %+v", to, body, *r.Error)
	}
	return r
}

// Fails asks and wants an error with this code.
func (w *World) Fails(code, to, body string, headers ...string) Reply {
	w.T.Helper()
	r := w.Ask(to, body, headers...)
	if r.Error == nil || r.Error.Code != code {
		w.T.Fatalf("%s %s answered %.300s, want the error %s", to, body, r.Body, code)
	}
	return r
}

// Inbox receives all replies to one request.
type Inbox struct {
	W    *World
	Sub  *nats.Subscription
	Last Reply // that has come
}

// Request sends a request whose answer is more than one message.
func (w *World) Request(nc *nats.Conn, to, body string) *Inbox {
	w.T.Helper()
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		w.T.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		w.T.Fatal(err)
	}
	if err := nc.PublishRequest(Subject(to), sub.Subject, []byte(body)); err != nil {
		w.T.Fatal(err)
	}
	return &Inbox{W: w, Sub: sub}
}

// Next waits for a message.
func (i *Inbox) Next() Reply {
	i.W.T.Helper()
	m, err := i.Sub.NextMsg(Patience)
	if err != nil {
		i.W.T.Fatalf("receive: %v", err)
	}
	if i.Last, err = Read(m); err != nil {
		i.W.T.Fatal(err)
	}
	return i.Last
}

// Ack acknowledges a chunk.
func (i *Inbox) Ack(r Reply) {
	i.W.T.Helper()
	if err := i.W.Client.Publish(r.Subject, nil); err != nil {
		i.W.T.Fatal(err)
	}
}
