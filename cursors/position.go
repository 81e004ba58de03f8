package cursors

import (
	"fmt"
	"math"

	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// unknown is a position, or a number of rows, that is not known.
	unknown = -1
	// somewhere is the number of a row that is counted from no end: far enough
	// from 0 for any move.
	somewhere = 1 << 40
)

// position is where a cursor stands for its client and for PostgreSQL, in the
// numbers that the package's comment draws. Its methods change nothing: each
// returns what the position is after something has happened.
type position struct {
	scroll bool
	client int64 // behind the last row that the client has got
	server int64 // PostgreSQL's
	last   int64 // the number of rows, if known
	// adrift says that a script may have moved the cursor. It goes on from there,
	// as anywhere else; with scroll its numbers then count from somewhere until
	// the beginning is met, and without from what its client has read.
	adrift bool
	// shift is what all numbers so far had to be corrected by.
	shift int64
}

// newPosition is that of a cursor which has just been opened.
func newPosition(scroll bool) position { return position{scroll: scroll, last: unknown} }

func (p position) atEnd() bool { return p.last >= 0 && p.client > p.last }

// onRow reports whether the client's position is on a row.
func (p position) onRow() bool { return p.client > 0 && !p.atEnd() }

// exhausted reports whether PostgreSQL has no more rows to go forward to.
func (p position) exhausted() bool { return p.last >= 0 && p.server > p.last }

// fetched is the position after PostgreSQL has gone over n rows; ended says that
// it has met the end in that direction. The client's does not change.
func (p position) fetched(d direction, n int64, ended bool) position {
	switch {
	case d == forward && p.exhausted(): // it stays there
	case d == forward && ended:
		p.last = p.server + n
		p.server = p.last + 1
	case d == forward:
		p.server += n
	case ended:
		if p.adrift {
			p = p.renumbered(1 - (p.server - n)) // the last of them is the first row
			if n == 0 {
				p.last = unknown // it may have stood before that
			}
		}
		p.server = 0
	default:
		p.server -= n
	}
	return p
}

// renumbered is the position when its numbers are found to be wrong by so much.
func (p position) renumbered(by int64) position {
	p.client += by
	p.server += by
	if p.last >= 0 {
		p.last += by
	}
	p.shift += by
	p.adrift = false
	return p
}

// counted is the position after PostgreSQL has told whether it stood on a row, and
// how many there were before, which has left it before the first.
func (p position) counted(onRow bool, before int64) position {
	stood := before
	if onRow || before > 0 { // else there is nothing, or it stood before the first
		stood++
	}
	p = p.renumbered(stood - p.server)
	if !onRow && before > 0 {
		p.last = before
	}
	p.server = 0
	return p
}

// answered is the position after the client was given the row with this number.
func (p position) answered(row int64) position {
	p.client = row
	return p
}

// caughtUp is the position after the client was given all that was fetched.
func (p position) caughtUp() position {
	p.client = p.server
	return p
}

// drifted is the position after a script that may have moved the cursor: it was
// where the client stood, and the client is now where it is.
func (p position) drifted() position {
	if p.scroll {
		p.client, p.server, p.last = somewhere, somewhere, unknown
	}
	p.adrift = true
	return p
}

// rewound is the position before the first row.
func (p position) rewound() position {
	p.client, p.server, p.last, p.adrift = 0, 0, unknown, false
	return p
}

// allows refuses what a cursor without scroll cannot do, as PostgreSQL would.
func (p position) allows(m move) error {
	switch {
	case !p.scroll && p.adrift && m.direction == absolute:
		return service.Errorf(service.CodeInvalidRequest,
			"the number of the row on which the cursor stands is not known since a script was run that may have moved it: to go to a row by its number, or to the first, needs scroll then")
	case p.scroll, m.direction == forward, m.direction == relative && m.n > 0, m.direction == absolute && m.n > p.client:
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest,
		"the cursor was opened without scroll: it moves only forward, by one row or more")
}

// target is where a move ends if there are rows enough. It is unknown for one
// that is counted from an end which is not known.
func (p position) target(m move) int64 {
	switch {
	case m.direction == forward && m.n == all:
		return all
	case m.direction == backward && m.n == all:
		return 0
	case m.direction == forward, m.direction == relative:
		return max(0, p.client+m.n)
	case m.direction == backward:
		return max(0, p.client-m.n)
	case m.direction == stay:
		return p.client
	case m.n >= 0:
		return m.n
	case p.last >= 0:
		return max(0, p.last+1+m.n)
	}
	return unknown
}

// way is how PostgreSQL gets to a target: MOVEs over rows that exist, after
// which the position is at, and then one by more rows, backward where that is
// negative, of which PostgreSQL has to say how many there are.
func (p position) way(target int64) (moves []string, at position, more int64) {
	if p.last >= 0 && target > p.last {
		if !p.exhausted() {
			moves = []string{"FORWARD ALL"}
		}
		p.server = p.last + 1
		return moves, p.caughtUp(), 0
	}
	if !p.scroll { // PostgreSQL is there already, or further on
		p.client = min(target, p.server)
		return nil, p, beyond(p.client, target)
	}
	there := min(target, max(p.client, p.server, p.last))
	if p.adrift && there < min(p.client, p.server) {
		there = min(p.client, p.server)
	}
	if p.server != there {
		moves = p.movesTo(there)
	}
	p.server = there
	if p.adrift && target == 0 {
		return moves, p.caughtUp(), -all
	}
	return moves, p.caughtUp(), beyond(there, target)
}

// movesTo brings PostgreSQL to a row that exists, or before the first.
func (p position) movesTo(row int64) (moves []string) {
	from := p.server
	if p.adrift && from > row {
		return []string{fmt.Sprintf("BACKWARD %d", from-row)} // rows that were read ahead
	}
	if from > row {
		from = min(row, math.MaxInt32) // the largest number that MOVE takes
		moves = append(moves, fmt.Sprintf("ABSOLUTE %d", from))
	}
	for ; from < row; from += math.MaxInt32 {
		moves = append(moves, fmt.Sprintf("FORWARD %d", min(row-from, math.MaxInt32)))
	}
	return moves
}

// beyond is how many rows a target is behind a position.
func beyond(from, target int64) int64 {
	if target == all {
		return all
	}
	return target - from
}

// done reports whether a move has met the end in its direction.
func (p position) done(m move) bool {
	switch m.direction {
	case forward:
		return p.atEnd()
	case backward:
		return p.client == 0
	case stay:
		return false
	}
	return !p.onRow()
}

// rows is how many rows FETCH would have returned for a move that has led here.
func (p position) rows(m move, before position) int64 {
	from := before.client + p.shift - before.shift
	switch m.direction {
	case forward:
		return p.rowsUpTo(p.client) - p.rowsUpTo(from)
	case backward:
		return max(from, 1) - max(p.client, 1)
	}
	if p.onRow() {
		return 1
	}
	return 0
}

func (p position) rowsUpTo(at int64) int64 {
	if p.last >= 0 {
		return min(at, p.last)
	}
	return at
}
