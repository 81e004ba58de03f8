package txrunner

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxNoticeBytes bounds the notices of one request; the rest is dropped.
const maxNoticeBytes = 64 << 10

// notices gathers what PostgreSQL says beside the results of one request.
type notices struct {
	json []byte // objects with commas between them
	full bool
}

type notice struct {
	Severity string `json:"severity"`
	SQLState string `json:"sqlstate,omitempty"`
	Message  string `json:"message"`
	Detail   string `json:"detail,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// onNotice belongs into a connection's configuration.
func onNotice(conn *pgconn.PgConn, n *pgconn.Notice) {
	if s := sessionOf(conn); s != nil {
		s.notices.add(n)
	}
}

func (n *notices) reset() { *n = notices{json: n.json[:0]} }

func (n *notices) add(from *pgconn.Notice) {
	if n.full {
		return
	}
	text, err := encodeNotice(from)
	if err != nil || len(n.json)+len(text) > maxNoticeBytes {
		n.full = true
		return
	}
	if len(n.json) > 0 {
		n.json = append(n.json, ',')
	}
	n.json = append(n.json, text...)
}

func encodeNotice(from *pgconn.Notice) ([]byte, error) {
	severity := from.SeverityUnlocalized
	if severity == "" {
		severity = from.Severity
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(notice{
		Severity: severity,
		SQLState: strings.TrimPrefix(from.Code, "00000"), // successful_completion says nothing
		Message:  from.Message,
		Detail:   from.Detail,
		Hint:     from.Hint,
	})
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}
