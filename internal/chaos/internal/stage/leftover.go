package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// connectionName is that of this program's own connections to NATS.
const connectionName = "chaos"

// leftoverLimit is how long PostgreSQL and NATS may take to notice that a replica has
// ended.
const leftoverLimit = 30 * time.Second

// Leftovers stops the replicas and returns what is there of them then: sessions,
// locks, prepared transactions, slots in use and connections to NATS, with their
// subscriptions.
func (s *Stage) Leftovers(ctx context.Context) ([]string, error) {
	for _, r := range s.Replicas {
		if err := r.Stop(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, leftoverLimit)
	defer cancel()
	for {
		left, err := s.left(ctx)
		if err != nil || len(left) == 0 || !wait.Within(ctx, 500*time.Millisecond) {
			return left, err
		}
	}
}

const leftSQL = `SELECT coalesce(string_agg(what, '; '), '') FROM (
	SELECT 'session of ' || application_name || ': ' || left(query, 60) AS what FROM pg_stat_activity WHERE application_name LIKE 'chaos-%'
	UNION ALL SELECT 'advisory lock ' || classid || ' ' || objid FROM pg_locks WHERE locktype = 'advisory'
	UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE gid NOT LIKE 'chaos%'
	UNION ALL SELECT 'slot ' || slot_name || ' in use' FROM pg_replication_slots WHERE active AND slot_type = 'logical'
	UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_type = 'logical' AND slot_name NOT LIKE 'chaos%' AND slot_name NOT LIKE 'pgbridge%') AS leftovers`

func (s *Stage) left(ctx context.Context) ([]string, error) {
	var text string
	if err := s.Query(ctx, leftSQL, &text); err != nil {
		return nil, fmt.Errorf("look for what is left over: %w", err)
	}
	var left []string
	if text != "" {
		left = append(left, text)
	}
	for _, port := range s.monitors {
		var answer struct {
			Connections []struct {
				Name          string `json:"name"`
				Subscriptions int    `json:"subscriptions"`
			} `json:"connections"`
		}
		if _, err := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/connz", port), func(resp *http.Response) error {
			return json.NewDecoder(resp.Body).Decode(&answer)
		}); err != nil {
			return nil, fmt.Errorf("look for what is left over at NATS: %w", err)
		}
		for _, c := range answer.Connections {
			if c.Name != connectionName {
				left = append(left, fmt.Sprintf("connection %q to NATS with %d subscriptions", c.Name, c.Subscriptions))
			}
		}
	}
	return left, nil
}

// Vitals are what a process of a replica holds.
type Vitals struct {
	Goroutines int
	Bytes      int64 // resident
}

// Vitals asks a replica for its own.
func (r *Replica) Vitals(ctx context.Context) (v Vitals, err error) {
	_, err = r.get(ctx, "/metrics", func(resp *http.Response) error {
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), " ")
			var number float64
			if _, err := fmt.Sscan(value, &number); err != nil {
				continue // a comment
			}
			switch name {
			case "go_goroutines":
				v.Goroutines = int(number)
			case "process_resident_memory_bytes":
				v.Bytes = int64(number)
			}
		}
		return lines.Err()
	})
	if err == nil && v.Goroutines == 0 {
		err = fmt.Errorf("replica %s does not tell how many goroutines it has", r.Name)
	}
	return v, err
}
