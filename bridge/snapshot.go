package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/bridge/internal/durable"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
)

// Snapshot is the state of a bridge, for people and programs that look at it.
type Snapshot struct {
	Status
	Database     string  // where the control session is; empty: it is nowhere
	Events       NATS    // the connection of events
	Requests     NATS    // and of requests, which can be the same
	Listening    bool    // a marker came back on the listener's present connection
	Paused       bool    // the listener does not read, since the queue is full
	Connects     int64   // how often the listener has connected
	Usage        float64 // of PostgreSQL's notification queue, 0 to 1; -1: unknown
	MarkerAway   time.Duration
	QueueLimit   int64 // bytes, of each queue
	Dropping     map[Delivery]bool
	LagBytes     int64         // of the slot, while this replica reads it
	LagTime      time.Duration // the same
	Durable      bool          // there are durable channels
	DurableState string        // what is wrong with them; empty: nothing
	Total        Counts        // of all channels there ever were
}

// NATS is the state of a connection to NATS.
type NATS struct {
	Status     string // connected, reconnecting and the like
	Server     string // its name
	Version    string // the server's
	Reconnects uint64
}

// ChannelState is what became of one channel's notifications.
type ChannelState struct {
	Name     string
	Subject  string // a pattern
	Envelope Envelope
	Delivery string // core, jetstream or durable
	Notify   bool   // clients may notify it
	Counts
	// Latest is when the last event was published here, zero: never. Took is how
	// long that took from its receipt.
	Latest time.Time
	Took   time.Duration
	// LastGaps are the newest ones, the oldest of them first.
	LastGaps []Gap
}

// Gap is a window in which notifications may be missing.
type Gap struct {
	Channel string
	Reason  string
	Since   time.Time // zero: unknown
	Until   time.Time
	Dropped int64 // -1: unknown
}

// Snapshot returns the state now. It asks nobody.
func (b *Bridge) Snapshot() Snapshot {
	s := Snapshot{
		Status: b.Status(), Database: b.control.Database(), Listening: b.seq.Live(), Paused: b.listener.Paused(),
		Events: natsState(b.config.Events), Requests: natsState(b.config.Requests),
		Connects: b.listener.Connects(), Usage: -1, MarkerAway: b.seq.Outstanding(), QueueLimit: int64(b.config.QueueBytes),
		Dropping: map[Delivery]bool{DeliveryCore: b.seq.Core.Dropping(), DeliveryJetStream: b.seq.Stream.Dropping()},
	}
	if usage, known := b.control.QueueUsage(); known {
		s.Usage = usage
	}
	s.LagBytes, s.LagTime = b.feed.Lag()
	for _, r := range b.routes() {
		if r.Durable {
			s.Durable, s.DurableState = true, cmp.Or(b.feed.Problem.Current(), b.feed.Late.Current(), b.unkept())
			break
		}
	}
	s.Total = b.metrics.total()
	return s
}

func natsState(nc *nats.Conn) NATS {
	return NATS{
		Status: nc.Status().String(), Server: nc.ConnectedServerName(), Version: nc.ConnectedServerVersion(),
		Reconnects: nc.Stats().Reconnects,
	}
}

// Latency returns how long publishing takes, as a collector of one histogram for
// each kind of delivery.
func (b *Bridge) Latency() prometheus.Collector { return b.metrics.latency }

// Channels returns the state of the channels that are configured now, by name. It
// asks nobody.
func (b *Bridge) Channels() []ChannelState {
	routes := b.routes()
	all := make([]ChannelState, 0, len(routes))
	for name, r := range routes {
		all = append(all, b.channel(name, r))
	}
	slices.SortFunc(all, func(a, b ChannelState) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (b *Bridge) routes() map[string]*event.Route {
	if r := b.chosen.Load(); r != nil {
		return *r
	}
	return nil
}

func (b *Bridge) channel(name string, r *event.Route) ChannelState {
	c := b.metrics.of(name)
	s := ChannelState{Name: name, Subject: r.Pattern(), Envelope: Envelope(r.Envelope), Delivery: string(DeliveryCore), Notify: b.notify.Takes(name)}
	switch {
	case r.Durable:
		s.Delivery = string(deliveryDurable)
	case r.Stored:
		s.Delivery = string(DeliveryJetStream)
	}
	s.Counts.add(c)
	s.Latest, s.Took = c.Latest()
	last := c.LastGaps()
	for i := range last {
		s.LastGaps = append(s.LastGaps, newGap(&last[i]))
	}
	return s
}

func newGap(g *api.Gap) Gap {
	gap := Gap{Channel: g.Channel, Reason: string(g.Reason), Until: api.Writable(g.Until), Dropped: event.UnknownCount}
	if g.Since != nil {
		gap.Since = api.Writable(*g.Since)
	}
	if g.Dropped != nil {
		gap.Dropped = *g.Dropped
	}
	return gap
}

// ReplicationSlot is one of the server's, and what of the write-ahead log it keeps.
type ReplicationSlot struct {
	Name, Kind, Database string // the last empty for a physical one
	Own                  bool   // the bridge's
	Active               bool
	PID                  int32  // who reads it; 0: nobody
	Status               string // of its files: reserved, extended, unreserved, lost
	KeptBytes            int64  // of the write-ahead log, from the oldest it keeps
	UnconfirmedBytes     int64  // of a logical one, what its reader has not confirmed
	SafeBytes            int64  // that may still be written before it is lost; -1: no limit
}

const slotsSQL = `WITH here AS (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END AS lsn)
SELECT s.slot_name::pg_catalog.text, s.slot_type, COALESCE(s.database::pg_catalog.text, ''), s.active, COALESCE(s.active_pid, 0), COALESCE(s.wal_status, ''),
	COALESCE(pg_catalog.pg_wal_lsn_diff(here.lsn, s.restart_lsn), 0)::pg_catalog.int8,
	COALESCE(pg_catalog.pg_wal_lsn_diff(here.lsn, s.confirmed_flush_lsn), 0)::pg_catalog.int8, COALESCE(s.safe_wal_size, -1)::pg_catalog.int8,
	(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
FROM pg_catalog.pg_replication_slots s, here ORDER BY 7 DESC LIMIT 50`

// LookAtSlots asks PostgreSQL what keeps its write-ahead log: the 50 slots that keep
// most of it, that first which keeps most. It blocks until PostgreSQL has answered
// or ctx ends, and fails before Run.
func (b *Bridge) LookAtSlots(ctx context.Context) ([]ReplicationSlot, error) {
	pool := b.pool.Load()
	if pool == nil {
		return nil, errors.New("look at the replication slots: the bridge does not run yet")
	}
	rows, err := pool.Query(ctx, slotsSQL, pgx.QueryExecModeExec)
	if err != nil {
		return nil, fmt.Errorf("look at the replication slots: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s ReplicationSlot, err error) {
		var database uint32
		err = row.Scan(&s.Name, &s.Kind, &s.Database, &s.Active, &s.PID, &s.Status, &s.KeptBytes, &s.UnconfirmedBytes, &s.SafeBytes, &database)
		s.Own = s.Name == durable.SlotName(b.config.Prefix, database)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("look at the replication slots: %w", err)
	}
	return all, nil
}
