package errand

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pgbridge/pgbridge/client"
)

// unload copies the source out. A copy that ends without an error has all rows in
// their order; one that does not has a part of them.
func (e *Errands) unload(ctx context.Context) {
	w := &numbers{}
	copied, err := e.Client.CopyOut(ctx, client.Script{Name: "unload"}, w, client.CopyOptions{Stall: stall})
	if err == nil && (w.last != rowsOfSource || copied.Rows != rowsOfSource) {
		w.fault = fmt.Errorf("a copy out of %d rows ended well after %d, it says %d", rowsOfSource, w.last, copied.Rows)
	}
	e.read1(Errand{Kind: CopyOut}, w.fault, err)
}

// numbers takes lines that count from 1.
type numbers struct {
	last  int
	rest  []byte
	fault error
}

func (n *numbers) Write(p []byte) (int, error) {
	n.rest = append(n.rest, p...)
	for {
		line, rest, whole := bytes.Cut(n.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if string(line) != fmt.Sprint(n.last+1) && n.fault == nil {
			n.fault = fmt.Errorf("a copy out has %q behind row %d", line, n.last)
		}
		n.last, n.rest = n.last+1, rest
	}
}

// read reads the source through a cursor, page by page, to its end or to an error.
func (e *Errands) read(ctx context.Context, dice *rand.Rand) {
	cursor, err := e.Client.Cursor(ctx, client.Script{Name: "read"}, client.CursorOptions{PageRows: 1 + dice.IntN(2000)})
	if err != nil {
		e.read1(Errand{Kind: Cursor}, nil, err)
		return
	}
	last := 0
	var fault error
	for row, rowErr := range cursor.Rows(ctx) {
		if err = rowErr; err != nil {
			break
		}
		if last++; string(row[0]) != fmt.Sprint(last) && fault == nil {
			fault = fmt.Errorf("a cursor has row %s behind row %d", row[0], last-1)
		}
	}
	if err == nil && fault == nil && last != rowsOfSource {
		fault = fmt.Errorf("a cursor over %d rows ended well after %d", rowsOfSource, last)
	}
	e.read1(Errand{Kind: Cursor}, fault, err)
	_ = cursor.Close(ctx) // read to its end, or gone
}

// read1 notes an errand that leaves nothing.
func (e *Errands) read1(errand Errand, fault, err error) {
	errand.Outcome, errand.At = Done, time.Now()
	if err != nil {
		errand.Outcome, errand.Error = NotDone, err.Error()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished = append(e.finished, errand)
	if fault != nil {
		e.wrong = append(e.wrong, fault)
	}
}
