package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

// Reply is what a run has returned, one result for each statement.
type Reply struct {
	Results  []Result
	Notices  []Notice
	Attempts int  // how often it was tried: more than once after a serialization failure
	Replayed bool // it was done before, and this is the reply of then
	Body     []byte
}

// Result is what one statement has returned. Columns is nil where it returns no
// rows.
type Result struct {
	Command      string // PostgreSQL's command tag, such as UPDATE 1
	RowsAffected int64
	Columns      []Column
	Rows         []Row
}

// Column is a column's name and PostgreSQL's name of its type. NotNull is for
// [Client.Describe] alone: there PostgreSQL's catalog says that it is never NULL.
type Column struct {
	Name, Type string
	NotNull    bool
}

// Notice is what PostgreSQL said besides.
type Notice struct{ Severity, SQLState, Message, Detail, Hint string }

// Row holds a row's values as JSON; NULL is null.
type Row []json.RawMessage

// Scan reads the row into as many pointers as it has columns, as json.Unmarshal
// does; a nil one is passed over.
func (r Row) Scan(into ...any) error {
	if len(into) != len(r) {
		return fmt.Errorf("a row of %d columns does not go into %d variables", len(r), len(into))
	}
	for i, target := range into {
		if target == nil {
			continue
		}
		if err := json.Unmarshal(r[i], target); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// Run runs a script in a transaction of its own. It is sent again by itself
// where that is safe; with a MessageID also after [ErrOutcomeUnknown].
func (c *Client) Run(ctx context.Context, s Script) (*Reply, error) {
	return c.run(ctx, s, request.Request{Subject: c.subject("run", s.Name), ID: s.MessageID})
}

func (c *Client) run(ctx context.Context, s Script, a request.Request) (*Reply, error) {
	body, err := s.runRequest()
	if err != nil {
		return nil, err
	}
	a.Body, a.Limit = body, s.limit()
	m, err := c.exchange(ctx, a)
	if err != nil {
		return nil, err
	}
	return readReply(m)
}

func (s Script) runRequest() (api.RunRequest, error) {
	params, err := s.params()
	return api.RunRequest{SQL: s.SQL, Params: params, TimeoutMS: millis(s.Timeout), BigNumbers: s.bigNumbers()}, err
}

// ReadReply reads a reply or a job's result for those who subscribe them themselves.
// One that is an error is an [*Error].
func ReadReply(m *nats.Msg) (*Reply, error) {
	if err := ErrorIn(m); err != nil {
		return nil, err
	}
	return readReply(m)
}

func readReply(m *nats.Msg) (*Reply, error) {
	var wire api.RunReply
	if err := decode(m, &wire); err != nil {
		return nil, err
	}
	return &Reply{
		Results: results(wire.Results), Notices: notices(wire.Notices), Attempts: wire.Attempts,
		Replayed: m.Header.Get(api.HeaderReplayed) != "", Body: m.Data,
	}, nil
}

func results(wire []api.Result) []Result {
	all := make([]Result, len(wire))
	for i, r := range wire {
		all[i] = Result{r.Command, r.RowsAffected, columns(r.Columns), rows(r.Rows)}
	}
	return all
}

// columns keeps nil: a result without columns is not one without rows.
func columns(wire []api.Column) []Column {
	if wire == nil {
		return nil
	}
	all := make([]Column, len(wire))
	for i, c := range wire {
		all[i] = Column(c)
	}
	return all
}

func rows(wire [][]json.RawMessage) []Row {
	all := make([]Row, len(wire))
	for i, r := range wire {
		all[i] = r
	}
	return all
}

func notices(wire []api.Notice) []Notice {
	all := make([]Notice, len(wire))
	for i, n := range wire {
		all[i] = Notice(n)
	}
	return all
}
