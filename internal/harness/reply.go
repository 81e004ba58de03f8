package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Reply is a message as a client reads it. The fields with tags are there where
// the body is an object that has them.
type Reply struct {
	Header  nats.Header
	Subject string // where to acknowledge it; empty: nowhere
	Body    string

	Results   []Result            `json:"results"`
	Notices   []map[string]string `json:"notices"`
	Attempts  int                 `json:"attempts"`
	Tx        string              `json:"tx"`
	Idle      int64               `json:"idle_timeout_ms"`
	ExpiresAt time.Time           `json:"expires_at"`
	Cursor    string              `json:"cursor"`
	Columns   []map[string]string `json:"columns"`
	Rows      Rows                `json:"rows"`
	Done      bool                `json:"done"`
	Moved     int64               `json:"moved"`
	Cursors   []struct {
		Cursor  string              `json:"cursor"`
		Columns []map[string]string `json:"columns"`
	} `json:"cursors"`
	Error *Failure `json:"error"`
}

// Result is that of one statement of a script.
type Result struct {
	Command      string              `json:"command"`
	RowsAffected int64               `json:"rows_affected"`
	Columns      []map[string]string `json:"columns"`
	Rows         json.RawMessage     `json:"rows"`
}

// Rows are those of a page. In the reply to a copy the field is a number, see
// [Reply.Text].
type Rows []json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (r *Rows) UnmarshalJSON(data []byte) error {
	if data[0] != '[' {
		return nil
	}
	return json.Unmarshal(data, (*[]json.RawMessage)(r))
}

// String is all rows one after the other.
func (r Rows) String() string {
	var all strings.Builder
	for _, row := range r {
		all.Write(row)
	}
	return all.String()
}

// Failure is an error as a client reads it.
type Failure struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	Hint       string `json:"hint"`
	Retryable  bool   `json:"retryable"`
	Statement  int    `json:"statement"`
	SQLState   string `json:"sqlstate"`
	Position   int    `json:"position"`
	Line       int    `json:"line"`
	Row        int64  `json:"row"`
	Detail     string `json:"detail"`
	Where      string `json:"where"`
	Constraint string `json:"constraint"`
}

// Read reads a message. One that has a reply subject is a chunk, and not JSON.
func Read(m *nats.Msg) (Reply, error) {
	r := Reply{Header: m.Header, Subject: m.Reply, Body: string(m.Data)}
	if m.Reply != "" || len(m.Data) == 0 {
		return r, nil
	}
	var kind *json.UnmarshalTypeError
	err := json.Unmarshal(m.Data, &r)
	if errors.As(err, &kind) && kind.Field == "cursor" { // a script's description has a boolean there
		err = nil
	}
	if err != nil {
		return Reply{}, fmt.Errorf("reply %.200q: %w", m.Data, err)
	}
	if (r.Error != nil) != (m.Header.Get("Nats-Service-Error-Code") != "") {
		return Reply{}, fmt.Errorf("headers %v with the body %.200s", m.Header, m.Data)
	}
	return r, nil
}

// State is the transaction's, as the header has it.
func (r Reply) State() string { return r.Header.Get("Pgbridge-Transaction") }

// Text is a field of the body: a string, or a value as fmt prints it.
func (r Reply) Text(field string) string {
	var fields map[string]any
	_ = json.Unmarshal([]byte(r.Body), &fields) // no field then
	if s, ok := fields[field].(string); ok {
		return s
	}
	return fmt.Sprint(fields[field])
}

// LastRows are the rows of the last result, in JSON.
func (r Reply) LastRows() string { return string(r.Results[len(r.Results)-1].Rows) }

// Wants ends the test unless the reply is an error with this code.
func (r Reply) Wants(t testing.TB, code string) Reply {
	t.Helper()
	if r.Error == nil || r.Error.Code != code {
		t.Fatalf("reply %.300q %v, want the error %s", r.Body, r.Header, code)
	}
	return r
}

// Good ends the test if the reply is an error.
func (r Reply) Good(t testing.TB) Reply {
	t.Helper()
	if r.Error != nil {
		t.Fatalf("reply %+v", *r.Error)
	}
	return r
}
