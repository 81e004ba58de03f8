package webconsole

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxRows are on one page.
const maxRows = 200

// window is which part of a list is wanted.
type window struct {
	filter        string // in a name, whatever its case; empty: any
	offset, limit int
}

func readWindow(q url.Values) (w window, err error) {
	w.filter = strings.ToLower(q.Get("filter"))
	if w.offset, err = whole(q, "offset", 0); err != nil {
		return w, err
	}
	w.limit, err = whole(q, "limit", 100)
	w.limit = min(w.limit, maxRows)
	return w, err
}

// whole reads a number that is not negative.
func whole(q url.Values, name string, otherwise int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q: want a whole number, not negative", name, text)
	}
	return n, nil
}

// Rows is a part of a list.
type Rows[T any] struct {
	Total   int // in the whole list
	Matched int // that have the filter in their name
	Offset  int // of the first row, among those that match
	Rows    []T
}

// cut filters, orders and cuts a list, which it leaves as it is. A nil order is the
// list's own.
func cut[T any](all []T, w window, name func(*T) string, order func(a, b *T) int) Rows[T] {
	matching := make([]*T, 0, len(all))
	for i := range all {
		if w.filter == "" || strings.Contains(strings.ToLower(name(&all[i])), w.filter) {
			matching = append(matching, &all[i])
		}
	}
	if order != nil {
		slices.SortStableFunc(matching, order)
	}
	part := Rows[T]{Total: len(all), Matched: len(matching), Offset: min(w.offset, len(matching)), Rows: []T{}}
	for _, one := range matching[part.Offset:min(part.Offset+w.limit, len(matching))] {
		part.Rows = append(part.Rows, *one)
	}
	return part
}

// orderOf finds an order by its name; empty is the list's own.
func orderOf[T any](name string, orders map[string]func(a, b *T) int) (func(a, b *T) int, error) {
	order, ok := orders[name]
	if !ok && name != "" {
		return nil, fmt.Errorf("sort: %q is no order", name)
	}
	return order, nil
}

func descending[N cmp.Ordered](a, b N) int { return cmp.Compare(b, a) }
