package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"
)

func ours(prefix []byte) bool { return bytes.HasPrefix(prefix, []byte("pgbridge.")) }

// The server's side of the protocol.

func framed(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// sent is when the server sends what has changed.
var sent = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func change(body []byte) []byte {
	return framed('d', append(numbers('w', 0, 0, uint64(sent.UnixMicro()-postgresEpoch)), body...))
}

func numbers(kind byte, values ...uint64) []byte {
	b := []byte{kind}
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func begin(commit LSN, at time.Time) []byte {
	return change(append(numbers('B', uint64(commit), uint64(at.UnixMicro()-postgresEpoch)), 0, 0, 0, 7))
}

func end(commit, end LSN, at time.Time) []byte {
	return change(append([]byte{'C', 0}, numbers(0, uint64(commit), uint64(end), uint64(at.UnixMicro()-postgresEpoch))[1:]...))
}

func messageHead(transactional bool, lsn LSN, prefix string, size int) []byte {
	b := []byte{'M', 0}
	if transactional {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, uint64(lsn))
	b = append(append(b, prefix...), 0)
	return binary.BigEndian.AppendUint32(b, uint32(size))
}

func logical(transactional bool, lsn LSN, prefix, content string) []byte {
	return change(append(messageHead(transactional, lsn, prefix, len(content)), content...))
}

func keepalive(position LSN, at time.Time, reply byte) []byte {
	return framed('d', append(numbers('k', uint64(position), uint64(at.UnixMicro()-postgresEpoch)), reply))
}

func decodeAll(t *testing.T, max int, parts ...[]byte) ([]Event, error) {
	t.Helper()
	d := newDecoder(bytes.NewReader(bytes.Join(parts, nil)), ours, max)
	var events []Event
	for {
		e, err := d.next()
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

// A transaction that came from another server has that server's time.
func TestDecoderBelievesNoTimeToCome(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{sent.Add(-time.Second), sent, sent.Add(time.Microsecond), sent.AddDate(100, 0, 0)} {
		got, err := decodeAll(t, 10, begin(20, at), logical(true, 11, "pgbridge.a", "x"), end(20, 24, at))
		if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 2 {
			t.Fatalf("decoded %v, %v", got, err)
		}
		want := at
		if at.After(sent) {
			want = sent
		}
		for _, e := range got {
			if !e.Time.Equal(want) {
				t.Errorf("committed at %s: Time = %s, want %s", at, e.Time, want)
			}
		}
	}
}

func TestDecoderReadsTransactions(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 1000, time.UTC)
	got, err := decodeAll(t, 10,
		keepalive(5, at, 0),
		begin(20, at),
		logical(true, 11, "pgbridge.a", "x"),
		logical(true, 12, "other", "skip me, I am longer than ten"),
		logical(false, 13, "pgbridge.a", "no"),
		keepalive(14, at, 1), // inside a transaction
		change([]byte("R whatever a table sends")),
		framed('N', []byte("a notice")),
		logical(true, 15, "pgbridge.b", ""),
		logical(true, 16, "pgbridge.b", "eleven byte"),
		logical(true, 17, "pgbridge."+strings.Repeat("x", 300), "y"),
		end(20, 21, at),
		logical(true, 30, "pgbridge.a", "outside of a transaction"),
		logical(false, 31, "pgbridge.a", "z"),
		keepalive(40, at, 0),
	)
	want := []Event{
		{Kind: KindIdle, LSN: 5, Time: at},
		{Kind: KindMessage, LSN: 11, Commit: 20, Time: at, Prefix: "pgbridge.a", Content: []byte("x"), Size: 1},
		{Kind: KindMessage, LSN: 15, Commit: 20, Time: at, Prefix: "pgbridge.b", Content: []byte{}, Size: 0},
		{Kind: KindMessage, LSN: 16, Commit: 20, Time: at, Prefix: "pgbridge.b", Size: 11},
		{Kind: KindCommit, LSN: 21, Commit: 20, Time: at},
		{Kind: KindIdle, LSN: 40, Time: at},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events = %+v, want %+v", got, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end is %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if !want[3].Skipped() || want[2].Skipped() {
		t.Error("only the message over the limit counts as skipped")
	}
}

func TestDecoderReadsTheServersError(t *testing.T) {
	t.Parallel()
	_, err := decodeAll(t, 10, framed('E', []byte("SERROR\x00VERROR\x00CXX000\x00Minvalid memory alloc request size\x00\x00")))
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "XX000" {
		t.Errorf("error = %v, want SQLSTATE XX000", err)
	}
	if _, err := decodeAll(t, 10, framed('c', nil)); !errors.Is(err, errEnded) {
		t.Errorf("error = %v, want %v", err, errEnded)
	}
}

func TestDecoderRefusesLengthsThatDoNotFit(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for name, bad := range map[string][]byte{
		"a message shorter than its length": {'d', 0, 0, 0, 2},
		"a message longer than any":         {'d', 0x7f, 0xff, 0xff, 0xff},
		"a begin cut short":                 change([]byte("B123")),
		"a transaction that is prepared":    change(append([]byte{'b'}, make([]byte, 28)...)),
		"a transaction that goes on":        change([]byte("S\x00\x00\x00\x01\x01")),
		"no change":                         framed('d', []byte("w123")),
		"content longer than its message":   append(begin(9, at), change(messageHead(true, 5, "pgbridge.a", 4))...),
		"content shorter than its message":  append(begin(9, at), change(append(messageHead(true, 5, "pgbridge.a", 1), "xy"...))...),
	} {
		if events, err := decodeAll(t, 10, bad); err == nil || errors.Is(err, io.ErrUnexpectedEOF) || len(events) > 0 {
			t.Errorf("%s: events %v, error %v; want an error that says so", name, events, err)
		}
	}
}

// Whatever the buffer's borders, what was written is read.
func TestDecoderReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var sent []byte
		var want []Event
		lsn := LSN(1)
		for range rapid.IntRange(1, 20).Draw(t, "transactions") {
			commit, at := lsn+1000, time.UnixMicro(rapid.Int64Range(0, 1<<50).Draw(t, "time")).UTC()
			sent = append(sent, begin(commit, at)...)
			for range rapid.IntRange(0, 5).Draw(t, "messages") {
				lsn++
				size := rapid.SampledFrom([]int{0, 1, 100, bufferBytes - 60, bufferBytes, 2 * bufferBytes}).Draw(t, "size")
				prefix := rapid.SampledFrom([]string{"pgbridge.a", "pgbridge.", "foreign", ""}).Draw(t, "prefix")
				transactional := rapid.Bool().Draw(t, "transactional")
				content := bytes.Repeat([]byte{byte(lsn)}, size)
				sent = append(sent, logical(transactional, lsn, prefix, string(content))...)
				if !transactional || !ours([]byte(prefix)) {
					continue
				}
				e := Event{Kind: KindMessage, LSN: lsn, Commit: commit, Time: at, Prefix: prefix, Size: size}
				if size <= bufferBytes {
					e.Content = content
				}
				want = append(want, e)
			}
			lsn = commit + 1
			sent = append(sent, end(commit, lsn, at)...)
			want = append(want, Event{Kind: KindCommit, LSN: lsn, Commit: commit, Time: at})
		}
		d := newDecoder(bytes.NewReader(sent), ours, bufferBytes)
		for i := range want {
			got, err := d.next()
			if err != nil {
				t.Fatalf("event %d: %v", i, err)
			}
			if !bytes.Equal(got.Content, want[i].Content) {
				t.Fatalf("event %d: %d bytes of content, want %d", i, len(got.Content), len(want[i].Content))
			}
			got.Content, want[i].Content = nil, nil
			if !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("event %d = %+v, want %+v", i, got, want[i])
			}
		}
	})
}

// zeros is a reader of so many of them.
type zeros struct{ left int }

func (z *zeros) Read(b []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), z.left)
	clear(b[:n])
	z.left -= n
	return n, nil
}

func TestDecoderSkipsInFlatMemory(t *testing.T) {
	const size = 900 << 20
	at := time.Now()
	for _, prefix := range []string{"foreign", "pgbridge.a"} {
		head := messageHead(true, 5, prefix, size)
		head = append(binary.BigEndian.AppendUint32([]byte{'d'}, uint32(4+25+len(head)+size)), append(append([]byte{'w'}, make([]byte, 24)...), head...)...)
		d := newDecoder(io.MultiReader(bytes.NewReader(append(begin(9, at), head...)), &zeros{size}, bytes.NewReader(end(9, 10, at))), ours, 1<<20)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for e, err := d.next(); e.Kind != KindCommit; e, err = d.next() {
			if err != nil {
				t.Fatal(err)
			}
			if !e.Skipped() || e.Size != size {
				t.Errorf("event = %+v, want a skipped one", e)
			}
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
			t.Errorf("reading over %d bytes of %s took %d bytes of memory", size, prefix, grown)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	at := time.UnixMicro(0)
	f.Add(bytes.Join([][]byte{begin(20, at), logical(true, 11, "pgbridge.a", "x"), end(20, 21, at), keepalive(40, at, 1)}, nil))
	f.Add(framed('E', []byte("SERROR\x00CXX000\x00Mno\x00\x00")))
	f.Add(change([]byte("M")))
	f.Fuzz(func(t *testing.T, sent []byte) {
		const max = 16
		d := newDecoder(bytes.NewReader(sent), ours, max)
		for {
			e, err := d.next()
			if err != nil {
				return
			}
			if len(e.Content) > max || e.Kind == KindMessage && !ours([]byte(e.Prefix)) || e.Skipped() != (e.Size > max) {
				t.Fatalf("event = %+v", e)
			}
		}
	})
}
