package service

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// pollTimeout is for requests that may fail and are sent again.
const pollTimeout = 50 * time.Millisecond

func TestStopServesWhatWasReceived(t *testing.T) {
	t.Parallel()
	const n = 20
	g := newGate()
	r := newRig(t, Endpoint{Name: "slow", Subject: "slow", Concurrency: 2, Handler: Each(g.handle)})
	answers := make(chan *nats.Msg, n)
	inbox := r.client.NewRespInbox()
	if _, err := r.client.Subscribe(inbox, func(m *nats.Msg) { answers <- m }); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := r.client.PublishRequest("slow", inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, g.came, "the first is being served")
	if err := r.client.Flush(); err != nil { // NATS has them all
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	waitUntil(t, "nobody listens", func() bool {
		_, err := r.client.Request("slow", nil, pollTimeout)
		return errors.Is(err, nats.ErrNoResponders)
	})
	if len(r.Problems()) != 1 {
		t.Errorf("Problems() = %q while stopping, want one", r.Problems())
	}
	select {
	case err := <-stopped:
		t.Fatalf("Run() = %v before its requests were served", err)
	default:
	}
	close(g.open)
	if err := receive(t, stopped, "Run returns"); err != nil {
		t.Errorf("Run() = %v", err)
	}
	for range n {
		if msg := receive(t, answers, "every request is answered"); string(msg.Data) != "done" {
			t.Errorf("reply %q, want done", msg.Data)
		}
	}
}

func TestStopGraceRunsOut(t *testing.T) {
	t.Parallel()
	g := newGate()
	received := make(chan string, 3)
	r := newRigWith(t, Config{StopGrace: time.Millisecond}, Endpoint{
		Name: "slow", Subject: "slow", Concurrency: 1, Handler: Each(g.handle),
		Place: func(r *Request) Place { received <- r.Subject; return Place{} },
	})
	answers := make(chan *nats.Msg, 3)
	inbox := r.client.NewRespInbox()
	if _, err := r.client.Subscribe(inbox, func(m *nats.Msg) { answers <- m }); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := r.client.PublishRequest("slow", inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, g.came, "the first is being served")
	for range 3 {
		receive(t, received, "all were received")
	}
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	for range 3 {
		wantError(t, receive(t, answers, "every request is answered"), CodeUnavailable)
	}
}

// NATS says only to the connection that it may have no more subscriptions, and not which one
// it has refused.
func TestNoMoreSubscriptions(t *testing.T) {
	t.Parallel()
	for few, want := range map[int]int{5: 1, 50: 0} {
		r := newRig(t, Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)})
		again := restart(t, r.server, &server.Options{MaxSubs: few})
		waitUntil(t, "the service is back, and says what it lacks", func() bool {
			problems := r.Problems()
			return r.nc.IsConnected() && len(problems) == want && (want == 0 || strings.Contains(problems[0], "may have no more"))
		})
		restart(t, again, &server.Options{})
		waitUntil(t, "all is well again", func() bool {
			msg, err := r.client.Request("echo", []byte("x"), pollTimeout)
			return err == nil && string(msg.Data) == "x" && len(r.Problems()) == 0
		})
	}
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)})
	request(t, r.client, "echo", "")
	again := restart(t, r.server, &server.Options{})
	waitUntil(t, "the service is back", func() bool {
		msg, err := r.client.Request("echo", []byte("x"), pollTimeout)
		return err == nil && string(msg.Data) == "x"
	})
	if len(r.Problems()) != 0 {
		t.Errorf("Problems() = %q, want none", r.Problems())
	}
	again.Shutdown()
	waitUntil(t, "the link is down", func() bool { return !r.nc.IsConnected() })
	if err := r.stop(); err != nil {
		t.Errorf("Run() without NATS = %v", err)
	}
}

// restart runs another server on the port of s.
func restart(t *testing.T, s *server.Server, options *server.Options) *server.Server {
	t.Helper()
	options.Port = s.Addr().(*net.TCPAddr).Port
	s.Shutdown()
	s.WaitForShutdown()
	return startNATS(t, options)
}

func TestStartsBeforeNATS(t *testing.T) {
	t.Parallel()
	s := startNATS(t, &server.Options{})
	port := s.Addr().(*net.TCPAddr).Port
	url := s.ClientURL()
	s.Shutdown()
	s.WaitForShutdown()
	nc, err := nats.Connect(url, nats.PermissionErrOnSubscribe(true), nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	service := newService(t, nc, Config{}, Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)})
	start(t, service)
	if got := service.Problems(); len(got) != 1 || got[0] != "echo is not subscribed yet" {
		t.Errorf("Problems() = %q, want that echo is not subscribed", got)
	}
	client := connect(t, startNATS(t, &server.Options{Port: port}))
	waitUntil(t, "subscribed", func() bool { return len(service.Problems()) == 0 })
	request(t, client, "echo", "")
}

func TestRunEndsWhenTheConnectionIsClosed(t *testing.T) {
	t.Parallel()
	s := startNATS(t, &server.Options{})
	nc := connect(t, s)
	service := newService(t, nc, Config{}, Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)})
	ended := make(chan error, 1)
	go func() { ended <- service.Run(t.Context()) }()
	waitUntil(t, "subscribed", func() bool { return len(service.Problems()) == 0 })
	nc.Close()
	if err := receive(t, ended, "Run returns"); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Run() = %v, want that the connection is closed", err)
	}
}

// TestStopWhileNATSIsFrozen has nats.go call the closed handler twice: for the
// Unsubscribe that gives up, and for the Drain that hears of it later.
func TestStopWhileNATSIsFrozen(t *testing.T) {
	t.Parallel()
	s := startNATS(t, &server.Options{})
	proxy := testenv.NewProxy(t, s.Addr().String())
	nc, err := nats.Connect("nats://"+proxy.Addr(), nats.PermissionErrOnSubscribe(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	service := newService(t, nc, Config{}, Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)})
	stop := start(t, service)
	waitUntil(t, "subscribed", func() bool { return len(service.Problems()) == 0 })
	proxy.Freeze()
	if err := stop(); err != nil {
		t.Errorf("Run() on a frozen link = %v", err)
	}
	proxy.Thaw()
	if err := nc.FlushTimeout(deadline); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "nobody listens", func() bool {
		_, err := nc.Request("echo", nil, pollTimeout)
		return errors.Is(err, nats.ErrNoResponders)
	})
}

// limited are the options of a server whose only user may not subscribe deny.
func limited(deny ...string) *server.Options {
	return &server.Options{Users: []*server.User{
		{Username: "service", Password: "x", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{">"}, Deny: deny}}},
		{Username: "client", Password: "x"},
	}}
}

func TestRefusedSubscription(t *testing.T) {
	t.Parallel()
	s := startNATS(t, limited("notify.>"))
	service := newService(t, connect(t, s, nats.UserInfo("service", "x")), Config{},
		Endpoint{Name: "notify", Subject: "notify.>", Handler: Each(echo)},
		Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)})
	service.retry = 10 * time.Millisecond
	start(t, service)
	client := connect(t, s, nats.UserInfo("client", "x"))
	wantRefused := func() {
		t.Helper()
		waitUntil(t, "only notify is refused", func() bool {
			got := service.Problems()
			return len(got) == 1 && strings.HasPrefix(got[0], "NATS refuses subscribing notify.>: ")
		})
	}
	wantRefused()
	request(t, client, "echo", "")

	s = restart(t, s, limited("nothing"))
	waitUntil(t, "no more refused", func() bool { return len(service.Problems()) == 0 })
	waitUntil(t, "notify is served", func() bool {
		_, err := client.Request("notify.x", nil, pollTimeout)
		return err == nil
	})

	restart(t, s, limited("notify.>"))
	wantRefused()
}

func TestRefusalIsLiftedWithoutReconnect(t *testing.T) {
	t.Parallel()
	options := limited("notify.>")
	s := startNATS(t, options)
	nc := connect(t, s, nats.UserInfo("service", "x"))
	service := newService(t, nc, Config{}, Endpoint{Name: "notify", Subject: "notify.>", Handler: Each(echo)})
	service.retry = 10 * time.Millisecond
	start(t, service)
	waitUntil(t, "refused", func() bool { return strings.Contains(strings.Join(service.Problems(), ""), "refuses") })
	changed := options.Clone()
	changed.Users = limited("nothing").Users
	changed.Port = s.Addr().(*net.TCPAddr).Port
	if err := s.ReloadOptions(changed); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "no more refused", func() bool { return len(service.Problems()) == 0 })
	request(t, connect(t, s, nats.UserInfo("client", "x")), "notify.x", "")
}
