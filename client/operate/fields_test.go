package operate

import (
	"reflect"
	"testing"

	"github.com/pgbridge/pgbridge/internal/api/status"
)

// What replicas send has the same fields here, under the same names: this package has
// types of its own only so that its documentation shows them.
func TestFieldsAreTheWires(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[Replica](), reflect.TypeFor[status.Replica]()},
		{reflect.TypeFor[Connections](), reflect.TypeFor[status.Connections]()},
		{reflect.TypeFor[Transaction](), reflect.TypeFor[status.Transaction]()},
		{reflect.TypeFor[Channel](), reflect.TypeFor[status.Channel]()},
	} {
		here, wire := pair[0], pair[1]
		if here.NumField() != wire.NumField() {
			t.Errorf("%s has %d fields, on the wire there are %d", here, here.NumField(), wire.NumField())
		}
		for i := range wire.NumField() {
			sent := wire.Field(i)
			f, found := here.FieldByName(sent.Name)
			if !found || f.Tag != sent.Tag || f.Type.Kind() != sent.Type.Kind() {
				t.Errorf("%s has no %s as on the wire: %s", here, sent.Name, sent.Tag)
			}
		}
	}
}
