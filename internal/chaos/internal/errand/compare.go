package errand

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/chaos/internal/verdict"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Counts are those of a kind of errand, by outcome.
type Counts map[Outcome]int

const jobLimit = 3 * time.Minute // for the jobs that were left to be done

// Compare looks at what the errands left since the last call, while they pause, and
// forgets them.
func (e *Errands) Compare(ctx context.Context, conn *pgx.Conn) (map[Kind]Counts, []verdict.Finding, error) {
	e.mu.Lock()
	finished, wrong := e.finished, e.wrong
	e.finished, e.wrong = nil, nil
	e.mu.Unlock()
	left, err := e.await(ctx, conn, finished)
	if err != nil {
		return nil, nil, err
	}
	counts, findings := judge(finished, left)
	for _, err := range wrong {
		findings = append(findings, verdict.Finding{Kind: "read", Detail: err.Error(), At: time.Now()})
	}
	if _, err := conn.Exec(ctx, "TRUNCATE done"); err != nil {
		return nil, nil, fmt.Errorf("forget what was done: %w", err)
	}
	return counts, findings, nil
}

// judge compares what was to become of errands with the rows they left.
func judge(finished []Errand, left map[string]int) (map[Kind]Counts, []verdict.Finding) {
	counts := map[Kind]Counts{}
	var findings []verdict.Finding
	known := map[string]bool{}
	for _, f := range finished {
		if counts[f.Kind] == nil {
			counts[f.Kind] = Counts{}
		}
		counts[f.Kind][f.Outcome]++
		if f.ID == "" {
			continue
		}
		known[f.key()] = true
		if n := left[f.key()]; n != 0 && f.Outcome == NotDone || n != f.Parts && f.Outcome == Done || n != 0 && n != f.Parts {
			findings = append(findings, verdict.Finding{Kind: string(f.Kind), At: f.At,
				Detail: fmt.Sprintf("%s %s is %s (%s) and left %d rows of %d", f.Kind, f.ID, f.Outcome, f.Error, n, f.Parts)})
		}
	}
	for key, n := range left {
		if !known[key] {
			findings = append(findings, verdict.Finding{Kind: "invented", Detail: fmt.Sprintf("%s has %d rows, and belongs to an earlier round or nobody", key, n), At: time.Now()})
		}
	}
	return counts, findings
}

func (f Errand) key() string { return string(f.Kind) + " " + f.ID }

// await reads what was left, once the jobs that were stored for sure are done and
// nothing more comes.
func (e *Errands) await(ctx context.Context, conn *pgx.Conn, finished []Errand) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, jobLimit)
	defer cancel()
	before := -1
	for {
		left, err := rowsLeft(ctx, conn)
		if err != nil {
			return nil, err
		}
		missing := 0
		for _, f := range finished {
			if (f.Kind == Job || f.Kind == Nobody) && f.Outcome == Done && left[f.key()] == 0 {
				missing++
			}
		}
		waiting, err := e.waiting(ctx)
		if err == nil && missing == 0 && waiting == 0 && len(left) == before {
			return left, nil
		}
		before = len(left)
		if !wait.Within(ctx, time.Second) {
			return left, ctx.Err() // what is missing is told by the comparison
		}
	}
}

// waiting is how many jobs the stream holds: a job leaves it when it is acknowledged.
func (e *Errands) waiting(ctx context.Context) (uint64, error) {
	if e.Kinds[Job]+e.Kinds[Nobody] == 0 {
		return 0, nil
	}
	stream, err := e.JS.Stream(ctx, "PGBRIDGE_JOBS")
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.Msgs, nil
}

func rowsLeft(ctx context.Context, conn *pgx.Conn) (map[string]int, error) {
	rows, err := conn.Query(ctx, "SELECT kind || ' ' || id, count(*) FROM done GROUP BY 1")
	if err != nil {
		return nil, fmt.Errorf("look at what was done: %w", err)
	}
	left := map[string]int{}
	var key string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&key, &n}, func() error { left[key] = n; return nil })
	return left, err
}
