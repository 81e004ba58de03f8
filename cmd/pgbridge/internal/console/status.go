package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/pgbridge/pgbridge/client/operate"
)

// Clear makes a terminal's screen empty.
const Clear = "\x1b[H\x1b[2J"

// JSON writes a value in one line.
func JSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Status writes what the replicas do, their problems, and their open transactions.
func Status(out io.Writer, replicas []operate.Replica, now time.Time) error {
	rows := [][]string{{"REPLICA", "STATE", "READY", "UP", "CHANNELS", "SCRIPTS", "QUEUED", "CONNECTIONS", "OPEN", "JOBS", "VERSION"}}
	for _, r := range replicas {
		rows = append(rows, replicaLine(r, now))
	}
	if err := Columns(out, rows); err != nil {
		return err
	}
	for _, r := range replicas {
		for _, p := range r.Problems {
			if _, err := fmt.Fprintf(out, "\n%s is not ready: %s\n", Printable(r.Replica), Printable(p)); err != nil {
				return err
			}
		}
	}
	return transactions(out, replicas, now)
}

func replicaLine(r operate.Replica, now time.Time) []string {
	ready := "yes"
	if len(r.Problems) > 0 {
		ready = "no"
	}
	var queued int64
	for _, n := range r.QueueBytes {
		queued += n
	}
	used, all := 0, 0
	for _, p := range r.Connections {
		used, all = used+p.Used, all+p.Used+p.Idle
	}
	return []string{
		r.Replica, r.State, ready, Span(now.Sub(r.StartedAt)), strconv.Itoa(r.Channels), strconv.Itoa(r.Scripts), Bytes(queued),
		fmt.Sprintf("%d of %d busy", used, all), strconv.Itoa(r.Open), strconv.Itoa(r.JobsRunning), r.Version,
	}
}

// transactions writes those of all replicas, with how many are not shown.
func transactions(out io.Writer, replicas []operate.Replica, now time.Time) error {
	rows := [][]string{{"TRANSACTION", "REPLICA", "STATE", "SCRIPT", "CALLER", "AGE", "ENDS IN", "PID"}}
	left := 0
	for _, r := range replicas {
		left += r.Open - len(r.Transactions)
		for _, t := range r.Transactions {
			state := t.State
			if t.Busy {
				state += ", busy"
			}
			rows = append(rows, []string{
				t.Key, r.Replica, state, cmp.Or(t.Script, "-"), cmp.Or(t.Caller, "-"),
				Span(now.Sub(t.BegunAt)), Span(t.ExpiresAt.Sub(now)), strconv.FormatUint(uint64(t.PID), 10),
			})
		}
	}
	if len(rows) == 1 {
		return nil
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	if err := Columns(out, rows); err != nil || left <= 0 {
		return err
	}
	_, err := fmt.Fprintf(out, "and %d younger ones\n", left)
	return err
}

// Span is a time that is read at a glance.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
