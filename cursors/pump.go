package cursors

import (
	"context"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// batches is how many batches are under way at a time, so that PostgreSQL works
// on the next rows while the last ones are encoded and published.
const batches = 2

// maxChunkRows is how many rows there are in a chunk at most, however short they are.
const maxChunkRows = 1 << 16

// held is how much memory the chunk takes.
func (p *pump) held() int { return p.limit + endBytes*int(p.count) }

// pump moves rows from a cursor to a stream of chunks.
//
//	PostgreSQL ──k rows──► rows ──encode──► chunk ──window──► NATS
//
// Rows are read when there is room for them, so no more than a chunk is in
// memory; PostgreSQL waits with the rest.
type pump struct {
	c      *cursor
	chunks *service.Chunks
	count  int64 // rows in a chunk
	limit  int   // bytes in a chunk

	chunk    []byte
	ends     []int32 // of the chunk's rows
	number   int64   // of the row read last
	stopped  error   // why nothing is sent any more
	finished bool    // the last row was read
}

func newPump(c *cursor, chunks *service.Chunks, count int64, limit int) *pump {
	return &pump{c: c, chunks: chunks, count: min(count, maxChunkRows), limit: limit}
}

// run sends everything up to the cursor's end. When it returns nothing is under
// way.
func (p *pump) run(ctx context.Context, w *execution.Execution) error {
	p.number = p.c.at.client
	if err := p.sendAhead(ctx); err != nil {
		return err
	}
	if p.c.at.exhausted() {
		return p.end(ctx)
	}
	if err := p.read(ctx, w); err != nil {
		return p.c.refused(w, err)
	}
	return p.end(ctx)
}

// sendAhead sends the rows that were read ahead.
func (p *pump) sendAhead(ctx context.Context) error {
	for p.c.ahead.len() > 0 {
		row := p.c.ahead.first()
		if len(row) == 0 {
			if err := p.flush(ctx); err != nil {
				return err
			}
			p.c.at = p.c.at.answered(p.c.at.client + 1)
			p.c.ahead.drop(1)
			return tooLarge(p.c.at.client)
		}
		p.number++
		err := p.add(ctx, func(dst []byte) []byte { return append(dst, row...) })
		p.c.ahead.drop(1)
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads until the end, an error of PostgreSQL's, or nothing that was asked
// for is left after the sending has stopped.
func (p *pump) read(ctx context.Context, w *execution.Execution) error {
	for {
		for p.stopped == nil && !p.finished && w.Asked() < batches {
			k := p.c.sizes.batch(p.count, batchBytes, p.c.ahead.maxRow)
			if err := w.Ask(ctx, p.c.name, int(k)); err != nil {
				return err
			}
		}
		if w.Asked() == 0 {
			return p.stopped
		}
		if err := p.take(ctx, w); err != nil {
			return err
		}
	}
}

// take reads the rows of one answer.
func (p *pump) take(ctx context.Context, w *execution.Execution) error {
	var n int64
	bytes, largest := 0, 0
	ended, err := w.Take(ctx, session.RowHandler{Fields: p.c.same, Row: func(values [][]byte) {
		n++
		size := rows.Sent(values)
		bytes, largest = bytes+size, max(largest, size)
		p.place(ctx, values)
	}})
	if err != nil {
		return err
	}
	p.c.sizes.learn(int(n), bytes, largest)
	p.c.at = p.c.at.fetched(forward, n, ended)
	p.finished = p.finished || ended
	return nil
}

// place puts one row into a chunk or, once nothing is sent any more, aside.
func (p *pump) place(ctx context.Context, values [][]byte) {
	if p.stopped != nil {
		if !p.c.at.scroll {
			p.c.ahead.add(p.c.encode, values)
		}
		return
	}
	p.number++
	if p.c.encode.least(values, p.limit) > p.limit {
		p.refuse(ctx)
		return
	}
	err := p.add(ctx, func(dst []byte) []byte { return p.c.encode.append(dst, values) })
	if p.stopped == nil {
		p.stopped = err
	}
}

// add puts one row into the chunk, after sending it where it is full.
func (p *pump) add(ctx context.Context, encode func([]byte) []byte) error {
	before := len(p.chunk)
	p.open()
	p.chunk = encode(p.chunk)
	if len(p.chunk) < p.limit {
		return p.added(ctx)
	}
	// It goes on a chunk of its own.
	row := append([]byte(nil), p.chunk[before+1:]...)
	p.chunk = p.chunk[:before]
	if len(row)+2 > p.limit {
		p.refuse(ctx)
		return p.stopped
	}
	err := p.flush(ctx)
	p.open()
	p.chunk = append(p.chunk, row...)
	p.ends = append(p.ends, int32(len(p.chunk)))
	return err
}

// open begins a row of the chunk.
func (p *pump) open() {
	if len(p.chunk) == 0 {
		p.chunk = append(p.chunk, '[')
	} else {
		p.chunk = append(p.chunk, ',')
	}
}

func (p *pump) added(ctx context.Context) error {
	p.ends = append(p.ends, int32(len(p.chunk)))
	if int64(len(p.ends)) < p.count {
		return nil
	}
	return p.flush(ctx)
}

// refuse stops at a row that fits no message, after what is before it was sent.
func (p *pump) refuse(ctx context.Context) {
	switch p.stopped = p.flush(ctx); {
	case p.stopped == nil:
		p.c.at = p.c.at.answered(p.number)
		p.stopped = tooLarge(p.number)
	case !p.c.at.scroll:
		p.c.ahead.addEncoded(nil)
	}
}

// flush sends the chunk. After an error it is still there.
func (p *pump) flush(ctx context.Context) error {
	if len(p.ends) == 0 {
		return nil
	}
	body := append(p.chunk, ']') //nolint:gocritic // the chunk itself stays open: it goes on after an error
	if err := p.chunks.Send(ctx, body, len(p.ends)); err != nil {
		return err
	}
	p.c.at = p.c.at.answered(p.c.at.client + int64(len(p.ends)))
	p.c.sentRows += int64(len(p.ends))
	p.c.sentBytes += int64(len(body))
	p.c.tell()
	p.chunk, p.ends = body[:0], p.ends[:0]
	return nil
}

// end sends the last rows.
func (p *pump) end(ctx context.Context) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	p.c.at = p.c.at.caughtUp()
	return nil
}

// keep gives rows that were not sent back to a cursor that cannot read them
// again.
func (p *pump) keep() {
	if p.c.at.scroll || len(p.ends) == 0 {
		return
	}
	behind := p.c.ahead
	p.c.ahead = readahead{maxRow: behind.maxRow, most: behind.most, room: behind.room, lost: behind.lost}
	begin := int32(1)
	for _, end := range p.ends {
		p.c.ahead.addEncoded(p.chunk[begin:end])
		begin = end + 1
	}
	for ; behind.len() > 0; behind.drop(1) {
		p.c.ahead.addEncoded(behind.first())
	}
}
