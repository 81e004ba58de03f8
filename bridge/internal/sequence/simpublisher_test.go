package sequence

import (
	"fmt"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
)

// This file is what the publishers of a simulation do, as those of package publish.

// publish is one step of a publisher: lock and lease are one here.
func (s *simulation) publish(r *simReplica, p *simPublisher) {
	may := r.Lease.Confirmed() && r.session != nil && s.holder == r.session
	if p.queue.Kept() {
		p.queue.Release(event.Apart(p.items))
		p.items = nil
		if may && p.queue.Over() > 0 {
			s.goOn(r, p)
		}
		return
	}
	if len(p.items) == 0 {
		p.items, p.generation = p.queue.Take()
	}
	switch {
	case !p.queue.Current(p.generation):
		p.queue.Release(event.Apart(p.items))
		p.items = nil
		return
	case len(p.items) == 0:
		s.prove(r, p)
		return
	case !may:
		return
	}
	it := p.items[0]
	if !p.queue.Intent.Allows(&it) {
		r.WantIntent()
		return
	}
	if it.Kind == event.KindGap && it.Route.Stored && s.now.UnixMilli()%5 > 1 {
		s.rowSent(r, p, &it)
		return
	}
	p.items = p.items[1:]
	switch it.Kind {
	case event.KindTakeover:
		gaps := it.Takeover.Found
		if it.Number == p.lost {
			gaps = it.Takeover.Lost
		}
		it.Kind = event.KindMarker
		p.ahead(append(append([]event.Item{}, gaps...), it)...)
		return
	case event.KindGap:
		s.gapSent(p, &it)
	case event.KindEvent:
		s.eventSent(r, p, &it)
	case event.KindMarker:
		p.after = it.Epoch.ID
		if it.Open == "" {
			p.queue.Pass(it.Epoch)
		}
	}
	p.queue.Release(it.Apart())
	p.queue.Expose(true)
	p.unproved = queue.Proof{Position: p.after, Created: simCreated, Seq: uint64(len(s.stream)), Open: it.Open, Number: max(it.Number, p.unproved.Number)}
	if s.now.UnixMilli()%3 > 0 { // else the acknowledgement comes later, or never
		s.prove(r, p)
	}
}

func (p *simPublisher) name(r *simReplica) string {
	if p.queue == r.Stream {
		return "the stream"
	}
	return "core"
}

func (s *simulation) prove(r *simReplica, p *simPublisher) {
	if p.unproved.Number > 0 && p.queue.Current(p.generation) {
		p.queue.Prove(p.unproved)
		p.queue.Expose(false)
		r.Relaxed(p.queue)
	}
}

// ahead has items published next.
func (p *simPublisher) ahead(items ...event.Item) {
	p.queue.Hold(event.Apart(items))
	p.items = append(items, p.items...)
}

// rowSent stores a row of a catch-up script in front of its gap, which comes another
// time, or never.
func (s *simulation) rowSent(r *simReplica, p *simPublisher, it *event.Item) {
	p.gaps++
	m := Stored{ID: event.RowID(it, uint64(p.gaps)), After: p.after, Open: it.Open.With(it.Route.Token, event.LossOf(it.Gap).Since)}
	s.stream = append(s.stream, m)
	s.log = append(s.log, fmt.Sprintf("%d %s publishes a row %+v", len(s.stream), r.Replica, m))
	p.queue.Expose(true)
	p.unproved.Position, p.unproved.Created, p.unproved.Seq, p.unproved.Open = p.after, simCreated, uint64(len(s.stream)), m.Open
	if s.now.UnixMilli()%3 > 0 {
		s.prove(r, p)
	}
}

func (s *simulation) gapSent(p *simPublisher, it *event.Item) {
	if !it.Sweep {
		panic(fmt.Sprintf("no script is run for the gap %s", it.Gap.Body()))
	}
	p.gaps++
	m := Stored{ID: it.Epoch.ID + "." + it.Route.Token + fmt.Sprint(".gap.", p.gaps), After: p.after, Open: it.Open}
	if it.N == event.AtMarker {
		m.After = it.Epoch.ID
	}
	s.sent[it.Route.Channel] = append(s.sent[it.Route.Channel], simSent{gap: it.Gap})
	if it.Route.Stored {
		s.stream = append(s.stream, m)
	}
	s.log = append(s.log, fmt.Sprintf("%d gap %s %+v", len(s.stream), it.Gap.Body(), m))
}

func (s *simulation) eventSent(r *simReplica, p *simPublisher, it *event.Item) {
	p.after = event.ID(it)
	s.sent[it.Route.Channel] = append(s.sent[it.Route.Channel], simSent{write: int(it.PID)})
	s.use(fmt.Sprint(it.Route.Channel, " ", it.PID), numberOf(it.Route.Channel, it.Epoch, it.N))
	if it.Route.Stored {
		s.stream = append(s.stream, Stored{ID: p.after, Open: it.Open})
	}
	s.log = append(s.log, fmt.Sprintf("%d %s publishes %s %d as %s, number %d", len(s.stream), r.Replica, it.Route.Channel, it.PID, p.after, it.Number))
}

// goOn goes on where the replica before stopped.
func (s *simulation) goOn(r *simReplica, p *simPublisher) {
	generation, over := p.queue.Generation(), p.queue.Over()
	at := r.PlaceInCore()
	if p.queue == r.Stream {
		at, _ = r.PlaceInStream(Stream{Created: simCreated, Seq: uint64(len(s.stream)), Message: func(seq uint64) (Stored, bool, error) {
			return s.stream[seq-1], true, nil
		}})
	}
	gaps := append(r.OpenGaps(p.queue, at.Open), at.Lost...)
	p.lost = 0
	if at.Number == 0 {
		at.Number, p.lost, gaps = over, over, nil
	}
	if !p.queue.Resume(generation, at.Number) {
		panic("the queue of a replica that publishes is another's")
	}
	p.after, p.generation = at.Position, generation
	s.log = append(s.log, fmt.Sprintf("%s goes on in %s at %+v, proven %+v, over %d, lost %d", r.Replica, p.name(r), at, p.queue.Proven(), over, p.lost))
	p.unproved = queue.Proof{Position: at.Position, Created: simCreated, Seq: uint64(len(s.stream)), Open: at.Open, Number: at.Number - 1}
	if p.lost != 0 {
		p.unproved = queue.Proof{} // before the gaps are sent, nothing is
	}
	p.ahead(gaps...)
}
