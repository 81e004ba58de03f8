package cursors

import (
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Functions can open any number of cursors, of any length: what is not asked for is not
// kept.
func TestCursorsThatAreNotWantedAreNotKept(t *testing.T) {
	t.Parallel()
	settings, err := postgres.Parse(testenv.Postgres(t).NewDatabase(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := session.Connect(t.Context(), settings, session.Limits{Statement: time.Minute, Idle: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Execute(t.Context(), `BEGIN; DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE 'DECLARE c' || i || ' SCROLL CURSOR FOR SELECT ' || i; END LOOP; END $$`); err != nil {
		t.Fatal(err)
	}
	parsed, err := script.Parse("a", "a.sql", []byte("SELECT 1"))
	if err != nil {
		t.Fatal(err)
	}
	call := &execution.Call{Program: execution.NewProgram(parsed, time.Minute), Deadline: time.Now().Add(time.Minute)}
	w := execution.InTransaction(call, s, new(execution.Roles), time.Minute, 1<<20, nil)
	defer w.Close()
	there, err := listCursors(t.Context(), w, func(name string) bool { return name == "c7" || name == "c70" || name == "c700" })
	if err != nil {
		t.Fatal(err)
	}
	if p := there["c70"]; len(there) != 2 || !p.scroll || p.hold || p.sql != "DECLARE c70 SCROLL CURSOR FOR SELECT 70" {
		t.Errorf("%d cursors, %+v", len(there), there)
	}
}
