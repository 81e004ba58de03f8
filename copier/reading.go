package copier

import (
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/session"
)

// reading is how PostgreSQL reads the data of a COPY … FROM STDIN.
type reading struct {
	format   script.Format
	quote    byte // of CSV
	escape   byte // of CSV
	encoding string
	ascii    bool // characters are not looked at: the database has no encoding
	major    int  // of PostgreSQL's version
}

// read takes the answer.
func (r *reading) read(result *session.Result) error {
	if !result.NextRow() {
		return errors.New("PostgreSQL does not say what a COPY's options mean")
	}
	values := result.Values()
	if len(values[0]) > 0 {
		r.quote = values[0][0]
	}
	if r.escape = r.quote; len(values[1]) > 0 {
		r.escape = values[1][0]
	}
	r.encoding = string(values[2])
	return nil
}

// on completes it with what the connection says of itself.
func (r reading) on(conn *pgconn.PgConn) reading {
	if r.encoding == "" {
		r.encoding = conn.ParameterStatus("client_encoding")
	}
	r.ascii = conn.ParameterStatus("server_encoding") == "SQL_ASCII"
	r.major = majorVersion(conn.ParameterStatus("server_version"))
	return r
}

// majorVersion reads 15.18 (Debian) and 18beta1.
func majorVersion(version string) int {
	digits := 0
	for digits < len(version) && '0' <= version[digits] && version[digits] <= '9' {
		digits++
	}
	major, _ := strconv.Atoi(version[:digits]) // 0: the oldest
	return major
}
