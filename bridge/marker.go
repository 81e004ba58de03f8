package bridge

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// marker is a notification from one replica to all. PostgreSQL hands it to
// every listener at the same place in the order of notifications.
type marker struct {
	replica string
	number  uint64 // counts this replica's markers from 1
	epoch   string
	// publishing says that the session that sent it held the lock.
	publishing bool
	// done is the moment up to which the publishing replica's work is done:
	// what was committed before is published, or its gap is. Zero: unknown.
	done time.Time
	time time.Time // PostgreSQL's clock, before the marker was committed
}

// markerSQL sends a marker and reports how full PostgreSQL's queue is. The
// clock is read on the server, in the sending statement.
const markerSQL = `SELECT pg_notify($1, $2 || (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text), pg_notification_queue_usage()`

// head is the payload up to the time, which the server appends.
func (m marker) head() string {
	role := "standby"
	if m.publishing {
		role = "publishing"
	}
	return strings.Join([]string{m.replica, strconv.FormatUint(m.number, 10), m.epoch, role, formatMicros(m.done), ""}, " ")
}

// parseMarker reads a marker's payload. Anybody may NOTIFY the channel, so it
// trusts nothing, and the sequencer believes little: a forged marker can begin
// an epoch, make the publishing replica give up what it has queued and take
// over from itself with a gap, and make a standby believe that everything up
// to now is published, so that the gap of its takeover begins too late.
func parseMarker(payload string) (marker, error) {
	f := strings.Split(payload, " ")
	if len(f) != 6 || f[0] == "" || len(f[2]) != epochBytes*2 {
		return marker{}, errors.New("not a marker")
	}
	_, err0 := hex.DecodeString(f[2]) // it becomes part of message ids
	number, err1 := strconv.ParseUint(f[1], 10, 64)
	done, err2 := parseMicros(f[4])
	at, err3 := parseMicros(f[5])
	m := marker{replica: f[0], number: number, epoch: f[2], publishing: f[3] == "publishing", done: done, time: at}
	return m, errors.Join(err0, err1, err2, err3)
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

// randomHex names an epoch or a replica.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// epoch is the stretch of notifications after one marker. Within it the events
// of each channel are numbered from 1, on every replica alike.
type epoch struct {
	id    string
	time  time.Time // carried by the marker: the epoch's events were committed after it
	clock clock
}
