package cursors

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// portalModel is PostgreSQL's side: a cursor over so many rows.
type portalModel struct{ rows, at int64 }

// fetch goes over up to n rows.
func (m *portalModel) fetch(d direction, n int64) (rows int64, ended bool) {
	for ; rows < n; rows++ {
		if d == forward && m.at >= m.rows {
			m.at = m.rows + 1
			return rows, true
		}
		if d == backward && m.at <= 1 {
			m.at = 0
			return rows, true
		}
		if d == forward {
			m.at++
		} else {
			m.at--
		}
	}
	return rows, false
}

// move makes the MOVE that a position wants.
func (m *portalModel) move(t *rapid.T, what string) {
	var n int64
	switch word, count, _ := strings.Cut(what, " "); {
	case what == "FORWARD ALL":
		m.fetch(forward, all)
	case word == "ABSOLUTE":
		if _, err := fmt.Sscan(count, &n); err != nil || n > m.rows+1 {
			t.Fatalf("MOVE %s of %d rows", what, m.rows)
		}
		m.at = n
	default:
		d := forward
		if word == "BACKWARD" {
			d = backward
		}
		if _, err := fmt.Sscan(count, &n); err != nil {
			t.Fatalf("MOVE %s", what)
		}
		if _, ended := m.fetch(d, n); ended {
			t.Fatalf("MOVE %s met the end of %d rows", what, m.rows)
		}
	}
}

// TestPosition plays requests on a model of PostgreSQL's portal: pages that are
// cut anywhere, moves, and SQL that moves the cursor in between. The client has
// to be where one request after the other would bring it.
func TestPosition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pg := &portalModel{rows: rapid.Int64Range(0, 6).Draw(t, "rows")}
		want := &portalModel{rows: pg.rows}
		p := newPosition(rapid.Bool().Draw(t, "scroll"))
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "script") == 0 {
				p = runScript(t, p, pg, want)
			}
			m := drawMove(t)
			if p.allows(m) != nil {
				continue
			}
			if rapid.Bool().Draw(t, "page") && (m.direction == forward || m.direction == backward) {
				p = playPage(t, p, m, pg, want)
			} else {
				p = playMove(t, p, m, pg, want)
			}
			if !p.adrift && p.client != want.at {
				t.Fatalf("%+v: the client stands at %d, want %d", m, p.client, want.at)
			}
		}
	})
}

func drawMove(t *rapid.T) move {
	name := rapid.SampledFrom(directions).Draw(t, "direction")
	n := rapid.Int64Range(-7, 7).Draw(t, "n")
	if name == "forward" && rapid.Bool().Draw(t, "all") {
		n = all
	}
	return newMove(name, n)
}

// runScript moves the cursor in PostgreSQL, after it was brought to where the
// client stands, unless rows were read ahead that cannot be given back.
func runScript(t *rapid.T, p position, pg, want *portalModel) position {
	if p.server != p.client {
		if !p.scroll {
			return p
		}
		p = goTo(t, p, p.client, pg)
	}
	if pg.at != want.at {
		t.Fatalf("a script finds the cursor at %d, and its client at %d", pg.at, want.at)
	}
	from := pg.at
	if p.scroll {
		from = 0
	}
	pg.at = rapid.Int64Range(from, pg.rows+1).Draw(t, "moved to")
	want.at = pg.at
	return p.drifted()
}

// playMove moves, and compares what is told with what FETCH would do.
func playMove(t *rapid.T, p position, m move, pg, want *portalModel) position {
	before := p
	switch {
	case !p.scroll || !p.adrift || m.direction == forward || m.direction == backward:
	case m.direction == absolute && m.n >= 0:
		p, pg.at = p.rewound(), 0
	default:
		p = p.counted(1 <= pg.at && pg.at <= pg.rows, min(max(pg.at-1, 0), pg.rows))
		pg.at = 0
	}
	target := p.target(m)
	if target == unknown {
		p = goTo(t, p, all, pg)
		target = p.target(m)
	}
	p = goTo(t, p, target, pg)
	var rows int64
	var ended bool
	switch m.direction {
	case forward, backward:
		rows, ended = want.fetch(m.direction, m.n)
	default:
		if m.direction == relative {
			target = want.at + m.n
		}
		want.at = min(max(target, 0), want.rows+1)
		ended = want.at == 0 || want.at > want.rows
		if !ended {
			rows = 1
		}
	}
	if got := p.rows(m, before); got != rows {
		t.Fatalf("%+v from %+v: %d rows, want %d", m, before, got, rows)
	}
	if got := p.done(m); m.direction != stay && got != (ended || m.direction == backward && want.at == 0) {
		t.Fatalf("%+v from %+v to %d of %d: done is %t", m, before, p.client, want.rows, got)
	}
	return p
}

// goTo goes the way to a target, as PostgreSQL would.
func goTo(t *rapid.T, p position, target int64, pg *portalModel) position {
	if !p.scroll && p.server > p.client { // rows were read ahead
		read := min(p.server, pg.rows) - p.client
		p = p.answered(min(target, p.client+read))
		if p.client < min(p.server, pg.rows) {
			return p
		}
	}
	moves, at, more := p.way(target)
	for _, what := range moves {
		pg.move(t, what)
	}
	p = at
	if p.scroll && !p.adrift && p.server != pg.at {
		t.Fatalf("on the way to %d PostgreSQL stands at %d, not %d", target, pg.at, p.server)
	}
	switch {
	case more > 0:
		rows, ended := pg.fetch(forward, more)
		p = p.fetched(forward, rows, ended).caughtUp()
	case more < 0:
		rows, ended := pg.fetch(backward, -more)
		p = p.fetched(backward, rows, ended).caughtUp()
	}
	return p
}

// playPage reads a page that has room for some of the rows.
func playPage(t *rapid.T, p position, m move, pg, want *portalModel) position {
	if !p.scroll && p.server > p.client {
		return p // those would come first
	}
	p = goTo(t, p, p.client, pg)
	start := p.server
	rows, ended := pg.fetch(m.direction, m.n)
	fitting := rapid.Int64Range(min(rows, 1), rows).Draw(t, "fitting")
	for i := range fitting {
		if m.direction == forward {
			p = p.answered(start + i + 1)
		} else {
			p = p.answered(start - i - 1)
		}
	}
	p = p.fetched(m.direction, rows, ended)
	if ended && fitting == rows {
		p = p.caughtUp()
	}
	if fitting == rows {
		want.fetch(m.direction, m.n)
	} else {
		want.fetch(m.direction, fitting)
	}
	return p
}

func TestWayOverManyRows(t *testing.T) {
	t.Parallel()
	p := position{scroll: true, client: 5_000_000_000, server: 6_000_000_000, last: unknown}
	moves, at, more := p.way(p.client)
	if got, want := strings.Join(moves, ", "), "ABSOLUTE 2147483647, FORWARD 2147483647, FORWARD 705032706"; got != want || at.server != p.client || more != 0 {
		t.Errorf("way(%d) = %s to %+v and %d more, want %s", p.client, got, at, more, want)
	}
}
