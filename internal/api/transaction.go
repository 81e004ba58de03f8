package api

import (
	"encoding/json"
	"time"
)

// The states of a pinned transaction, as [HeaderTransaction] has them.
const (
	StateActive = "active"
	StateFailed = "failed"
	StateHeld   = "held" // committed; cursors outlived it
	StateEnded  = "ended"
)

// BeginRequest opens a pinned transaction.
type BeginRequest struct {
	Isolation     string `json:"isolation,omitempty"`
	ReadOnly      bool   `json:"read_only,omitempty"`
	Deferrable    bool   `json:"deferrable,omitempty"`
	IdleTimeoutMS int64  `json:"idle_timeout_ms,omitempty"`
}

// BeginReply names it: Tx begins the subject of every verb.
type BeginReply struct {
	Tx            string    `json:"tx"`
	IdleTimeoutMS int64     `json:"idle_timeout_ms"`
	ExpiresAt     time.Time `json:"expires_at"`
}

// SavepointRequest is that of savepoint, rollback_to and release.
type SavepointRequest struct {
	Name string `json:"name"`
}

// TouchReply says when the lease ends.
type TouchReply struct {
	ExpiresAt time.Time `json:"expires_at"`
}

// CursorRequest opens a cursor over a script's last statement.
type CursorRequest struct {
	SQL        string                     `json:"sql,omitempty"`
	Params     map[string]json.RawMessage `json:"params,omitempty"`
	TimeoutMS  int64                      `json:"timeout_ms,omitempty"`
	Rows       string                     `json:"rows,omitempty"`
	BigNumbers string                     `json:"big_numbers,omitempty"`
	Name       string                     `json:"name,omitempty"`
	Count      any                        `json:"count,omitempty"` // a number or "all"
	MaxBytes   int                        `json:"max_bytes,omitempty"`
	Scroll     bool                       `json:"scroll,omitempty"`
	Hold       bool                       `json:"hold,omitempty"`
}

// CursorReply holds the first page, or the cursors that a script opened itself.
type CursorReply struct {
	Tx      string              `json:"tx"`
	Cursor  string              `json:"cursor"`
	Columns []Column            `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
	Done    bool                `json:"done"`
	Cursors []OpenedCursor      `json:"cursors,omitempty"`
}

// OpenedCursor is a refcursor that a script has returned.
type OpenedCursor struct {
	Cursor  string   `json:"cursor"`
	Columns []Column `json:"columns"`
}

// FetchRequest reads a page, and with move passes over rows.
type FetchRequest struct {
	Cursor    string `json:"cursor"`
	Direction string `json:"direction,omitempty"`
	Count     any    `json:"count,omitempty"` // a number or "all"
	MaxBytes  int    `json:"max_bytes,omitempty"`
	Page      int64  `json:"page,omitempty"` // from 1
}

// FetchReply is one page.
type FetchReply struct {
	Rows [][]json.RawMessage `json:"rows"`
	Done bool                `json:"done"`
}

// MoveReply says how many rows a fetch would have returned.
type MoveReply struct {
	Moved int64 `json:"moved"`
	Done  bool  `json:"done"`
}

// StreamRequest pushes a cursor's remaining rows as chunks.
type StreamRequest struct {
	Cursor      string `json:"cursor"`
	Count       int    `json:"count,omitempty"`
	WindowBytes int    `json:"window_bytes,omitempty"`
	StallMS     int64  `json:"stall_ms,omitempty"`
}

// CloseRequest closes a cursor.
type CloseRequest struct {
	Cursor string `json:"cursor"`
}
