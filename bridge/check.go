package bridge

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/control"
	"github.com/pgbridge/pgbridge/bridge/internal/durable"
	"github.com/pgbridge/pgbridge/bridge/internal/listen"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/postgres"
)

// CheckSessions makes the connections to PostgreSQL that a Bridge with this
// configuration makes for notifications, sets them up as it does, and closes
// them. It does without NATS, sends nothing, and blocks until that is done, failed
// or ctx ends.
func CheckSessions(ctx context.Context, config Config) error {
	config = config.withDefaults()
	settings, err := postgres.Parse(config.ConnString, postgres.Options{
		PasswordFile: config.PasswordFile, ApplicationName: config.ApplicationName,
	})
	if err != nil {
		return err
	}
	listener := listen.Listener{Settings: settings, Application: listenerName(config.ApplicationName, "check"), Log: zap.NewNop()}
	if err := listener.Probe(ctx); err != nil {
		return fmt.Errorf("the listener's: %w", err)
	}
	c := control.Control{Settings: settings}
	if err := c.Probe(ctx); err != nil {
		return fmt.Errorf("the one with the publishing lock: %w", err)
	}
	for _, channel := range config.Channels {
		if channel.Durable {
			return checkReplication(ctx, settings)
		}
	}
	return nil
}

func checkReplication(ctx context.Context, settings *postgres.Settings) error {
	config, err := settings.ConnConfig(ctx)
	if err != nil {
		return err
	}
	conn, err := wal.Connect(ctx, &config.Config)
	if err != nil {
		return fmt.Errorf("the one that reads the write-ahead log: %w", err)
	}
	conn.Close(ctx)
	return nil
}

// CheckSlot looks at the replication slot that a bridge with this configuration
// reads, and says in a line how it is, or what is wrong with it: another's slot
// of its name, one that is lost, a lag over a limit, a standby that PostgreSQL
// waits for. Without a slot it says that one will be made. It needs no NATS and
// blocks until PostgreSQL has answered or ctx ends.
func CheckSlot(ctx context.Context, conn *pgx.Conn, c Config) (string, error) {
	c = c.withDefaults()
	return durable.Check(ctx, conn, c.Prefix, c.Durable.limits())
}

// CheckWatched says how many tables are watched in the database, and of each that is not
// what its events say it is, or whose channel is not durable in this configuration, what is
// wrong. It needs no NATS and blocks until PostgreSQL has answered or ctx ends.
func CheckWatched(ctx context.Context, conn *pgx.Conn, c Config) (tables int, faults []string, err error) {
	var channels []string
	for name, channel := range c.Channels {
		if channel.Durable {
			channels = append(channels, name)
		}
	}
	return durable.Watched(ctx, conn, channels)
}

// CheckRoom says why the server has no replication slot or no sender left for a bridge
// with this configuration; the slots of other prefixes are others'. It needs no NATS and
// blocks until PostgreSQL has answered or ctx ends.
func CheckRoom(ctx context.Context, conn *pgx.Conn, c Config) error {
	return durable.CheckRoom(ctx, conn, c.withDefaults().Prefix)
}
