package durable

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

// position is where an event lies in the history of a database, and the id of
// its message. A gap has that of the last event it covers.
type position struct {
	system   string // of the cluster
	timeline uint32 // on which the commit was written
	commit   wal.LSN
	message  wal.LSN
	hash     string // of the event; of a gap, one that no event has
}

// gapMark begins the hash of a gap. No hexadecimal number holds it.
const gapMark = "gap"

func hashOf(prefix string, content []byte) string {
	d := xxhash.New()
	_, _ = d.WriteString(prefix) // a hash never fails
	_, _ = d.Write([]byte{0})
	_, _ = d.Write(content)
	return hex16(d.Sum64())
}

func gapHash(channel string) string { return gapMark + hex16(xxhash.Sum64String(channel))[:13] }

func hex16(v uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[v>>(60-4*i)&15]
	}
	return string(b[:])
}

// id is <system id>.<timeline>.<commit LSN>.<message LSN>.<hash>.
func (p position) id() string {
	b := make([]byte, 0, 96)
	b = append(append(b, p.system...), '.')
	b = append(strconv.AppendUint(b, uint64(p.timeline), 10), '.')
	b = append(append(b, hex16(uint64(p.commit))...), '.')
	b = append(append(b, hex16(uint64(p.message))...), '.')
	return string(append(b, p.hash...))
}

// parseID reads what id writes.
func parseID(id string) (position, error) {
	parts := strings.Split(id, ".")
	if len(parts) != 5 || parts[0] == "" || parts[4] == "" {
		return position{}, fmt.Errorf("%.100q is not the id of a durable event", id)
	}
	timeline, err1 := strconv.ParseUint(parts[1], 10, 32)
	commit, err2 := strconv.ParseUint(parts[2], 16, 64)
	message, err3 := strconv.ParseUint(parts[3], 16, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return position{}, fmt.Errorf("%.100q is not the id of a durable event", id)
	}
	return position{system: parts[0], timeline: uint32(timeline), commit: wal.LSN(commit), message: wal.LSN(message), hash: parts[4]}, nil
}

func (p position) gap() bool { return strings.HasPrefix(p.hash, gapMark) }

// covers reports whether q is the event at this position, or the one that the
// gap at this position covers last.
func (p position) covers(q position) bool {
	return p.system == q.system && p.timeline == q.timeline && p.commit == q.commit && p.message == q.message && (p.hash == q.hash || p.gap())
}
