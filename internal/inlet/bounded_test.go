package inlet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/internal/budget"
)

const testLimit = 1 << 20

// sent is what a server sends: rows of these lengths, with errors and notices
// between, and the end of each answer.
func sent(t interface{ Fatal(...any) }, lengths []int) []byte {
	var out []byte
	add := func(m pgproto3.BackendMessage) {
		var err error
		if out, err = m.Encode(out); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range lengths {
		text := strings.Repeat("x", n)
		switch i % 7 {
		case 3:
			add(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: text})
		case 4:
			add(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "P0001", Message: text, Detail: text})
		case 5:
			add(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
			add(&pgproto3.ReadyForQuery{TxStatus: 'T'})
		case 6:
			add(&pgproto3.CopyData{Data: []byte(text)})
		default:
			add(&pgproto3.DataRow{Values: [][]byte{[]byte(text)}})
		}
	}
	add(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	add(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return out
}

// heard reads messages until the end, in a form that can be compared.
func heard(t interface{ Fatal(...any) }, r io.Reader) (messages []string) {
	f := pgproto3.NewFrontend(r, io.Discard)
	for {
		m, err := f.Receive()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return messages
		}
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			messages = append(messages, fmt.Sprint("row ", len(m.Values[0])))
		case *pgproto3.CopyData:
			messages = append(messages, fmt.Sprint("data ", len(m.Data)))
		case *pgproto3.NoticeResponse:
			messages = append(messages, fmt.Sprint("notice ", len(m.Message)))
		case *pgproto3.ErrorResponse:
			messages = append(messages, fmt.Sprint("error ", m.Code, " ", min(len(m.Message), keptOfError/2)))
		case *pgproto3.ReadyForQuery:
			messages = append(messages, fmt.Sprint("ready ", string(m.TxStatus)))
		}
	}
}

// expected is what is to be heard of sent.
func expected(lengths []int) (messages []string) {
	mute := false
	for i, n := range lengths {
		large := n > testLimit*9/10
		switch kind := i % 7; {
		case kind == 5:
			mute = false
			messages = append(messages, "ready T")
		case mute, kind == 3 && n > smallMessage:
		case kind == 3:
			messages = append(messages, fmt.Sprint("notice ", n))
		case kind == 4:
			messages = append(messages, fmt.Sprint("error P0001 ", min(n, keptOfError/2)))
		case large:
			mute = true
			messages = append(messages, fmt.Sprint("error ", StateTooLarge, " ", len(budget.ErrTooLarge.Error())))
		case kind == 6:
			messages = append(messages, fmt.Sprint("data ", n))
		default:
			messages = append(messages, fmt.Sprint("row ", n))
		}
	}
	return append(messages, "ready I")
}

func TestLargeRowsAreRefusedWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.OneOf(
			rapid.IntRange(0, 100), rapid.IntRange(80_000, 200_000), rapid.IntRange(1_000_000, 1_200_000),
		), 0, 20).Draw(t, "lengths")
		stream := io.Reader(bytes.NewReader(sent(t, lengths)))
		switch rapid.IntRange(0, 2).Draw(t, "reader") {
		case 1:
			stream = iotest.HalfReader(stream)
		case 2:
			stream = iotest.DataErrReader(stream)
		}
		b := budget.New(testLimit, 0.9)
		got := heard(t, &bounded{order: order{known: true}, from: stream, hold: b.Hold("rows")})
		if want := expected(lengths); !slices.Equal(got, want) {
			t.Fatalf("heard\n%q, want\n%q", got, want)
		}
		if b.Used() != 0 {
			t.Fatalf("%d bytes are held at the end", b.Used())
		}
	})
}

func TestOneByteAtATime(t *testing.T) {
	t.Parallel()
	lengths := []int{5, 70_000, 0, 3, 70_000, 0, 2, 1_100_000, 1, 0, 0, 0, 0, 7}
	b := budget.New(testLimit, 0.9)
	got := heard(t, &bounded{order: order{known: true}, from: iotest.OneByteReader(bytes.NewReader(sent(t, lengths))), hold: b.Hold("rows")})
	if want := expected(lengths); !slices.Equal(got, want) {
		t.Errorf("heard\n%q, want\n%q", got, want)
	}
}

func TestNoMemoryNow(t *testing.T) {
	t.Parallel()
	b := budget.New(testLimit, 0.9)
	other := b.Hold("other")
	if err := other.Grow(900_000); err != nil {
		t.Fatal(err)
	}
	got := heard(t, &bounded{order: order{known: true}, from: bytes.NewReader(sent(t, []int{500_000})), hold: b.Hold("rows")})
	want := []string{fmt.Sprint("error ", StateNoMemory, " ", len(budget.ErrFull.Error())), "ready I"}
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}
