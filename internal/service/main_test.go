package service

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is how long a test waits for what should happen at once.
const deadline = 10 * time.Second

// startNATS runs a NATS server on a loopback port until the test ends.
func startNATS(t *testing.T, options *server.Options) *server.Server {
	t.Helper()
	options.Host, options.NoSigs, options.NoLog = "127.0.0.1", true, true
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(deadline) {
		t.Fatal("NATS does not accept connections")
	}
	return s
}

func connect(t *testing.T, s *server.Server, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{
		nats.PermissionErrOnSubscribe(true), nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)
	nc, err := nats.Connect(s.ClientURL(), options...)
	if err != nil {
		t.Fatalf("connect to NATS: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// rig is a service under test with its server and a client.
type rig struct {
	*Service
	server *server.Server
	client *nats.Conn
	stop   func() error // ends Run and returns what it returned
}

func newRig(t *testing.T, endpoints ...Endpoint) *rig {
	t.Helper()
	return newRigWith(t, Config{}, endpoints...)
}

func newRigWith(t *testing.T, config Config, endpoints ...Endpoint) *rig {
	t.Helper()
	s := startNATS(t, &server.Options{})
	config.Lasting = connect(t, s)
	r := &rig{Service: newService(t, connect(t, s), config, endpoints...), server: s, client: connect(t, s)}
	r.stop = start(t, r.Service)
	waitUntil(t, "all subscribed", func() bool { return len(r.Problems()) == 0 })
	return r
}

// newWaiting is a rig where no more than so many requests of an endpoint may
// wait, whoever's they are.
func newWaiting(t *testing.T, waiting int, endpoints ...Endpoint) *rig {
	t.Helper()
	s := startNATS(t, &server.Options{})
	r := &rig{Service: newService(t, connect(t, s), Config{Share: 1}, endpoints...), server: s, client: connect(t, s)}
	r.waiting = waiting
	r.stop = start(t, r.Service)
	waitUntil(t, "all subscribed", func() bool { return len(r.Problems()) == 0 })
	return r
}

// dropped returns how many requests were dropped for a reason.
func (r *rig) dropped(t *testing.T, reason string) int {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.Service)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "pgbridge_requests_dropped_total" && m.GetLabel()[0].GetValue() == reason {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// always is an endpoint's NoReply.
func always(*Request) bool { return true }

// byToken is an endpoint's Place.
func byToken(r *Request) Place { return Place{Owner: r.Tokens[0], Key: r.Tokens[0]} }

func newService(t *testing.T, nc *nats.Conn, config Config, endpoints ...Endpoint) *Service {
	t.Helper()
	config.Name, config.Version, config.Description = "pgbridge", "1.2.3", "a test"
	if config.ReplyPrefixes == nil {
		config.ReplyPrefixes = []string{"_INBOX", "_R_"}
	}
	service, err := New(nc, config)
	if err != nil {
		t.Fatalf("New() = %v", err)
	}
	for _, e := range endpoints {
		if err := service.Handle(e); err != nil {
			t.Fatalf("Handle(%s) = %v", e.Name, err)
		}
	}
	return service
}

func start(t *testing.T, s *Service) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = func() error {
		cancel()
		select {
		case err := <-ended:
			ended <- err
			return err
		case <-time.After(deadline):
			t.Error("Run does not return")
			return context.DeadlineExceeded
		}
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// waitUntil polls what gives no signal.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(deadline)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not in %s: %s", deadline, what)
		}
	}
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(deadline):
		t.Fatalf("not in %s: %s", deadline, what)
		panic("unreachable")
	}
}

func request(t *testing.T, nc *nats.Conn, subject, body string) *nats.Msg {
	t.Helper()
	msg, err := nc.Request(subject, []byte(body), deadline)
	if err != nil {
		t.Fatalf("request %s: %v", subject, err)
	}
	return msg
}

// wantError checks an error reply and returns its message.
func wantError(t *testing.T, msg *nats.Msg, code Code) string {
	t.Helper()
	var body struct{ Error Error }
	if err := json.Unmarshal(msg.Data, &body); err != nil {
		t.Fatalf("reply %q: %v", msg.Data, err)
	}
	if body.Error.Code != code {
		t.Fatalf("reply has code %q, want %q", body.Error.Code, code)
	}
	if line := msg.Header.Get("Nats-Service-Error"); line == "" || strings.ContainsAny(line, "\r\n") {
		t.Fatalf("Nats-Service-Error = %q, want one line", line)
	}
	return body.Error.Message
}

func echo(_ context.Context, r *Request) (Reply, error) {
	return Reply{Header: nats.Header{"Seen": r.Tokens}, Data: r.Data}, nil
}
