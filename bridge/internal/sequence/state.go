package sequence

// State is what a replica is with regard to publishing.
type State uint8

const (
	// Standby counts only: another replica publishes, or none does yet.
	Standby State = iota
	// Candidate counts only; it holds the lock and waits for its own marker.
	Candidate
	// Publishing queues events, which its publishers may publish.
	Publishing
	// Orphan queues events, but has lost the lock.
	Orphan
	// Returning queues events; it has the lock again, or still, and waits for its
	// own marker.
	Returning
)

func (s State) String() string {
	return [...]string{"standby", "candidate", "publishing", "orphan", "returning"}[s]
}

// queues reports whether events are queued, so that losses have to be announced.
func (s State) queues() bool { return s == Publishing || s == Orphan || s == Returning }

// awaitsMarker reports whether nothing is published until the listener has read
// this replica's own marker.
func (s State) awaitsMarker() bool { return s == Candidate || s == Returning }

// occasion is why a state changes.
type occasion uint8

const (
	lockTaken     occasion = iota // by this replica's control session
	lockLost                      // or perhaps lost
	ownMarkerBack                 // sent from the session that took the lock
	superseded                    // another replica publishes, or may have published unseen
	contradicted                  // by a marker that says that another replica publishes
)

func (o occasion) String() string {
	return [...]string{"lock taken", "lock lost", "own marker back", "superseded", "contradicted"}[o]
}

// transition is one arrow of the drawing in the package comment.
type transition struct {
	from State
	on   occasion
	to   State
}

// transitions are all of them. What is not here changes nothing.
func transitions() []transition {
	return []transition{
		{Standby, lockTaken, Candidate},
		{Candidate, lockLost, Standby},
		{Candidate, ownMarkerBack, Publishing},
		{Publishing, lockLost, Orphan},
		{Publishing, lockTaken, Returning},
		{Publishing, superseded, Candidate},
		{Publishing, contradicted, Returning},
		{Orphan, lockTaken, Returning},
		{Orphan, superseded, Standby},
		{Returning, ownMarkerBack, Publishing},
		{Returning, lockLost, Orphan},
		{Returning, superseded, Candidate},
	}
}

func (s State) after(o occasion) State {
	for _, t := range transitions() {
		if t.from == s && t.on == o {
			return t.to
		}
	}
	return s
}

// sight is what the present connection has delivered so far.
type sight uint8

const (
	blind   sight = iota // no marker
	sighted              // a marker
	// proved: a marker of the session that has the lock. Whatever another
	// replica published since is told by a marker on this connection.
	proved
)
