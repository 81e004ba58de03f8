package api

import "encoding/json"

// CopyRequest starts a COPY, whose direction the script decides.
type CopyRequest struct {
	SQL         string                     `json:"sql,omitempty"`
	Params      map[string]json.RawMessage `json:"params,omitempty"`
	TimeoutMS   int64                      `json:"timeout_ms,omitempty"`
	ID          string                     `json:"id,omitempty"`
	ChunkBytes  int                        `json:"chunk_bytes,omitempty"`
	WindowBytes int                        `json:"window_bytes,omitempty"`
	StallMS     int64                      `json:"stall_ms,omitempty"`
	Object      *Object                    `json:"object,omitempty"`
}

// Object names one in a JetStream object store.
type Object struct {
	Bucket string `json:"bucket"`
	Name   string `json:"name"`
}

// CopyOpening is the first reply where data follows. Data is the subject for a
// copy in, and empty for a copy out.
type CopyOpening struct {
	ID          string `json:"id"`
	Tx          string `json:"tx"`
	Data        string `json:"data,omitempty"`
	ChunkBytes  int    `json:"chunk_bytes"`
	WindowBytes int    `json:"window_bytes"`
	StallMS     int64  `json:"stall_ms"`
}

// CopySummary is the last word about a copy in, and about one with an object.
type CopySummary struct {
	ID   string `json:"id"`
	Rows int64  `json:"rows"`
	// Skipped is how many rows a COPY with ON_ERROR ignore has left out.
	Skipped int64           `json:"skipped,omitempty"`
	Bytes   int64           `json:"bytes"`
	Digest  string          `json:"digest"`
	Results json.RawMessage `json:"results,omitempty"` // a list of [Result], of the statements around the COPY
	Notices []Notice        `json:"notices,omitempty"`
}

// Progress is published once a second; totals are nil where they are not known.
type Progress struct {
	ID         string `json:"id"`
	Script     string `json:"script"`
	Rows       int64  `json:"rows"`
	Bytes      int64  `json:"bytes"`
	TotalRows  *int64 `json:"total_rows"`
	TotalBytes *int64 `json:"total_bytes"`
}
