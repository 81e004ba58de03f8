package txrunner_test

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// childConfig is what a runner in a process of its own is told.
type childConfig struct {
	PG, NATS, Folder string
	Jobs             txrunner.Jobs
}

// spawn starts a runner in a process of its own.
func (w *world) spawn(jobs txrunner.Jobs) *testenv.Child {
	w.T.Helper()
	return testenv.Spawn(w.T, childConfig{w.Postgres, w.NATS.URL(), w.Folder, jobs})
}

func serveChild(ctx context.Context, c childConfig) error {
	config := zap.NewDevelopmentConfig()
	config.Level = zap.NewAtomicLevelAt(zap.InfoLevel)
	log, err := config.Build()
	if err != nil {
		return err
	}
	nc, err := nats.Connect(c.NATS, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.PermissionErrOnSubscribe(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	r, err := txrunner.New(txrunner.Config{
		ConnString: c.PG, Scripts: c.Folder, ScriptsPoll: -1, Requests: nc, Jobs: &c.Jobs, Logger: log,
	})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}
