package txrunner_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/txrunner"
)

// childEnv makes a test binary a runner: it holds the child's configuration.
const childEnv = "PGBRIDGE_TEST_RUNNER"

// childConfig is what a runner in a process of its own is told.
type childConfig struct {
	PG, NATS, Folder string
	Jobs             txrunner.Jobs
}

// child is a runner in a process of its own.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// spawn starts a runner in a process of its own. Its log is added to a file.
func (w *world) spawn(jobs txrunner.Jobs, logFile string) *child {
	w.t.Helper()
	config, err := json.Marshal(childConfig{w.pg, w.nats.URL(), w.folder, jobs})
	if err != nil {
		w.t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	c := &child{cmd: exec.Command(program)}
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), childEnv+"="+string(config)), log
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.kill)
	return c
}

// kill ends the child with SIGKILL, and waits.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
}

func serveChild(ctx context.Context) error {
	var c childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c); err != nil {
		return err
	}
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
