package inlet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func message(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...)
}

// described is a RowDescription of so many columns.
func described(columns int) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(columns))
	for range columns {
		body = append(append(body, "c\x00"...), make([]byte, 18)...)
	}
	return message('T', body)
}

func dataRow(values ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(values)))
	for _, v := range values {
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(v))), v...)
	}
	return message('D', body)
}

// What is well formed passes as it is, and rows are found, wherever reads happen to cut
// the stream.
func TestStrictInPieces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []string
		for range rapid.IntRange(0, 20).Draw(t, "answers") {
			if n := rapid.IntRange(0, 5).Draw(t, "columns"); n > 0 {
				stream = append(stream, described(n)...)
				values := rapid.SliceOfN(rapid.StringN(0, 40, 90_000), n, n).Draw(t, "values")
				values[0] += strings.Repeat("x", rapid.SampledFrom([]int{0, 0, 0, 70_000, 900_000}).Draw(t, "more"))
				stream = append(stream, dataRow(values...)...)
				want = append(want, values...)
			}
			stream = append(stream, message('A', []byte("\x00\x00\x00\x01channel\x00payload\x00"))...)
			stream = append(stream, message('C', []byte("SELECT 1\x00"))...)
			stream = append(stream, message('Z', []byte("I"))...)
		}
		var got []string
		s := Strict{From: bytes.NewReader(stream), Row: func(values [][]byte) {
			for _, v := range values {
				got = append(got, string(v))
			}
		}}
		if rapid.Bool().Draw(t, "halves") {
			s.From = iotest.HalfReader(s.From)
		}
		passed, err := io.ReadAll(&s)
		if err != nil || !bytes.Equal(passed, stream) {
			t.Fatalf("%d bytes passed of %d, %v", len(passed), len(stream), err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("rows %q, want %q", got, want)
		}
	})
}

func TestStrictRefuses(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string][]byte{
		"a length of none":              {'Z', 0, 0, 0, 0, 'I'},
		"a length of 4 GB":              {'Z', 0xff, 0xff, 0xff, 0xff, 'I'},
		"a message of a gigabyte":       {'E', 0x40, 0, 0, 0, 'M'},
		"a notification of nothing":     message('A', nil),
		"one without a payload":         message('A', []byte("\x00\x00\x00\x01channel\x00")),
		"an error whose end is missing": message('E', []byte("Mtext")),
		"a state that is none":          message('Z', []byte("X")),
		"COPY":                          message('G', []byte{0, 0, 0}),
		"an unknown kind":               message('?', nil),
		"a row without a description":   dataRow("a"),
		"a row that is short":           append(described(2), dataRow("a")...),
		"a row that is long":            append(described(1), dataRow("a", "b")...),
		"a value longer than its row":   append(described(1), message('D', []byte{0, 1, 0, 0, 0, 9, 'a'})...),
		"a value of a negative length":  append(described(1), message('D', []byte{0, 1, 0xff, 0xff, 0xff, 0xfe})...),
		"fields that are not there":     message('T', []byte{0xff, 0xff}),
		"a binary column":               append(message('T', append([]byte("\x00\x01c\x00"), append(make([]byte, 17), 1)...)), dataRow("a")...),
		"hashing without end":           message('R', []byte("\x00\x00\x00\x0br=x,s=c2FsdA==,i=2147483647")),
		"hashing a number of times":     message('R', []byte("\x00\x00\x00\x0br=x,s=c2FsdA==,i=many")),
		"no salt":                       message('R', []byte("\x00\x00\x00\x05ab")),
	} {
		s := Strict{From: bytes.NewReader(sent)}
		if _, err := io.ReadAll(&s); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v, want %v", name, err, ErrForm)
		}
	}
	s := Strict{From: bytes.NewReader(message('R', []byte("\x00\x00\x00\x0br=x,s=c2FsdA==,i=4096")))}
	if _, err := io.ReadAll(&s); err != nil {
		t.Errorf("PostgreSQL's own number of times: %v", err)
	}
}

// Of what a server claims nothing is taken before it has come.
func TestStrictTakesWhatHasCome(t *testing.T) {
	t.Parallel()
	s := Strict{From: bytes.NewReader(append([]byte{'E', 0, 0x0f, 0xff, 0xff}, "Mtext"...))}
	if _, err := io.ReadAll(&s); err != nil || len(s.buffer) > 2*readBytes {
		t.Errorf("a buffer of %d bytes, %v", len(s.buffer), err)
	}
}
