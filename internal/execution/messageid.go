package execution

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

const (
	insertIDSQL = `INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request)
	VALUES ($1, $2, $3, $4, $5, $6)`
	storeReplySQL = `UPDATE pgbridge.message_id SET reply = $6
	WHERE prefix OPERATOR(pg_catalog.=) $1::pg_catalog.text AND caller OPERATOR(pg_catalog.=) $2::pg_catalog.text AND kind OPERATOR(pg_catalog.=) $3::pg_catalog.text
	AND script OPERATOR(pg_catalog.=) $4::pg_catalog.text AND id OPERATOR(pg_catalog.=) $5::pg_catalog.text`
	loadReplySQL = `SELECT request, reply FROM pgbridge.message_id
	WHERE prefix OPERATOR(pg_catalog.=) $1::pg_catalog.text AND caller OPERATOR(pg_catalog.=) $2::pg_catalog.text AND kind OPERATOR(pg_catalog.=) $3::pg_catalog.text
	AND script OPERATOR(pg_catalog.=) $4::pg_catalog.text AND id OPERATOR(pg_catalog.=) $5::pg_catalog.text`

	readOnlySavepoint = "pgbridge_read_only"

	// TrustedIDsSQL returns nothing. It fails where there is no table of message ids, and
	// with stateStranger where a stranger made it or its schema: whoever may create one
	// could have triggers run with pgbridge's rights. Nobody else can have a trusted one be
	// replaced.
	TrustedIDsSQL = `SELECT 1 FROM (SELECT made.owner FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
		CROSS JOIN LATERAL (VALUES (c.relowner), (n.nspowner)) made(owner)
		` + postgres.OfStrangersSQL + ` AND c.oid OPERATOR(pg_catalog.=) ('pgbridge.message_id'::pg_catalog.text)::pg_catalog.regclass
		LIMIT 1) stranger
	WHERE pg_catalog.concat('a stranger', stranger.owner)::pg_catalog.int4 IS NULL`
	stateStranger = "22P02" // invalid_text_representation
)

// NewMessageID returns the id under which a request is stored.
func NewMessageID(prefix, caller, kind, script, id string, body []byte) (*MessageID, error) {
	switch {
	case id == "":
		return nil, nil
	case len(id) > api.MaxMessageIDBytes:
		return nil, service.Errorf(service.CodeInvalidRequest, "the message id has %d bytes, %d are allowed", len(id), api.MaxMessageIDBytes)
	case !service.Storable(id):
		return nil, service.Errorf(service.CodeInvalidRequest, "the message id is not UTF-8 or holds a NUL byte")
	}
	hash := sha256.Sum256(body)
	return &MessageID{prefix, caller, kind, script, id, hex.EncodeToString(hash[:])}, nil
}

// Key returns the columns of the table's primary key.
func (m *MessageID) Key() [][]byte {
	return [][]byte{[]byte(m.Prefix), []byte(m.Caller), []byte(m.Kind), []byte(m.Script), []byte(m.ID)}
}

// Begin opens a transaction in the program's modes, with the call's message id if
// it has one.
func (c *Call) Begin(p *session.Pipeline) {
	if c.ID == nil {
		p.Own(session.StepOwn, c.Program.begin)
	} else {
		c.insertID(p)
	}
}

// insertID opens the transaction and inserts the id. A read-only script reads
// in a subtransaction, which is rolled back before the reply is stored.
func (c *Call) insertID(p *session.Pipeline) {
	writable, readOnly := ModesOf(c.Program.Script.Settings), false
	if c.Program.ReadOnly {
		writable.ReadOnly, writable.Deferrable = &readOnly, nil
	}
	p.Own(session.StepOwn, writable.Begin())
	p.Own(session.StepOwn, TrustedIDsSQL)
	p.Own(session.StepOwn, insertIDSQL, append(c.ID.Key(), []byte(c.ID.Request))...)
	if c.Program.ReadOnly {
		p.Own(session.StepOwn, "SAVEPOINT "+readOnlySavepoint)
		p.Own(session.StepOwn, "SET TRANSACTION READ ONLY")
	}
}

// IDError says what it means that the id could not be inserted; nil means that
// it is there already, so that the reply has to be looked up.
func IDError(report *pgconn.PgError) error {
	switch report.Code {
	case "23505": // unique_violation
		return nil
	case "42P01", "3F000": // undefined_table, invalid_schema_name
		return service.Errorf(service.CodeDenied, "message ids need the table pgbridge.message_id: run pgbridge migrate").WithCause(ErrNoIDs)
	case "42501": // insufficient_privilege
		return service.Errorf(service.CodeDenied, "the PostgreSQL user may not use the table pgbridge.message_id: see pgbridge migrate").WithCause(ErrNoIDs)
	case stateStranger:
		return errStranger()
	case "57014", "55P03": // query_canceled, lock_not_available
		return fmt.Errorf("%w: %w", ErrIDHeld, report)
	}
	return report
}

func errStranger() *service.Error {
	return service.Errorf(service.CodeDenied, "the table pgbridge.message_id, or its schema, belongs to a role that is neither a superuser, nor the owner of the database, nor one that pgbridge's role is a member of").WithCause(ErrNoIDs)
}

// TrustIDs returns an error where the table of message ids is not to be touched.
func TrustIDs(ctx context.Context, s *session.Session) error {
	_, err := s.AskRow(ctx, 1, TrustedIDsSQL, nil)
	var report *pgconn.PgError
	if errors.As(err, &report) && report.Code == stateStranger {
		return errStranger()
	}
	return err
}

// ErrIDHeld is the cause of a failure that another transaction may make good yet.
var ErrIDHeld = errors.New("another transaction with this message id is still open")

// ErrNoIDs is the cause of a failure that no request is to blame for: there is no table
// of message ids, or it may not be used.
var ErrNoIDs = errors.New("message ids cannot be stored")

var errIDGone = errors.New("the message id was there and is not any more")

// Replay returns the stored reply of an earlier request with the call's message
// id, if err says that the id could not be inserted, and otherwise err. The session
// must be outside a transaction.
func (c *Call) Replay(ctx context.Context, s *session.Session, err error) ([]byte, error) {
	var at *session.StepError
	var report *pgconn.PgError
	if !errors.As(err, &at) || at.Step.SQL != insertIDSQL && at.Step.SQL != TrustedIDsSQL || !errors.As(err, &report) || s.Lost() {
		return nil, err
	}
	if err := IDError(report); err != nil {
		return nil, err
	}
	return c.ID.load(ctx, s)
}

// Stored returns the reply that was stored with the id. known is false where there is
// none; another request's is a conflict. The session must be outside a transaction.
func (m *MessageID) Stored(ctx context.Context, s *session.Session) (reply []byte, known bool, err error) {
	reply, err = m.load(ctx, s)
	if errors.Is(err, errIDGone) {
		return nil, false, nil
	}
	return reply, err == nil, err
}

// load returns the stored reply of the request with this id.
func (m *MessageID) load(ctx context.Context, s *session.Session) ([]byte, error) {
	row, err := s.AskRow(ctx, 2, loadReplySQL, m.Key())
	switch {
	case err != nil:
		return nil, fmt.Errorf("look up a message id: %w", err)
	case row == nil:
		return nil, errIDGone
	case string(row[0]) != m.Request:
		e := service.Errorf(service.CodeConflict, "the message id was used for another request")
		e.Retryable = false
		return nil, e
	}
	return row[1], nil
}
