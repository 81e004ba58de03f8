package script

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// notLikePsql are the tricky texts that psql takes apart differently from
// PostgreSQL.
var notLikePsql = []string{
	"escape string goes on",   // psql reads lines and forgets the E over their ends
	"routine with END a name", // psql takes the first END that is no CASE's
}

// TestSplitLikePsql compares the statements with those that psql sends to a
// server, which here notes them and answers that it did them.
func TestSplitLikePsql(t *testing.T) {
	t.Parallel()
	psql, err := testenv.Postgres(t).Server().Binaries().Tool("psql")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tricky {
		if slices.Contains(notLikePsql, test.name) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var want []string
			for _, text := range sentByPsql(t, psql, test.source) {
				if tokens := withoutComments(text); tokens != ";" && tokens != "" {
					want = append(want, tokens)
				}
			}
			var got []string
			for _, text := range texts(mustParse(t, test.source)) {
				got = append(got, withoutComments(text))
			}
			if !slices.Equal(got, want) {
				t.Errorf("statements of %q are\n%q, psql sends\n%q", test.source, got, want)
			}
		})
	}
}

// withoutComments returns the tokens, and a space for what is between them:
// psql leaves comments out, or not, by its version.
func withoutComments(text string) string {
	var tokens []string
	for at := 0; at < len(text); {
		t := lex(text, at)
		if t.kind == unfinished {
			t.end = len(text)
		}
		at = t.end
		if t.kind > blockComment {
			tokens = append(tokens, text[t.start:t.end])
		}
	}
	return strings.TrimSuffix(strings.Join(tokens, " "), " ;") // psql sends it too
}

// sentByPsql returns the queries that psql -f sends.
func sentByPsql(t *testing.T, psql, source string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.sql")
	write(t, filepath.Dir(file), map[string]string{"a.sql": source})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	queries := make(chan []string, 1)
	go func() { queries <- noteQueries(listener) }()
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	cmd := exec.CommandContext(ctx, psql, "-X", "-f", file,
		"host="+host+" port="+port+" user=u dbname=d sslmode=disable gssencmode=disable")
	cmd.Env = []string{"PGCLIENTENCODING=UTF8", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	listener.Close()
	if err != nil {
		t.Fatalf("run psql: %v\n%s", err, out)
	}
	return <-queries
}

// noteQueries serves one connection and returns its queries.
func noteQueries(listener net.Listener) (queries []string) {
	conn, err := listener.Accept()
	if err != nil {
		return nil
	}
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return nil
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"} {
		backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	for {
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if backend.Flush() != nil {
			return queries
		}
		message, err := backend.Receive()
		if err != nil {
			return queries
		}
		if query, ok := message.(*pgproto3.Query); ok {
			queries = append(queries, query.String)
			backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("DO")})
		}
	}
}
