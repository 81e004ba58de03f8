package copier_test

import (
	"os"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(testenv.RunChild(serveChild))
	}
	testenv.Main(m)
}
