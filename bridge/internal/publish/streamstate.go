package publish

// streamState is what a StreamPublisher knows and may do.
type streamState uint8

const (
	idle       streamState = iota // without the lease, and the stream's end is not known
	following                     // without the lease
	searching                     // for the stream's end, with the lease
	publishing                    // with the lease, behind the stream's end
)

func (s streamState) String() string {
	return [...]string{"idle", "following", "searching", "publishing"}[s]
}

func (s streamState) leased() bool   { return s == searching || s == publishing }
func (s streamState) knowsEnd() bool { return s == following || s == publishing }

// streamOccasion is why the state changes.
type streamOccasion uint8

const (
	leaseBegan streamOccasion = iota
	leaseEnded
	endRead
	endUnknown // or other subjects are needed
)

func (o streamOccasion) String() string {
	return [...]string{"lease began", "lease ended", "end read", "end unknown"}[o]
}

// streamTransition is one arrow of the drawing in the package comment.
type streamTransition struct {
	from streamState
	on   streamOccasion
	to   streamState
}

// streamTransitions are all of them. What is not here changes nothing. A lease
// that begins makes the end unknown: another replica may have published.
func streamTransitions() [8]streamTransition {
	return [...]streamTransition{
		{idle, endRead, following},
		{idle, leaseBegan, searching},
		{following, endUnknown, idle},
		{following, leaseBegan, searching},
		{searching, endRead, publishing},
		{searching, leaseEnded, idle},
		{publishing, endUnknown, searching},
		{publishing, leaseEnded, following},
	}
}

func (s streamState) after(o streamOccasion) streamState {
	for _, t := range streamTransitions() {
		if t.from == s && t.on == o {
			return t.to
		}
	}
	return s
}
