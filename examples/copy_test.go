package examples_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestCopy(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	database := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, database, examples.Schema())
	testenv.Exec(t, database, "INSERT INTO orders (customer, total) SELECT 'somebody', g FROM generate_series(1, 100000) g")
	requests := bus.Connect(t, nats.PermissionErrOnSubscribe(true))
	c, err := copier.New(copier.Config{Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	harness.Serve(t, txrunner.Config{
		ConnString: database, Scripts: "scripts", Requests: requests, Extensions: []txrunner.Extension{c.Extension()},
	})
	e := run(t, bus, build(t, "copy"))
	e.awaits(t, `(?m)^id,customer,total$`)
	e.awaits(t, `(?m)^100000,somebody,100000.00$`)
	e.awaits(t, `(?m)^100000 rows$`)
}
