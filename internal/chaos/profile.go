package main

import (
	"maps"
	"slices"

	"github.com/pgbridge/pgbridge/internal/chaos/internal/errand"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/fault"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/ledger"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/stage"
)

// profile is what is written and what is broken.
type profile struct {
	channels map[string]stage.Channel
	catchUp  []string            // channels that have a script for what they missed
	errands  map[errand.Kind]int // how many at a time
	faults   []fault.Kind
	standby  bool
	synced   bool // the standby has the slots; PostgreSQL 17 or newer
}

// optional are channels that only some replicas have, now and then; nobody writes to
// them.
var optional = map[string]stage.Channel{"maybe_stream": stage.Stream, "maybe_durable": stage.Durable}

func profiles() map[string]profile {
	durable := map[string]stage.Channel{"bills": stage.Durable, "orders": stage.Durable, "stock": stage.Durable}
	plain := map[string]stage.Channel{"audit": stage.Stream, "moves": stage.Stream, "hints": stage.Core, "parts": stage.Stream, "tips": stage.Core}
	reread := []string{"parts", "tips"}
	both := maps.Clone(durable)
	maps.Copy(both, plain)
	most := []fault.Kind{fault.Replicas, fault.Backends, fault.Links, fault.NATS, fault.Streams, fault.Markers, fault.DDL}
	jobs := map[errand.Kind]int{errand.Job: 4, errand.Nobody: 1}
	copies := map[errand.Kind]int{errand.CopyIn: 14, errand.CopyOut: 2}
	requests := map[errand.Kind]int{errand.Run: 2, errand.IDRun: 3, errand.Pinned: 2, errand.Cursor: 1}
	some := map[errand.Kind]int{errand.Job: 1, errand.Nobody: 1, errand.CopyIn: 1, errand.CopyOut: 1,
		errand.Run: 1, errand.IDRun: 1, errand.Pinned: 1, errand.Cursor: 1}
	beside := map[errand.Kind]int{errand.Job: 1, errand.CopyIn: 1, errand.CopyOut: 1}
	return map[string]profile{
		"durable":  {channels: durable, errands: beside, faults: most},
		"plain":    {channels: plain, catchUp: reread, faults: most},
		"events":   {channels: both, catchUp: reread, faults: most},
		"jobs":     {errands: jobs, faults: []fault.Kind{fault.Kills}},
		"copies":   {errands: copies, faults: []fault.Kind{fault.Kills}},
		"requests": {errands: requests, faults: []fault.Kind{fault.Replicas, fault.Backends, fault.Links, fault.NATS}},
		"failover": {channels: both, catchUp: reread, faults: []fault.Kind{fault.Failover, fault.Replicas, fault.Backends}, standby: true},
		"synced":   {channels: durable, faults: []fault.Kind{fault.Failover, fault.Replicas, fault.Backends}, standby: true, synced: true},
		"all":      {channels: both, catchUp: reread, errands: some, faults: append(slices.Clone(most), fault.Postgres)},
	}
}

func profileNames() []string { return slices.Sorted(maps.Keys(profiles())) }

// writtenTo are the channels as the writers see them. A large payload is as large as
// PostgreSQL allows, or as would be rare in a durable one.
func (p profile) writtenTo() []ledger.Channel {
	var channels []ledger.Channel
	for _, name := range slices.Sorted(maps.Keys(p.channels)) {
		c := ledger.Channel{Name: name, Durable: p.channels[name] == stage.Durable, LargeSize: 7999}
		if c.Durable {
			c.LargeSize = 100_000
		}
		channels = append(channels, c)
	}
	return channels
}

// of are the channels of one kind, with the sizes of their large payloads.
func (p profile) of(kind stage.Channel) map[string]int {
	sizes := map[string]int{}
	for _, c := range p.writtenTo() {
		if p.channels[c.Name] == kind {
			sizes[c.Name] = c.LargeSize
		}
	}
	return sizes
}

// scripts are those that a profile's errands and channels need.
func (p profile) scripts() map[string]string {
	scripts := map[string]string{}
	if len(p.errands) > 0 {
		maps.Copy(scripts, errand.Scripts())
	}
	for _, c := range p.writtenTo() {
		if name := p.rereads()[c.Name]; name != "" {
			scripts[name] = ledger.Missed(c)
		}
	}
	return scripts
}

func (p profile) catchesUp(channel string) bool { return slices.Contains(p.catchUp, channel) }

// rereads names the script of each channel that has one for what it missed.
func (p profile) rereads() map[string]string {
	names := map[string]string{}
	for _, channel := range p.catchUp {
		names[channel] = "missed_" + channel
	}
	return names
}
