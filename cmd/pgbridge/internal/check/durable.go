package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/postgres"
)

// durable looks at what durable channels need of PostgreSQL.
func (k postgresCheck) durable(ctx context.Context, c *config.Config, standby string) {
	k.verdict("durable: wal_level", "logical", k.walLevel(ctx))
	k.verdict("durable: REPLICATION", "the role may read replication slots", k.replication(ctx))
	k.verdict("durable: slots", "there is room", k.room(ctx, c))
	k.verdict("durable: schema", "pgbridge.notify is there", bridge.CheckSchema(ctx, k.conn, maxPayload(c)))
	k.slot(ctx, c)
	k.watched(ctx, c)
	k.kept(ctx)
	k.failover(ctx, standby)
}

// maxPayload is NATS's max_payload in bytes; zero where it is away, which its own
// checks say.
func maxPayload(c *config.Config) int64 {
	nc, err := natsconn.Once(c.NATS, c.NATSName+" check")
	if err != nil {
		return 0
	}
	defer nc.Close()
	return nc.MaxPayload()
}

// slot looks at the replication slot, where there is one.
func (k postgresCheck) slot(ctx context.Context, c *config.Config) {
	found, err := bridge.CheckSlot(ctx, k.conn, c.Bridge())
	k.verdict("durable: slot", found, err)
}

func (k postgresCheck) walLevel(ctx context.Context) error {
	var level string
	if err := k.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('wal_level')").Scan(&level); err != nil {
		return errors.New(postgres.Reason(err))
	}
	if level != "logical" {
		return fmt.Errorf("it is %s: set wal_level = logical and restart PostgreSQL", level)
	}
	return nil
}

// replication looks at the attribute, and at the roles that managed services
// have for it.
func (k postgresCheck) replication(ctx context.Context) error {
	var may bool
	err := k.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) session_user AND (r.rolsuper OR r.rolreplication))
		OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) ANY ('{rds_replication,rds_superuser,azure_pg_admin,cloudsqlsuperuser,alloydbsuperuser}'::pg_catalog.name[])
			AND pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER'))`).Scan(&may)
	if err != nil {
		return errors.New(postgres.Reason(err))
	}
	if !may {
		return fmt.Errorf("ALTER ROLE %s REPLICATION, or grant what a managed service has for it", k.settings.User())
	}
	return nil
}

// room looks for a slot, which may be ours already, and a sender.
func (k postgresCheck) room(ctx context.Context, c *config.Config) error {
	if err := bridge.CheckRoom(ctx, k.conn, c.Bridge()); err != nil {
		return errors.New(postgres.Reason(err))
	}
	return nil
}

// kept says what a slot that nobody reads does.
func (k postgresCheck) kept(ctx context.Context) {
	const what = "durable: WAL kept"
	var limit string
	err := k.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('max_slot_wal_keep_size')").Scan(&limit)
	switch {
	case err != nil:
		k.fail(what, "%s", postgres.Reason(err))
	case limit == "-1":
		k.warn(what, "max_slot_wal_keep_size is unlimited: while nobody reads the slot, the write-ahead log fills the disk")
	default:
		k.ok(what, "at most %s; beyond, the slot is lost, which is announced as a gap", limit)
	}
}

// watched warns of tables that were changed since they are watched.
func (k postgresCheck) watched(ctx context.Context, c *config.Config) {
	const what, most = "durable: watched tables", 10
	tables, faults, err := bridge.CheckWatched(ctx, k.conn, c.Bridge())
	if err != nil {
		k.fail(what, "%s", postgres.Reason(err))
		return
	}
	for i, fault := range faults {
		if i == most {
			k.warn(what, "%d more", len(faults)-most)
			break
		}
		k.warn(what, "%s", fault)
	}
	if len(faults) == 0 {
		k.ok(what, "%d", tables)
	}
}
