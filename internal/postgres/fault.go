package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"

	"github.com/pgbridge/pgbridge/internal/inlet"
)

// Kind is the reason why a connection could not be made or was lost.
type Kind string

// The kinds that [Explain] tells apart. KindOther is an error it knows nothing
// about.
const (
	KindOther       Kind = "other"
	KindConfig      Kind = "configuration"
	KindPassword    Kind = "wrong password"
	KindRole        Kind = "login not allowed"
	KindDatabase    Kind = "unknown database"
	KindPrivilege   Kind = "permission denied"
	KindParameter   Kind = "setting refused"
	KindTooMany     Kind = "too many connections"
	KindStarting    Kind = "server starting or stopping"
	KindEnded       Kind = "ended by the server"
	KindStandby     Kind = "not a primary"
	KindTLS         Kind = "TLS"
	KindName        Kind = "host name not found"
	KindUnreachable Kind = "cannot reach the server"
	KindTimeout     Kind = "timeout"
	KindProtocol    Kind = "protocol broken"
	KindLost        Kind = "connection lost"
	KindStopped     Kind = "stopped by us"
)

// Fault explains an error of connecting, or of a lost connection, to the person
// who reads the log.
type Fault struct {
	Kind     Kind
	SQLState string // empty unless the server said it
	Hint     string // one line: what to do; no secret; empty for KindOther
}

// String puts the fault on one line.
func (f Fault) String() string {
	line := string(f.Kind)
	if f.SQLState != "" {
		line += " (SQLSTATE " + f.SQLState + ")"
	}
	if f.Hint != "" {
		line += ": " + f.Hint
	}
	return line
}

// Explain says what kind of fault err is, whichever driver it comes from. Where
// it joins the errors of several hosts, the most telling one counts: what a
// server answered, then TLS, then the network. The zero Fault explains nil.
func Explain(err error) Fault {
	if err == nil {
		return Fault{}
	}
	if f, ok := serverFault(SQLState(err)); ok {
		if f.Kind == KindParameter {
			f.Hint += said(err)
		}
		return f
	}
	for _, explain := range []func(error) (Fault, bool){configurationFault, protocolFault, standbyFault, tlsFault, networkFault} {
		if f, ok := explain(err); ok {
			return f
		}
	}
	return Fault{Kind: KindOther, SQLState: SQLState(err)}
}

// protocolFault knows what [inlet] does not let through.
func protocolFault(err error) (Fault, bool) {
	return Fault{Kind: KindProtocol, Hint: "what answers there is no PostgreSQL, or something on the way changes what it says"}, errors.Is(err, inlet.ErrForm)
}

// said quotes the server where it names a setting, since only it knows which one
// it does not take.
func said(err error) string {
	const most = 200
	var message string
	var fromPgx *pgconn.PgError
	var fromPq *pq.Error
	switch {
	case errors.As(err, &fromPgx):
		message = fromPgx.Message
	case errors.As(err, &fromPq):
		message = fromPq.Message
	}
	message = strings.Join(strings.Fields(message), " ")
	if message == "" {
		return ""
	}
	return " (it says: " + strings.ToValidUTF8(message[:min(len(message), most)], "?") + ")"
}

// Reason is one line that says why err happened: what [Explain] makes of it or,
// where that is nothing, its own text.
func Reason(err error) string {
	if f := Explain(err); f.Kind != KindOther {
		return f.String()
	}
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), " ")
}

// SQLState returns the code that a server sent with err, or "" where none did.
// It knows the errors of both drivers.
func SQLState(err error) string {
	var server interface {
		error
		SQLState() string
	}
	if errors.As(err, &server) {
		return server.SQLState()
	}
	return ""
}

// Starting reports whether the server said that it takes connections soon: 57P03.
func Starting(err error) bool { return SQLState(err) == "57P03" }

// Down reports whether nothing listens at the server's address, which costs nobody
// anything to find out.
func Down(err error) bool { return is(err, syscall.ECONNREFUSED, syscall.ENOENT) }

// Refused reports whether the server turned the credentials or the database
// down, which does not change by trying again: 28P01, 28000, 3D000, 42501.
func Refused(err error) bool { return SQLState(err) == "28000" || Final(err) }

// Final reports whether the next [Target] need not be tried after err, by the
// rule that pgx follows: 28P01, 3D000, 42501. After a 28000 another may do,
// where pg_hba.conf admits only connections with TLS or only those without.
func Final(err error) bool {
	switch SQLState(err) {
	case "28P01", "3D000", "42501":
		return true
	}
	return false
}

// serverFault explains the codes that a server sends to a client that connects,
// or ends a session with.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func serverFault(state string) (Fault, bool) {
	f := Fault{SQLState: state}
	switch state {
	case "28P01":
		f.Kind, f.Hint = KindPassword, "correct the password (password_file, PGPASSWORD, passfile or connection string)"
	case "28000":
		f.Kind, f.Hint = KindRole, "check that the role exists and has LOGIN, and that pg_hba.conf admits it from this host, with TLS or a client certificate where that is asked for"
	case "3D000":
		f.Kind, f.Hint = KindDatabase, "create the database or correct its name"
	case "42501":
		f.Kind, f.Hint = KindPrivilege, "GRANT CONNECT ON DATABASE to the role"
	case "42704", "22023", "55P02", "08P01":
		f.Kind, f.Hint = KindParameter, "the server or pooler does not take a setting that the connection string, PGOPTIONS or PGTZ gives"
	case "53300":
		f.Kind, f.Hint = KindTooMany, "raise max_connections, the role's or database's CONNECTION LIMIT, or use fewer connections"
	case "57P03":
		f.Kind, f.Hint = KindStarting, "the server accepts no connections yet, or no more; it is tried again"
	case "57P01", "57P02", "57P05":
		f.Kind, f.Hint = KindEnded, "an administrator, a restart or a time limit of the server's ended the session; it is made again"
	default:
		return f, false
	}
	return f, true
}

func configurationFault(err error) (Fault, bool) {
	var fault *ConfigError
	if !errors.As(err, &fault) {
		return Fault{}, false
	}
	return Fault{Kind: KindConfig, Hint: fault.Error()}, true
}

// standbyFault knows lib/pq's refusal by its text alone (checkTSA in its
// conn.go).
func standbyFault(err error) (Fault, bool) {
	if !errors.Is(err, pgconn.ErrStandbyConnection) && !strings.Contains(err.Error(), "server is in hot standby mode") {
		return Fault{}, false
	}
	return Fault{Kind: KindStandby, Hint: "the server is a standby, where LISTEN fails: name the primary, or all hosts"}, true
}

func tlsFault(err error) (Fault, bool) {
	var (
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		remote  *net.OpError
	)
	f := Fault{Kind: KindTLS}
	switch {
	case errors.As(err, &invalid):
		f.Hint = "the server's certificate is not valid: " + invalidity(invalid)
	case errors.As(err, &unknown):
		f.Hint = "the server's certificate is not signed by an authority in sslrootcert"
	case errors.As(err, &name):
		f.Hint = "the server's certificate is for another host name: " + name.Error()
	case errors.As(err, &verify):
		f.Hint = "the server's certificate cannot be verified: " + verify.Err.Error()
	case errors.As(err, &record):
		f.Hint = "what answers at this port does not speak TLS"
	case errors.Is(err, errNoTLS) || strings.Contains(err.Error(), errNoTLS.Error()):
		f.Hint = "the server does not offer TLS: switch it on there, or choose another sslmode"
	case errors.As(err, &remote) && remote.Op == "remote error":
		f.Hint = "the server refused TLS or our client certificate: " + remote.Err.Error()
	default:
		return f, false
	}
	return f, true
}

// invalidity says when, where the reason is the time.
func invalidity(e x509.CertificateInvalidError) string {
	if e.Reason != x509.Expired || e.Cert == nil {
		return e.Error()
	}
	if time.Now().Before(e.Cert.NotBefore) {
		return fmt.Sprintf("it begins on %s; is the clock right?", e.Cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("it expired on %s: renew it", e.Cert.NotAfter.UTC().Format(time.RFC3339))
}

func networkFault(err error) (Fault, bool) {
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup) && !lookup.IsTimeout:
		return Fault{Kind: KindName, Hint: "no address is known for the host name: correct it, or check the name server"}, true
	case is(err, syscall.ECONNREFUSED, syscall.ENOENT):
		return Fault{Kind: KindUnreachable, Hint: "nothing listens there: check host and port, and that the server runs"}, true
	case is(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES, syscall.EPERM):
		return Fault{Kind: KindUnreachable, Hint: "there is no way to the server: check routes, firewall and network policies"}, true
	case timedOut(err):
		return Fault{Kind: KindTimeout, Hint: "the server did not answer in time: check firewall and load, or raise connect_timeout"}, true
	case is(err, net.ErrClosed, context.Canceled):
		return Fault{Kind: KindStopped, Hint: "the attempt was given up"}, true
	case is(err, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE):
		return Fault{Kind: KindLost, Hint: "the connection was closed from outside: the server's log or a proxy's tells why; an expired client certificate is one reason"}, true
	}
	return Fault{}, false
}

func timedOut(err error) bool {
	var network net.Error
	return is(err, context.DeadlineExceeded, os.ErrDeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

func is(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
