package copier

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// progress is how far a copy is. It is safe for concurrent use once the copy
// goes on.
type progress struct {
	id     string
	caller string // who has asked for it; empty: nobody vouches for one
	// Work has the rows seen so far, lines of what is sent to PostgreSQL.
	pinned.Work
}

func (p *progress) add(rows, bytes int) {
	p.Rows.Add(int64(rows))
	p.Bytes.Add(int64(bytes))
}

// watch publishes a copy's progress until the function that it returns is
// called, which waits.
func (c *Copier) watch(ctx context.Context, p *progress) (stop func()) {
	if c.config.ProgressEvery < 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var ticks sync.WaitGroup
	ticks.Go(func() {
		ticker := time.NewTicker(c.config.ProgressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				c.publish(p)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		ticks.Wait()
	}
}

// subject is where it is published. Each caller has subjects of its own, as two may
// give the same id.
func (p *progress) subject(prefix string) string {
	if p.caller == "" {
		return prefix + ".progress." + p.id
	}
	return prefix + ".progress." + subject.Token(p.caller) + "." + p.id
}

// publish tells once how far a copy is. What is lost is made up for by the next.
func (c *Copier) publish(p *progress) {
	body, err := json.Marshal(api.Progress{
		ID: p.id, Script: p.Script, Rows: p.Rows.Load(), Bytes: p.Bytes.Load(),
		TotalRows: p.TotalRows, TotalBytes: p.TotalBytes,
	})
	if err == nil {
		err = c.config.Requests.Publish(p.subject(c.config.Prefix), body)
	}
	if err != nil {
		c.config.Logger.Debug("a copy's progress was not published", zap.String("script", p.Script), zap.Error(err))
	}
}
