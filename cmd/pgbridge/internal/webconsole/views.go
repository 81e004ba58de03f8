package webconsole

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/txrunner"
)

// view is what one page shows now. It is asked again and again.
type view func(ctx context.Context) (any, error)

// view finds what a query asks for.
func (c *Console) view(q url.Values) (view, error) {
	name := q.Get("view")
	switch name {
	case "overview":
		return c.overview, nil
	case "channels":
		return c.channels(q)
	case "channel":
		channel := q.Get("name")
		return func(ctx context.Context) (any, error) { return c.channel(ctx, channel) }, nil
	case "gaps":
		return c.gaps, nil
	case "durable":
		return c.durable, nil
	case "scripts", "script", "transactions", "jobs":
		if c.config.Runner == nil {
			return nil, errNoRunner
		}
	}
	switch name {
	case "scripts":
		return c.scripts(q)
	case "script":
		script := q.Get("name")
		return func(ctx context.Context) (any, error) { return c.script(ctx, script) }, nil
	case "transactions":
		return c.transactions, nil
	case "jobs":
		return c.jobs, nil
	}
	return nil, errNoView
}

// Overview is the state of everything in short.
type Overview struct {
	Now      time.Time
	Version  string
	Prefix   string
	Payloads bool
	Problems []string
	Bridge   bridge.Snapshot
	Runner   *txrunner.Snapshot
	Replicas []Replica
	Latest   *Sample
}

func (c *Console) overview(ctx context.Context) (any, error) {
	o := Overview{
		Now: time.Now().UTC(), Version: c.config.Version, Prefix: c.config.Prefix, Payloads: c.config.Payloads,
		Problems: c.config.Problems(), Bridge: c.config.Bridge.Snapshot(), Latest: c.history.latest(),
	}
	if o.Problems == nil {
		o.Problems = []string{}
	}
	if c.config.Runner != nil {
		s := c.config.Runner.Snapshot()
		o.Runner = &s
	}
	o.Replicas, _ = c.looks.replicas.get(ctx)
	return o, nil
}

// channels is one page of the channels.
func (c *Console) channels(q url.Values) (view, error) {
	w, err := readWindow(q)
	if err != nil {
		return nil, err
	}
	order, err := orderOf(q.Get("sort"), map[string]func(a, b *bridge.ChannelState) int{
		"name":      nil,
		"received":  func(a, b *bridge.ChannelState) int { return descending(a.Received, b.Received) },
		"published": func(a, b *bridge.ChannelState) int { return descending(a.Published, b.Published) },
		"dropped":   func(a, b *bridge.ChannelState) int { return descending(a.Dropped, b.Dropped) },
		"gaps":      func(a, b *bridge.ChannelState) int { return descending(a.Gaps, b.Gaps) },
		"latest":    func(a, b *bridge.ChannelState) int { return b.Latest.Compare(a.Latest) },
		"latency":   func(a, b *bridge.ChannelState) int { return descending(a.Took, b.Took) },
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (any, error) {
		all, err := c.looks.channels.get(ctx)
		return cut(all, w, func(s *bridge.ChannelState) string { return s.Name }, order), err
	}, nil
}

// channel is one channel.
func (c *Console) channel(ctx context.Context, name string) (any, error) {
	all, err := c.looks.channels.get(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(s bridge.ChannelState) bool { return s.Name == name })
	if i < 0 {
		return nil, errNoChannel
	}
	s := c.config.Bridge.Snapshot()
	return struct {
		Now time.Time
		bridge.ChannelState
		Payloads        bool
		State           string // who publishes knows the lag of durable channels
		LagBytes, LagMS int64
	}{time.Now().UTC(), all[i], c.config.Payloads, s.State, s.LagBytes, s.LagTime.Milliseconds()}, nil
}

// maxGaps are the newest that are shown.
const maxGaps = 300

// gaps are the newest of all channels, the newest first.
func (c *Console) gaps(ctx context.Context) (any, error) {
	all, err := c.looks.channels.get(ctx)
	gaps := []bridge.Gap{}
	for i := range all {
		gaps = append(gaps, all[i].LastGaps...)
	}
	slices.SortStableFunc(gaps, func(a, b bridge.Gap) int { return b.Until.Compare(a.Until) })
	return struct {
		Now   time.Time
		Total int
		Gaps  []bridge.Gap
	}{time.Now().UTC(), len(gaps), gaps[:min(len(gaps), maxGaps)]}, err
}

// scripts is one page of the scripts.
func (c *Console) scripts(q url.Values) (view, error) {
	w, err := readWindow(q)
	if err != nil {
		return nil, err
	}
	mean := func(s *txrunner.ScriptState) time.Duration {
		return s.Answered.Took / time.Duration(max(1, s.Answered.Requests))
	}
	order, err := orderOf(q.Get("sort"), map[string]func(a, b *txrunner.ScriptState) int{
		"name":     nil,
		"requests": func(a, b *txrunner.ScriptState) int { return descending(a.Answered.Requests, b.Answered.Requests) },
		"failed":   func(a, b *txrunner.ScriptState) int { return descending(a.Answered.Failed, b.Answered.Failed) },
		"longest":  func(a, b *txrunner.ScriptState) int { return descending(a.Answered.Longest, b.Answered.Longest) },
		"mean":     func(a, b *txrunner.ScriptState) int { return descending(mean(a), mean(b)) },
		"latest":   func(a, b *txrunner.ScriptState) int { return b.Answered.Latest.Compare(a.Answered.Latest) },
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (any, error) {
		all, err := c.looks.scripts.get(ctx)
		return cut(all, w, func(s *txrunner.ScriptState) string { return s.Name }, order), err
	}, nil
}

func (c *Console) script(ctx context.Context, name string) (any, error) {
	d, err := c.looks.details.of(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := c.looks.scripts.get(ctx)
	for i := range all {
		if all[i].Name == name {
			d.Answered = all[i].Answered // what PostgreSQL says is older
		}
	}
	return struct {
		txrunner.ScriptState
		Prefix string
	}{d, c.config.Prefix}, err
}

// Transaction is one with what PostgreSQL says of its backend, nil: nothing.
type Transaction struct {
	txrunner.OpenTransaction
	Backend *txrunner.Backend
}

func (c *Console) transactions(ctx context.Context) (any, error) {
	s := c.config.Runner.Snapshot()
	backends, err := c.looks.backends.get(ctx)
	all := make([]Transaction, len(s.Transactions))
	for i, t := range s.Transactions {
		all[i] = Transaction{OpenTransaction: t}
		if b, ok := backends[t.PID]; ok {
			all[i].Backend = &b
		}
	}
	return struct {
		Now          time.Time
		Transactions []Transaction
		Pools        []txrunner.Connections
		Problem      string // why PostgreSQL says nothing; empty: it does
	}{time.Now().UTC(), all, s.Pools, problem(err)}, nil
}

func (c *Console) jobs(ctx context.Context) (any, error) {
	jobs, err := c.looks.backlog.get(ctx)
	if jobs == nil {
		jobs = c.config.Runner.Snapshot().Jobs
	}
	return struct {
		Now     time.Time
		Jobs    *txrunner.JobsState
		Problem string // why it is not known how many wait; empty: it is
	}{time.Now().UTC(), jobs, problem(err)}, nil
}

func (c *Console) durable(ctx context.Context) (any, error) {
	slots, err := c.looks.slots.get(ctx)
	s := c.config.Bridge.Snapshot()
	return struct {
		Now                 time.Time
		Durable             bool
		State, DurableState string
		LagBytes, LagMS     int64
		Slots               []bridge.ReplicationSlot
		Problem             string // why PostgreSQL tells of no slots; empty: it does
		Usage               float64
	}{
		Now: time.Now().UTC(), Durable: s.Durable, State: s.State, DurableState: s.DurableState,
		LagBytes: s.LagBytes, LagMS: s.LagTime.Milliseconds(), Slots: slots, Problem: problem(err), Usage: s.Usage,
	}, nil
}

// problem says that something could not be found out. The reason is for the log: it
// can name what is no viewer's business.
func problem(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", lookFor)
	}
	return "it could not be asked"
}
