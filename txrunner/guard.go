package txrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

const (
	serviceName = "pgbridge"
	// Keys of the service's metadata.
	metadataPrefix   = "prefix"
	metadataDatabase = "database"

	identitySQL = `SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text || '/' || pg_catalog.current_database()`
	nameSQL     = "SELECT pg_catalog.current_database()"

	guardTimeout = 5 * time.Second
	// othersQuiet is how long no further replica has answered when all have.
	othersQuiet = 300 * time.Millisecond
)

// identify returns what tells this database from every other one.
func (r *Runner) identify(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	conn, err := r.runs.pool.Acquire(ctx)
	if err != nil {
		r.runs.failed(err)
		return "", fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	result := pg.ExecParams(ctx, identitySQL, nil, nil, nil, nil).Read()
	if reported(result.Err) && !pg.IsClosed() { // this user may not ask for the system's
		result = pg.ExecParams(ctx, nameSQL, nil, nil, nil, nil).Read()
	}
	if result.Err != nil {
		return "", fmt.Errorf("read the database's identity: %w", result.Err)
	}
	return string(result.Rows[0][0]), nil
}

// Captured returns an error if a JetStream stream takes in requests for a
// Runner with this configuration: their senders would get its acknowledgements
// for answers. It asks through Requests and blocks until JetStream has answered,
// ctx ends or a few seconds have passed; no JetStream is no error.
func (c Config) Captured(ctx context.Context) error {
	js, err := jetstream.New(c.Requests)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	for _, subject := range c.Subjects() {
		names := js.StreamNames(ctx, jetstream.WithStreamListSubject(subject))
		for name := range names.Name() {
			stream, err := js.Stream(ctx, name)
			if err == nil && !stream.CachedInfo().Config.NoAck {
				return fmt.Errorf("the stream %s captures requests on %s: change its subjects, or the prefix", name, subject)
			}
		}
		if err := names.Err(); err != nil {
			return ignoreNoJetStream(err)
		}
	}
	return nil
}

// ignoreNoJetStream returns nil for errors that mean that this user sees no
// streams at all.
func ignoreNoJetStream(err error) error {
	for _, harmless := range []error{
		jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount,
		nats.ErrNoResponders, nats.ErrTimeout, context.DeadlineExceeded,
	} {
		if errors.Is(err, harmless) {
			return nil
		}
	}
	return fmt.Errorf("look for streams that capture requests: %w", err)
}

// contested returns an error if a replica serves the prefix for another
// database.
func (r *Runner) contested(ctx context.Context, database string) error {
	nc := r.config.Requests
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return fmt.Errorf("ask for other replicas: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := nc.PublishRequest(micro.APIPrefix+"."+micro.InfoVerb.String()+"."+serviceName, answers.Subject, nil); err != nil {
		return fmt.Errorf("ask for other replicas: %w", err)
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, othersQuiet)
		msg, err := answers.NextMsgWithContext(waiting)
		cancel()
		if err != nil {
			return nil // no more, or none at all
		}
		var info micro.Info
		if json.Unmarshal(msg.Data, &info) != nil || info.Metadata[metadataPrefix] != r.config.Prefix {
			continue
		}
		if other := info.Metadata[metadataDatabase]; other != database {
			return fmt.Errorf("prefix %s is served for another database already, by %s", r.config.Prefix, info.ID)
		}
	}
}
