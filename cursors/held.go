package cursors

// held are rows that PostgreSQL has sent and the client has not got, in JSON
// and in order. A row that is too large for any message is kept as an empty
// one.
type held struct {
	data   []byte
	ends   []int // in data
	next   int   // index of the first one
	lost   bool  // there were too many
	maxRow int
}

// len returns how many there are.
func (h *held) len() int { return len(h.ends) - h.next }

// add encodes a row at the end.
func (h *held) add(encode encoder, values [][]byte) {
	if h.lost = h.lost || len(h.data) > maxHeld; h.lost {
		return
	}
	before := len(h.data)
	if rawSize(values) <= 2*h.maxRow {
		h.data = encode(h.data, values)
	}
	if len(h.data)-before > h.maxRow {
		h.data = h.data[:before]
	}
	h.ends = append(h.ends, len(h.data))
}

// addEncoded appends a row that is JSON already.
func (h *held) addEncoded(row []byte) {
	h.data = append(h.data, row...)
	h.ends = append(h.ends, len(h.data))
}

// first returns the first row.
func (h *held) first() []byte {
	begin := 0
	if h.next > 0 {
		begin = h.ends[h.next-1]
	}
	return h.data[begin:h.ends[h.next]]
}

// drop takes n rows from the front.
func (h *held) drop(n int64) {
	h.next += int(n)
	if h.len() == 0 {
		*h = held{maxRow: h.maxRow, lost: h.lost} // the memory may have been needed once
	}
}
