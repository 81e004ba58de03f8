package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/subject"
)

var errCopyID = errors.New("the id of a copy is 1 to 128 letters, digits, _ and -")

// WatchCopy has see called about once a second, one call at a time, with how many bytes the
// copy of this id ([CopyOptions.ID]) has moved, and how many there will be, -1 where nobody
// knows. That is a copy of this client's caller or, where it has none, any copy and job
// without one. It is called before the copy is asked for, and is for copies that this
// program does not move itself, from and to objects. What NATS does not let this user hear
// is not told; the connection's error handler is.
//
// stop ends it. A call that is under way just then goes on.
func (c *Client) WatchCopy(id string, see func(bytes, total int64)) (stop func(), err error) {
	if !copyID(id) {
		return nil, errCopyID
	}
	caller := ""
	if c.options.Caller != "" {
		caller = subject.Token(c.options.Caller)
	}
	told := c.plain("progress", caller, id)
	sub, err := c.nc.Subscribe(told, func(m *nats.Msg) {
		var p api.Progress
		if json.Unmarshal(m.Data, &p) != nil || p.ID != id { // anybody may publish there
			return
		}
		if p.TotalBytes == nil {
			see(p.Bytes, -1)
			return
		}
		see(p.Bytes, *p.TotalBytes)
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", told, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // it ends with the connection, or now
}

func copyID(id string) bool {
	other := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-')
	}
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, other)
}
