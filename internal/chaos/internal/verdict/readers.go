package verdict

import (
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
)

// Stored is what a stream has had since the run began.
type Stored struct {
	IDs    map[uint64]string // by sequence
	known  map[string]bool   // the ids
	Purged uint64            // up to which sequence whoever is slow may miss messages
}

// Add notes what the stream has more.
func (s *Stored) Add(items []harvest.Item) {
	if s.IDs == nil {
		s.IDs, s.known = map[uint64]string{}, map[string]bool{}
	}
	for _, i := range items {
		s.IDs[i.Seq], s.known[i.ID] = i.ID, true
	}
}

// Read compares what a consumer was given with the stream: every message that must not
// be missing, none that the stream does not have, and, of an ordered one, each once and
// in order.
func Read(s *Stored, must []harvest.Item, r *harvest.Reader, given []harvest.Seen) (findings []Finding) {
	find := func(kind, format string, args ...any) {
		findings = append(findings, Finding{kind, r.Name + " " + fmt.Sprintf(format, args...), time.Now()})
	}
	before := uint64(0)
	for _, seen := range given {
		if id, there := s.IDs[seen.Seq]; !there || id != seen.ID {
			find("invented", "was given %s at %d, where the stream has %q", seen.ID, seen.Seq, id)
		}
		if r.Ordered && seen.Seq <= before {
			find("disorder", "was given %d behind %d", seen.Seq, before)
		}
		before = seen.Seq
	}
	for _, i := range must {
		if i.Seq > s.Purged && !r.Has(i.Seq) {
			find("unread", "was never given %s", i)
		}
	}
	return findings
}

// Heard compares what a subscriber of core subjects heard with the stream. NATS hands it
// a message whether the stream takes that or not, so the same may come again, and late;
// but what is stored came, unless the subscriber was away, and nothing else did. A gap
// that the stream refused may never be stored.
func Heard(s *Stored, must, heard []harvest.Item, away func(time.Time) bool) (findings []Finding) {
	came := map[string]bool{}
	for _, h := range heard {
		if came[h.ID] = true; h.Gap == nil && !s.known[h.ID] {
			findings = append(findings, Finding{"invented", fmt.Sprintf("a subscriber heard %s, which was never stored", h), h.At})
		}
	}
	for _, i := range must {
		if !came[i.ID] && !away(i.At) {
			findings = append(findings, Finding{"unheard", fmt.Sprintf("a subscriber never heard %s", i), i.At})
		}
	}
	return findings
}
