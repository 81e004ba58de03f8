package copier

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// progress is how far a copy is. It is safe for concurrent use once the copy
// goes on.
type progress struct {
	id, script string
	rows       atomic.Int64 // seen so far: lines of what is sent to PostgreSQL
	bytes      atomic.Int64
	totalRows  *int64 // nil: not known
	totalBytes *int64
}

func (p *progress) add(rows, bytes int) {
	p.rows.Add(int64(rows))
	p.bytes.Add(int64(bytes))
}

// report is what others see of it.
type report struct {
	ID         string `json:"id"`
	Script     string `json:"script"`
	Rows       int64  `json:"rows"`
	Bytes      int64  `json:"bytes"`
	TotalRows  *int64 `json:"total_rows"`
	TotalBytes *int64 `json:"total_bytes"`
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

// publish tells once how far a copy is. What is lost is made up for by the next.
func (c *Copier) publish(p *progress) {
	body, err := json.Marshal(report{
		ID: p.id, Script: p.script, Rows: p.rows.Load(), Bytes: p.bytes.Load(),
		TotalRows: p.totalRows, TotalBytes: p.totalBytes,
	})
	if err == nil {
		err = c.config.Requests.Publish(c.config.Prefix+".progress."+p.id, body)
	}
	if err != nil {
		c.config.Logger.Debug("a copy's progress was not published", zap.String("script", p.script), zap.Error(err))
	}
}
