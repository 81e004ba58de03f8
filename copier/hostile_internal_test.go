package copier

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/inlet"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// pieces are data for a COPY, a line each.
type pieces struct {
	left int

	mu     sync.Mutex // guards what follows
	failed chan struct{}
	over   bool
}

func (p *pieces) Read(b []byte) (int, error) {
	select {
	case <-p.failed:
		return 0, errOver
	default:
	}
	if p.left == 0 {
		return 0, io.EOF
	}
	p.left--
	return copy(b, "1\n"), nil
}

func (p *pieces) Fail(error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.over = true
		close(p.failed)
	}
}

func (p *pieces) Failed() <-chan struct{} { return p.failed }

// A server that breaks the protocol ends the connection and nothing else.
func TestServerThatBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	url := pg.NewDatabase(t)
	testenv.Exec(t, url, "CREATE TABLE item (id int)")
	transfer := func(url string) (in, out int64) {
		settings, err := postgres.Parse(url, postgres.Options{})
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		s, err := session.Connect(t.Context(), settings, session.Limits{Statement: time.Minute, Idle: time.Minute})
		if err != nil {
			return 0, 0
		}
		defer s.Close()
		if s.Execute(t.Context(), "BEGIN") != nil {
			return 0, 0
		}
		from := &pieces{left: 3, failed: make(chan struct{})}
		done, err := copyIn(t.Context(), s, "COPY item FROM STDIN", func() {}, from)
		in = done.rows
		if err == nil && !s.Lost() {
			_, _ = copyOut(t.Context(), s, "COPY item TO STDOUT", func() {}, func([]byte) error { out++; return nil })
		}
		if !s.Lost() {
			_, _ = copyOut(t.Context(), s, "COPY item TO STDOUT", func() {}, func([]byte) error { return errors.New("enough") })
		}
		s.Rollback(t.Context())
		return in, out
	}
	if in, out := transfer(url); in != 3 || out != 3 {
		t.Fatalf("%d rows in, %d out with a server that keeps to the protocol, want 3 and 3", in, out)
	}
	testenv.Mangle(t, pg, url, 6, func(url string) { transfer(url) })
}

// Two that send the data of a COPY would read it at once.
func TestServerThatAsksForDataTwice(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	url := pg.NewDatabase(t)
	testenv.Exec(t, url, "CREATE TABLE item (id int)")
	m := testenv.NewMangler(t, pg.Addr())
	m.Change(func(_ int, kind byte, body []byte) ([]byte, bool) {
		message := testenv.Message(kind, body)
		if kind == 'G' {
			return append(message, message...), true
		}
		return message, false
	})
	settings, err := postgres.Parse(m.Reroute(t, url), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := session.Connect(t.Context(), settings, session.Limits{Statement: time.Minute, Idle: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = copyIn(t.Context(), s, "COPY item FROM STDIN", func() {}, &pieces{left: 3, failed: make(chan struct{})})
	if !errors.Is(err, inlet.ErrForm) || !s.Lost() {
		t.Errorf("copyIn = %v, want %v; the session is lost: %t", err, inlet.ErrForm, s.Lost())
	}
}
