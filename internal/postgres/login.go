package postgres

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// loggedIn is a connection on which pgx has logged in for lib/pq, which knows
// nothing of channel binding and its like. What lib/pq sends first is its own
// request to log in; it is answered with what the server said to pgx.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
type loggedIn struct {
	net.Conn
	asked    bool   // lib/pq has sent its request; owned by whoever writes
	greeting []byte // not read yet; owned by whoever reads
}

func (c *loggedIn) Write(p []byte) (int, error) {
	if !c.asked {
		c.asked = true
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *loggedIn) Read(p []byte) (int, error) {
	if len(c.greeting) > 0 {
		n := copy(p, c.greeting)
		c.greeting = c.greeting[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// logsIn reports whether pgx has to log in for lib/pq.
func logsIn(cc *pgconn.Config) bool {
	return cc.ChannelBinding == "require" || cc.RequireAuth != "" || cc.SSLCertMode == "require"
}

// logIn connects and logs in with pgx. hold takes the socket, below TLS.
func (t Target) logIn(ctx context.Context, application string, hold func(net.Conn) error) (net.Conn, error) {
	config := t.login.Config.Copy()
	config.Host, config.Port, config.TLSConfig, config.Fallbacks = t.at.host, t.at.port, t.at.tls, nil
	if application != "" {
		config.RuntimeParams["application_name"] = application
	}
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		socket, err := t.at.connect(ctx)
		if err == nil {
			err = hold(socket)
		}
		return socket, err
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	// What arrived beside the last answer would be lost with pgconn's buffer.
	if err := conn.SyncConn(ctx); err != nil {
		return nil, fmt.Errorf("prepare the connection: %w", err)
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	greeting, err := greetingOf(hijacked)
	return &loggedIn{Conn: hijacked.Conn, greeting: greeting}, err
}

// greetingOf is what the server said when it let us in.
func greetingOf(h *pgconn.HijackedConn) (greeting []byte, err error) {
	say := func(m interface{ Encode([]byte) ([]byte, error) }) {
		if err == nil {
			greeting, err = m.Encode(greeting)
		}
	}
	say(&pgproto3.AuthenticationOk{})
	for _, name := range slices.Sorted(maps.Keys(h.ParameterStatuses)) {
		say(&pgproto3.ParameterStatus{Name: name, Value: h.ParameterStatuses[name]})
	}
	say(&pgproto3.BackendKeyData{ProcessID: h.PID, SecretKey: h.SecretKey})
	say(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return greeting, err
}
