package client

import (
	"context"
	"errors"
	"time"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api/describe"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// ScriptInfo is one script in the list of all.
type ScriptInfo struct {
	Name        string
	Kind        Kind
	Cursor      bool // it can be opened as one
	Description string
}

// Kind is what can be done with a script.
type Kind string

// The kinds of scripts.
const (
	KindRun     Kind = "run"
	KindCopyIn  Kind = "copy in"
	KindCopyOut Kind = "copy out"
)

// Description is all that pgbridge tells of a script. Columns are those of the
// last statement, nil where it returns no rows or PostgreSQL cannot tell before
// a run.
type Description struct {
	Info       ScriptInfo
	Parameters []Parameter
	Columns    []Column
	Settings   Settings
}

// Parameter is a script's parameter. It can have different types in different
// statements, and none where PostgreSQL cannot tell before a run.
type Parameter struct {
	Name  string
	Types []string
}

// Settings are those in the script's comments; zero and nil: it has none.
type Settings struct {
	Isolation            string
	ReadOnly, Deferrable *bool
	Timeout              time.Duration
	Retries              *int
	Role                 string
	Concurrency          int
	Buckets              []string
}

// mostListed is far more than a list of scripts has, in bytes.
const mostListed = 64 << 20

// Scripts lists all scripts, in the order of their names.
func (c *Client) Scripts(ctx context.Context) ([]ScriptInfo, error) {
	var all []ScriptInfo
	for after, bytes := "", 0; ; {
		m, err := c.exchange(ctx, request.Request{Subject: c.subject("describe"), Body: describe.Request{After: after}, Repeatable: true})
		if err != nil {
			return nil, err
		}
		var list describe.Reply
		if err := decode(m, &list); err != nil {
			return nil, err
		}
		for _, s := range list.Scripts {
			all = append(all, ScriptInfo{s.Name, Kind(s.Kind), s.Cursor, s.Description})
		}
		if list.Next == "" {
			return all, nil
		}
		if bytes += len(m.Data); list.Next <= after || bytes > mostListed { // or this would never end
			return nil, errors.New("the list of scripts does not go on, or does not end: something else than pgbridge has answered")
		}
		after = list.Next
	}
}

// Describe returns what is known of one script.
func (c *Client) Describe(ctx context.Context, name string) (*Description, error) {
	if name == "" {
		return nil, errNoScript
	}
	m, err := c.exchange(ctx, request.Request{Subject: c.subject("describe", name), Repeatable: true})
	if err != nil {
		return nil, err
	}
	var d describe.Description
	if err := decode(m, &d); err != nil {
		return nil, err
	}
	s := d.Settings
	described := &Description{
		Info:    ScriptInfo{d.Name, Kind(d.Kind), d.Cursor, d.Description},
		Columns: columns(d.Columns),
		Settings: Settings{
			s.Isolation, s.ReadOnly, s.Deferrable, time.Duration(s.TimeoutMS) * time.Millisecond,
			s.Retries, s.Role, s.Concurrency, s.Buckets,
		},
	}
	for _, p := range d.Parameters {
		described.Parameters = append(described.Parameters, Parameter(p))
	}
	return described, nil
}

// Notify notifies a channel, where pgbridge's configuration allows that, with a
// payload of at most 7,999 bytes of UTF-8. It returns when PostgreSQL has
// committed it.
func (c *Client) Notify(ctx context.Context, channel string, payload []byte) error {
	if payload == nil {
		payload = []byte{}
	}
	_, err := c.exchange(ctx, request.Request{Subject: c.plain("notify", subject.Token(channel)), Body: payload})
	return err
}
