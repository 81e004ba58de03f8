package api

import "encoding/json"

// RunRequest runs a script or SQL.
type RunRequest struct {
	SQL        string                     `json:"sql,omitempty"` // instead of a script
	Params     map[string]json.RawMessage `json:"params,omitempty"`
	TimeoutMS  int64                      `json:"timeout_ms,omitempty"`
	Rows       string                     `json:"rows,omitempty"`        // array or object
	BigNumbers string                     `json:"big_numbers,omitempty"` // number or string
}

// RunReply holds one result for each statement.
type RunReply struct {
	Results  []Result `json:"results"`
	Notices  []Notice `json:"notices,omitempty"`
	Attempts int      `json:"attempts"`
}

// Result is the result of one statement. Columns are nil where it returns no
// rows.
type Result struct {
	Command      string              `json:"command"`
	RowsAffected int64               `json:"rows_affected"`
	Columns      []Column            `json:"columns,omitempty"`
	Rows         [][]json.RawMessage `json:"rows,omitempty"`
}

// Column is one column of a result; the type's name is PostgreSQL's.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// NotNull says, in a description alone, that the catalog forbids NULL.
	NotNull bool `json:"not_null,omitempty"`
}

// Notice is what PostgreSQL reported besides the result.
type Notice struct {
	Severity string `json:"severity"`
	SQLState string `json:"sqlstate,omitempty"`
	Message  string `json:"message"`
	Detail   string `json:"detail,omitempty"`
	Hint     string `json:"hint,omitempty"`
}
