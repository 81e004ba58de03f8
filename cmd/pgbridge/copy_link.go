package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// silence is how long nothing may come before the transaction is asked
	// whether it is still there.
	silence = 10 * time.Second
	// rollbackLimit is how long giving up may take.
	rollbackLimit = 5 * time.Second
)

// errOutcomeUnknown says that the copy was asked for, or all data sent, and
// nothing heard after it.
var errOutcomeUnknown = errors.New("how the copy ended was not heard")

// errReplicaGone is NATS's word that nobody listens any more.
var errReplicaGone = errors.New("the replica that served the copy is gone")

// copyLink is the client's end of a copy.
type copyLink struct {
	nc       *nats.Conn
	inbox    string // all of its messages come below it
	messages <-chan *nats.Msg
	opening  copyOpening
}

func (l *copyLink) first() string { return l.inbox + ".0" }

// open sends the request and returns the first reply.
func (l *copyLink) open(ctx context.Context, to string, body []byte, limit time.Duration) (*nats.Msg, error) {
	if err := l.nc.PublishRequest(to, l.first(), body); err != nil {
		return nil, fmt.Errorf("request %s: %w", to, err)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case m := <-l.messages:
		if nobody(m) {
			return nil, fmt.Errorf("request %s: nobody serves it at %s", to, l.nc.ConnectedUrlRedacted())
		}
		return m, nil
	case <-limited.Done():
	}
	switch {
	case forbidden(ctx):
		return nil, fmt.Errorf("request %s: NATS forbids it: %w", to, nats.ErrPermissionViolation)
	case ctx.Err() != nil:
		return nil, unheard(fmt.Errorf("request %s: interrupted", to))
	}
	return nil, unheard(fmt.Errorf("request %s: no answer within %s", to, limit))
}

// unheard says that a copy may have been done: nobody here can stop it or hear
// how it ends.
func unheard(err error) error { return &copyError{err: errors.Join(errOutcomeUnknown, err)} }

// nobody reports whether m is NATS's word that nobody has received a request.
func nobody(m *nats.Msg) bool { return len(m.Data) == 0 && m.Header.Get("Status") == "503" }

// giveUpAfter rolls the copy's transaction back when it has failed on this
// side. The error says so where that was too late, or nobody answered.
func (l *copyLink) giveUpAfter(err error) error {
	var told *copyError
	if err == nil || errors.As(err, &told) || l.rollback() {
		return err
	}
	return unheard(err) // if it is not over it stalls, and ends so
}

// rollback reports whether the copy's transaction was rolled back.
func (l *copyLink) rollback() bool {
	m, err := l.nc.Request(l.opening.Tx+".rollback", nil, rollbackLimit)
	return err == nil && !nobody(m) && errorIn(m) == nil
}

// next returns the next message. Where none comes for a while it asks whether
// the transaction is still there.
func (l *copyLink) next(ctx context.Context) (*nats.Msg, error) {
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		select {
		case m := <-l.messages:
			if nobody(m) {
				return nil, &copyError{err: errReplicaGone}
			}
			return m, nil
		case <-ctx.Done():
			return nil, interruption(ctx)
		case <-timer.C:
		}
		if err := l.alive(); err != nil && len(l.messages) == 0 {
			return nil, err
		}
		timer.Reset(silence)
	}
}

func interruption(ctx context.Context) error {
	if forbidden(ctx) {
		return fmt.Errorf("NATS forbids it: %w", nats.ErrPermissionViolation)
	}
	return errors.New("interrupted")
}

func (l *copyLink) alive() error {
	m, err := l.nc.Request(l.opening.Tx+".touch", nil, silence)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return &copyError{err: errReplicaGone}
	case err != nil:
		return fmt.Errorf("nothing is heard of the copy: %w", err)
	}
	if failure := errorIn(m); failure != nil {
		return &copyError{failure: failure}
	}
	return nil
}

// errorIn returns the error that a reply is, or nil.
func errorIn(m *nats.Msg) *service.Error {
	if m.Header.Get("Nats-Service-Error-Code") == "" {
		return nil
	}
	var body struct {
		Error *service.Error `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &body); err != nil || body.Error == nil {
		return service.Errorf(service.CodeInternal, "%s", m.Header.Get("Nats-Service-Error"))
	}
	return body.Error
}

// download writes the chunks to out and acknowledges them.
func (l *copyLink) download(ctx context.Context, out io.Writer, progress func(int)) (copied, error) {
	var n copied
	digest := sha256.New()
	for seq := 1; ; seq++ {
		m, err := l.next(ctx)
		if err != nil {
			return n, err
		}
		if failure := errorIn(m); failure != nil {
			return n, &copyError{failure: failure}
		}
		if len(m.Data) == 0 {
			n.rows, err = endOf(m, n.bytes, service.FormatDigest(digest))
			return n, err
		}
		if number := m.Header.Get(service.HeaderSeq); number != strconv.Itoa(seq) {
			return n, fmt.Errorf("chunk %d was lost on the way: %s has come", seq, printable(number))
		}
		if _, err := out.Write(m.Data); err != nil {
			return n, fmt.Errorf("write: %w", err)
		}
		_, _ = digest.Write(m.Data)
		n.bytes += int64(len(m.Data))
		progress(len(m.Data))
		if err := l.nc.Publish(m.Reply, nil); err != nil {
			return n, fmt.Errorf("acknowledge a chunk: %w", err)
		}
	}
}

// endOf compares what has come with what the last message says.
func endOf(m *nats.Msg, bytes int64, digest string) (rows int64, err error) {
	if m.Header.Get(service.HeaderBytes) != strconv.FormatInt(bytes, 10) || m.Header.Get(service.HeaderDigest) != digest {
		return 0, errors.New("what has come is not what was sent")
	}
	rows, err = strconv.ParseInt(m.Header.Get(service.HeaderRows), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the end of the copy: %w", err)
	}
	return rows, nil
}
