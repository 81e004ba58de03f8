package execution

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// run returns one run of pgbench's TPC-B script, with the transaction's end and
// whatever is done for the next one's sake.
func run(t testing.TB) func() {
	url := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, url, `CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL); CREATE TABLE teller (LIKE account INCLUDING ALL);
		CREATE TABLE branch (LIKE account INCLUDING ALL); CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamptz);
		INSERT INTO account SELECT i, 0 FROM generate_series(1, 100000) i; INSERT INTO teller SELECT i, 0 FROM generate_series(1, 1000) i;
		INSERT INTO branch SELECT i, 0 FROM generate_series(1, 1000) i`)
	settings, err := postgres.Parse(url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := session.Open(t.Context(), "runs", session.NewHome(settings), 4, 1, session.Limits{Statement: time.Minute, Idle: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	parsed, err := script.ParseSQL(`UPDATE account SET balance = balance + @delta WHERE id = @aid;
SELECT balance FROM account WHERE id = @aid;
UPDATE teller SET balance = balance + @delta WHERE id = @tid;
UPDATE branch SET balance = balance + @delta WHERE id = @bid;
INSERT INTO history (tid, bid, aid, delta, mtime) VALUES (@tid, @bid, @aid, @delta, CURRENT_TIMESTAMP)`)
	if err != nil {
		t.Fatal(err)
	}
	program := NewProgram(parsed, time.Minute)
	buffer := make([]byte, 0, 4096)
	params := map[string]json.RawMessage{
		"aid": json.RawMessage("7919"), "tid": json.RawMessage("17"), "bid": json.RawMessage("4"), "delta": json.RawMessage("-12"),
	}
	return func() {
		done, err := Run(t.Context(), pool, &Call{Program: program, Params: params, Deadline: time.Now().Add(time.Minute)}, 1<<20, buffer)
		if err != nil {
			t.Fatal(err)
		}
		buffer = done.Body
	}
}

func BenchmarkRun(b *testing.B) {
	once := run(b)
	for b.Loop() {
		once()
	}
}

// Five statements with BEGIN, COMMIT and what makes the session a clean one are
// fifteen steps: each object for every step would show.
func TestObjectsOfARun(t *testing.T) { //nolint:paralleltest // others would be counted
	once := run(t)
	once() // prepares
	once()
	if n := testing.AllocsPerRun(200, once); n > 60 {
		t.Errorf("a run of five statements makes %.0f objects, want at most 60", n)
	}
}
