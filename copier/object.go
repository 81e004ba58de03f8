package copier

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// transfer does a copy from or to an object, and returns the only reply to it.
func (k *copying) transfer(ctx context.Context) (service.Reply, error) {
	body, replayed, err := k.transferOnce(k.trace(ctx))
	switch {
	case err != nil:
		k.count(err)
		return service.Reply{}, err
	case replayed != nil:
		k.span.End("")
		return *replayed, nil
	}
	k.count(nil)
	return service.Reply{Data: body}, nil
}

func (k *copying) transferOnce(ctx context.Context) (body []byte, replayed *service.Reply, err error) {
	replayed, err = k.task.Begin(ctx)
	if replayed != nil || err != nil {
		return nil, replayed, err
	}
	var written *objectWriter
	err = k.task.Do(ctx, func(ctx context.Context, w *execution.Execution) error {
		var s api.CopySummary
		var err error
		if k.in() {
			s, err = k.load(ctx, w)
		} else {
			s, written, err = k.export(ctx, w)
		}
		if err != nil {
			return err
		}
		if body, err = k.encode(s, w); err != nil {
			return err
		}
		return k.commit(ctx, w, body)
	})
	if err != nil && written != nil && service.AsError(err).Code != service.CodeUnknown {
		if err := written.remove(ctx); err != nil {
			k.copier.config.Logger.Warn("the object of a copy that failed is still there",
				zap.String("script", k.script.Name), zap.String("bucket", k.object.Bucket), zap.Error(err))
		}
	}
	return body, nil, err
}

// export copies to an object. It returns the writer of what has to be removed
// after an error.
func (k *copying) export(ctx context.Context, w *execution.Execution) (api.CopySummary, *objectWriter, error) {
	store, err := k.store(ctx)
	if err != nil {
		return api.CopySummary{}, nil, err
	}
	o, err := k.newObjectWriter(ctx)
	if err != nil {
		return api.CopySummary{}, nil, err
	}
	defer o.memory.Close()
	var info *jetstream.ObjectInfo
	done, err := k.statements(ctx, w, func(ctx context.Context, s *session.Session, sql string) (outcome, error) {
		done, err := copyOut(ctx, s, sql, func() {}, func(row []byte) error {
			k.progress.add(1, len(row))
			return o.add(ctx, row)
		})
		if err == nil {
			info, err = o.publish(ctx, store)
		}
		return done, err
	})
	if err == nil {
		err = o.there(ctx)
	}
	if err != nil {
		return api.CopySummary{}, o, err
	}
	return api.CopySummary{ID: k.id, Rows: done.rows, Bytes: int64(info.Size), Digest: info.Digest}, o, nil
}
