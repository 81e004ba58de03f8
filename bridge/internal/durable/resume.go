package durable

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
)

// ErrSplit says that the stream holds what this database never had, so that
// publishing might mix two histories.
var ErrSplit = errors.New("the stream is ahead of this database's history")

// known is what a session begins with.
type known struct {
	system    *wal.System
	confirmed wal.LSN // by the slot
	tail      tail    // of the stream
	row       *row    // nil: none
	channels  []string
	accept    bool // an operator says that this history is the one to go on with
}

// plan is where a session begins.
type plan struct {
	until   *position // skip up to this one; nil: nothing
	compare bool      // with what the stream has
	gaps    []gapFor  // to announce
	covers  position  // where the session begins
}

// gapFor is a gap in the making.
type gapFor struct {
	channel string
	reason  api.Reason
	since   time.Time // zero: unknown
	// after is the end of the log when the session began. The gap waits until
	// everything before is carried; zero: it does not.
	after wal.LSN
}

// resume decides where to go on. It does no I/O.
func resume(k known) (plan, error) {
	last, err := k.last()
	if err != nil {
		return plan{}, err
	}
	p := plan{covers: k.before(k.confirmed)}
	if last != nil {
		if err := k.place(*last, &p); err != nil {
			return plan{}, err
		}
	}
	p.gaps = k.gaps(p)
	return p, nil
}

// last is the later of the stream's last message and what the row has of the
// same stream; nil: neither.
func (k *known) last() (*position, error) {
	id, sequence := k.tail.id, k.tail.sequence
	if k.row != nil && !k.streamLost() && (id == "" || k.row.sequence > sequence) {
		id = k.row.id
	}
	if id == "" {
		return nil, nil
	}
	p, err := parseID(id)
	return &p, err
}

// streamLost reports whether the stream lost what it had acknowledged.
func (k *known) streamLost() bool {
	return k.row != nil && (k.row.created != k.tail.created || k.tail.last < k.row.sequence)
}

// before is the position just before an LSN, in this history.
func (k *known) before(l wal.LSN) position {
	l = max(l, 1) - 1
	return position{system: k.system.ID, timeline: k.system.Owner(l), commit: l, message: l}
}

// place finds out how the last position lies to the slot's.
func (k *known) place(last position, p *plan) error {
	s := k.system
	switch {
	case last.system != s.ID:
		if !k.accept {
			return fmt.Errorf("the stream's last message is from the cluster %s, this is %s: %w", last.system, s.ID, ErrSplit)
		}
		p.compare = true
	case !s.Knows(last.timeline) && last.timeline > s.Timeline && !k.accept:
		return fmt.Errorf("the stream's last message is from timeline %d, this server is on %d: %w", last.timeline, s.Timeline, ErrSplit)
	case s.Owner(last.commit) != last.timeline:
		p.compare = true // the promoted server did not have it
	case last.commit < k.confirmed:
		// All of it was confirmed, so the slot gives what comes after.
	case last.commit >= s.Flushed:
		if !k.accept {
			return fmt.Errorf("the stream's last message was committed at %s, this server has written up to %s: %w", last.commit, s.Flushed, ErrSplit)
		}
		p.compare = true
	default:
		p.until, p.covers = &last, last
	}
	return nil
}

// gaps says what must be announced, one gap at most for each channel. That of a
// channel which the row does not know waits: see [publisher].
func (k *known) gaps(p plan) []gapFor {
	var gaps []gapFor
	for _, channel := range k.channels {
		g := gapFor{channel: channel}
		if k.row == nil || !slices.Contains(k.row.channels, channel) {
			g.reason, g.after = api.ReasonStarted, k.system.Flushed
		} else {
			g.since = k.row.committed
			if g.reason = k.row.owed[channel]; g.reason == "" && k.streamLost() && p.until == nil {
				g.reason = api.ReasonNATSUnavailable
			}
			if g.reason == api.ReasonStarted {
				g.since, g.after = time.Time{}, k.row.begins(channel, k.system)
			}
		}
		if g.reason != "" {
			gaps = append(gaps, g)
		}
	}
	return gaps
}
