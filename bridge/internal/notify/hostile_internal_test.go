package notify

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A server that breaks the protocol ends the connection and nothing else.
func TestServerThatBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	url := pg.NewDatabase(t)
	notify := func(url string) (done int) {
		settings, err := postgres.Parse(url, postgres.Options{})
		if err != nil {
			t.Error(err)
			return 0
		}
		conn, err := settings.Connect(t.Context())
		if err != nil {
			return 0
		}
		defer postgres.Close(t.Context(), conn)
		p := conn.PgConn().StartPipeline(t.Context())
		for range 3 {
			p.SendQueryParams("SELECT pg_catalog.pg_notify($1, $2)", [][]byte{[]byte("a"), []byte("b")}, nil, nil, nil)
			p.SendPipelineSync()
		}
		if p.Flush() == nil {
			for range 3 {
				if readNotified(p) == nil {
					done++
				}
			}
		}
		_ = p.Close()
		return done
	}
	if n := notify(url); n != 3 {
		t.Fatalf("%d notifications of 3 with a server that keeps to the protocol", n)
	}
	testenv.Mangle(t, pg, url, 4, func(url string) { notify(url) })
}
