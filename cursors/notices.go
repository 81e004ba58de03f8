package cursors

import (
	"slices"

	"github.com/pgbridge/pgbridge/internal/execution"
)

// maxUntold bounds what waits to be told; the rest is dropped.
const maxUntold = 64 << 10

// untold are notices of PostgreSQL's, JSON objects, that no reply has carried
// yet: one that is full leaves them to the next.
type untold struct {
	objects [][]byte
	bytes   int
}

// hear takes what PostgreSQL has said in a turn.
func (u *untold) hear(w *execution.Execution) {
	for _, object := range w.Session().Notices.All() {
		if u.bytes += len(object); u.bytes > maxUntold {
			return
		}
		u.objects = append(u.objects, slices.Clone(object))
	}
}

// tell adds to the body of a reply, a JSON object, what fits of it.
func (u *untold) tell(body []byte, limit int) []byte {
	const field = `"notices":[`
	begun := false
	for len(u.objects) > 0 && len(body)+len(","+field)+len(u.objects[0])+len("]") <= limit {
		body = body[:len(body)-1] // the brace
		switch {
		case begun:
			body[len(body)-1] = ',' // in the place of the bracket
		case body[len(body)-1] == '{':
			body = append(body, field...)
		default:
			body = append(append(body, ','), field...)
		}
		body = append(append(body, u.objects[0]...), "]}"...)
		begun = true
		u.bytes -= len(u.objects[0])
		u.objects = u.objects[1:]
	}
	if len(u.objects) == 0 {
		*u = untold{}
	}
	return body
}
