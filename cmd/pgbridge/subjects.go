package main

import (
	"maps"
	"slices"

	"github.com/pgbridge/pgbridge/bridge"
)

func (c *config) channelNames() []string { return slices.Sorted(maps.Keys(c.Channels)) }

// subjectsOf are where a channel's events and gaps go, with * for what a
// payload decides; empty for a faulty channel.
func (c *config) subjectsOf(channel string) (event, gap string) {
	event, gap, err := c.Channels[channel].Subjects(channel, c.Prefix)
	if err != nil {
		return "", ""
	}
	return event, gap
}

// streamSubjects are those that the stream of events has to hold.
func (c *config) streamSubjects() []string {
	var subjects []string
	for _, name := range c.channelNames() {
		if c.Channels[name].Delivery == bridge.DeliveryJetStream {
			event, gap := c.subjectsOf(name)
			subjects = append(subjects, event, gap)
		}
	}
	return subjects
}
