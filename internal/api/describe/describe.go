// Package describe holds the words of the wire that tell of scripts: which there are,
// and what parameters, columns and settings each has. Server and client both read and
// write them, as they do those of package api.
package describe

import "github.com/pgbridge/pgbridge/internal/api"

// Request asks for the scripts that come after one.
type Request struct {
	After string `json:"after,omitempty"`
}

// Reply lists scripts. Where there are more, Next is what to ask after.
type Reply struct {
	Scripts []Script `json:"scripts"`
	Next    string   `json:"next,omitempty"`
}

// Script is one script in a list; Kind is run, copy in or copy out.
type Script struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Cursor      bool   `json:"cursor,omitempty"` // it can be opened as one
	Description string `json:"description,omitempty"`
}

// Description is all that is known of one script.
type Description struct {
	Name        string       `json:"name"`
	Kind        string       `json:"kind"`
	Cursor      bool         `json:"cursor,omitempty"`
	Description string       `json:"description,omitempty"`
	Settings    Settings     `json:"settings"`
	Parameters  []Parameter  `json:"parameters"`
	Columns     []api.Column `json:"columns,omitzero"` // of the last statement; nil: it has none, or nobody knows
}

// Parameter is a script's parameter with each type that it has; they can differ
// between the statements, and there are none where a run has to tell.
type Parameter struct {
	Name  string   `json:"name"`
	Types []string `json:"types"`
}

// Settings are those that the script's comments hold.
type Settings struct {
	Isolation   string   `json:"isolation,omitempty"`
	ReadOnly    *bool    `json:"read_only,omitempty"`
	Deferrable  *bool    `json:"deferrable,omitempty"`
	TimeoutMS   int64    `json:"timeout_ms,omitempty"`
	Retries     *int     `json:"retries,omitempty"`
	Role        string   `json:"role,omitempty"`
	Concurrency int      `json:"concurrency,omitempty"`
	Buckets     []string `json:"bucket,omitempty"`
}
