package testenv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Manglings are ways in which a message of a server's can be wrong.
func Manglings() []func(kind byte, body []byte) []byte {
	return slices.Concat(ofRows(), ofAnyKind(), inItsPlace())
}

func ofAnyKind() []func(kind byte, body []byte) []byte {
	return []func(kind byte, body []byte) []byte{
		func(byte, []byte) []byte { return nil },
		func(kind byte, body []byte) []byte { return slices.Concat(Message(kind, body), Message(kind, body)) },
		func(kind byte, body []byte) []byte { return Message(kind, body[:len(body)/2]) },
		func(kind byte, body []byte) []byte { return Message(kind, body[:max(0, len(body)-1)]) },
		func(kind byte, _ []byte) []byte { return Message(kind, nil) },
		func(kind byte, body []byte) []byte { return claiming(kind, uint32(len(body)+1000), body) },
		func(kind byte, body []byte) []byte { return claiming(kind, 1<<30, body) },
		func(kind byte, body []byte) []byte { return claiming(kind, 0, body) },
		func(kind byte, body []byte) []byte { return claiming(kind, 1<<32-1, body) },
		func(kind byte, body []byte) []byte { return Message(kind, bytes.Repeat([]byte{0xff}, len(body))) },
		func(kind byte, body []byte) []byte { return Message(kind, bytes.Repeat([]byte{0}, len(body))) },
		func(kind byte, body []byte) []byte { return Message(kind, bytes.Repeat([]byte{'1'}, len(body))) },
		func(_ byte, body []byte) []byte { return Message('?', body) },
	}
}

// claiming is a message with a length of its head's own.
func claiming(kind byte, length uint32, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, length), body...)
}

// ofRows change how many there are of something: values of a row, fields or parameters of
// a description.
func ofRows() (all []func(kind byte, body []byte) []byte) {
	for _, row := range [][]byte{
		row(0, 0), row(1, 0), row(2, 0), row(1, -1), row(7, -1), row(7, 0), row(1, 1), row(4, 8), row(2000, -1),
	} {
		all = append(all, func(kind byte, body []byte) []byte {
			if kind != 'D' {
				return Message(kind, body)
			}
			return Message('D', row)
		})
	}
	for _, count := range []uint16{0, 1, 3, 0xffff} {
		all = append(all, func(kind byte, body []byte) []byte {
			if kind != 'T' && kind != 't' && kind != 'D' || len(body) < 2 {
				return Message(kind, body)
			}
			return Message(kind, append(binary.BigEndian.AppendUint16(nil, count), body[2:]...))
		})
	}
	return append(all, func(kind byte, body []byte) []byte { // a description in a row's place, and the other way round
		switch kind {
		case 'D':
			return Message('T', []byte("\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00"))
		case 'T':
			return slices.Concat(Message('n', nil), Message('D', row(3, 2)))
		}
		return Message(kind, body)
	})
}

// row is a DataRow's body of so many values, each with so many bytes.
func row(values, each int) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(values))
	for range values {
		body = binary.BigEndian.AppendUint32(body, uint32(int32(each)))
		body = append(body, bytes.Repeat([]byte{'9'}, max(0, each))...)
	}
	return body
}

// inItsPlace puts messages before or in the place of one that have no place there.
func inItsPlace() (all []func(kind byte, body []byte) []byte) {
	flood := make([]byte, 0, 1<<16)
	for i := range 1000 {
		flood = append(flood, Message('S', fmt.Appendf(nil, "parameter_%d\x00x\x00", i))...)
	}
	strange := [][]byte{
		Message('E', nil), Message('E', []byte{0}), Message('E', []byte("C\x00M\x00\x00")), Message('E', []byte("C42P01\x00\x00")), Message('E', []byte("Mx")),
		Message('N', nil), Message('N', []byte{0}), Message('N', []byte("Mx")), flood,
		Message('A', nil), Message('A', []byte("\x00\x00\x00\x01a\x00")), Message('A', []byte("\x00\x00\x00\x01a\x00b\x00")),
		Message('S', nil), Message('S', []byte("client_encoding\x00")), Message('S', []byte("server_version\x00\xff\x00")),
		Message('d', []byte("data")), Message('c', nil), Message('G', []byte{0, 0, 0}), Message('H', []byte{0, 0, 0}), Message('W', []byte{0, 0, 0}),
		Message('G', nil), Message('G', []byte{0, 0xff, 0xff}),
		Message('Z', []byte{'I'}), Message('Z', []byte{'T'}), Message('Z', []byte{'E'}), Message('Z', []byte{'?'}), Message('Z', nil),
		Message('C', nil), Message('C', []byte("INSERT 0 -1\x00")), Message('C', []byte("SELECT 99999999999999999999\x00")),
		Message('I', nil), Message('s', nil), Message('n', nil), Message('1', nil), Message('2', nil), Message('3', nil),
		Message('T', []byte{0, 0}), Message('t', []byte{0, 0}), Message('D', []byte{0, 0}), Message('D', row(9, 1)),
		Message('R', nil), Message('R', []byte{0, 0, 0, 0}), Message('R', []byte{0, 0, 0, 5}), Message('R', []byte{0, 0, 0, 10}),
		Message('R', []byte("\x00\x00\x00\x0bi=1")), Message('K', nil), Message('K', make([]byte, 300)), Message('v', nil), Message('V', nil),
	}
	for _, m := range strange {
		all = append(all,
			func(kind byte, body []byte) []byte { return slices.Concat(m, Message(kind, body)) },
			func(byte, []byte) []byte { return m })
	}
	return all
}
