package inlet

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrForm is the kind of error that ends a connection whose server breaks the protocol,
// or sends more than it has to say.
var ErrForm = errors.New("the server breaks the protocol")

// headerBytes has a message's type and length.
const headerBytes = 5

const (
	// greetingBytes is how long a message may be before the server has let us in: it is
	// about passwords, parameters or an error.
	greetingBytes = 64 << 10
	// rowBytes is how long a row may be for which no budget is asked: our own
	// statements have none that come near.
	rowBytes = 16 << 20
	// largestMessage is PostgreSQL's own bound, and a row's that a budget decides about.
	largestMessage = 1 << 30
	// otherBytes is how long messages without data may be. The longest are a
	// description of 1,664 columns and one of 65,535 parameters.
	otherBytes = 1 << 20

	parameterBytes = 8 << 10 // of one that the server tells
	maxParameters  = 64      // with different names; PostgreSQL has about 15
)

// outOfBounds says why a message is longer than its kind can be, counted as its header
// does, or shorter than any; nil means that it is not. known says that the server has let
// us in, budgeted that rows are asked for elsewhere.
func outOfBounds(kind byte, size int, known, budgeted bool) error {
	most := otherBytes
	switch {
	case !known:
		most = greetingBytes
	case kind == 'E' || kind == 'N' || kind == 'S': // not kept
		most = largestMessage
	case (kind == 'D' || kind == 'd') && budgeted:
		most = largestMessage
	case kind == 'D' || kind == 'd':
		most = rowBytes
	}
	if size < 4 || size > most+4 {
		return fmt.Errorf("%w: a message of kind %q that has %d bytes", ErrForm, kind, size)
	}
	return nil
}

// parameters are the names of what a server tells of itself. A driver keeps what it is
// told by its name.
type parameters map[string]struct{}

// admit reports whether a ParameterStatus with such a body is to be told: its name is
// known, or there is room for one more.
func (p *parameters) admit(body []byte) bool {
	name, _, whole := bytes.Cut(body, []byte{0})
	if _, known := (*p)[string(name)]; known || !whole {
		return true // the driver sees what is wrong with it
	}
	if len(*p) >= maxParameters {
		return false
	}
	if *p == nil {
		*p = make(parameters)
	}
	(*p)[string(name)] = struct{}{}
	return true
}
