package event

import (
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Position is a place in the order of notifications: behind an event, or, where
// Token is empty, behind the marker that began an epoch.
type Position struct {
	epoch string
	Token string // of the event's channel
	n     uint64
	hash  uint64
}

// ParsePosition reads an event's id, or an epoch's. False means that it is neither,
// as the id of a gap.
func ParsePosition(text string) (p Position, ok bool) {
	f := strings.Split(text, ".")
	switch {
	case text == "":
		return p, false
	case len(f) == 1:
		return Position{epoch: text}, true
	case len(f) != 4 || f[1] == "":
		return p, false
	}
	p = Position{epoch: f[0], Token: f[1]}
	var err1, err2 error
	p.n, err1 = strconv.ParseUint(f[2], 10, 64)
	p.hash, err2 = strconv.ParseUint(f[3], 16, 64)
	return p, err1 == nil && err2 == nil
}

// Is reports whether this item is the one that the position is behind.
func (p *Position) Is(it *Item) bool {
	switch {
	case it.Epoch == nil || it.Epoch.ID != p.epoch:
		return false
	case it.Kind == KindMarker:
		return p.Token == ""
	case it.Kind == KindEvent:
		return it.N == p.n && it.Route.Token == p.Token && xxhash.Sum64String(it.Payload) == p.hash
	}
	return false
}
