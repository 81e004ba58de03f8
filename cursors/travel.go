package cursors

import (
	"encoding/json"
	"math"

	"github.com/pgbridge/pgbridge/internal/service"
)

// kind is how a travel is measured.
type kind uint8

const (
	forward  kind = iota // n rows on
	backward             // n rows back
	absolute             // to row n, from the end where n is negative
	relative             // to the row n rows on or, where n is negative, back
	again                // nowhere: the same row
)

// all is the number of rows of FORWARD ALL and BACKWARD ALL.
const all = math.MaxInt64

// travel is one move of a cursor in the simplest of the forms that mean the
// same.
type travel struct {
	kind kind
	n    int64 // at least 1, for forward and backward
}

var directions = []string{"forward", "backward", "next", "prior", "first", "last", "absolute", "relative"}

// readTravel reads the fields direction and count.
func readTravel(f service.Fields, rows int64) (travel, error) {
	direction, err := f.OneOf("direction", directions...)
	if err != nil {
		return travel{}, err
	}
	value, counted := f["count"]
	counted = counted && string(value) != "null" // that is as good as absent
	n, err := readCount(f, rows)
	if err != nil {
		return travel{}, err
	}
	switch direction {
	case "next", "prior", "first", "last":
		if counted {
			return travel{}, service.Errorf(service.CodeInvalidRequest, "field \"count\": there is none with %q", direction)
		}
	case "absolute", "relative":
		if !counted || n == all {
			return travel{}, service.Errorf(service.CodeInvalidRequest, "field \"count\": want the number of a row with %q", direction)
		}
	}
	return newTravel(direction, n), nil
}

// newTravel gives a direction its simplest form.
func newTravel(direction string, n int64) travel {
	switch direction {
	case "next":
		return travel{forward, 1}
	case "prior":
		return travel{backward, 1}
	case "first":
		return travel{absolute, 1}
	case "last":
		return travel{absolute, -1}
	case "absolute":
		return travel{absolute, n}
	case "backward":
		n = -n
	}
	switch {
	case n == 0:
		return travel{kind: again}
	case direction == "relative":
		return travel{relative, n}
	case n > 0:
		return travel{forward, n}
	}
	return travel{backward, -n}
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

// onlyForward refuses what a cursor without scroll cannot do from a position.
func (t travel) onlyForward(pos int64) error {
	switch {
	case t.kind == forward, t.kind == relative && t.n > 0, t.kind == absolute && t.n > pos:
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest,
		"the cursor was opened without scroll: it moves only forward, by one row or more")
}
