package sequence

// claim is what a replica that does not publish knows of whether it could go on where the
// last one stopped that said how far it is, though another session has the lock by now.
type claim struct {
	// able: nobody can have published since in an epoch that is not known here.
	able bool
	// by is the session that says that it publishes and was not known to hold the lock; 0:
	// none since.
	by     int
	before bool // able was true before that, and it was no other session
}

// told takes how far the replica says it is that is known to publish.
func (c *claim) told(w word) {
	switch {
	case w.told:
		*c = claim{able: true}
	case w.mute:
		*c = claim{}
	}
}

// made takes the claim of a session that is not known to hold the lock.
func (c *claim) made(pid int) {
	if c.by == 0 {
		c.by, c.before = pid, c.able
	}
	c.before = c.before && c.by == pid
	c.able = false
}

// withdrawn says that the session which holds the lock has published nothing.
func (c *claim) withdrawn(pid int) {
	if c.by == pid && c.before {
		*c = claim{able: true}
	}
}
