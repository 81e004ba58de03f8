package control

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Whatever runs at a moment began no earlier than what the looks before it say.
func TestAges(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	var none ages
	if got := none.begin(at(0)); !got.Equal(at(-60)) {
		t.Errorf("without a look: %s, want a minute before", got)
	}
	a := ages{}
	a.note(look{at: at(0), oldest: at(-300)})
	a.note(look{at: at(10), oldest: at(10)})
	a.note(look{at: at(20), oldest: at(5), hidden: true})
	for _, tt := range []struct{ moment, want int }{
		{-100, -300}, // that one ran then, too
		{-500, -560}, // nothing is known
		{0, -300}, {9, -300},
		{10, 10}, {19, 10}, // what runs at 19 began behind 10
		{20, -40}, {25, -40},
	} {
		if got := a.begin(at(tt.moment)); !got.Equal(at(tt.want)) {
			t.Errorf("begin(%d) = %d, want %d", tt.moment, got.Unix()-1000, tt.want)
		}
	}
}

// It looks every five seconds, from the beginning.
func TestAgesAreLookedAtAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a ages
		for range 3 {
			if !a.due() {
				t.Error("due() = false, want a look")
			}
			a.note(look{at: time.Now()})
			wait.For(t.Context(), agesEvery-time.Millisecond)
			if a.due() {
				t.Errorf("due() = true before %s are over", agesEvery)
			}
			wait.For(t.Context(), time.Millisecond)
		}
	})
}

// However long it looks, the first look is kept, and there are not more than there may be.
func TestAgesReachBack(t *testing.T) {
	t.Parallel()
	var a ages
	start := time.Unix(1000, 0)
	for i := range 100_000 {
		at := start.Add(time.Duration(i) * agesEvery)
		a.note(look{at: at, oldest: at.Add(-time.Second)})
		if len(a.looks) > keptAges {
			t.Fatalf("%d looks are kept", len(a.looks))
		}
	}
	if got := a.begin(start); !got.Equal(start.Add(-time.Second)) {
		t.Errorf("begin of the first look = %s, want a second before it", got)
	}
	end := start.Add(100_000 * agesEvery)
	if got := a.begin(end); end.Sub(got) > keptAges*agesEvery {
		t.Errorf("begin of the end is %s before it", end.Sub(got))
	}
}

// The look finds a transaction of anybody's whom the role may see, or one that began just
// before and is not shown yet, and knows when there are others.
func TestLookAtAges(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := testenv.Postgres(t).NewDatabase(t)
	old, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close(ctx)
	var began time.Time
	if _, err := old.Exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := old.QueryRow(ctx, "SELECT now()").Scan(&began); err != nil {
		t.Fatal(err)
	}
	for role, hidden := range map[string]bool{"": false, "SET ROLE pg_monitor; ": false, "SET ROLE pg_signal_backend; ": true} {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if role != "" {
			if _, err := conn.Exec(ctx, role); err != nil {
				t.Fatal(err)
			}
		}
		s := session{Control: &Control{}, conn: conn}
		if err := s.lookAtAges(ctx); err != nil {
			t.Fatal(err)
		}
		l := s.ages.looks[0]
		if l.hidden != hidden || !hidden && !l.oldest.Equal(began.Add(-shownWithin)) || l.at.Before(began) {
			t.Errorf("as %q: %+v, want what began at %s, hidden %t", role, l, began, hidden)
		}
	}
}
