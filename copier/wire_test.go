package copier

import (
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// watchedSource is data that knows whether somebody waits for its failure.
type watchedSource struct {
	io.Reader
	failed chan struct{}
	heard  bool // the failure
}

func (s *watchedSource) Fail(error) {
	select {
	case s.failed <- struct{}{}:
		s.heard = true
	default:
	}
}

func (s *watchedSource) Failed() <-chan struct{} { return s.failed }

// TestCopyThatIsOverIsNotCancelled guards what comes after a COPY from the
// cancel request that would follow it.
func TestCopyThatIsOverIsNotCancelled(t *testing.T) {
	t.Parallel()
	conn, err := pgconn.Connect(t.Context(), testenv.Postgres(t).NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; CREATE TEMP TABLE item (id int)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"1\n2\n", "x\n"} {
		from := &watchedSource{Reader: strings.NewReader(data), failed: make(chan struct{})}
		_, err := copyIn(t.Context(), session.New(conn, rows.NewCatalog()), "COPY item FROM STDIN", func() {}, from)
		if refused := data == "x\n"; (err != nil) != refused {
			t.Errorf("copyIn(%q) = %v", data, err)
		}
		if from.heard {
			t.Errorf("copyIn(%q) would be cancelled after its end", data)
		}
	}
}

func TestFirstNumber(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]int64{
		"2 rows were skipped due to data type incompatibility": 2, "es wurden 1234 Zeilen übersprungen": 1234, "none": 0, "7": 7,
	} {
		if got := firstNumber(message); got != want {
			t.Errorf("firstNumber(%q) = %d, want %d", message, got, want)
		}
	}
}
