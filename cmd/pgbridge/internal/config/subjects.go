package config

import (
	"maps"
	"slices"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// ChannelNames are those of the channels, sorted.
func (c *Config) ChannelNames() []string { return slices.Sorted(maps.Keys(c.Channels)) }

// SubjectsOf are where a channel's events and gaps go, with * for what a
// payload decides; empty for a faulty channel.
func (c *Config) SubjectsOf(channel string) (event, gap string) {
	event, gap, err := c.Channels[channel].Subjects(channel, c.Prefix)
	if err != nil {
		return "", ""
	}
	return event, gap
}

// HasDurable reports whether a channel is durable.
func (c *Config) HasDurable() bool {
	for _, ch := range c.Channels {
		if ch.Durable {
			return true
		}
	}
	return false
}

// streamSubjects are those that the stream of events has to hold, or that of
// durable events.
func (c *Config) streamSubjects(durable bool) []string {
	var subjects []string
	for _, name := range c.ChannelNames() {
		if ch := c.Channels[name]; ch.Durable == durable && (durable || ch.Delivery == bridge.DeliveryJetStream) {
			event, gap := c.SubjectsOf(name)
			subjects = append(subjects, event, gap)
		}
	}
	return subjects
}

// Stream is one that serve needs.
type Stream struct {
	Key      string // of its settings
	Kind     stream.Kind
	Name     string
	Subjects []string
	Create   bool // where it is missing
}

// EventStreams are what channels with JetStream delivery and durable channels
// need, if there are any.
func (c *Config) EventStreams() []Stream {
	var all []Stream
	if subjects := c.streamSubjects(false); len(subjects) > 0 {
		all = append(all, Stream{"streams.events", stream.Events, c.Events.NameFor(c.Prefix), subjects, c.Events.Create})
	}
	if subjects := c.streamSubjects(true); len(subjects) > 0 {
		all = append(all, Stream{"streams.durable", stream.Durable, c.Durable.NameFor(c.Prefix), subjects, c.Durable.Stream.Create})
	}
	return all
}

// JobStreams are what jobs need, where they are taken.
func (c *Config) JobStreams() []Stream {
	var all []Stream
	for i, s := range c.Runner().JobStreams() {
		one := Stream{"streams.jobs", stream.Jobs, s.Name, s.Subjects, c.Jobs.Stream.Create}
		if i > 0 {
			one.Key, one.Kind, one.Create = "streams.results", stream.Any, c.Jobs.Results.Create
		}
		all = append(all, one)
	}
	return all
}

// PublishedSubjects are those that hold everything the bridge publishes.
func (c *Config) PublishedSubjects() []string {
	subjects := []string{c.Prefix + ".event.>", c.Prefix + ".gap.>"}
	for _, name := range c.ChannelNames() {
		if event, _ := c.SubjectsOf(name); event != "" && c.Channels[name].Subject != "" {
			subjects = append(subjects, event)
		}
	}
	return subjects
}
