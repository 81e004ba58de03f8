package check

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestStandbysThatTheSlotDoesNotFollowTo(t *testing.T) {
	t.Parallel()
	good := standbySettings{recovering: true, sync: "on", feedback: "on", slot: "standby", conninfo: "host=primary dbname=app"}
	for want, change := range map[string]func(*standbySettings){
		"":                       func(*standbySettings) {},
		"no standby":             func(s *standbySettings) { s.recovering = false },
		"sync_replication_slots": func(s *standbySettings) { s.sync = "off" },
		"hot_standby_feedback":   func(s *standbySettings) { s.feedback = "off" },
		"primary_slot_name":      func(s *standbySettings) { s.slot = "" },
		"synchronized_standby":   func(s *standbySettings) { s.slot = "other" },
		"no dbname":              func(s *standbySettings) { s.conninfo = "host=primary user=dbname" },
	} {
		s := good
		change(&s)
		faults := s.faults(` "standby", second`)
		if want == "" && faults != nil || want != "" && !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("faults %q, want %q", faults, want)
		}
	}
	unseen := good
	unseen.conninfo = ""
	if faults := unseen.faults(""); faults != nil {
		t.Errorf("faults %q of what cannot be seen", faults)
	}
}

// A standby, or whoever sits on the link to it, is believed no more than a primary:
// memory is taken for what has come.
//
//nolint:paralleltest // it measures the process
func TestStandbyThatClaimsGigabytes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			_, _ = conn.Write([]byte("S\x3f\xff\xff\xff"))
			_, _ = io.CopyN(io.Discard, conn, 8)
			conn.Close()
		}
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var out bytes.Buffer
	postgresCheck{report: &report{out: &out}}.standby(t.Context(), "postgres://a:b@"+l.Addr().String()+"/x?sslmode=disable", "")
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 || !strings.Contains(out.String(), "FAIL") {
		t.Errorf("it took %d bytes and printed %s", took, &out)
	}
}
