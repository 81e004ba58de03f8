package durable

import (
	"context"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

type childConfig struct {
	PG, NATS string
	Channels []string
}

// spawn starts a feed in a process of its own, which can be killed.
func (w *world) spawn(channels []string) *testenv.Child {
	w.t.Helper()
	return testenv.Spawn(w.t, childConfig{w.url, w.nats, channels})
}

// children are replicas that want the slot all the time, each a process.
type children []*testenv.Child

func (w *world) spawnThree(channels []string) (all children) {
	w.t.Helper()
	for range 3 {
		all = append(all, w.spawn(channels))
	}
	return all
}

func (c children) kill() {
	for _, one := range c {
		one.Kill()
	}
}

func serveChild(ctx context.Context, c childConfig) error {
	log, err := zap.NewDevelopment()
	if err != nil {
		return err
	}
	f, err := newFeed(c.PG, c.NATS, log)
	if err != nil {
		return err
	}
	defer f.NC.Close()
	routes, err := routesFor(c.Channels)
	if err != nil {
		return err
	}
	f.SetRoutes(routes)
	return f.Run(ctx)
}
