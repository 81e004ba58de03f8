package session

// arrival is what a look at an idle connection shows.
type arrival uint8

const (
	arrivedNothing arrival = iota
	arrivedUnknown         // something, or there is no looking
	arrivedEnd             // it is closed
)
