package natsconn

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/internal/files"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func password(o *server.Options) { o.Username, o.Password = "u", "right" }

func TestOnce(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := pair.Seed()
	public, _ := pair.PublicKey()
	pipe := filepath.Join(t.TempDir(), "pipe") // which nobody writes into
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		server   func(*server.Options)
		settings Settings
		err      error
	}{
		{"none", func(*server.Options) {}, Settings{}, nil},
		{"password", password, Settings{User: "u", Password: "right"}, nil},
		{"password file", password, Settings{User: "u", Password: "wrong", PasswordFile: write(t, "right\n")}, nil},
		{"wrong password", password, Settings{User: "u", Password: "wrong"}, nats.ErrAuthorization},
		{"no password", password, Settings{}, nats.ErrAuthorization},
		{"token", func(o *server.Options) { o.Authorization = "t" }, Settings{Token: "t"}, nil},
		{"nkey", func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }, Settings{NKey: write(t, string(seed))}, nil},
		{"missing file", password, Settings{User: "u", PasswordFile: "/nowhere"}, os.ErrNotExist},
		{"pipe", password, Settings{User: "u", PasswordFile: pipe}, files.ErrNotRegular},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.settings.URLs = []string{testenv.NATS(t, tt.server).URL()}
			nc, err := Once(tt.settings, "test")
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("Once() = %v, want %v", err, tt.err)
			}
			if err == nil {
				nc.Close()
			}
		})
	}
}

func TestOnceWithTLS(t *testing.T) {
	t.Parallel()
	c := testenv.TLS(t, "client")
	s := testenv.NATS(t, func(o *server.Options) {
		o.TLSConfig, o.TLSTimeout = c.ServerTLS(t, c.Server), 5
	})
	settings := Settings{URLs: []string{s.URL()}, CA: c.CAFile, Cert: c.Client.CertFile, Key: c.Client.KeyFile}
	nc, err := Once(settings, "test")
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	settings.CA = ""
	if _, err := Once(settings, "test"); err == nil {
		t.Error("connected to a server whose certificate nobody vouches for")
	}
}

// Whatever says that TLS is wanted, a server without it is not talked to.
func TestOnceRefusesPlaintext(t *testing.T) {
	t.Parallel()
	c := testenv.TLS(t, "client")
	s := testenv.NATS(t)
	for name, settings := range map[string]Settings{
		"a URL":                {URLs: []string{"tls://" + s.Addr()}},
		"one URL of several":   {URLs: []string{s.URL(), "tls://127.0.0.1:1"}},
		"an authority":         {URLs: []string{s.URL()}, CA: c.CAFile},
		"a client certificate": {URLs: []string{s.URL()}, Cert: c.Client.CertFile, Key: c.Client.KeyFile},
		"TLS first":            {URLs: []string{s.URL()}, TLSFirst: true},
	} {
		if nc, err := Once(settings, "test"); err == nil {
			nc.Close()
			t.Errorf("%s: connected without TLS", name)
		}
	}
}

// observed returns a logger and what it was given.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return zap.New(core), logs
}

func waitFor(t *testing.T, logs *observer.ObservedLogs, message string, n int) {
	t.Helper()
	testenv.Wait(t, 15*time.Second, message, func() bool { return logs.FilterMessage(message).Len() >= n })
}

func TestKeptConnectionOutlivesItsServer(t *testing.T) {
	t.Parallel()
	s := testenv.NATS(t)
	s.Stop(t)
	log, logs := observed()
	nc, err := Events(Settings{URLs: []string{s.URL()}}, Keeper{Name: "test", Logger: log, Refused: func(err error) { t.Errorf("refused: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	waitFor(t, logs, "NATS is away", 1)
	s.Start(t)
	waitFor(t, logs, "connected to NATS", 1)
	s.Stop(t)
	waitFor(t, logs, "disconnected from NATS", 1)
	if err := nc.Publish("x", nil); err == nil && nc.FlushTimeout(time.Second) == nil {
		t.Error("published without a server")
	}
	s.Start(t)
	waitFor(t, logs, "connected to NATS", 2)
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Errorf("flush after the server came back: %v", err)
	}
	if n := logs.FilterMessage("NATS is away").Len(); n > 4 {
		t.Errorf("%d lines about two outages, want one each and kind of error", n)
	}
}

func TestFrozenLinkIsNoticed(t *testing.T) {
	t.Parallel()
	s := testenv.NATS(t)
	proxy := testenv.NewProxy(t, s.Addr())
	log, logs := observed()
	nc, err := Events(Settings{URLs: []string{proxy.Reroute(t, s.URL())}}, Keeper{Name: "test", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	waitFor(t, logs, "connected to NATS", 1)
	proxy.Freeze()
	// With the buffers of the socket full a write blocks too.
	stop := make(chan struct{})
	publishing := make(chan struct{})
	go func() {
		defer close(publishing)
		big := make([]byte, 256<<10)
		for {
			select {
			case <-stop:
				return
			default:
				if nc.Publish("x", big) != nil {
					return
				}
			}
		}
	}()
	start := time.Now()
	waitFor(t, logs, "disconnected from NATS", 1)
	t.Logf("noticed after %s", time.Since(start))
	close(stop)
	<-publishing
	proxy.Cut()
	proxy.Thaw()
	waitFor(t, logs, "connected to NATS", 2)
}

func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	t.Run("at the first attempt", func(t *testing.T) {
		t.Parallel()
		s := testenv.NATS(t, password)
		wantRefused(t, s, func() {})
	})
	t.Run("when the server comes later", func(t *testing.T) {
		t.Parallel()
		s := testenv.NATS(t, password)
		s.Stop(t)
		wantRefused(t, s, func() { s.Start(t) })
	})
}

func wantRefused(t *testing.T, s *testenv.NATSServer, then func()) {
	t.Helper()
	refused := make(chan error, 10)
	nc, err := Events(Settings{URLs: []string{s.URL()}, User: "u", Password: "wrong"},
		Keeper{Refused: func(err error) { refused <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	then()
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrAuthorization) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("refused with %v, want an authorization violation without the password", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("Refused was not called")
	}
}

// TestOneServerRefusesAndOneIsAway waits for the one that is away, whichever is
// asked first.
func TestOneServerRefusesAndOneIsAway(t *testing.T) {
	t.Parallel()
	refusing := testenv.NATS(t, func(o *server.Options) { o.Username, o.Password = "u", "other" })
	away := testenv.NATS(t, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	away.Stop(t)
	plain := func(s *testenv.NATSServer) string { return "nats://" + s.Addr() }
	for range 3 { // nats.go shuffles them
		nc, err := Events(Settings{URLs: []string{plain(refusing), plain(away)}, User: "u", Password: "p"},
			Keeper{Refused: func(err error) { t.Errorf("refused: %v", err) }})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		testenv.Wait(t, time.Minute, "both to be asked", func() bool { return nc.LastError() != nil })
		away.Start(t)
		testenv.Wait(t, time.Minute, "the connection", nc.IsConnected)
		away.Stop(t)
	}
}

func TestCredentialsRefusedLaterAreTriedAgain(t *testing.T) {
	t.Parallel()
	right := true
	s := testenv.NATS(t, func(o *server.Options) {
		o.CustomClientAuthentication = authFunc(func(c server.ClientAuthentication) bool { return right })
	})
	log, logs := observed()
	nc, err := Events(Settings{URLs: []string{s.URL()}}, Keeper{Logger: log, Refused: func(err error) { t.Errorf("refused: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	waitFor(t, logs, "connected to NATS", 1)
	s.Stop(t)
	right = false
	s.Start(t)
	waitFor(t, logs, "NATS reported an error", 1)
	s.Stop(t)
	right = true
	s.Start(t)
	waitFor(t, logs, "connected to NATS", 2)
}

type authFunc func(server.ClientAuthentication) bool

func (f authFunc) Check(c server.ClientAuthentication) bool { return f(c) }

func TestEmbedded(t *testing.T) {
	t.Parallel()
	e := Embedded{Host: "127.0.0.1", StoreDir: t.TempDir(), User: "u", Password: "p"}
	s, err := e.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer Stop(s)
	nc, err := Events(Settings{User: "u", Password: "p"}, Keeper{InProcess: s})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	over, err := Once(Settings{URLs: []string{s.ClientURL()}, User: "u", Password: "p"}, "test")
	if err != nil {
		t.Fatalf("connect over TCP: %v", err)
	}
	defer over.Close()
	sub, err := over.SubscribeSync("x")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(over.Flush(), nc.Publish("x", []byte("hello")), nc.Flush()); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(5 * time.Second); err != nil || string(m.Data) != "hello" {
		t.Errorf("NextMsg() = %v, %v", m, err)
	}
	at, err := EmbeddedAt([]string{s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	at.StoreDir = t.TempDir()
	if s, err := at.Start(); err == nil {
		Stop(s)
		t.Error("a second server started on a taken port")
	}
}

func TestEmbeddedAt(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]Embedded{
		"nats://127.0.0.1:4333": {Host: "127.0.0.1", Port: 4333},
		"nats://localhost":      {Host: "localhost", Port: 4222},
		"nats://[::1]:0":        {Host: "::1", Port: 0},
	} {
		if got, err := EmbeddedAt([]string{url}); err != nil || got != want {
			t.Errorf("EmbeddedAt(%q) = %+v, %v; want %+v", url, got, err, want)
		}
	}
	for _, url := range []string{"nats://0.0.0.0:4222", "nats://nats:4222", "tls://127.0.0.1", "nats://127.0.0.1:70000", "127.0.0.1:4222"} {
		if _, err := EmbeddedAt([]string{url}); err == nil {
			t.Errorf("EmbeddedAt(%q): no error", url)
		}
	}
}

func TestSweepsComeAfterGrowingWaits(t *testing.T) {
	t.Parallel()
	w := newWatch(Keeper{})
	for n := 1; n < 100; n++ {
		if d := w.beforeSweep(n); d < minDelay/2 || d > maxDelay || n > 8 && d < maxDelay/2 {
			t.Fatalf("the wait before sweep %d is %s", n, d)
		}
	}
}

func TestQuietCountsRepetitions(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	q := newQuiet(log)
	now := time.Now()
	q.now = func() time.Time { return now }
	for range 5 {
		q.warn("away", errors.New("a"))
	}
	q.warn("away", errors.New("b"))
	if logs.Len() != 2 {
		t.Fatalf("%d lines, want 2", logs.Len())
	}
	now = now.Add(quietTime)
	q.warn("away", errors.New("a"))
	lines := logs.All()
	if got := lines[len(lines)-1].ContextMap()["repeated"]; got != int64(4) {
		t.Errorf("repeated = %v, want 4", got)
	}
	q.forget()
	q.warn("away", errors.New("a"))
	if logs.Len() != 4 {
		t.Errorf("%d lines, want 4: a new outage speaks at once", logs.Len())
	}
	for i := range 10 * quietLines {
		q.warn("away", errors.New(strings.Repeat("x", i)))
	}
	if len(q.seen) > quietLines || logs.Len() > 3+quietLines {
		t.Errorf("%d lines remembered and %d logged, want at most %d", len(q.seen), logs.Len()-3, quietLines)
	}
	now = now.Add(quietTime)
	before := logs.Len()
	if q.warn("away", errors.New("c")); logs.Len() != before+1 {
		t.Error("nothing is logged a minute after more than there is room for")
	}
}
