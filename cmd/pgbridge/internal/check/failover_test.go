package check

import (
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
