package execution

import (
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/service"
)

// known counts what is known of a call's statements. Each has parameters of its own,
// and a request's own SQL any number of statements.
type known struct {
	hold  *budget.Hold // but for the first chargeStep bytes
	bytes int
}

// fieldCost is about what is known of a column.
const fieldCost = 256

// add counts a statement with so many columns, and the values of its parameters.
func (k *known) add(columns int, values [][]byte) error {
	k.bytes += columns * fieldCost
	for _, v := range values {
		k.bytes += len(v)
	}
	if k.bytes-k.hold.Bytes() <= chargeStep {
		return nil
	}
	if err := k.hold.Set(k.bytes); err != nil {
		return service.AsError(err)
	}
	return nil
}

// clear gives the memory back.
func (k *known) clear() {
	k.hold.Close()
	k.bytes = 0
}
