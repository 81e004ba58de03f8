package deploy_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestRollout replaces both replicas as the Deployment does, while events are
// committed: a new one first, and when it is ready an old one ends. Every event is in
// the stream once and in order, and no gap after the first replica's start.
func TestRollout(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	bus := testenv.NATSProcess(t, "")
	r := &rollout{T: t, program: build(t), database: pg.URL(), bus: bus.URL()}
	old := []*replica{r.start(), r.start()}

	last := 0
	commit := func(n int) {
		for range n {
			last++
			testenv.Exec(t, pg.URL(), fmt.Sprintf("SELECT pg_notify('orders', '%d')", last))
		}
	}
	commit(20)
	for _, o := range old {
		fresh := r.launch()
		testenv.Wait(t, patience, "a new replica to be ready", func() bool { commit(1); return fresh.ready() })
		o.signal()
		testenv.Wait(t, patience, "an old replica to end", func() bool { commit(1); return o.ended() })
	}
	commit(20)
	r.holds(last)
}

type rollout struct {
	*testing.T
	program, database, bus string
}

// replica is one process.
type replica struct {
	*testing.T
	cmd  *exec.Cmd
	web  string
	done chan struct{} // closed when the process has ended
}

// start runs a replica and waits until it is ready.
func (r *rollout) start() *replica {
	r.Helper()
	p := r.launch()
	testenv.Wait(r, patience, "a replica to be ready", p.ready)
	return p
}

func (r *rollout) launch() *replica {
	r.Helper()
	port, err := pgserver.FreePort()
	if err != nil {
		r.Fatal(err)
	}
	dir := r.TempDir()
	write(r.T, dir, "pgbridge.yaml", fmt.Sprintf(`
postgres: {url: %q}
nats: {url: %q}
channels: {orders: {delivery: jetstream}}
http: 127.0.0.1:%d
`, r.database, r.bus, port))
	p := &replica{T: r.T, web: fmt.Sprintf("http://127.0.0.1:%d", port), done: make(chan struct{})}
	p.cmd = pgbridge(r.T, r.program, "serve", "-c", filepath.Join(dir, "pgbridge.yaml"))
	if err := p.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	var failure error
	go func() {
		defer close(p.done)
		failure = p.cmd.Wait()
	}()
	r.Cleanup(func() {
		p.signal()
		<-p.done
		if failure != nil {
			r.Errorf("a replica ended with %v", failure)
		}
	})
	return p
}

func (p *replica) ready() bool { return !p.ended() && ready(p.web) }

func (p *replica) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal tells the replica to stop, as the kubelet does.
func (p *replica) signal() { _ = p.cmd.Process.Signal(os.Interrupt) }

// holds wants the numbers from 1 to last in the stream, after the gap of the start.
func (r *rollout) holds(last int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	nc, err := nats.Connect(r.bus)
	if err != nil {
		r.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		r.Fatal(err)
	}
	events, err := js.OrderedConsumer(ctx, "PGBRIDGE_EVENTS", jetstream.OrderedConsumerConfig{})
	if err != nil {
		r.Fatal(err)
	}
	gaps := 0
	for want := 1; want <= last; {
		m, err := events.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			r.Fatalf("event %d of %d: %v", want, last, err)
		}
		if strings.HasPrefix(m.Subject(), "pgbridge.gap.") {
			if gaps++; gaps > 1 || want > 1 {
				r.Errorf("before event %d there is a gap: %s", want, m.Data())
			}
			continue
		}
		if string(m.Data()) != fmt.Sprint(want) {
			r.Fatalf("%s holds %s, want event %d", m.Subject(), m.Data(), want)
		}
		want++
	}
}
