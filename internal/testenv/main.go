// Package testenv gives tests real servers of their own: PostgreSQL, NATS,
// pgbouncer, and a proxy that can freeze the link to any of them. Everything
// listens on loopback only and is gone when the test, or the test process,
// ends. A server that cannot be had fails the test; nothing is ever skipped.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// PostgreSQL is major 15 where it is installed, else any that is found. The
// environment variable PGBRIDGE_TEST_POSTGRES names another folder of server
// programs.
//
// On Linux what tests write goes to memory where there is plenty of it, since
// hundreds of databases are slow to make on a disk. TMPDIR names another folder.
//
// Helpers fail the test by Fatal, so they belong in the test's own goroutine.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/pgbridge/pgbridge/internal/pgserver"
)

// Main runs a package's tests, ends the servers that they share and then fails
// if a goroutine is left over. It does not return.
//
// It is also the main function of the child processes that NATSProcess starts.
func Main(m *testing.M, opts ...goleak.Option) {
	ServeNATSChild()
	if err := errors.Join(useMemory(), pgserver.SharePorts()); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(suite{m}, append(opts, ofTheLibrary)...)
}

// ofTheLibrary is left over where a connection is closed just as an object's first
// message goes out: the library's own goroutine may read its Go channel when that is nil
// already. https://github.com/nats-io/nats.go/blob/v1.55.0/jetstream/publish.go#L569
var ofTheLibrary = goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")

type suite struct{ tests *testing.M }

func (s suite) Run() int {
	code := s.tests.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	return code
}
