package captures

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// fakeStreams is a JetStream with one stream, or with what goes wrong.
type fakeStreams struct {
	jetstream.JetStream
	config      jetstream.StreamConfig
	names, info error // what listing the streams, and looking at one, fails with
}

func (f *fakeStreams) StreamNames(context.Context, ...jetstream.StreamListOpt) jetstream.StreamNameLister {
	return f
}

func (f *fakeStreams) Name() <-chan string {
	names := make(chan string, 1)
	if f.config.Name != "" && f.names == nil {
		names <- f.config.Name
	}
	close(names)
	return names
}

func (f *fakeStreams) Err() error { return f.names }

func (f *fakeStreams) Stream(context.Context, string) (jetstream.Stream, error) {
	if f.info != nil {
		return nil, f.info
	}
	return fakeStream{config: f.config}, nil
}

type fakeStream struct {
	jetstream.Stream
	config jetstream.StreamConfig
}

func (f fakeStream) CachedInfo() *jetstream.StreamInfo {
	return &jetstream.StreamInfo{Config: f.config}
}

// That JetStream cannot say which streams there are ends no refusal: the stream may
// still take requests in.
func TestCapturesAreForgottenOnlyWhenTheyAreGone(t *testing.T) {
	t.Parallel()
	thief := jetstream.StreamConfig{Name: "THIEF", Subjects: []string{"pgbridge.tx.>"}}
	requests := func(js jetstream.JetStream) func(context.Context) (bool, error) {
		return Requests{JetStream: js, All: "pgbridge.>", Subjects: []string{"pgbridge.tx.>"}}.Look
	}
	for name, tt := range map[string]struct {
		now     *fakeStreams
		refused bool
	}{
		"still there":           {&fakeStreams{config: thief}, true},
		"no names come in time": {&fakeStreams{config: thief, names: context.DeadlineExceeded}, true},
		"a request times out":   {&fakeStreams{config: thief, names: nats.ErrTimeout}, true},
		"no look at it":         {&fakeStreams{config: thief, info: context.DeadlineExceeded}, true},
		"no leader":             {&fakeStreams{config: thief, info: errors.New("no leader")}, true},
		"deleted":               {&fakeStreams{}, false},
		"deleted meanwhile":     {&fakeStreams{config: thief, info: jetstream.ErrStreamNotFound}, false},
		"JetStream is off":      {&fakeStreams{config: thief, names: jetstream.ErrJetStreamNotEnabled}, false},
	} {
		w := Watch{Look: requests(&fakeStreams{config: thief}), Log: zap.NewNop()}
		w.once(t.Context())
		if w.Refusal() == nil {
			t.Fatal("a stream that captures requests is not found")
		}
		w.Look = requests(tt.now)
		w.once(t.Context())
		if refused := w.Refusal() != nil; refused != tt.refused {
			t.Errorf("%s: requests are refused: %t, want %t", name, refused, tt.refused)
		}
	}
}
