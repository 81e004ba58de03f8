package testenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgbridge/pgbridge/internal/pgserver"
)

// Standby starts a hot standby that streams from pg, and returns it when it
// accepts read-only sessions. It knows the primary by its port, so it follows
// one that is stopped and started again. The settings are added to its
// configuration. It ends with the test.
func Standby(t testing.TB, pg *PG, more ...map[string]string) *PG {
	t.Helper()
	return standby(t, pg, true, more)
}

// BareStandby is a standby without the primary's replication slots, as pg_basebackup
// makes it: a slot that the primary has from its own time as a standby is not taken
// for one that has followed.
func BareStandby(t testing.TB, pg *PG, more ...map[string]string) *PG {
	t.Helper()
	return standby(t, pg, false, more)
}

func standby(t testing.TB, pg *PG, slots bool, more []map[string]string) *PG {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	base := filepath.Join(t.TempDir(), "base")
	label, err := baseBackup(ctx, pg, base)
	if err != nil {
		t.Fatalf("copy the primary: %v", err)
	}
	if !slots {
		if err := empty(filepath.Join(base, "pg_replslot")); err != nil {
			t.Fatalf("leave out the primary's slots: %v", err)
		}
	}
	server, err := pgserver.Start(ctx, pgserver.Config{
		Binaries: pg.server.Binaries(),
		Template: base,
		Password: pg.server.Password(),
		Settings: standbySettings(pg, more),
		Files:    map[string][]byte{"standby.signal": nil, "backup_label": []byte(label)},
	})
	if err != nil {
		t.Fatalf("start a standby: %v", err)
	}
	t.Cleanup(func() { closeServer(t, server) })
	return &PG{server: server}
}

func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

func standbySettings(pg *PG, more []map[string]string) map[string]string {
	all := settings(map[string]string{
		"hot_standby":      "on",
		"primary_conninfo": fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=postgres", pg.Port(), pg.server.Superuser(), pg.server.Password()),
	})
	for _, m := range more {
		maps.Copy(all, m)
	}
	return all
}

// baseBackup does what pg_basebackup does for a server on the same machine,
// with SQL alone: not every installation has that program.
// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
func baseBackup(ctx context.Context, pg *PG, to string) (label string, err error) {
	err = onConnection(pg.URL(), func(_ context.Context, conn *pgx.Conn) error {
		start, stop := "SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"
		if conn.PgConn().ParameterStatus("server_version") < "15" { // 14 has other names for them
			start, stop = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
		}
		if _, err := conn.Exec(ctx, start); err != nil {
			return fmt.Errorf("begin the backup: %w", err)
		}
		if err := pgserver.CopyDataDir(ctx, pg.server.DataDir(), to); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
			return fmt.Errorf("end the backup: %w", err)
		}
		return nil
	})
	return label, err
}
