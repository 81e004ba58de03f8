package durable

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
)

// The prefixes of logical messages, which a channel's name follows. The second
// is of those with headers: their length in four bytes, a JSON object, payload.
const (
	plainPrefix  = "pgbridge."
	headerPrefix = "pgbridge:"
)

// wanted reports whether a message may be an event.
func wanted(prefix []byte) bool {
	return len(prefix) > len(plainPrefix) && (string(prefix[:len(plainPrefix)]) == plainPrefix || string(prefix[:len(headerPrefix)]) == headerPrefix)
}

var errMalformed = errors.New("a message that pgbridge.notify did not write")

// decode takes an event apart. Any database user can write a message, so none
// is trusted to be what pgbridge.notify writes.
func decode(prefix string, content []byte) (header map[string]string, payload []byte, err error) {
	if strings.HasPrefix(prefix, plainPrefix) {
		return nil, content, nil
	}
	if len(content) < 4 {
		return nil, nil, errMalformed
	}
	size := uint64(binary.BigEndian.Uint32(content))
	if size > uint64(len(content)-4) {
		return nil, nil, errMalformed
	}
	head, payload := content[4:4+size], content[4+size:]
	if json.Unmarshal(head, &header) != nil {
		return nil, nil, errMalformed
	}
	for name, value := range header {
		if !validName(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, nil, errMalformed
		}
	}
	return header, payload, nil
}

// validName reports whether a writer may set the header.
func validName(name string) bool {
	lower := strings.ToLower(name)
	if name == "" || lower == "status" || lower == "description" || strings.HasPrefix(lower, "nats-") || strings.HasPrefix(lower, "pgbridge-") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
}
