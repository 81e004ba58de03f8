package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
)

// stream is a stream of chunks under test and the client that receives it.
type stream struct {
	*rig
	chunks *Chunks
	inbox  *nats.Subscription
}

// newStream has a client request a stream, and returns it before its first
// chunk.
func newStream(t *testing.T, config ChunksConfig) *stream {
	t.Helper()
	s := &stream{}
	begun := make(chan *Chunks, 1)
	config.Ack = "tx.ack.c1."
	if config.Stall == 0 {
		config.Stall = deadline
	}
	s.rig = newRig(t,
		Endpoint{Name: "begin", Subject: "begin", Handler: func(_ context.Context, batch []*Request) {
			s.chunks = NewChunks(batch[0], config)
			batch[0].Answer(Reply{Data: []byte("{}")}, nil)
			begun <- s.chunks
		}},
		Endpoint{
			Name: "tx", Subject: "tx.>", Handler: Each(echo),
			Private: &Private{Direct: func(r *Request) bool {
				if r.Tokens[0] != "ack" {
					return false
				}
				s.chunks.Acknowledge(r)
				return true
			}},
		})
	var err error
	if s.inbox, err = s.client.SubscribeSync(s.client.NewInbox()); err != nil {
		t.Fatal(err)
	}
	if err := s.client.PublishRequest("begin", s.inbox.Subject, nil); err != nil {
		t.Fatal(err)
	}
	receive(t, begun, "the stream begins")
	s.next(t)
	return s
}

func (s *stream) next(t *testing.T) *nats.Msg {
	t.Helper()
	msg, err := s.inbox.NextMsg(deadline)
	if err != nil {
		t.Fatalf("receive a chunk: %v", err)
	}
	return msg
}

// ack acknowledges and waits until the stream knows.
func (s *stream) ack(t *testing.T, subject string) {
	t.Helper()
	if err := s.client.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.client.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.settle(t.Context(), s.nc); err != nil {
		t.Fatal(err)
	}
}

// wantCode checks that err is for the client and has a code.
func wantCode(t *testing.T, err error, code Code) {
	t.Helper()
	if err == nil || AsError(err).Code != code {
		t.Fatalf("error %v, want %s", err, code)
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	const n = 300
	s := newStream(t, ChunksConfig{Window: 4096, Header: func() nats.Header { return nats.Header{"State": {"ended"}} }})
	sending := make(chan error, 1)
	var want bytes.Buffer
	for i := range n {
		fmt.Fprintf(&want, "%d %s\n", i, strings.Repeat("x", i))
	}
	go func() {
		for line := range bytes.Lines(want.Bytes()) {
			if err := s.chunks.Send(t.Context(), line, 1); err != nil {
				sending <- err
				return
			}
		}
		sending <- errors.Join(s.chunks.Delivered(t.Context()), s.chunks.End(t.Context()))
	}()
	var got bytes.Buffer
	for i := range n {
		msg := s.next(t)
		got.Write(msg.Data)
		if number := msg.Header.Get(HeaderSeq); number != strconv.Itoa(i+1) || msg.Reply != "tx.ack.c1."+number {
			t.Fatalf("chunk %d has the number %q and the reply subject %q", i+1, number, msg.Reply)
		}
		if err := s.client.Publish(msg.Reply, nil); err != nil {
			t.Fatal(err)
		}
	}
	end := s.next(t)
	if err := receive(t, sending, "all is sent"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("what was received is not what was sent")
	}
	digest := sha256.New()
	digest.Write(want.Bytes())
	for header, want := range map[string]string{
		HeaderRows: strconv.Itoa(n), HeaderBytes: strconv.Itoa(want.Len()), HeaderDigest: api.FormatDigest(digest), "State": "ended",
	} {
		if got := end.Header.Get(header); got != want || len(end.Data) > 0 {
			t.Errorf("the end has %s %q and %d bytes, want %q", header, got, len(end.Data), want)
		}
	}
}

func TestChunksWaitForTheWindow(t *testing.T) {
	t.Parallel()
	s := newStream(t, ChunksConfig{Window: 10})
	send := func(size int) error { return s.chunks.Send(t.Context(), make([]byte, size), 1) }
	for range 3 {
		if err := send(3); err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan error, 1)
	go func() { sent <- send(8) }()
	s.ack(t, "tx.ack.c1.2") // all up to it; 3 bytes are under way still
	select {
	case err := <-sent:
		t.Fatalf("Send() = %v with 11 bytes in a window of 10", err)
	default:
	}
	s.ack(t, "tx.ack.c1.1") // says nothing new
	s.ack(t, "tx.ack.c1.3")
	if err := receive(t, sent, "the window opens"); err != nil {
		t.Fatal(err)
	}
	s.ack(t, "tx.ack.c1.4")
	if err := send(100); err != nil { // alone, whatever the window is
		t.Fatalf("Send() of more than a window = %v", err)
	}
	if err := send(0); err != nil {
		t.Fatalf("Send() of nothing = %v", err)
	}
	if c := s.chunks; c.Rows() != 5 || c.Bytes() != 117 {
		t.Errorf("%d rows, %d bytes, want 5 and 117", c.Rows(), c.Bytes())
	}
}

func TestChunksStall(t *testing.T) {
	t.Parallel()
	s := newStream(t, ChunksConfig{Window: 1, Stall: time.Millisecond})
	if err := s.chunks.Send(t.Context(), []byte("a"), 1); err != nil {
		t.Fatal(err)
	}
	err := s.chunks.Send(t.Context(), []byte("b"), 1)
	wantCode(t, err, CodeTimeout)
	s.chunks.Fail(err)
	s.next(t)
	wantError(t, s.next(t), CodeTimeout)
	if end := s.next(t); len(end.Data) > 0 || end.Header.Get(HeaderRows) != "" {
		t.Errorf("the end after an error is %q with %v, want an empty message", end.Data, end.Header)
	}
}

func TestChunksEndWithTheContext(t *testing.T) {
	t.Parallel()
	s := newStream(t, ChunksConfig{Window: 1})
	if err := s.chunks.Send(t.Context(), []byte("a"), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(Errorf(CodeGone, "it was rolled back"))
	wantCode(t, s.chunks.Send(ctx, []byte("b"), 1), CodeGone)
}

func TestAcknowledgementOfWhatWasNeverSent(t *testing.T) {
	t.Parallel()
	for _, number := range []string{"2", "0", "-1", "99999999999999999999", "x", "ack"} {
		t.Run(number, func(t *testing.T) {
			t.Parallel()
			s := newStream(t, ChunksConfig{Window: 1})
			if err := s.chunks.Send(t.Context(), []byte("a"), 1); err != nil {
				t.Fatal(err)
			}
			s.ack(t, "tx.ack.c1."+number)
			wantCode(t, s.chunks.Send(t.Context(), []byte("b"), 1), CodeInvalidRequest)
			wantCode(t, s.chunks.Delivered(t.Context()), CodeInvalidRequest)
		})
	}
}

func TestChunksForNobody(t *testing.T) {
	t.Parallel()
	t.Run("below the window", func(t *testing.T) {
		t.Parallel()
		s := newStream(t, ChunksConfig{Window: 100})
		s.vanish(t)
		if err := s.chunks.Send(t.Context(), []byte("a"), 1); err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.chunks.Delivered(t.Context()), CodeUnavailable)
	})
	t.Run("while it waits", func(t *testing.T) {
		t.Parallel()
		s := newStream(t, ChunksConfig{Window: 1})
		s.vanish(t)
		if err := s.chunks.Send(t.Context(), []byte("a"), 1); err != nil {
			t.Fatal(err)
		}
		err := s.chunks.Send(t.Context(), []byte("b"), 1)
		if !errors.Is(err, errNobodyListens) {
			t.Fatalf("Send() = %v, want that nobody listens", err)
		}
		AsError(err).Retryable = false // as for a client's own transaction
		other := newStream(t, ChunksConfig{Window: 1})
		other.chunks.Acknowledge(&Request{Header: nats.Header{statusHeader: {noResponders}}})
		if failure := AsError(other.chunks.Failure()); failure.Code != CodeUnavailable || !failure.Retryable {
			t.Errorf("another stream's failure = %+v", *failure)
		}
		s.chunks.Fail(err)
	})
}

// vanish has the client stop listening.
func (s *stream) vanish(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.inbox.Unsubscribe(), s.client.Flush()); err != nil {
		t.Fatal(err)
	}
}

func TestChunksOverAReconnect(t *testing.T) {
	t.Parallel()
	s := newStream(t, ChunksConfig{Window: 1})
	if err := s.chunks.Send(t.Context(), []byte("a"), 1); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- s.chunks.Send(t.Context(), []byte("b"), 1) }()
	restart(t, s.server, &server.Options{})
	wantCode(t, receive(t, waiting, "the waiting Send returns"), CodeUnavailable)
	waitUntil(t, "the link is back", s.nc.IsConnected)
	wantCode(t, s.chunks.Delivered(t.Context()), CodeUnavailable)
	s.chunks.acknowledge(1) // the window is open, only the link is wrong
	wantCode(t, s.chunks.Send(t.Context(), []byte("c"), 1), CodeUnavailable)
}

// NATS cuts the connection that requests come on, as it does when more of them come
// than can be read.
func TestChunksOutliveTheConnectionOfRequests(t *testing.T) {
	t.Parallel()
	s := newStream(t, ChunksConfig{Window: 2})
	for i := range 6 {
		if i%2 == 0 {
			before := s.nc.Stats().Reconnects
			if err := s.nc.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "the link is back", func() bool { return s.nc.Stats().Reconnects > before && s.nc.IsConnected() })
		}
		if err := s.chunks.Send(t.Context(), []byte("a"), 1); err != nil {
			t.Fatalf("Send() = %v", err)
		}
		s.ack(t, s.next(t).Reply)
	}
	if err := errors.Join(s.chunks.Delivered(t.Context()), s.chunks.End(t.Context())); err != nil {
		t.Fatal(err)
	}
	if rows := s.next(t).Header.Get(HeaderRows); rows != "6" {
		t.Errorf("%s = %s, want 6", HeaderRows, rows)
	}
}

// A server that the inbox is not known to yet would say that nobody listens: the
// stream stays on the connection that the request came on.
func TestChunksStayWithTheServerThatKnowsTheInbox(t *testing.T) {
	t.Parallel()
	other := startNATS(t, &server.Options{})
	s := startNATS(t, &server.Options{})
	begun := make(chan *Chunks, 1)
	r := newService(t, connect(t, s), Config{Lasting: connect(t, other)}, Endpoint{Name: "begin", Subject: "begin", Handler: func(_ context.Context, batch []*Request) {
		begun <- NewChunks(batch[0], ChunksConfig{Ack: "tx.ack.c1.", Window: 1, Stall: deadline})
	}})
	start(t, r)
	waitUntil(t, "all subscribed", func() bool { return len(r.Problems()) == 0 })
	client := connect(t, s)
	inbox, err := client.SubscribeSync(client.NewInbox())
	if err == nil {
		err = client.PublishRequest("begin", inbox.Subject, nil)
	}
	if err == nil {
		err = receive(t, begun, "the stream begins").Send(t.Context(), []byte("a"), 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := inbox.NextMsg(deadline)
		if err != nil {
			t.Fatalf("receive the chunk: %v", err)
		}
		if string(msg.Data) == "a" {
			return
		}
	}
}

func TestChunkSizes(t *testing.T) {
	t.Parallel()
	s := newStream(t, ChunksConfig{Window: 1 << 30})
	most := s.chunks.request.MaxChunk()
	if err := s.chunks.Send(t.Context(), make([]byte, most), 1); err != nil {
		t.Fatalf("Send() of %d bytes = %v", most, err)
	}
	if got := len(s.next(t).Data); got != most {
		t.Fatalf("received %d bytes, want %d", got, most)
	}
	wantCode(t, s.chunks.Send(t.Context(), make([]byte, most+1), 1), CodeTooLarge)
}

func TestSameDigest(t *testing.T) {
	t.Parallel()
	h := sha256.New()
	padded := api.FormatDigest(h)
	if !strings.HasSuffix(padded, "=") {
		t.Errorf("%q has no padding", padded)
	}
	for digest, want := range map[string]bool{
		padded: true, strings.TrimRight(padded, "="): true, "": false, "SHA-256=": false, padded[8:]: false,
	} {
		if api.SameDigest(h, digest) != want {
			t.Errorf("api.SameDigest(%q) = %t", digest, !want)
		}
	}
}

// However small chunks are, and however large the window, what is remembered of those
// under way has an end.
func TestChunksUnderWayAreCounted(t *testing.T) {
	t.Parallel()
	s := newStream(t, ChunksConfig{Window: 64 << 20})
	for range maxUnacknowledged {
		if seq, _, err := s.chunks.enter(1); seq == 0 || err != nil {
			t.Fatalf("enter() = %d, %v", seq, err)
		}
	}
	if seq, _, err := s.chunks.enter(1); seq != 0 || err != nil {
		t.Errorf("with %d under way enter() = %d, %v, want no room", maxUnacknowledged, seq, err)
	}
	s.chunks.acknowledge(1)
	if seq, _, err := s.chunks.enter(1); seq != maxUnacknowledged+1 || err != nil {
		t.Errorf("after an acknowledgement enter() = %d, %v", seq, err)
	}
}
