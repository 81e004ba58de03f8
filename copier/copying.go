package copier

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// copying is one copy.
type copying struct {
	request
	copier   *Copier
	task     *txrunner.Task
	script   *script.Script
	at       int // index of the COPY among the statements
	begun    time.Time
	progress progress
}

func (c *Copier) newCopying(task *txrunner.Task, maxChunk int) (*copying, error) {
	s := task.Script()
	r, err := c.readRequest(task.Fields, maxChunk, s.Settings.Buckets)
	if err != nil {
		return nil, err
	}
	k := &copying{request: r, copier: c, task: task, script: s, at: s.CopyIndex(), begun: time.Now()}
	k.progress.id, k.progress.script = r.id, s.Name
	return k, nil
}

func (k *copying) copy() *script.Copy { return k.script.Statements[k.at].Copy }

func (k *copying) in() bool { return k.copy().In }

// dataCopy does the COPY itself. It is given SQL without parameters.
type dataCopy func(ctx context.Context, conn *pgconn.PgConn, sql string) (pgconn.CommandTag, error)

// statements runs the COPY and what is around it, and returns how many rows
// PostgreSQL says were copied.
func (k *copying) statements(ctx context.Context, w *txrunner.Work, copy dataCopy) (rows int64, err error) {
	drop := !k.in() // the answer to a copy out has no place for results
	if err := w.Statements(ctx, 0, k.at, drop); err != nil {
		return 0, err
	}
	query, err := k.query(ctx, w)
	if err != nil {
		return 0, err
	}
	w.Executes()
	stop := k.copier.watch(ctx, &k.progress)
	tag, err := copy(ctx, w.Conn(), query.SQL)
	stop()
	if err != nil {
		return 0, w.Refused(query, err)
	}
	if err := w.Statements(ctx, k.at+1, len(k.script.Statements), drop); err != nil {
		return 0, err
	}
	return tag.RowsAffected(), w.Sync(ctx)
}

// commit ends the transaction, unless it is a client's. reply goes with the
// message id, if there is one.
func (k *copying) commit(ctx context.Context, w *txrunner.Work, reply []byte) error {
	if !k.task.Own() {
		return nil
	}
	return w.Commit(ctx, reply)
}

// answer answers the request with the only reply there is.
func (k *copying) answer(reply service.Reply, err error) {
	if t := k.task.Transaction(); t != nil && reply.Header == nil {
		reply.Header = t.Header()
	}
	k.task.Request.Answer(reply, err)
}

// open answers the request with what comes before any chunk.
func (k *copying) open(data string) error {
	o := k.opening(k.task.Transaction().Subject())
	o.Data = data
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode a reply: %w", err)
	}
	k.answer(service.Reply{Data: body}, nil)
	return nil
}

func encode(s summary) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode a reply: %w", err)
	}
	return body, nil
}

// count adds the copy to the metrics.
func (k *copying) count(err error) {
	k.copier.metrics.done(k.in(), k.progress.rows.Load(), k.progress.bytes.Load(), time.Since(k.begun), err)
}
