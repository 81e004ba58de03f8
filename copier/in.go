package copier

import (
	"context"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
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
	err := i.run(k.trace(ctx))
	k.count(err)
	if !i.opened {
		k.answer(service.Reply{}, err)
	}
}

func (i *incoming) run(ctx context.Context) error {
	hold, err := i.reserve()
	if err != nil {
		return err
	}
	if _, err := i.task.Begin(ctx); err != nil {
		hold.Close()
		return err
	}
	t := i.task.Transaction()
	i.upload = newUpload(i.request, i.copy().Format, &i.progress, hold)
	retire, err := t.AddReceiver(verbData, i.id, i.upload.receive)
	if err != nil {
		hold.Close()
		i.giveUp(t)
		return err
	}
	err = i.task.Do(ctx, i.work)
	if i.upload.conclude(service.Reply{Data: i.reply}, err) {
		retire(nil)
	} else {
		retire(i.upload.last.receive)
	}
	return err
}

// reserve takes the memory of the window, an eighth of it for what is known of the
// chunks, or as much as there is: the client is told of the smaller window.
func (i *incoming) reserve() (*budget.Hold, error) {
	room := func(window int) int { return window + window/8 }
	hold := i.task.Request.Memory()
	got, err := hold.GrowUpTo(room(min(i.chunk, i.window)), room(i.window))
	if err != nil {
		return nil, service.AsError(err)
	}
	if got < room(i.window) {
		i.window = got / 9 * 8
	}
	return hold, nil
}

func (i *incoming) work(ctx context.Context, w *execution.Execution) error {
	done, err := i.statements(ctx, w, i.copyIn)
	if err != nil {
		return err
	}
	u := i.upload
	s := api.CopySummary{
		ID: i.id, Rows: done.rows, Skipped: done.skipped, Bytes: u.bytes, Digest: api.FormatDigest(u.digest), Results: w.Results(),
	}
	if err := i.commit(ctx, w, nil); err != nil {
		return err
	}
	i.reply, err = i.encode(s, w) // with what COMMIT has caused
	return err
}

func (i *incoming) copyIn(ctx context.Context, s *session.Session, sql string) (outcome, error) {
	i.upload.marker = newEndMarker(i.reading.on(s.Conn))
	to := i.task.Transaction().Subject() + "." + verbData + "." + i.id
	return copyIn(ctx, s, sql, func() {
		i.opened = true
		if err := i.open(to); err != nil {
			i.upload.Fail(err)
		}
	}, i.upload)
}
