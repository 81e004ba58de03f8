package sequence

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// As long as one replica after the other fails, and each has learned how far the
// publishing one is before the next one fails, JetStream has every event, once, in
// order, and no gap, whatever happens in between in whatever order. Most payloads are
// empty, so an event that is taken for another would be missing or come twice.
func TestOneListenerAtATimeFails(t *testing.T) {
	t.Parallel()
	for replicas := 2; replicas <= 3; replicas++ {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { failInTurn(t, replicas) })
		})
	}
}

func failInTurn(t *rapid.T, replicas int) {
	s := newSimulation(0)
	s.room = 1000
	s.launch(replicas)
	s.settle()
	gaps := s.gaps("stored")
	for _, seed := range rapid.SliceOfN(rapid.Uint64Range(1, 1<<60), 6, 6).Draw(t, "faults") {
		random := rand.New(rand.NewPCG(seed, 0))
		s.traffic(random, 20)
		s.fault(random, random.IntN(replicas))
		s.traffic(random, 60)
		s.settle()
		for _, r := range s.replicas {
			if !r.Whole() {
				t.Fatalf("replica %s, %s, is not whole though nothing fails", r.Replica, r.state)
			}
		}
	}
	s.finish(t)
	t.Log(strings.Join(s.log, "\n"))
	if n := s.gaps("stored"); n != gaps {
		t.Fatalf("%d gaps in the stream, though one replica listened at each moment", n-gaps)
	}
	s.judge(t, "stored")
	s.judge(t, "plain")
}

// traffic is what happens where nothing fails.
func (s *simulation) traffic(random *rand.Rand, steps int) {
	for range steps {
		r := s.replicas[random.IntN(len(s.replicas))]
		if r == s.frozen {
			continue
		}
		several := 1 + random.IntN(4)
		op := random.IntN(5)
		for range several {
			s.tick()
			switch op {
			case 0:
				s.write([]string{"plain", "stored", "extra"}[random.IntN(3)])
			case 1:
				s.deliver(r, false)
			case 2:
				s.publish(r, r.publishers[random.IntN(2)])
			case 3:
				s.control(r, false)
			case 4:
				s.listen(r)
			}
		}
	}
}

// fault is one of what a replica has to survive.
func (s *simulation) fault(random *rand.Rand, i int) {
	r := s.replicas[i]
	switch random.IntN(6) {
	case 0:
		s.crash(i)
	case 1:
		s.stop(i)
	case 2: // its listener's backend
		s.hangUp(r, random.IntN(len(r.conn.inbox)+1))
	case 3: // its control session's
		s.kill(r.session, random.IntN(2) == 0)
	case 4: // both
		s.kill(r.session, random.IntN(2) == 0)
		s.hangUp(r, random.IntN(len(r.conn.inbox)+1))
	case 5: // frozen: the others go on
		s.kill(r.session, false)
		s.frozen = r
		s.traffic(random, 100)
		s.frozen = nil
	}
}

// The last word of a replica is worth nothing any more to one whose connection broke
// behind it: another may have published since, in core NATS which nobody can read.
func TestLastWordIsForgottenWithTheConnection(t *testing.T) {
	t.Parallel()
	s, first, second := twoOf(t)
	word := first.Farewell()
	first.session.marker = &word
	s.finishMarker(first.session)
	s.kill(first.session, false)
	s.write("plain")
	for len(second.conn.inbox) > 0 {
		s.tick()
		s.deliver(second, true)
	}
	s.hangUp(second, 0)
	s.works(first, 300) // it has the lock once more
	s.write("plain")
	s.works(first, 300)
	if n := s.came("plain"); first.state != Publishing || n != 2 {
		t.Fatalf("a %s has published %d events, want 2", first.state, n)
	}
	gaps := s.gaps("plain")
	s.ends(first)
	s.works(second, 600)
	if second.state != Publishing || s.came("plain") != 2 || s.gaps("plain") != gaps+1 {
		t.Errorf("a %s has published %d events more and %d gaps; want none, and one gap", second.state, s.came("plain")-2, s.gaps("plain")-gaps)
	}
}
