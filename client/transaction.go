package client

import (
	"context"
	"errors"
	"time"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

// TxOptions say what kind of transaction to begin; the zero value is
// PostgreSQL's default.
type TxOptions struct {
	Isolation            string // such as serializable or repeatable read
	ReadOnly, Deferrable bool
	// IdleTimeout is how long it may be without a request; 0: as configured,
	// which is also the most.
	IdleTimeout time.Duration
}

// Tx is a transaction that pgbridge holds open on a connection of its own. It
// has to be ended with Commit or Rollback; one that is forgotten is rolled back
// when its lease runs out. Its requests are served in the order in which they
// are sent, and none of them is sent twice.
//
// After a failed statement only Rollback, RollbackTo and Touch are of use.
type Tx struct {
	client  *Client
	subject string
	expires time.Time
}

// Begin opens a transaction. It is sent again while pgbridge is busy.
func (c *Client) Begin(ctx context.Context, o TxOptions) (*Tx, error) {
	m, err := c.exchange(ctx, request.Request{Subject: c.subject("begin"), Body: api.BeginRequest{
		Isolation: o.Isolation, ReadOnly: o.ReadOnly, Deferrable: o.Deferrable, IdleTimeoutMS: millis(o.IdleTimeout),
	}})
	if err != nil {
		return nil, err
	}
	var begun api.BeginReply
	if err := decode(m, &begun); err != nil {
		return nil, err
	}
	if err := checkKey(begun.Tx); err != nil {
		return nil, err
	}
	return &Tx{client: c, subject: begun.Tx, expires: begun.ExpiresAt}, nil
}

// Subject begins the subjects of the transaction's requests. Who knows it can
// use the transaction.
func (t *Tx) Subject() string { return t.subject }

// Expires is when the lease would have run out, as Begin was told.
func (t *Tx) Expires() time.Time { return t.expires }

// Run runs a script in the transaction. It can have no MessageID.
func (t *Tx) Run(ctx context.Context, s Script) (*Reply, error) {
	if s.MessageID != "" {
		return nil, errNoMessageID
	}
	return t.client.run(ctx, s, request.Request{Subject: join(t.subject, "run", s.Name), InTx: true})
}

var errNoMessageID = errors.New("only a run in a transaction of its own, a job, or a copy with an object has a message id")

// Savepoint sets a savepoint.
func (t *Tx) Savepoint(ctx context.Context, name string) error {
	return t.verb(ctx, "savepoint", api.SavepointRequest{Name: name})
}

// RollbackTo undoes everything since a savepoint, after a failed statement too.
func (t *Tx) RollbackTo(ctx context.Context, name string) error {
	return t.verb(ctx, "rollback_to", api.SavepointRequest{Name: name})
}

// Release removes a savepoint and keeps what was done since.
func (t *Tx) Release(ctx context.Context, name string) error {
	return t.verb(ctx, "release", api.SavepointRequest{Name: name})
}

// Commit ends the transaction. [ErrReplicaGone] means that the replica was gone
// before it was asked, and the transaction rolled back; one that goes away while
// it commits leaves [ErrOutcomeUnknown].
func (t *Tx) Commit(ctx context.Context) error {
	return t.verb(ctx, "commit", nil)
}

// Rollback ends the transaction and undoes it, or what is left of it: cursors
// that outlived a commit. It cancels what runs. A transaction that has ended
// already, or whose replica is gone, is no error.
func (t *Tx) Rollback(ctx context.Context) error {
	err := t.verb(ctx, "rollback", nil)
	var failure *Error
	if errors.Is(err, ErrReplicaGone) || errors.As(err, &failure) && (failure.Code == CodeGone || failure.Code == CodeUnavailable) {
		return nil
	}
	return err
}

// Touch renews the lease and returns when it ends now.
func (t *Tx) Touch(ctx context.Context) (expires time.Time, err error) {
	m, err := t.client.exchange(ctx, request.Request{Subject: join(t.subject, "touch"), InTx: true, Repeatable: true})
	if err != nil {
		return time.Time{}, err
	}
	var touched api.TouchReply
	err = decode(m, &touched)
	return touched.ExpiresAt, err
}

func (t *Tx) verb(ctx context.Context, name string, body any) error {
	_, err := t.client.exchange(ctx, request.Request{Subject: join(t.subject, name), Body: body, InTx: true})
	return err
}

// discard rolls back what nobody needs any more; its lease ends it otherwise.
func (t *Tx) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), waySlack)
	defer cancel()
	_ = t.Rollback(ctx) // somebody has an error already
}
