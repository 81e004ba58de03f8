// Package catchup reads what a channel may have missed: after a loss its catch-up
// script returns rows, and each becomes an event in front of the gap.
//
// A row is returned at least once. It may have been a notification that was received,
// and a script that is interrupted begins anew. The rows of a script that fails are a
// part of what is missing, which the gap says.
//
//	running ── row ───► running
//	running ── end ───► over (complete, or why not)
//	running ── Stop ──► (nothing is read any more)
package catchup

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// aheadBytes is how much of a script's rows is read before it is taken.
const aheadBytes = 1 << 20

// Window is what a script is run for.
type Window struct {
	Channel, Script string
	Since           time.Time // zero: nothing is known of the time before
	Until           time.Time
}

// Sweeper runs the scripts of one publisher, which waits for them at its end.
type Sweeper struct {
	// Run runs a script and hands out its rows, in order. It returns when ctx ends or row
	// returns an error, which it passes on. Nil: there are no scripts.
	Run func(ctx context.Context, w Window, row func(ctx context.Context, payload []byte) error) error
	// Begin is when the oldest transaction began that ran at a moment: rows that were
	// committed after it have a time behind that.
	Begin func(moment time.Time) time.Time

	running sync.WaitGroup
}

// Wait waits until every sweep that was stopped, or is over, has let go of what it
// used. A nil Sweeper has none.
func (s *Sweeper) Wait() {
	if s != nil {
		s.running.Wait()
	}
}

// Sweep is one run of a script, for one gap. It is for one goroutine.
type Sweep struct {
	// Ready is raised when Next may have something to say.
	Ready wait.Signal

	gap     event.Item
	window  Window
	cancel  context.CancelFunc
	freed   wait.Signal
	begun   time.Time
	granted int64 // rows handed out

	mu    sync.Mutex // guards what follows
	rows  [][]byte
	bytes int
	over  bool
	err   error
}

// Start begins to run the script of a gap's channel. It is to be stopped.
func (s *Sweeper) Start(ctx context.Context, gap *event.Item) *Sweep {
	ctx, cancel := context.WithCancel(ctx)
	w := &Sweep{Ready: wait.NewSignal(), freed: wait.NewSignal(), gap: *gap, cancel: cancel, begun: time.Now()}
	w.window = Window{Channel: gap.Route.Channel, Script: gap.Route.CatchUp, Until: gap.Gap.Until}
	if since := gap.Gap.Since; since != nil {
		w.window.Since = s.Begin(*since)
	}
	s.running.Go(func() {
		err := s.Run(ctx, w.window, w.push)
		w.end(err)
	})
	return w
}

// push hands a row out. It blocks while enough of them wait.
func (w *Sweep) push(ctx context.Context, row []byte) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.mu.Lock()
		room := w.bytes == 0 || w.bytes+len(row) <= aheadBytes
		if room {
			w.rows = append(w.rows, append([]byte(nil), row...))
			w.bytes += len(row) + event.ItemOverhead
		}
		w.mu.Unlock()
		if room {
			w.Ready.Raise()
			return nil
		}
		select {
		case <-ctx.Done():
		case <-w.freed:
		}
	}
}

func (w *Sweep) end(err error) {
	w.mu.Lock()
	w.over, w.err = true, err
	w.mu.Unlock()
	w.Ready.Raise()
}

// Next returns what is to be published next: the rows, and behind the last of them the
// gap, which says what became of the script; then it is over. Nil means that there is
// nothing yet. It does not block.
func (w *Sweep) Next(now time.Time) (it *event.Item, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rows) > 0 {
		row := w.rows[0]
		w.rows[0] = nil
		w.rows, w.bytes = w.rows[1:], w.bytes-len(row)-event.ItemOverhead
		w.freed.Raise()
		w.granted++
		return w.row(row, now), false
	}
	if !w.over {
		return nil, false
	}
	return w.result(), true
}

func (w *Sweep) row(payload []byte, now time.Time) *event.Item {
	g := &w.gap
	var since time.Time
	if g.Gap.Since != nil {
		since = *g.Gap.Since
	}
	return &event.Item{Kind: event.KindEvent, Route: g.Route, Counters: g.Counters, Payload: string(payload),
		Epoch: g.Epoch, Received: now, Gap: g.Gap, Open: g.Open.With(g.Route.Token, since)}
}

// result is the gap that ends the sweep.
func (w *Sweep) result() *event.Item {
	g, done := *w.gap.Gap, api.CatchUp{Complete: w.err == nil, Rows: w.granted, Error: reason(w.err)}
	if !w.window.Since.IsZero() {
		since := w.window.Since.UTC()
		done.Since = &since
	}
	g.CatchUp = &done
	it := w.gap
	it.Gap, it.Sweep = &g, false
	return &it
}

// reason says in a word or two why a script failed. PostgreSQL's message may hold what
// not every subscriber may read.
func reason(err error) string {
	if err == nil {
		return ""
	}
	failure := service.AsError(err)
	if failure.SQLState != "" {
		return string(failure.Code) + " " + failure.SQLState
	}
	return string(failure.Code)
}

// Log tells what became of it. It is called once, when it is over.
func (w *Sweep) Log(log *zap.Logger) {
	w.mu.Lock()
	err, rows := w.err, w.granted
	w.mu.Unlock()
	facts := []zap.Field{
		zap.String("channel", w.window.Channel), zap.String("script", w.window.Script),
		zap.Int64("rows", rows), zap.Duration("took", time.Since(w.begun)),
	}
	if err != nil {
		log.Warn("the catch-up script failed, its gap says so", append(facts, zap.String("error", explain(err)))...)
		return
	}
	log.Info("caught up", facts...)
}

// explain is what the log is told: what PostgreSQL says may hold a payload.
func explain(err error) string {
	var failure *service.Error
	if errors.As(err, &failure) && failure.SQLState == "" {
		return string(failure.Code) + ": " + failure.Message
	}
	return reason(err)
}

// Stop ends it, wherever it is. It does not block, see [Sweeper.Wait].
func (w *Sweep) Stop() { w.cancel() }

// Gap is the gap as it was, for another sweep.
func (w *Sweep) Gap() event.Item { return w.gap }
