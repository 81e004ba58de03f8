package copier

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// incoming is a copy in from chunks.
type incoming struct {
	*copying
	upload *upload
	opened bool   // the client knows where to send chunks
	reply  []byte // to the end of the data
}

// receive serves a request for an upload.
func (k *copying) receive(ctx context.Context) {
	i := &incoming{copying: k}
	err := i.run(ctx)
	k.count(err)
	if !i.opened {
		k.answer(service.Reply{}, err)
	}
}

func (i *incoming) run(ctx context.Context) error {
	if _, err := i.task.Begin(ctx); err != nil {
		return err
	}
	t := i.task.Transaction()
	i.upload = newUpload(i.request, i.copy().Format, &i.progress)
	key := uploadKey(t.ID(), i.id)
	if err := i.copier.add(key, i.upload); err != nil {
		i.giveUp(t)
		return err
	}
	err := i.task.Do(ctx, i.work)
	i.copier.retire(key, i.upload, i.reply, err)
	return err
}

func (i *incoming) work(ctx context.Context, w *txrunner.Work) error {
	rows, err := i.statements(ctx, w, i.copyIn)
	if err != nil {
		return err
	}
	u := i.upload
	if i.reply, err = encode(summary{i.id, rows, u.bytes, service.FormatDigest(u.digest), w.Results()}); err != nil {
		return err
	}
	return i.commit(ctx, w, nil)
}

func (i *incoming) copyIn(ctx context.Context, conn *pgconn.PgConn, sql string) (pgconn.CommandTag, error) {
	i.upload.marker = newEndMarker(i.copy().Format, sql, conn.ParameterStatus("server_version"))
	to := i.task.Transaction().Subject() + "." + verbData + "." + i.id
	return copyIn(ctx, conn, sql, func() {
		i.opened = true
		if err := i.open(to); err != nil {
			i.upload.Fail(err)
		}
	}, i.upload)
}
