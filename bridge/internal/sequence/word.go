package sequence

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
)

// word is how far a replica says that it has published. In a marker it follows the
// replica's id, where a replica that does not know of it takes it for a part of it.
type word struct {
	told   bool // the replica tells such things at all
	stream queue.Proof
	core   queue.Proof
	// settled: nothing was published by core NATS behind its proof, and nothing
	// will be.
	settled bool
	intent  intent
	mute    bool // the replica does not know of such things
}

// intent is what a replica may publish behind its marker. The zero value says nothing
// about it.
type intent struct {
	told bool
	// within is how long after the marker was sent what is received may be published;
	// zero: nothing behind the marker.
	within time.Duration
}

// String begins with a slash; a replica that publishes tells more.
func (w word) String() string {
	if !w.told {
		return "/"
	}
	created := int64(0)
	if !w.stream.Created.IsZero() {
		created = w.stream.Created.UnixNano()
	}
	return fmt.Sprintf("/%d,%d,%s,%s/%s,%s,%s", created, w.stream.Seq, w.stream.Position, w.stream.Open, w.core.Position, w.core.Open, w.ending())
}

var errWord = errors.New("not a marker: what it tells of the publishing replica is not understood")

// parseWord takes the first field of a marker apart.
func parseWord(field string) (replica string, w word, err error) {
	replica, rest, speaks := strings.Cut(field, "/")
	if rest == "" {
		return replica, word{mute: !speaks}, nil
	}
	stream, core, _ := strings.Cut(rest, "/")
	s, c := strings.Split(stream, ","), strings.Split(core, ",")
	if len(s) != 4 || len(c) != 3 {
		return replica, word{}, errWord
	}
	created, err1 := strconv.ParseInt(s[0], 10, 64)
	seq, err2 := strconv.ParseUint(s[1], 10, 64)
	w = word{told: true}
	w.settled, w.intent = parseEnding(c[2])
	w.stream = queue.Proof{Seq: seq, Position: s[2], Open: event.Open(s[3])}
	if created != 0 {
		w.stream.Created = time.Unix(0, created).UTC()
	}
	w.core = queue.Proof{Position: c[0], Open: event.Open(c[1])}
	return replica, w, errors.Join(err1, err2)
}

// ending tells how core NATS goes on: that it does not, in which time, in
// milliseconds, or that nobody knows. A replica that does not know of the time takes
// it for the last.
func (w word) ending() string {
	if w.settled || !w.intent.told {
		return strconv.FormatBool(w.settled)
	}
	return strconv.FormatInt(w.intent.within.Milliseconds(), 10)
}

func parseEnding(text string) (settled bool, i intent) {
	if settled = text == "true"; settled {
		return true, intent{told: true}
	}
	ms, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return false, intent{}
	}
	return false, intent{told: true, within: time.Duration(ms) * time.Millisecond}
}
