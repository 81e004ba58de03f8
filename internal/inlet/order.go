package inlet

import "fmt"

// order is what is known of the messages that have come.
type order struct {
	known      bool // the server has let us in
	describing bool // the parameters of a statement came, and not yet what it returns
	open       bool // rows have begun to come, and not ended
}

// next takes the kind of the next message. It refuses an end of the round trip in the
// middle of rows: pgconn would go on reading them, and panic at the next such end.
func (o *order) next(kind byte) error {
	switch kind {
	case 't':
		o.describing = true
	case 'n':
		o.describing = false
	case 'T':
		o.open, o.describing = !o.describing, false
	case 'D':
		o.open = true
	case 'C', 'E', 'I', 's':
		o.open = false
	case 'Z':
		if o.open {
			return fmt.Errorf("%w: rows that do not end", ErrForm)
		}
		o.known = true
	}
	return nil
}
