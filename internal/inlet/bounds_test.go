package inlet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/budget"
)

// received reads messages until an error.
func received(r io.Reader, b *budget.Budget) (kinds string, err error) {
	f := Frontend(b, "rows")(r, io.Discard)
	for {
		m, err := f.Receive()
		if err != nil {
			return kinds, err
		}
		encoded, err := m.Encode(nil)
		if err != nil {
			return kinds, err
		}
		kinds += string(encoded[0])
	}
}

func head(kind byte, size uint32) []byte {
	return []byte{kind, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}
}

func TestClaimsAreRefused(t *testing.T) {
	t.Parallel()
	known, none := message('Z', []byte("I")), (*budget.Budget)(nil)
	for name, c := range map[string]struct {
		sent []byte
		b    *budget.Budget
	}{
		"a gigabyte before we are let in":    {head('R', 1<<30), none},
		"an error of that size":              {head('E', 1<<20), none},
		"a row before we are let in":         {head('D', 1<<20), budget.New(1<<30, 0.9)},
		"a row without a budget":             {append(known, head('D', 1<<30-1)...), none},
		"a row beyond what PostgreSQL sends": {append(known, head('D', 1<<31)...), budget.New(1<<40, 0.9)},
		"a description":                      {append(known, head('T', 1<<29)...), budget.New(1<<40, 0.9)},
		"the end of a command":               {append(known, head('C', 1<<29)...), none},
		"a negative length":                  {append(known, head('C', 1<<32-1)...), none},
		"none":                               {append(known, head('C', 0)...), none},
	} {
		if _, err := received(bytes.NewReader(c.sent), c.b); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v, want %v", name, err, ErrForm)
		}
	}
}

// A driver keeps every parameter that it is told, by its name.
func TestParametersHaveABound(t *testing.T) {
	t.Parallel()
	var sent []byte
	tell := func(name, value string) { sent = append(sent, message('S', []byte(name+"\x00"+value+"\x00"))...) }
	for i := range 10_000 {
		tell(fmt.Sprint("parameter_", i), "value")
	}
	tell("long", string(make([]byte, 2*parameterBytes)))
	for range 1000 {
		tell("parameter_0", "another value")
	}
	sent = append(sent, message('Z', []byte("I"))...)
	for name, r := range map[string]io.Reader{"": bytes.NewReader(sent), "byte by byte": iotest.OneByteReader(bytes.NewReader(sent))} {
		f := Frontend(nil, "")(r, io.Discard)
		told, names := 0, map[string]bool{}
		for {
			m, err := f.Receive()
			if err != nil {
				t.Fatal(name, err)
			}
			s, is := m.(*pgproto3.ParameterStatus)
			if !is {
				break
			}
			told++
			names[s.Name] = true
		}
		if len(names) != maxParameters || told != maxParameters+1000 {
			t.Errorf("%s %d names of %d parameters, want %d of %d", name, len(names), told, maxParameters, maxParameters+1000)
		}
	}
}
