package cursors

import (
	"encoding/json"
	"math"

	"github.com/pgbridge/pgbridge/internal/service"
)

// all is the number of rows of FORWARD ALL and BACKWARD ALL, and as a position the
// one behind any row.
const all = math.MaxInt64

// direction is how a move is measured.
type direction uint8

const (
	forward  direction = iota // n rows on
	backward                  // n rows back
	absolute                  // to row n, from the end where n is negative
	relative                  // to the row n rows on or, where n is negative, back
	stay                      // the same row again
)

// move is one FETCH or MOVE in the simplest of the forms that mean the same.
type move struct {
	direction direction
	n         int64 // at least 1, for forward and backward
}

var directions = []string{"forward", "backward", "next", "prior", "first", "last", "absolute", "relative"}

// readMove reads the fields direction and count.
func readMove(f service.Fields, rows int64) (move, error) {
	direction, err := f.OneOf("direction", directions...)
	if err != nil {
		return move{}, err
	}
	value, counted := f["count"]
	counted = counted && string(value) != "null" // null means that it is not given
	n, err := readCount(f, rows)
	if err != nil {
		return move{}, err
	}
	switch direction {
	case "next", "prior", "first", "last":
		if counted {
			return move{}, service.Errorf(service.CodeInvalidRequest, "field \"count\": there is none with %q", direction)
		}
	case "absolute", "relative":
		if !counted || n == all {
			return move{}, service.Errorf(service.CodeInvalidRequest, "field \"count\": want the number of a row with %q", direction)
		}
	}
	return newMove(direction, n), nil
}

// newMove gives a direction its simplest form.
func newMove(direction string, n int64) move {
	switch direction {
	case "next":
		return move{forward, 1}
	case "prior":
		return move{backward, 1}
	case "first":
		return move{absolute, 1}
	case "last":
		return move{absolute, -1}
	case "absolute":
		return move{absolute, n}
	case "backward":
		n = -n
	}
	switch {
	case n == 0:
		return move{direction: stay}
	case direction == "relative":
		return move{relative, n}
	case n > 0:
		return move{forward, n}
	}
	return move{backward, -n}
}

// readCount reads the field count: a number that PostgreSQL's FETCH takes, or
// "all".
func readCount(f service.Fields, missing int64) (int64, error) {
	value, ok := f.Take("count")
	if !ok {
		return missing, nil
	}
	if string(value) == `"all"` {
		return all, nil
	}
	var n int32
	if json.Unmarshal(value, &n) != nil || n == math.MinInt32 {
		return 0, service.Errorf(service.CodeInvalidRequest, "field \"count\": want a whole number of at most 2147483647, or \"all\"")
	}
	return int64(n), nil
}
