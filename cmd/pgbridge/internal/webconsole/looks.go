package webconsole

import (
	"context"
	"maps"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/txrunner"
)

// looks are what all who watch share.
type looks struct {
	channels *look[[]bridge.ChannelState]
	scripts  *look[[]txrunner.ScriptState]
	backends *look[map[uint32]txrunner.Backend]
	slots    *look[[]bridge.ReplicationSlot]
	backlog  *look[*txrunner.JobsState]
	replicas *look[[]Replica]
	details  *details
}

func newLooks(c Config) looks {
	return looks{
		channels: newLook(refresh/2, func(context.Context) ([]bridge.ChannelState, error) { return c.Bridge.Channels(), nil }),
		scripts:  newLook(refresh/2, func(context.Context) ([]txrunner.ScriptState, error) { return c.Runner.Scripts(), nil }),
		backends: newLook(2*refresh, func(ctx context.Context) (map[uint32]txrunner.Backend, error) {
			var pids []uint32
			for _, t := range c.Runner.Snapshot().Transactions {
				pids = append(pids, t.PID)
			}
			return c.Runner.LookAtBackends(ctx, pids)
		}),
		slots:    newLook(2*refresh, c.Bridge.LookAtSlots),
		backlog:  newLook(2*refresh, func(ctx context.Context) (*txrunner.JobsState, error) { return c.Runner.LookAtJobs(ctx) }),
		replicas: newLook(3*refresh, func(ctx context.Context) ([]Replica, error) { return replicas(ctx, c.Requests, c.Prefix), nil }),
		details:  &details{find: c.Runner.LookAtScript, turn: make(turn, 1), known: map[string]*detail{}},
	}
}

const (
	// maxDetails is of how many scripts PostgreSQL is asked within detailsFor.
	maxDetails = 64
	detailsFor = 10 * time.Second
)

// details are what PostgreSQL says of scripts, one question at a time. It is safe
// for concurrent use.
type details struct {
	find func(ctx context.Context, name string) (txrunner.ScriptState, bool)

	turn  turn // guards known, and is taken while PostgreSQL is asked
	known map[string]*detail
}

type detail struct {
	at    time.Time
	value txrunner.ScriptState
}

// of returns what there is to know of a script.
func (d *details) of(ctx context.Context, name string) (txrunner.ScriptState, error) {
	if err := d.turn.take(ctx); err != nil {
		return txrunner.ScriptState{}, err
	}
	defer d.turn.pass()
	maps.DeleteFunc(d.known, func(_ string, one *detail) bool { return time.Since(one.at) >= detailsFor })
	if one := d.known[name]; one != nil {
		return one.value, nil
	}
	if len(d.known) >= maxDetails {
		return txrunner.ScriptState{}, errCrowded
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookFor)
	defer cancel()
	value, ok := d.find(ctx, name)
	if !ok {
		return value, errNoScript
	}
	d.known[name] = &detail{time.Now(), value}
	return value, nil
}
