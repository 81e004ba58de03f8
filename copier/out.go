package copier

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// download is a copy out as a stream of chunks to who asked for it.
type download struct {
	*copying
	chunks *service.Chunks
	opened bool // the first message was sent
	buffer []byte
	rows   int // in buffer
}

// send serves a request for a stream of chunks.
func (k *copying) send(ctx context.Context) {
	d := &download{copying: k}
	err := d.run(k.trace(ctx))
	k.count(err)
	switch {
	case err == nil:
		// All is done and committed; who does not hear so runs into a time-out.
		if err := d.chunks.End(context.WithoutCancel(ctx)); err != nil {
			k.copier.config.Logger.Warn("the end of a copy may be lost", zap.String("script", k.script.Name), zap.Error(err))
		}
	case d.opened:
		d.chunks.Fail(err)
	default:
		k.answer(service.Reply{}, err)
	}
}

func (d *download) run(ctx context.Context) error {
	if _, err := d.task.Begin(ctx); err != nil {
		return err
	}
	t := d.task.Transaction()
	d.chunks = service.NewChunks(d.task.Request, service.ChunksConfig{
		Ack: t.Subject() + ".ack." + d.id + ".", Window: d.window, Stall: d.stall,
		Header: func() nats.Header { return t.Header() },
	})
	remove, err := t.AddStream(d.id, d.chunks)
	if err != nil {
		d.giveUp(t)
		return err
	}
	defer remove()
	return d.task.Do(ctx, d.work)
}

// giveUp ends a transaction that was begun for nothing.
func (k *copying) giveUp(t *pinned.Transaction) {
	if k.task.Own() {
		t.End("its copy could not begin")
	}
}

func (d *download) work(ctx context.Context, w *execution.Execution) error {
	done, err := d.statements(ctx, w, d.copyOut)
	if err != nil {
		return err
	}
	d.chunks.SetRows(done.rows)
	if err := d.chunks.Delivered(ctx); err != nil {
		return err
	}
	err = d.commit(ctx, w, nil)
	d.chunks.SetNotices(w.Session().Notices.All())
	return err
}

func (d *download) copyOut(ctx context.Context, s *session.Session, sql string) (outcome, error) {
	watched, unwatch, release := cancelOn(ctx, d.chunks.Aborted())
	defer release()
	defer unwatch()
	var fault error
	begun := func() { d.opened, fault = true, d.open("") }
	done, err := copyOut(watched, s, sql, begun, func(row []byte) error {
		if fault != nil {
			return fault
		}
		return d.add(ctx, row)
	})
	if failure := d.chunks.Failure(); failure != nil {
		return done, failure // PostgreSQL only says that it was cancelled
	}
	if err == nil {
		err = d.flush(ctx)
	}
	return done, err
}

// add puts a row into the chunk in the making. A row that is larger than a
// chunk goes alone.
func (d *download) add(ctx context.Context, row []byte) error {
	d.progress.add(1, len(row))
	if len(d.buffer)+len(row) > d.chunk {
		if err := d.flush(ctx); err != nil {
			return err
		}
		if len(row) >= d.chunk {
			return d.chunks.Send(ctx, row, 1)
		}
	}
	if d.buffer == nil {
		d.buffer = make([]byte, 0, d.chunk)
	}
	d.buffer = append(d.buffer, row...)
	d.rows++
	return nil
}

func (d *download) flush(ctx context.Context) error {
	err := d.chunks.Send(ctx, d.buffer, d.rows)
	d.buffer, d.rows = d.buffer[:0], 0
	return err
}
