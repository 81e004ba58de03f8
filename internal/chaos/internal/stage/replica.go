package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const stopLimit = time.Minute

// Replica is a process of pgbridge, and the proxies on its links. Its methods are for
// one goroutine at a time.
type Replica struct {
	Name     string
	Postgres *testenv.Proxy
	NATS     []*testenv.Proxy // to each server
	stage    *Stage
	dir      string
	http     string // host:port of the probes
	program  string
	optional map[string]bool // of the optional channels, those it has
	log      *os.File
	before   int64             // bytes of the log when it was started
	process  *pgserver.Process // nil: it does not run
}

func (s *Stage) newReplica(t testing.TB, name string) (*Replica, error) {
	port, err := pgserver.FreePort()
	if err != nil {
		return nil, err
	}
	r := &Replica{Name: name, stage: s, dir: t.TempDir(), http: fmt.Sprintf("127.0.0.1:%d", port), program: s.config.Programs[0],
		Postgres: testenv.NewProxy(t, s.PG().Addr()), optional: map[string]bool{}}
	for _, n := range s.NATS {
		r.NATS = append(r.NATS, testenv.NewProxy(t, n.Addr()))
	}
	if r.log, err = os.Create(filepath.Join(r.dir, name+".log")); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := r.Kill(); err != nil {
			t.Errorf("kill replica %s: %v", name, err)
		}
		r.log.Close()
	})
	for script, text := range s.config.Scripts {
		if err := os.MkdirAll(filepath.Join(r.dir, "scripts"), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(r.dir, "scripts", script+".sql"), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return r, r.configure(t)
}

func (r *Replica) application() string { return "chaos-" + r.Name }
func (r *Replica) configFile() string  { return filepath.Join(r.dir, "pgbridge.yaml") }

// configure writes the file.
func (r *Replica) configure(t testing.TB) error {
	var urls []string
	for _, p := range r.NATS {
		urls = append(urls, "nats://"+p.Addr())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "postgres: {url: %q, application_name: %s}\nnats: {url: %q}\nhttp: %q\nlog: {level: info}\n",
		r.Postgres.Reroute(t, r.stage.URL()), r.application(), strings.Join(urls, ","), r.http)
	if len(r.stage.config.Scripts) > 0 {
		b.WriteString("scripts: scripts\n")
	}
	if r.stage.config.Jobs {
		b.WriteString("jobs: true\n")
	}
	if n := len(r.NATS); n > 1 {
		fmt.Fprintf(&b, "streams: {events: {replicas: %d}, durable: {replicas: %d}, jobs: {replicas: %d}, results: {replicas: %d}}\n", n, n, n, n)
	}
	channels := map[string]Channel{}
	maps.Copy(channels, r.stage.config.Channels)
	for name := range r.optional {
		channels[name] = r.stage.config.Optional[name]
	}
	if len(channels) > 0 {
		b.WriteString("channels:\n")
	}
	for _, name := range slices.Sorted(maps.Keys(channels)) {
		more := ""
		if script := r.stage.config.CatchUp[name]; script != "" {
			more = ", catch_up: " + script
		}
		fmt.Fprintf(&b, "  %s: {%s%s}\n", name, channels[name], more)
	}
	return os.WriteFile(r.configFile(), []byte(b.String()), 0o600)
}

// Start starts it, as the program that it is now.
func (r *Replica) Start() error {
	cmd := pgserver.Account{}.Command(r.dir, r.program, "serve", "-c", r.configFile())
	cmd.Stderr = r.log
	var err error
	if r.before, err = r.logged(); err != nil {
		return err
	}
	r.process, err = pgserver.StartProcess(cmd)
	return err
}

// Kill ends it with SIGKILL, and waits. One that does not run is left alone.
func (r *Replica) Kill() error {
	if r.process == nil {
		return nil
	}
	err := r.process.Kill()
	r.process = nil
	return err
}

// Stop ends it with SIGTERM, and waits.
func (r *Replica) Stop(ctx context.Context) error {
	if r.process == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	p := r.process
	r.process = nil
	if err := p.End(ctx, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop replica %s: %w", r.Name, err)
	}
	err := p.Err()
	if err == nil {
		return nil
	}
	// On a busy machine a process may be told to end before it is one of pgbridge's.
	var exit *exec.ExitError
	if logged, _ := r.logged(); logged == r.before && errors.As(err, &exit) && exit.ExitCode() < 0 {
		return nil
	}
	return fmt.Errorf("replica %s ended badly: %w", r.Name, err)
}

// logged is how many bytes its log has.
func (r *Replica) logged() (int64, error) {
	info, err := r.log.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Signal sends a signal to one that runs. One that has only just been started would be
// ended by a SIGHUP, and reads what is new anyway.
func (r *Replica) Signal(sig syscall.Signal) error {
	logged, err := r.logged()
	if r.process == nil || err != nil || sig == syscall.SIGHUP && logged == r.before {
		return err
	}
	return r.process.Signal(sig)
}

// Runs reports an end that nobody asked for as an error.
func (r *Replica) Runs() error {
	if r.process == nil {
		return nil
	}
	select {
	case <-r.process.Exited():
		return fmt.Errorf("replica %s ended by itself: %w", r.Name, r.process.Err())
	default:
		return nil
	}
}

// Update makes it another program from its next start on, if there is one, and one
// with other optional channels.
func (r *Replica) Update(t testing.TB) error {
	programs := r.stage.config.Programs
	r.program = programs[(slices.Index(programs, r.program)+1)%len(programs)]
	return r.Toggle(t)
}

// Toggle writes a configuration with another choice of the optional channels.
func (r *Replica) Toggle(t testing.TB) error {
	for _, name := range slices.Sorted(maps.Keys(r.stage.config.Optional)) {
		delete(r.optional, name)
		if r.stage.config.Dice.IntN(2) == 0 {
			r.optional[name] = true
		}
	}
	return r.configure(t)
}

// State is what its probe says: its state, and what keeps it from being ready.
func (r *Replica) State(ctx context.Context) (state, problem string) {
	if r.process == nil {
		return "", ""
	}
	if err := r.Runs(); err != nil {
		return "", err.Error()
	}
	var answer struct {
		Problems []string
		Status   struct{ State string }
	}
	if code, err := r.get(ctx, "/readyz", func(resp *http.Response) error { return json.NewDecoder(resp.Body).Decode(&answer) }); err != nil {
		return "", err.Error()
	} else if code != http.StatusOK {
		return answer.Status.State, strings.Join(answer.Problems, "; ") + " (not ready)"
	}
	return answer.Status.State, ""
}

func (r *Replica) get(ctx context.Context, path string, read func(*http.Response) error) (int, error) {
	return get(ctx, "http://"+r.http+path, read)
}

func get(ctx context.Context, url string, read func(*http.Response) error) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, read(resp)
}
