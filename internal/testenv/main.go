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
// Helpers fail the test by Fatal, so they belong in the test's own goroutine.
package testenv

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests, ends the servers that they share and then fails
// if a goroutine is left over. It does not return.
//
// It is also the main function of the child processes that NATSProcess starts.
func Main(m *testing.M, opts ...goleak.Option) {
	if config := os.Getenv(natsChildEnv); config != "" {
		runNATSChild(config)
	}
	goleak.VerifyTestMain(suite{m}, opts...)
}

type suite struct{ tests *testing.M }

func (s suite) Run() int {
	code := s.tests.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	return code
}
