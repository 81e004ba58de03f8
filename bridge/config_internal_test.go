package bridge

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// keys are the settings that an error of a configuration names, in order.
func keys(err error) []string {
	var one *ConfigError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, keys(e)...)
		}
		return all
	}
	if errors.As(err, &one) {
		return []string{one.Key}
	}
	return nil
}

func TestValidateReportsEveryFault(t *testing.T) {
	t.Parallel()
	c := Config{
		Prefix: "pg bridge", QueueBytes: 1, StopGrace: -1,
		Stream: Stream{Name: "a.b", MaxAge: -1, DuplicateWindow: time.Hour, Replicas: 6},
		Channels: map[string]Channel{
			"":                      {},
			"good":                  {},
			"many":                  {Subject: "a..b", Envelope: "xml", Delivery: "post"},
			"pg bridge.marker":      {},
			strings.Repeat("x", 64): {},
			"\xff":                  {},
			"a\x00b":                {},
		},
	}
	want := []string{
		"prefix", "queue.bytes", "stop.grace",
		"streams.events.name", "streams.events.max_age", "streams.events.duplicate_window", "streams.events.replicas",
		"channels.", "channels.a\x00b", "channels.many.envelope", "channels.many.delivery", "channels.many.subject",
		"channels.pg bridge.marker", "channels." + strings.Repeat("x", 64), "channels.\xff",
	}
	err := c.Validate()
	if got := keys(err); !slices.Equal(got, want) {
		t.Errorf("Validate() names %q, want %q:\n%v", got, want, err)
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != len(want) {
		t.Errorf("Validate() has %d lines, want one for each of %d faults", lines, len(want))
	}
}

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{
		{},
		{Prefix: "a.b-c.D_1"},
		{Channels: map[string]Channel{strings.Repeat("x", 63): {}, "Ünï cöde.\"'": {Envelope: EnvelopeJSON, Delivery: DeliveryJetStream}}},
		{Stream: Stream{MaxAge: time.Minute, DuplicateWindow: time.Minute, Replicas: 5}},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("Validate(%+v) = %v, want nil", c, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := Config{Prefix: "my.app"}.withDefaults()
	if c.Stream.Name != "MY_APP_EVENTS" || c.Stream.MaxAge != 72*time.Hour || c.Stream.DuplicateWindow != 2*time.Minute || c.Stream.Replicas != 1 {
		t.Errorf("stream = %+v, want the documented defaults", c.Stream)
	}
	if c.QueueBytes != 32<<20 || c.StopGrace != 25*time.Second || c.ApplicationName != "pgbridge" || c.Logger == nil {
		t.Errorf("config = %+v, want the documented defaults", c)
	}
	if kept := (Config{QueueBytes: 5 << 20}).withDefaults().QueueBytes; kept != 5<<20 {
		t.Errorf("QueueBytes = %d, want what was set", kept)
	}
}
