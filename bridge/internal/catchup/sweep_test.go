package catchup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gapOf is a gap of a channel with a script, that begins a minute before now.
func gapOf(t *testing.T) *event.Item {
	t.Helper()
	r, err := event.NewRoute("orders", "pgbridge", event.RouteOptions{CatchUp: "missed"})
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now().Add(-time.Minute)
	return &event.Item{Kind: event.KindGap, Route: r, Counters: event.NewCounters("orders"), Epoch: &event.Epoch{ID: "e"}, Sweep: true, Open: "other@0",
		Gap: &api.Gap{Channel: "orders", Reason: api.ReasonReconnected, Since: &since, Until: time.Now()}}
}

func an(hour time.Time) time.Time { return hour.Add(-time.Hour) }

// A script that is not taken from waits, with little of it in memory.
func TestSweepReadsLittleAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rows, size = 500, 64 << 10
		s := &Sweeper{Begin: an, Run: func(ctx context.Context, w Window, row func(context.Context, []byte) error) error {
			if w.Script != "missed" || w.Channel != "orders" || time.Since(w.Since) < time.Hour {
				t.Errorf("the script is run for %+v", w)
			}
			for range rows {
				if err := row(ctx, []byte(strings.Repeat("x", size))); err != nil {
					return err
				}
			}
			return nil
		}}
		gap := gapOf(t)
		w := s.Start(t.Context(), gap)
		defer w.Stop()
		for n := 0; ; {
			synctest.Wait()
			if w.bytes > aheadBytes+event.ItemOverhead {
				t.Fatalf("%d bytes wait, want %d at most", w.bytes, aheadBytes)
			}
			it, over := w.Next(time.Now())
			if !over {
				n++
				if !it.CaughtUp() || it.Open != gap.Open.With("orders", *gap.Gap.Since) {
					t.Fatalf("row %d is %+v", n, it)
				}
				continue
			}
			if c := it.Gap.CatchUp; it.Sweep || n != rows || !c.Complete || c.Rows != rows || !c.Since.Equal(an(*gap.Gap.Since)) {
				t.Errorf("behind %d rows the gap says %+v, want %d", n, c, rows)
			}
			break
		}
		w.Log(zap.NewNop())
		s.Wait()
	})
}

// A row that is longer than what is read ahead is handed out, too.
func TestSweepOfALongRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 3 * aheadBytes
		s := &Sweeper{Begin: an, Run: func(ctx context.Context, _ Window, row func(context.Context, []byte) error) error {
			return errors.Join(row(ctx, []byte("1")), row(ctx, make([]byte, size)))
		}}
		w := s.Start(t.Context(), gapOf(t))
		defer w.Stop()
		var sizes []int
		for over := false; !over; {
			synctest.Wait()
			var it *event.Item
			if it, over = w.Next(time.Now()); it == nil {
				t.Fatalf("behind rows of %v bytes comes nothing", sizes)
			}
			sizes = append(sizes, len(it.Payload))
		}
		if !slices.Equal(sizes, []int{1, size, 0}) {
			t.Errorf("rows and a gap of %v bytes, want one of %d between a short one and the gap", sizes, size)
		}
		s.Wait()
	})
}

// Whatever a script waits for ends when it is stopped.
func TestSweepIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Sweeper{Begin: an, Run: func(ctx context.Context, _ Window, row func(context.Context, []byte) error) error {
			for {
				if err := row(ctx, make([]byte, aheadBytes)); err != nil {
					return err
				}
			}
		}}
		w := s.Start(t.Context(), gapOf(t))
		synctest.Wait()
		w.Stop()
		s.Wait()
		if gap := w.Gap(); !gap.Sweep || gap.Gap.CatchUp != nil {
			t.Errorf("the gap is %+v, want as it was", gap)
		}
	})
}

// Why a script failed is said without what PostgreSQL says, which can hold payloads.
func TestReason(t *testing.T) {
	t.Parallel()
	refused := service.Errorf(service.CodeSQLError, "invalid input syntax: secret")
	refused.SQLState = "22P02"
	for want, err := range map[string]error{
		"": nil, "internal": errors.New("secret"), "sql_error 22P02": refused, "timeout": service.Errorf(service.CodeTimeout, "the time ran out"),
	} {
		if got := reason(err); got != want || strings.Contains(explain(err), "secret") {
			t.Errorf("reason(%v) = %q, explained as %q, want %q", err, got, explain(err), want)
		}
	}
}
