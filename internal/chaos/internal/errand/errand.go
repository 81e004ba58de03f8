// Package errand asks pgbridge to do things, each of which leaves rows behind, and
// tells which were to be done once, not at all, or perhaps.
package errand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Kind is what is asked for.
type Kind string

// The kinds of errands.
const (
	Run    Kind = "run"            // a run without a message id, sent once
	IDRun  Kind = "run with an id" // sent until it is answered
	Job    Kind = "job"            // with a message id
	Nobody Kind = "job without id" // published once
	Pinned Kind = "transaction"    // two runs on a pinned transaction
	CopyIn Kind = "copy in"
	// Copies out and cursors leave nothing: what they read is looked at instead.
	CopyOut Kind = "copy out"
	Cursor  Kind = "cursor"
)

// Schema is what errands leave their rows in, and what they read.
const Schema = `CREATE TABLE done (kind text NOT NULL, id text NOT NULL, part int NOT NULL);
	CREATE TABLE source (n int PRIMARY KEY, pad text NOT NULL);
	INSERT INTO source SELECT n, repeat('s', n % 200) FROM generate_series(1, 20000) n`

// Scripts are those that errands need.
func Scripts() map[string]string {
	return map[string]string{
		"put":    "INSERT INTO done (kind, id, part) VALUES (@kind, @id, @part)",
		"load":   "CREATE TEMPORARY TABLE loaded (id text, part int, pad text) ON COMMIT DROP;\nCOPY loaded FROM STDIN;\nINSERT INTO done (kind, id, part) SELECT 'copy in', id, part FROM loaded",
		"unload": "COPY (SELECT n FROM source ORDER BY n) TO STDOUT",
		"read":   "SELECT n, pad FROM source ORDER BY n",
	}
}

// rowsOfSource is how many rows the table has that is read.
const rowsOfSource = 20000

// Outcome is what has to have become of an errand.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	NotDone Outcome = "not done"
	Maybe   Outcome = "perhaps done"
)

// Errand is one that has come to its end.
type Errand struct {
	Kind    Kind
	ID      string
	Parts   int // rows that it leaves, all or none
	Outcome Outcome
	Error   string // why it was not done for sure
	At      time.Time
}

const (
	errandLimit = 90 * time.Second
	stall       = 5 * time.Second
)

// Errands are goroutines that each do one errand after the other.
type Errands struct {
	Client *client.Client
	JS     jetstream.JetStream
	// Of each kind, how many at a time.
	Kinds map[Kind]int
	Seed  uint64

	next     atomic.Int64
	gate     sync.RWMutex // held for writing while nothing may begin
	mu       sync.Mutex   // guards the rest
	finished []Errand
	wrong    []error // what was read and should have been something else
}

// Run does errands until ctx ends.
func (e *Errands) Run(ctx context.Context) {
	var all sync.WaitGroup
	stream := uint64(100)
	for kind, n := range e.Kinds {
		for range n {
			stream++
			all.Go(func() { e.loop(ctx, kind, rand.New(rand.NewPCG(e.Seed, stream))) })
		}
	}
	all.Wait()
}

// Pause waits for the errands that are under way, and holds back the next ones until
// the returned function is called.
func (e *Errands) Pause() (resume func()) {
	e.gate.Lock()
	return e.gate.Unlock
}

func (e *Errands) loop(ctx context.Context, kind Kind, dice *rand.Rand) {
	for wait.For(ctx, time.Duration(dice.IntN(40))*time.Millisecond) {
		e.gate.RLock()
		e.one(ctx, kind, dice)
		e.gate.RUnlock()
	}
}

func (e *Errands) one(ctx context.Context, kind Kind, dice *rand.Rand) {
	if ctx.Err() != nil {
		return
	}
	// The end of the run does not end an errand: its outcome is to be known.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), errandLimit)
	defer cancel()
	errand := Errand{Kind: kind, ID: fmt.Sprintf("%d", e.next.Add(1)), Parts: 1}
	var err error
	switch kind {
	case Run:
		_, err = e.Client.Run(ctx, put(errand, 1, ""))
	case IDRun:
		err = e.insist(ctx, func() error { _, err := e.Client.Run(ctx, put(errand, 1, "run"+errand.ID)); return err })
	case Job:
		err = e.insist(ctx, func() error { return e.leave(ctx, errand) })
	case Nobody:
		err = e.publish(ctx, errand)
	case Pinned:
		errand.Parts = 2
		err = e.pinned(ctx, errand)
	case CopyIn:
		errand.Parts = 1 + dice.IntN(20000)
		err = e.load(ctx, errand, dice)
	case CopyOut:
		e.unload(ctx)
		return
	case Cursor:
		e.read(ctx, dice)
		return
	}
	errand.Outcome, errand.At = outcome(ctx, err), time.Now()
	if err != nil {
		errand.Error = err.Error()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished = append(e.finished, errand)
}

// outcome is what an error means, by the client's promise.
func outcome(ctx context.Context, err error) Outcome {
	switch {
	case err == nil:
		return Done
	case errors.Is(err, client.ErrOutcomeUnknown) || ctx.Err() != nil || errors.Is(err, errUnacknowledged):
		return Maybe
	}
	return NotDone
}

func put(errand Errand, part int, id string) client.Script {
	return client.Script{Name: "put", MessageID: id, Params: client.Params{"kind": string(errand.Kind), "id": errand.ID, "part": part}}
}

// insist repeats what has a message id until it is done.
func (e *Errands) insist(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || !wait.For(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

func (e *Errands) leave(ctx context.Context, errand Errand) error {
	job, err := e.Client.Job(ctx, put(errand, 1, "job"+errand.ID))
	if err == nil {
		job.Close()
	}
	return err
}

var errUnacknowledged = errors.New("the job was not acknowledged")

func (e *Errands) publish(ctx context.Context, errand Errand) error {
	body := fmt.Sprintf(`{"params": {"kind": %q, "id": %q, "part": 1}}`, errand.Kind, errand.ID)
	if _, err := e.JS.Publish(ctx, "pgbridge.job.run.put", []byte(body), jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("%w: %w", errUnacknowledged, err)
	}
	return nil
}

func (e *Errands) pinned(ctx context.Context, errand Errand) error {
	tx, err := e.Client.Begin(ctx, client.TxOptions{IdleTimeout: 10 * time.Second})
	if err != nil {
		return notBegun(err)
	}
	for part := range errand.Parts {
		if _, err := tx.Run(ctx, put(errand, part+1, "")); err != nil {
			// Whatever became of the run, there was no COMMIT.
			_ = tx.Rollback(ctx) // its lease ends, if this does not arrive
			return notBegun(err)
		}
	}
	return tx.Commit(ctx)
}

// notBegun is an error before COMMIT, of which it is known what it means.
func notBegun(err error) error { return fmt.Errorf("before COMMIT: %s", err) } //nolint:errorlint // it is not to be recognized

func (e *Errands) load(ctx context.Context, errand Errand, dice *rand.Rand) error {
	pause := time.Duration(dice.IntN(20)) * time.Millisecond
	r := &rows{ctx: ctx, errand: errand, pause: pause}
	_, err := e.Client.CopyIn(ctx, client.Script{Name: "load"}, r, client.CopyOptions{ChunkBytes: 16 << 10, Stall: stall})
	return err
}

// rows are those of a copy, a few at a time.
type rows struct {
	ctx    context.Context //nolint:containedctx // io.Reader has none
	errand Errand
	pause  time.Duration
	part   int
	left   []byte
}

func (r *rows) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		if r.part == r.errand.Parts {
			return 0, io.EOF
		}
		if r.part%500 == 499 && !wait.For(r.ctx, r.pause) {
			return 0, r.ctx.Err()
		}
		r.part++
		r.left = fmt.Appendf(r.left, "%s\t%d\t%050d\n", r.errand.ID, r.part, r.part)
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
