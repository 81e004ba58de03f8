package cursors

import "slices"

// readahead are rows that PostgreSQL has sent and the client has not got, in JSON
// and in order. A row that is too large for any message is kept as an empty
// one.
type readahead struct {
	data   []byte
	ends   []int32 // in data
	next   int     // index of the first one
	lost   bool    // there were too many
	maxRow int
	most   int                   // bytes that they take
	room   func(bytes int) error // asks for more; nil: there is always some
}

// len returns how many there are.
func (a *readahead) len() int { return len(a.ends) - a.next }

// endBytes is what a row takes besides.
const endBytes = 4

// held is how much memory they take.
func (a *readahead) held() int { return cap(a.data) + endBytes*cap(a.ends) }

// add encodes a row at the end.
func (a *readahead) add(encode encoder, values [][]byte) {
	size := encode.least(values, a.maxRow)
	if size > a.maxRow && !a.lost { // it takes no room
		a.addEncoded(nil)
		return
	}
	if a.lost = a.lost || len(a.data)+endBytes*len(a.ends) > a.most || a.room != nil && a.room(size+endBytes) != nil; a.lost {
		return
	}
	before := len(a.data)
	a.data = encode.append(a.data, values)
	if len(a.data)-before > a.maxRow {
		a.data = slices.Clone(a.data[:before]) // the memory was for this row
	}
	a.ends = append(a.ends, int32(len(a.data)))
}

// addEncoded appends a row that is JSON already.
func (a *readahead) addEncoded(row []byte) {
	a.data = append(a.data, row...)
	a.ends = append(a.ends, int32(len(a.data)))
}

// first returns the first row.
func (a *readahead) first() []byte {
	begin := 0
	if a.next > 0 {
		begin = int(a.ends[a.next-1])
	}
	return a.data[begin:a.ends[a.next]]
}

// drop takes up to n rows from the front, and returns how many.
func (a *readahead) drop(n int64) int64 {
	n = min(n, int64(a.len()))
	a.next += int(n)
	if a.len() == 0 {
		*a = readahead{maxRow: a.maxRow, most: a.most, room: a.room, lost: a.lost} // the memory may have been needed once
	}
	return n
}
