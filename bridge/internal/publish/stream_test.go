package publish

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// TestStreamSubjects: what the channels publish is what the stream is asked to
// keep, without overlaps, which JetStream refuses.
func TestStreamSubjects(t *testing.T) {
	t.Parallel()
	s := NewEventStream(nil, "p", stream.Need{})
	routes := map[string]*event.Route{}
	for name, c := range map[string]event.RouteOptions{
		"orders":  {Stored: true},
		"a.b":     {Stored: true, Subject: "audit.{payload.region}.{channel}"},
		"wide":    {Stored: true, Subject: "log.{payload.level}"},
		"narrow":  {Stored: true, Subject: "log.error"},
		"ignored": {},
	} {
		r, err := event.NewRoute(name, "p", c)
		if err != nil {
			t.Fatal(err)
		}
		routes[name] = r
	}
	s.SetRoutes(routes)
	if !s.changed() {
		t.Error("changed() = false after new routes")
	}
	want := []string{"audit.*.a%2Eb", "log.*", "p.event.orders", "p.gap.a%2Eb", "p.gap.narrow", "p.gap.orders", "p.gap.wide"}
	if got := s.needed().Config.Subjects; !slices.Equal(got, want) {
		t.Errorf("needed() = %q, want %q", got, want)
	}
	if s.changed() {
		t.Error("changed() = true after needed()")
	}
}

// TestManySubjects: a pattern stands for many subjects unless it would take in
// what is not stored.
func TestManySubjects(t *testing.T) {
	t.Parallel()
	routes := map[string]*event.Route{}
	add := func(name string, o event.RouteOptions) {
		t.Helper()
		r, err := event.NewRoute(name, "p", o)
		if err != nil {
			t.Fatal(err)
		}
		routes[name] = r
	}
	s := NewEventStream(nil, "p", stream.Need{})
	wide := func(want ...string) {
		t.Helper()
		s.SetRoutes(routes)
		if got := s.needed().Wide; !slices.Equal(got, want) {
			t.Errorf("wide = %q, want %q", got, want)
		}
	}
	add("first", event.RouteOptions{Stored: true})
	wide()
	for i := range exactSubjects {
		add(fmt.Sprint("c", i), event.RouteOptions{Stored: true})
	}
	wide("p.event.*", "p.gap.*")
	add("elsewhere", event.RouteOptions{Subject: "elsewhere"})
	wide("p.event.*")
	add("core", event.RouteOptions{})
	wide()
}
