package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// Params are a script's parameters by name. A value is encoded as JSON: nil is
// NULL, and text is right for every type but json, jsonb and arrays. A
// json.RawMessage goes as it is.
type Params map[string]any

// Script says what to run, to open or to copy: a script of pgbridge's, or SQL
// where its configuration allows that.
type Script struct {
	Name   string // its path without .sql, with dots for slashes
	SQL    string // instead of a name
	Params Params
	// Timeout is a limit from receipt to reply, of a whole copy as well; 0: the
	// script's and the configuration's alone.
	Timeout time.Duration
	// MessageID makes a run, a copy with an object or a job be done once, however
	// often it is sent, for as long as pgbridge keeps ids. Empty: none, and a job
	// gets one.
	MessageID string
	// BigNumbersAsText makes int8 and numeric come as JSON strings, for readers
	// that would round them.
	BigNumbersAsText bool
}

// params encodes the parameters, each on its own, so that an error can name it.
func (s Script) params() (map[string]json.RawMessage, error) {
	if (s.Name == "") == (s.SQL == "") {
		return nil, errNoScript
	}
	encoded := make(map[string]json.RawMessage, len(s.Params))
	for name, value := range s.Params {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode parameter %s: %w", name, err)
		}
		encoded[name] = data
	}
	return encoded, nil
}

func (s Script) bigNumbers() string {
	if s.BigNumbersAsText {
		return "string"
	}
	return ""
}

// limit is how long a reply is waited for; 0: the client's patience.
func (s Script) limit() time.Duration {
	if s.Timeout <= 0 {
		return 0
	}
	return s.Timeout + waySlack
}

// millis is a duration as requests have it: what is not zero stays so.
func millis(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return max(1, d.Milliseconds())
}
