package stream

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(testenv.NATS(t).Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func need(subjects ...string) Need {
	return Need{Config: jetstream.StreamConfig{Name: "EVENTS", Subjects: subjects}, Create: true}
}

// operated makes a stream as an operator would.
func operated(t *testing.T, js jetstream.JetStream, config jetstream.StreamConfig) {
	t.Helper()
	if _, err := js.CreateStream(limited(t), config); err != nil {
		t.Fatal(err)
	}
}

func subjectsOf(t *testing.T, js jetstream.JetStream, name string) []string {
	t.Helper()
	s, err := js.Stream(limited(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.Subjects
}

func TestEnsureCreatesAndExtends(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	tests := []struct{ have, want, after []string }{
		{nil, []string{"e.a", "e.b"}, []string{"e.a", "e.b"}},
		{[]string{"e.a"}, []string{"e.a"}, []string{"e.a"}},
		{[]string{"e.>"}, []string{"e.a"}, []string{"e.>"}},
		{[]string{"e.a"}, []string{"e.b", "e.a"}, []string{"e.a", "e.b"}},
		{[]string{"job.run.transfer", "mine"}, []string{"job.run.>", "job.load.>"}, []string{"job.load.>", "job.run.>", "mine"}},
	}
	for _, tt := range tests {
		if tt.have != nil {
			operated(t, js, jetstream.StreamConfig{Name: "EVENTS", Subjects: tt.have, MaxAge: time.Hour})
		}
		n, before := need(tt.want...), slices.Clone(tt.want)
		state, err := n.Look(limited(t), js)
		if err != nil || state.Exists != (tt.have != nil) || !slices.Equal(state.Missing, Missing(tt.have, tt.want)) {
			t.Errorf("%q to %q: Look() = %+v, %v", tt.have, tt.want, state, err)
		}
		if _, err := n.Ensure(limited(t), js); err != nil {
			t.Errorf("%q to %q: %v", tt.have, tt.want, err)
		}
		if got := subjectsOf(t, js, "EVENTS"); !slices.Equal(got, tt.after) {
			t.Errorf("%q to %q: subjects are %q, want %q", tt.have, tt.want, got, tt.after)
		}
		if !slices.Equal(tt.want, before) {
			t.Errorf("Ensure changed its caller's subjects to %q", tt.want)
		}
		if s, err := n.Look(limited(t), js); err != nil || !s.Exists || len(s.Missing) > 0 {
			t.Errorf("%q to %q: afterwards Look() = %+v, %v", tt.have, tt.want, s, err)
		}
		if err := js.DeleteStream(limited(t), "EVENTS"); err != nil {
			t.Fatal(err)
		}
	}
}

// A stream says whose it is from when it is made, or changed for somebody, on.
func TestEnsureNotesThePrefix(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	mine, theirs := need("one.a"), need("two.a")
	mine.Prefix, theirs.Prefix = "one", "two"
	for _, made := range []bool{true, false} {
		if !made { // by a version before, or an operator
			operated(t, js, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"other"}, Metadata: map[string]string{"kept": "yes"}})
		}
		for range 2 {
			s, err := mine.Ensure(limited(t), js)
			if err != nil {
				t.Fatal(err)
			}
			if m := s.CachedInfo().Config.Metadata; m[prefixKey] != "one" || !made && m["kept"] != "yes" {
				t.Errorf("the metadata is %v", m)
			}
		}
		if _, err := theirs.Ensure(limited(t), js); err == nil {
			t.Error("another prefix takes the stream")
		}
		if err := js.DeleteStream(limited(t), "EVENTS"); err != nil {
			t.Fatal(err)
		}
	}
}

// A pattern stands for many subjects until it would take in what must stay apart.
func TestEnsureWidensAndNarrows(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	plain := need("e.a", "e.b", "x")
	wide := plain
	wide.Wide, wide.OnceWide = []string{"e.*", "g.*"}, []string{"e.*", "g.*"}
	more := wide
	more.Config.Subjects = []string{"e.a", "e.b", "e.c", "g.a", "x"}
	apart := plain
	apart.OnceWide, apart.Apart = wide.OnceWide, []string{"e.z"}
	for _, step := range []struct {
		need Need
		want []string
	}{
		{wide, []string{"e.*", "x"}},
		{plain, []string{"e.*", "x"}},
		{more, []string{"e.*", "g.*", "x"}},
		{apart, []string{"e.a", "e.b", "g.*", "x"}},
		{wide, []string{"e.a", "e.b", "g.*", "x"}},
		{more, []string{"e.*", "g.*", "x"}},
	} {
		if _, err := step.need.Ensure(limited(t), js); err != nil {
			t.Fatal(err)
		}
		if got := subjectsOf(t, js, "EVENTS"); !slices.Equal(got, step.want) {
			t.Errorf("subjects are %q, want %q", got, step.want)
		}
	}
	if err := js.DeleteStream(limited(t), "EVENTS"); err != nil {
		t.Fatal(err)
	}
	operated(t, js, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"e.other"}})
	if _, err := wide.Ensure(limited(t), js); err != nil {
		t.Fatal(err)
	}
	if got, want := subjectsOf(t, js, "EVENTS"), []string{"e.a", "e.b", "x"}; !slices.Equal(got, want) {
		t.Errorf("beside a stream with one subject of the pattern, subjects are %q, want %q", got, want)
	}
}

func TestEnsureKeepsWhatTheOperatorSet(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	operated(t, js, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"mine"}, MaxAge: time.Hour, MaxMsgs: 7})
	s, err := need("e.a").Ensure(limited(t), js)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.MaxAge != time.Hour || c.MaxMsgs != 7 {
		t.Errorf("the stream has become %+v", c)
	}
}

// TestWhatCannotServeIsSaid holds that Ensure and Look refuse the same streams,
// each with the reason.
func TestWhatCannotServeIsSaid(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	operated(t, js, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}})
	base := jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"e.>"}}
	tests := []struct {
		name   string
		change func(*jetstream.StreamConfig)
		need   func(*Need)
		want   string
	}{
		{"mirror", func(c *jetstream.StreamConfig) {
			c.Subjects, c.Mirror = nil, &jetstream.StreamSource{Name: "OTHER"}
		}, nil, "is a mirror of OTHER"},
		{"no_ack", func(c *jetstream.StreamConfig) { c.NoAck = true }, nil, "no_ack"},
		{"sealed", func(c *jetstream.StreamConfig) { c.Sealed = true }, nil, "is sealed"},
		{"counters", func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true }, nil, "counters"},
		{"another's", func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{prefixKey: "two"} }, func(n *Need) { n.Prefix = "one" }, "belongs to the prefix \"two\""},
		{"small", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }, func(n *Need) { n.Kind = Events }, "at least 65536"},
		{"no work queue", func(*jetstream.StreamConfig) {}, func(n *Need) { n.Kind = Jobs }, "jobs need a work queue"},
		{"queue that senders empty", func(c *jetstream.StreamConfig) { c.Retention, c.AllowRollup = jetstream.WorkQueuePolicy, true }, func(n *Need) { n.Kind = Jobs }, "allow_rollup_hdrs is set"},
		{"queue with schedules", func(c *jetstream.StreamConfig) { c.Retention, c.AllowMsgSchedules = jetstream.WorkQueuePolicy, true }, func(n *Need) { n.Kind = Jobs }, "allow_msg_schedules is set"},
		{"queue that forgets", func(c *jetstream.StreamConfig) { c.Retention, c.MaxBytes = jetstream.WorkQueuePolicy, 1<<20 }, func(n *Need) { n.Kind = Jobs }, "discard is old"},
		{"consumed", func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, func(n *Need) { n.Kind = Durable }, "retention is not limits"},
		{"full by subject", func(c *jetstream.StreamConfig) {
			c.MaxMsgsPerSubject, c.Discard, c.DiscardNewPerSubject = 3, jetstream.DiscardNew, true
		}, func(n *Need) { n.Kind = Durable }, "discard_new_per_subject is set"},
		{"in memory", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, func(n *Need) { n.Kind = Durable }, "one copy in memory"},
		{"not to extend", func(c *jetstream.StreamConfig) { c.Subjects = []string{"e.b"} }, func(n *Need) { n.Create, n.CreateKey = false, "streams.x.create" }, "does not hold e.a: add the subjects, or set streams.x.create"},
		{"overlap", func(c *jetstream.StreamConfig) { c.Subjects = []string{"e.*.b"} }, func(n *Need) { n.Config.Subjects = []string{"e.a.>"} }, "e.*.b overlaps e.a.>"},
	}
	for _, tt := range tests {
		config, n := base, need("e.a")
		tt.change(&config)
		if tt.need != nil {
			tt.need(&n)
		}
		sealed := config.Sealed
		config.Sealed = false // which only an update may set
		operated(t, js, config)
		if sealed {
			config.Sealed = true
			if _, err := js.UpdateStream(limited(t), config); err != nil {
				t.Fatal(err)
			}
		}
		_, ensureErr := n.Ensure(limited(t), js)
		_, lookErr := n.Look(limited(t), js)
		for _, err := range []error{ensureErr, lookErr} {
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "stream EVENTS: ") {
				t.Errorf("%s: error %v, want one that says %q", tt.name, err, tt.want)
			}
		}
		if err := js.DeleteStream(limited(t), "EVENTS"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	n := need("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	n.Create = false
	_, err := n.Ensure(limited(t), js)
	if want := "stream EVENTS: does not exist: create it with the subjects a, b, c, d, e, f, g, h and 2 more, or set create"; err == nil || err.Error() != want {
		t.Errorf("Ensure() = %v, want %s", err, want)
	}
	operated(t, js, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"*"}})
	n.Create = true
	if _, err := n.Look(limited(t), js); err == nil || !strings.Contains(err.Error(), "stream OTHER holds it") {
		t.Errorf("Look() = %v, want an error that names the other stream", err)
	}
	if _, err := n.Ensure(limited(t), js); err == nil {
		t.Error("Ensure() made a stream whose subjects are another's")
	}
}

func TestNoJetStreamIsSaid(t *testing.T) {
	t.Parallel()
	off := func(o *server.Options) { o.JetStream = false }
	js, err := jetstream.New(testenv.NATS(t, off).Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := need("a").Ensure(limited(t), js); err == nil || !strings.Contains(err.Error(), "JetStream is not there") {
		t.Errorf("Ensure() = %v, want an error about JetStream", err)
	}
}

// TestReplicasComeTogether has many replicas need one stream at once.
func TestReplicasComeTogether(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			n := need("e.a")
			n.Config.MaxAge = time.Duration(i+1) * time.Hour // not all of them are configured alike
			if _, err := n.Ensure(limited(t), js); err != nil {
				t.Errorf("Ensure() = %v", err)
			}
		})
	}
	all.Wait()
}
