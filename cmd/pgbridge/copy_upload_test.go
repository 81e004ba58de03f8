package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// uploading is an upload to a server of the test's own.
type uploading struct {
	link   *copyLink
	server *nats.Conn
	data   *nats.Subscription
}

func newUploading(t *testing.T, stall time.Duration) *uploading {
	t.Helper()
	bus := testenv.NATS(t)
	u := &uploading{server: bus.Connect(t)}
	var err error
	if u.data, err = u.server.SubscribeSync("tx.data"); err != nil {
		t.Fatal(err)
	}
	u.answer(t, "tx.touch", &nats.Msg{Data: []byte("{}")})
	messages := make(chan *nats.Msg, 100)
	client := bus.Connect(t)
	if _, err := client.ChanSubscribe("inbox.>", messages); err != nil {
		t.Fatal(err)
	}
	u.link = &copyLink{nc: client, inbox: "inbox", messages: messages, opening: copyOpening{
		Tx: "tx", Data: "tx.data", ChunkBytes: 1000, WindowBytes: 10000, StallMS: stall.Milliseconds(),
	}}
	return u
}

// answer gives every request to a subject the same reply.
func (u *uploading) answer(t *testing.T, subject string, reply *nats.Msg) {
	t.Helper()
	if _, err := u.server.Subscribe(subject, func(m *nats.Msg) { _ = m.RespondMsg(reply) }); err != nil {
		t.Fatal(err)
	}
	if err := u.server.Flush(); err != nil {
		t.Fatal(err)
	}
}

func (u *uploading) next(t *testing.T) *nats.Msg {
	t.Helper()
	m, err := u.data.NextMsg(20 * time.Second)
	if err != nil {
		t.Fatalf("receive a chunk: %v", err)
	}
	return m
}

func noProgress(int) {}

func TestUploadOfSlowInput(t *testing.T) {
	t.Parallel()
	u := newUploading(t, 30*time.Millisecond)
	from, to := io.Pipe()
	defer to.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := u.link.upload(ctx, from, noProgress)
		ended <- err
	}()
	for _, text := range []string{"one", "two"} {
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
		if m := u.next(t); string(m.Data) != text {
			t.Fatalf("the chunk is %q, want %q", m.Data, text)
		}
	}
	cancel() // while nothing comes
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("upload() = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("an upload that waits for its input cannot be interrupted")
	}
}

// TestCopyIsInterruptedBeforeItsAnswer cannot know what the server does.
func TestCopyIsInterruptedBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	u := newUploading(t, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := u.link.open(ctx, "tx.data", nil, time.Minute)
		ended <- err
	}()
	u.next(t)
	cancel()
	if err := <-ended; !errors.Is(err, errOutcomeUnknown) {
		t.Errorf("open() = %v, want that the outcome is unknown", err)
	}
}

func TestUploadIsInterruptedAtItsEnd(t *testing.T) {
	t.Parallel()
	gone := &nats.Msg{Data: []byte(`{"error": {"code": "gone"}}`), Header: nats.Header{"Nats-Service-Error-Code": {"410"}}}
	for name, tt := range map[string]struct {
		rollback *nats.Msg
		unknown  bool
	}{
		"before COMMIT": {&nats.Msg{Data: []byte("{}")}, false},
		"after COMMIT":  {gone, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUploading(t, time.Minute)
			u.answer(t, "tx.rollback", tt.rollback)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := u.link.upload(ctx, strings.NewReader("one"), noProgress)
				ended <- err
			}()
			u.next(t)
			if m := u.next(t); len(m.Data) > 0 || m.Header.Get(service.HeaderDigest) == "" {
				t.Fatalf("the end is %q %v", m.Data, m.Header)
			}
			cancel()
			if err := <-ended; err == nil || errors.Is(err, errOutcomeUnknown) != tt.unknown {
				t.Errorf("upload() = %v", err)
			}
		})
	}
}
