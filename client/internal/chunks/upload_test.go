package chunks

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// uploading is an upload to a server of the test's own.
type uploading struct {
	link    *Link
	opening api.CopyOpening
	server  *nats.Conn
	data    *nats.Subscription
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
	nc := bus.Connect(t)
	u.link, err = New(Config{Conn: nc, Inbox: nc.NewInbox(), Request: nc.RequestMsgWithContext})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.link.Close)
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	u.link.In("tx")
	u.opening = api.CopyOpening{Tx: "tx", Data: "tx.data", ChunkBytes: 1000, WindowBytes: 10000, StallMS: stall.Milliseconds()}
	return u
}

// A stream that takes in what is asked of the transaction is no word of the transaction's.
func TestStreamIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	u := newUploading(t, time.Minute)
	u.link.In("other")
	for _, verb := range []string{"touch", "rollback"} {
		u.answer(t, "other."+verb, &nats.Msg{Data: []byte(`{"stream":"SPY","domain":"leaf","seq":7}`)})
	}
	if err := u.link.alive(t.Context()); !errors.Is(err, request.ErrOutcomeUnknown) {
		t.Errorf("alive() = %v, want that the stream has taken the question", err)
	}
	if u.link.rollBack(t.Context()) {
		t.Error("a stream has rolled the transaction back")
	}
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

// upload does it, and gives it up as a caller does.
func (u *uploading) upload(ctx context.Context, from io.Reader) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := u.link.Upload(ctx, u.opening, from, nil)
		ended <- u.link.Abandon(ctx, err)
	}()
	return ended
}

// TestUploadOfSlowInput sends what there is.
func TestUploadOfSlowInput(t *testing.T) {
	t.Parallel()
	u := newUploading(t, 30*time.Millisecond)
	u.answer(t, "tx.rollback", &nats.Msg{Data: []byte("{}")})
	from, to := io.Pipe()
	defer to.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := u.upload(ctx, from)
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
		if !errors.Is(err, context.Canceled) || errors.Is(err, request.ErrOutcomeUnknown) {
			t.Errorf("Upload() = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("an upload that waits for its input cannot be interrupted")
	}
}

// TestInterruptedBeforeTheAnswer cannot know what the server does.
func TestInterruptedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	u := newUploading(t, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := u.link.Open(ctx, nats.NewMsg("tx.data"))
		ended <- err
	}()
	u.next(t)
	cancel()
	if err := <-ended; !errors.Is(err, request.ErrOutcomeUnknown) {
		t.Errorf("Open() = %v, want that the outcome is unknown", err)
	}
}

// TestUploadIsInterruptedAtItsEnd, when the server may have committed.
func TestUploadIsInterruptedAtItsEnd(t *testing.T) {
	t.Parallel()
	gone := &nats.Msg{Data: []byte(`{"error": {"code": "gone"}}`), Header: nats.Header{api.HeaderErrorCode: {"410"}}}
	for name, tt := range map[string]struct {
		rollback *nats.Msg
		unknown  bool
	}{
		"before COMMIT": {&nats.Msg{Data: []byte("{}")}, false},
		"after COMMIT":  {gone, true},
		"nobody there":  {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUploading(t, time.Minute)
			if tt.rollback != nil {
				u.answer(t, "tx.rollback", tt.rollback)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := u.upload(ctx, strings.NewReader("one"))
			u.next(t)
			if m := u.next(t); len(m.Data) > 0 || m.Header.Get(api.HeaderDigest) == "" {
				t.Fatalf("the end is %q %v", m.Data, m.Header)
			}
			cancel()
			if err := <-ended; err == nil || errors.Is(err, request.ErrOutcomeUnknown) != tt.unknown {
				t.Errorf("Upload() = %v", err)
			}
		})
	}
}

// TestDownloadNoticesWhatIsWrong with chunks and their end.
func TestDownloadNoticesWhatIsWrong(t *testing.T) {
	t.Parallel()
	chunk := func(seq, data string) *nats.Msg {
		return &nats.Msg{Header: nats.Header{api.HeaderSeq: {seq}}, Data: []byte(data)}
	}
	end := func(rows, bytes, digest string) *nats.Msg {
		return &nats.Msg{Header: nats.Header{api.HeaderRows: {rows}, api.HeaderBytes: {bytes}, api.HeaderDigest: {digest}}}
	}
	const ab = "SHA-256=-44g_C5MPySMYMOb1lLzwTRymLuXe4tNWQO4UFViBgM="
	for name, tt := range map[string]struct {
		messages []*nats.Msg
		good     bool
	}{
		"all of it":      {[]*nats.Msg{chunk("1", "a"), chunk("2", "b"), end("1", "2", ab)}, true},
		"another digest": {[]*nats.Msg{chunk("1", "a"), chunk("2", "c"), end("1", "2", ab)}, false},
		"a lost chunk":   {[]*nats.Msg{chunk("2", "b")}, false},
		"a repeated one": {[]*nats.Msg{chunk("1", "a"), chunk("1", "a")}, false},
		"too few bytes":  {[]*nats.Msg{chunk("1", "a"), end("1", "2", ab)}, false},
		"no rows":        {[]*nats.Msg{end("", "0", "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=")}, false},
		"nothing":        {[]*nats.Msg{end("0", "0", "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=")}, true},
		"another's acks": {[]*nats.Msg{{Reply: "$JS.API.STREAM.DELETE.X", Header: nats.Header{api.HeaderSeq: {"1"}}, Data: []byte("a")}}, false},
		"nobody":         {[]*nats.Msg{{Header: nats.Header{"Status": {"503"}}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUploading(t, time.Minute)
			for _, m := range tt.messages {
				m.Subject = u.link.config.Inbox + ".0"
				if m.Reply == "" {
					m.Reply = "tx.ack.c.1"
				}
				if err := u.server.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := u.link.Download(ctx, io.Discard, nil); (err == nil) != tt.good || ctx.Err() != nil {
				t.Errorf("Download() = %v", err)
			}
		})
	}
}

// An answer, and a server, can say any size.
func TestChunkSize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		asked      int
		maxPayload int64
		want       int
	}{
		{1000, 1 << 20, 1000}, {1 << 20, 1 << 20, 1<<20 - roomForHeaders}, {1000, 0, 1000},
		{-1, 1 << 20, 1}, {1000, 100, 1}, {math.MaxInt, math.MaxInt64, mostChunk - roomForHeaders}, {math.MaxInt, -1, mostChunk},
	} {
		if got := chunkSize(tt.asked, tt.maxPayload); got != tt.want {
			t.Errorf("chunkSize(%d, %d) = %d, want %d", tt.asked, tt.maxPayload, got, tt.want)
		}
	}
}
