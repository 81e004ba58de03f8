package sequence

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Marker is a notification from one replica to all. PostgreSQL hands it to
// every listener at the same place in the order of notifications.
type Marker struct {
	replica string
	number  uint64 // counts this replica's markers from 1
	epoch   string
	// publishing says that the session that sent it held the lock.
	publishing bool
	// undecided says that it does, and has published nothing: it may leave that to another.
	undecided bool
	// done is the moment up to which the publishing replica's work is done:
	// what was committed before is published, or its gap is. Zero: unknown.
	done time.Time
	word word
	time time.Time // PostgreSQL's clock, before the marker was committed
}

// MarkerSQL sends a marker and reports how full PostgreSQL's queue is. The
// clock is read on the server, in the sending statement. The commit waits for no
// disk and no standby, also where the session happens to have written something (a
// row that was tidied up): a marker means nothing after a crash, and each NOTIFY of
// others waits until it is committed.
const MarkerSQL = `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2 || (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text), pg_notification_queue_usage()`

// Number counts the replica's markers from 1.
func (m Marker) Number() uint64 { return m.number }

// Head is the payload up to the time, which the server appends.
func (m Marker) Head() string {
	role := "standby"
	if m.publishing {
		role = "publishing"
	}
	if m.undecided {
		role = "undecided" // to a replica that does not know it a standby
	}
	return strings.Join([]string{m.replica + m.word.String(), strconv.FormatUint(m.number, 10), m.epoch, role, formatMicros(m.done), ""}, " ")
}

// parseMarker reads a marker's payload. Anybody may NOTIFY the channel, so what it
// says is a claim until the sequencer has proved who sent it.
func parseMarker(payload string) (Marker, error) {
	f := strings.Split(payload, " ")
	if len(f) != 6 || f[0] == "" || len(f[2]) != epochBytes*2 {
		return Marker{}, errors.New("not a marker")
	}
	_, err0 := hex.DecodeString(f[2]) // it becomes part of message ids
	number, err1 := strconv.ParseUint(f[1], 10, 64)
	done, err2 := parseMicros(f[4])
	at, err3 := parseMicros(f[5])
	m := Marker{number: number, epoch: f[2], publishing: f[3] == "publishing", undecided: f[3] == "undecided", done: done, time: at}
	var err4 error
	m.replica, m.word, err4 = parseWord(f[0])
	return m, errors.Join(err0, err1, err2, err3, err4)
}

func formatMicros(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.UnixMicro(), 10)
}

func parseMicros(text string) (time.Time, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	t := time.UnixMicro(n).UTC()
	if n < 0 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("time %d: JSON has no such year", n)
	}
	return t, nil
}

const epochBytes = 8

// RandomHex names an epoch or a replica.
func RandomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// MarkerChannel is the PostgreSQL channel on which replicas with this prefix
// send their markers.
func MarkerChannel(prefix string) string { return prefix + ".marker" }
