package migration_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/migration"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// What somebody else made first is refused, whatever it is, by a superuser and by the
// owner of the database alike; nothing of it is called, and nothing is made.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	for what, makes := range map[string]string{
		"the schema":             "CREATE SCHEMA pgbridge",
		"a table":                "RESET ROLE; CREATE SCHEMA pgbridge; GRANT ALL ON SCHEMA pgbridge TO :mallory; SET ROLE :mallory; CREATE TABLE pgbridge.message_id ()",
		"a view":                 "RESET ROLE; CREATE SCHEMA pgbridge; GRANT ALL ON SCHEMA pgbridge TO :mallory; SET ROLE :mallory; CREATE VIEW pgbridge.position AS SELECT 1",
		"a function":             "RESET ROLE; CREATE SCHEMA pgbridge; GRANT ALL ON SCHEMA pgbridge TO :mallory; SET ROLE :mallory; CREATE FUNCTION pgbridge.durable_version() RETURNS int LANGUAGE sql AS 'SELECT 1'",
		"the publication":        "RESET ROLE; CREATE SCHEMA pgbridge; SET ROLE :mallory; CREATE PUBLICATION pgbridge",
		"all, in its own schema": "CREATE SCHEMA pgbridge; CREATE TABLE pgbridge.message_id (); CREATE FUNCTION pgbridge.notify(a text, b text) RETURNS void LANGUAGE sql AS ''",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			url := testenv.Postgres(t).NewDatabase(t)
			mallory := testenv.Value[string](t, url, "SELECT 'mallory_' || current_database()")
			owner := testenv.Value[string](t, url, "SELECT 'owner_' || current_database()")
			testenv.Exec(t, url, "CREATE ROLE "+mallory+"; CREATE ROLE "+owner+"; SELECT 1")
			t.Cleanup(func() {
				testenv.Exec(t, url, "RESET ROLE; DROP OWNED BY "+mallory+", "+owner+" CASCADE; REASSIGN OWNED BY "+owner+" TO current_user; DROP ROLE "+mallory+", "+owner)
			})
			testenv.Exec(t, url, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO `+owner+`; GRANT CREATE ON DATABASE %1$I TO `+mallory+`', current_database()); END $$`)
			testenv.Exec(t, url, "SET ROLE "+mallory+"; "+strings.ReplaceAll(makes, ":mallory", mallory))
			for _, as := range []string{"", "SET ROLE " + owner} {
				conn := connect(t, url, as)
				if err := migration.Look(t.Context(), conn); !errors.Is(err, migration.ErrStranger) {
					t.Errorf("Look() %s = %v, want %v", as, err, migration.ErrStranger)
				}
				if err := migration.Run(t.Context(), conn, "CREATE TABLE pgbridge.made ();"); !errors.Is(err, migration.ErrStranger) {
					t.Errorf("Run() %s = %v, want %v", as, err, migration.ErrStranger)
				}
				if status := conn.PgConn().TxStatus(); status != 'I' {
					t.Errorf("the connection is left in %c", status)
				}
			}
			if testenv.Value[bool](t, url, "SELECT to_regclass('pgbridge.made') IS NOT NULL") {
				t.Error("it made something all the same")
			}
		})
	}
}

// The database's owner, a superuser and a role's members make it and look at it.
func TestFriendsAreNot(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	friend := testenv.Value[string](t, url, "SELECT 'friend_' || current_database()")
	testenv.Exec(t, url, "CREATE ROLE "+friend)
	t.Cleanup(func() { testenv.Exec(t, url, "DROP OWNED BY "+friend+"; DROP ROLE "+friend) })
	testenv.Exec(t, url, `DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO `+friend+`', current_database()); END $$`)
	for _, as := range []string{"SET ROLE " + friend, "SET ROLE " + friend} {
		if err := migration.Run(t.Context(), connect(t, url, as), "CREATE TABLE IF NOT EXISTS pgbridge.made ();"); err != nil {
			t.Errorf("Run() %s = %v", as, err)
		}
	}
	testenv.Exec(t, url, "ALTER SCHEMA pgbridge OWNER TO CURRENT_USER")
	if err := migration.Look(t.Context(), connect(t, url, "SET ROLE "+friend)); err != nil {
		t.Errorf("Look() at a superuser's schema = %v", err)
	}
}

// Where transactions only read as a rule, those of a migration write.
func TestDefaultsOfTheDatabaseAreNotThatOfAMigration(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, url, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$")
	if err := migration.Run(t.Context(), connect(t, url, ""), "CREATE TABLE pgbridge.made ();"); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func connect(t *testing.T, url, as string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(t.Context(), as); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Whoever may connect can hold any advisory lock, for as long as they like.
func TestALockInForeignHandsIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	mallory := testenv.Value[string](t, url, "SELECT 'mallory_' || current_database()")
	testenv.Exec(t, url, "CREATE ROLE "+mallory)
	t.Cleanup(func() { testenv.Exec(t, url, "DROP ROLE "+mallory) })
	holder := connect(t, url, "SET ROLE "+mallory)
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(hashtext('pgbridge.migrate'))"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := migration.Run(ctx, connect(t, url, ""), "CREATE TABLE pgbridge.made ();"); err != nil {
		t.Errorf("Run() with the lock in foreign hands = %v", err)
	}
}
