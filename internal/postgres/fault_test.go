package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/pgbridge/pgbridge/internal/inlet"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{nil, ""},
		{errors.New("what"), KindOther},
		{&pgconn.PgError{Code: "23505"}, KindOther},
		{&ConfigError{Err: os.ErrNotExist}, KindConfig},
		{fmt.Errorf("connect: %w", inlet.ErrForm), KindProtocol},
		{pgconn.ErrStandbyConnection, KindStandby},
		{errors.New("server is in hot standby mode"), KindStandby},
		{errors.New("tls error: server refused TLS connection"), KindTLS},
		{x509.UnknownAuthorityError{}, KindTLS},
		{x509.CertificateInvalidError{Reason: x509.Expired}, KindTLS},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: unknown certificate authority")}, KindTLS},
		{&net.DNSError{Err: "no such host"}, KindName},
		{&net.DNSError{Err: "slow", IsTimeout: true}, KindTimeout},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, KindUnreachable},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, KindUnreachable},
		{context.DeadlineExceeded, KindTimeout},
		{os.ErrDeadlineExceeded, KindTimeout},
		{net.ErrClosed, KindStopped},
		{io.ErrUnexpectedEOF, KindLost},
		{syscall.ECONNRESET, KindLost},
		{errors.Join(syscall.ECONNREFUSED, pgconn.ErrStandbyConnection), KindStandby},
		{errors.Join(errNoTLS, &pgconn.PgError{Code: "28P01"}), KindPassword},
	} {
		got := Explain(fmt.Errorf("connect: %w", c.err))
		if c.err == nil {
			got = Explain(nil)
		}
		if got.Kind != c.want {
			t.Errorf("Explain(%v) = %q, want %q", c.err, got.Kind, c.want)
		}
		if (got.Hint == "") != (c.want == KindOther || c.want == "") || strings.Contains(got.Hint, "\n") {
			t.Errorf("Explain(%v) hints %q", c.err, got.Hint)
		}
	}
}

func TestFaultIsOneLine(t *testing.T) {
	t.Parallel()
	got := Explain(&pgconn.PgError{Code: "3D000", Message: "never\nshown"}).String()
	if want := "unknown database (SQLSTATE 3D000): create the database or correct its name"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

func TestSQLStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state          string
		want           Kind
		refused, final bool
	}{
		{"28P01", KindPassword, true, true},
		{"28000", KindRole, true, false},
		{"3D000", KindDatabase, true, true},
		{"42501", KindPrivilege, true, true},
		{"42704", KindParameter, false, false},
		{"53300", KindTooMany, false, false},
		{"57P03", KindStarting, false, false},
		{"57P01", KindEnded, false, false},
		{"XX000", KindOther, false, false},
	} {
		for _, err := range []error{&pgconn.PgError{Code: c.state}, &pq.Error{Code: pqerror.Code(c.state)}} {
			err = errors.Join(io.EOF, fmt.Errorf("connect: %w", err))
			if got := SQLState(err); got != c.state {
				t.Errorf("SQLState(%v) = %q, want %q", err, got, c.state)
			}
			if got := Explain(err); got.Kind != c.want && c.want != KindOther {
				t.Errorf("Explain(%v) = %q, want %q", err, got.Kind, c.want)
			}
			if Refused(err) != c.refused || Final(err) != c.final {
				t.Errorf("%s: Refused, Final = %v, %v, want %v, %v", c.state, Refused(err), Final(err), c.refused, c.final)
			}
		}
	}
	if SQLState(io.EOF) != "" || SQLState(nil) != "" {
		t.Error("SQLState of an error that no server sent is not empty")
	}
}
