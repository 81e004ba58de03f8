package cursors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestMain(m *testing.M) {
	testenv.ServeChild(serveChild)
	testenv.Main(m)
}

// world is one in which cursors are served.
type world struct{ *harness.World }

func newWorld(t testing.TB, scripts map[string]string, hooks ...func(*server.Options)) *world {
	t.Helper()
	return &world{harness.New(t, scripts, hooks...)}
}

// serve starts a runner that is ready; it is stopped when the test ends.
func (w *world) serve(changes ...func(*txrunner.Config)) *harness.Running {
	w.T.Helper()
	cursorsToo := func(c *txrunner.Config) {
		c.SQL, c.Extensions = &txrunner.SQL{}, []txrunner.Extension{cursors.New()}
	}
	return w.Serve(append([]func(*txrunner.Config){cursorsToo}, changes...)...)
}

// received is what came of a stream.
type received struct {
	first   harness.Reply
	rows    []json.RawMessage
	chunks  int
	largest int // rows in a chunk
	end     nats.Header
	err     *harness.Failure
}

// streamed asks for a stream and takes all of it; ack says whether each chunk is
// acknowledged.
func (w *world) streamed(tx, body string, ack bool) received {
	w.T.Helper()
	in := w.openStream(tx, body)
	var r received
	for !r.take(in, ack) {
	}
	_ = in.Sub.Unsubscribe()
	return r
}

func (w *world) openStream(tx, body string) *harness.Inbox {
	w.T.Helper()
	return w.Request(w.Client, tx+".stream", body)
}

// take reads one message of a stream and reports whether it was the last.
func (r *received) take(in *harness.Inbox, ack bool) bool {
	t := in.W.T
	t.Helper()
	m := in.Next()
	switch {
	case m.Header.Get("Pgbridge-Seq") != "":
		var rows []json.RawMessage
		if err := json.Unmarshal([]byte(m.Body), &rows); err != nil {
			t.Fatalf("chunk %.100q: %v", m.Body, err)
		}
		r.rows, r.chunks, r.largest = append(r.rows, rows...), r.chunks+1, max(r.largest, len(rows))
		harness.Equal(t, "sequence number", m.Header.Get("Pgbridge-Seq"), fmt.Sprint(r.chunks))
		if ack {
			in.Ack(m)
		}
	case m.Body == "":
		r.end = m.Header
		return true
	case m.Error != nil:
		r.err = m.Error
		return r.first.Tx == "" // else the empty message comes
	default:
		r.first = m
	}
	return false
}

type childConfig struct{ Postgres, NATS, Scripts string }

func serveChild(ctx context.Context, c childConfig) error {
	nc, err := nats.Connect(c.NATS, nats.PermissionErrOnSubscribe(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	runner, err := txrunner.New(txrunner.Config{
		ConnString: c.Postgres, Scripts: c.Scripts, Requests: nc, Extensions: []txrunner.Extension{cursors.New()},
	})
	if err != nil {
		return err
	}
	return runner.Run(ctx)
}
