package txrunner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	insertIDSQL = `INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request)
	VALUES ($1, $2, $3, $4, $5, $6)`
	storeReplySQL = `UPDATE pgbridge.message_id SET reply = $6
	WHERE prefix = $1 AND caller = $2 AND kind = $3 AND script = $4 AND id = $5`
	loadReplySQL = `SELECT request, reply FROM pgbridge.message_id
	WHERE prefix = $1 AND caller = $2 AND kind = $3 AND script = $4 AND id = $5`
	purgeIDsSQL = `DELETE FROM pgbridge.message_id WHERE ctid = ANY (ARRAY(
	SELECT ctid FROM pgbridge.message_id
	WHERE prefix = $1 AND (kind LIKE 'job%') = $3::boolean
	AND created_at < least(now() - $2::interval, $4::timestamptz) LIMIT 1000))`

	maxMessageIDBytes = 256
	kindRun           = "run"
)

// messageID is what makes a request the one that was sent before. The row with
// it is the first thing a transaction writes, so a second transaction with the
// same id waits there for the end of the first.
type messageID struct {
	prefix, caller, kind, script, id string
	request                          string // the body's hash
}

// newMessageID returns the id under which a request is stored.
func newMessageID(prefix, caller, kind, script, id string, body []byte) (*messageID, error) {
	switch {
	case id == "":
		return nil, nil
	case len(id) > maxMessageIDBytes:
		return nil, service.Errorf(service.CodeInvalidRequest, "the message id has %d bytes, %d are allowed", len(id), maxMessageIDBytes)
	case !service.Storable(id):
		return nil, service.Errorf(service.CodeInvalidRequest, "the message id is not UTF-8 or holds a NUL byte")
	}
	hash := sha256.Sum256(body)
	return &messageID{prefix, caller, kind, script, id, hex.EncodeToString(hash[:])}, nil
}

func (m *messageID) key() [][]byte {
	return [][]byte{[]byte(m.prefix), []byte(m.caller), []byte(m.kind), []byte(m.script), []byte(m.id)}
}

// insertID opens the transaction and inserts the id. A read-only script reads
// in a subtransaction, which is rolled back before the reply is stored.
func (x *execution) insertID() {
	writable, readOnly := modesOf(x.program.Settings), false
	if x.program.readOnly() {
		writable.readOnly, writable.deferrable = &readOnly, nil
	}
	x.own(stepOwn, writable.begin())
	x.own(stepID, insertIDSQL, append(x.id.key(), []byte(x.id.request))...)
	if x.program.readOnly() {
		x.own(stepOwn, "SAVEPOINT "+readOnlySavepoint)
		x.own(stepOwn, "SET TRANSACTION READ ONLY")
	}
}

// storeReply stores a finished body, as the login's own role: the script's need
// not be allowed to.
func (x *execution) storeReply(body []byte) {
	if x.program.readOnly() {
		x.own(stepOwn, "ROLLBACK TO "+readOnlySavepoint)
	}
	x.own(stepOwn, noRoleSQL)
	x.own(stepOwn, storeReplySQL, append(x.id.key(), body)...)
	if x.program.Settings.Role != "" {
		x.own(stepOwn, roleSQL, x.role()) // for what is deferred until COMMIT
	}
}

// idError says what it means that the id could not be inserted; nil means that
// it is there already, so that the reply has to be looked up.
func idError(report *pgconn.PgError) error {
	switch report.Code {
	case "23505": // unique_violation
		return nil
	case "42P01", "3F000": // undefined_table, invalid_schema_name
		return service.Errorf(service.CodeDenied, "message ids need the table pgbridge.message_id: run pgbridge migrate")
	case "42501": // insufficient_privilege
		return service.Errorf(service.CodeDenied, "the PostgreSQL user may not use the table pgbridge.message_id: see pgbridge migrate")
	case "57014", "55P03": // query_canceled, lock_not_available
		return fmt.Errorf("%w: %w", errIDHeld, report)
	}
	return report
}

var errIDHeld = errors.New("another transaction with this message id is still open")

var errIDGone = errors.New("the message id was there and is not any more")

// replay returns the stored reply of the request with this id.
func (s *session) replay(ctx context.Context, m *messageID) ([]byte, error) {
	var request, reply []byte
	f := flow{session: s}
	f.open(ctx)
	defer f.close()
	f.neutral()
	f.own(stepShow, loadReplySQL, m.key()...)
	err := f.sync(func(step step, result any) error {
		if r, ok := result.(*pgconn.ResultReader); ok && step.kind == stepShow && r.NextRow() {
			request, reply = slices.Clone(r.Values()[0]), slices.Clone(r.Values()[1])
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("look up a message id: %w", err)
	case request == nil:
		return nil, errIDGone
	case string(request) != m.request:
		e := service.Errorf(service.CodeConflict, "the message id was used for another request")
		e.Retryable = false
		return nil, e
	}
	return reply, nil
}
