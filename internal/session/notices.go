package session

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/api"
)

// Notices gathers what PostgreSQL says beside the results of one request.
type Notices struct {
	json []byte // objects with commas between them
	ends []int  // of the objects
	full bool
}

// Reset forgets them.
func (n *Notices) Reset() { *n = Notices{json: n.json[:0], ends: n.ends[:0]} }

// Fitting returns the first of them that have no more than so many bytes, as JSON
// objects with commas between them. It is valid until Reset.
func (n *Notices) Fitting(limit int) []byte {
	fitting := 0
	for _, end := range n.ends {
		if end <= limit {
			fitting = end
		}
	}
	return n.json[:fitting]
}

// All returns them one by one. They are valid until Reset.
func (n *Notices) All() [][]byte {
	all := make([][]byte, len(n.ends))
	begin := 0
	for i, end := range n.ends {
		all[i], begin = n.json[begin:end], end+1
	}
	return all
}

func (n *Notices) add(from *pgconn.Notice) {
	if n.full {
		return
	}
	text, err := encodeNotice(from)
	if err != nil || len(n.json)+len(text) > api.MaxNoticeBytes {
		n.full = true
		return
	}
	if len(n.json) > 0 {
		n.json = append(n.json, ',')
	}
	n.json = append(n.json, text...)
	n.ends = append(n.ends, len(n.json))
}

func encodeNotice(from *pgconn.Notice) ([]byte, error) {
	severity := from.SeverityUnlocalized
	if severity == "" {
		severity = from.Severity
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(api.Notice{
		Severity: severity,
		SQLState: strings.TrimPrefix(from.Code, "00000"), // successful_completion says nothing
		Message:  from.Message,
		Detail:   from.Detail,
		Hint:     from.Hint,
	})
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}
