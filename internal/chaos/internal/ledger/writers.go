package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	writeLimit = 10 * time.Second // of a transaction, after which it may have been committed
	retryEvery = 100 * time.Millisecond
)

// Of so many transactions each session holds one open before its COMMIT, for so long at
// the most: its rows have a time by then that is long ago. Where few sessions write it is
// rarer.
const (
	heldOneIn = 100
	heldFor   = 1500 * time.Millisecond
)

// Channel is one that is written to.
type Channel struct {
	Name      string
	Durable   bool
	LargeSize int // bytes of a large payload
}

// Writers are sessions that write transactions of a few events each, some of them
// rolled back in part or as a whole.
type Writers struct {
	URL      func() string // of PostgreSQL, asked at each connect
	Channels []Channel
	Rate     int // events a second, of all of them
	Sessions int
	Seed     uint64
	Prepared bool // some transactions with durable events alone are prepared first

	next     atomic.Int64
	gate     sync.RWMutex // held for writing while nobody may write
	mu       sync.Mutex   // guards the rest
	answered []int64      // whose COMMIT was answered
	maybe    int          // transactions whose COMMIT was not
	refused  map[string]int
}

// Run writes until ctx ends.
func (w *Writers) Run(ctx context.Context) {
	var sessions sync.WaitGroup
	for i := range w.Sessions {
		sessions.Go(func() {
			dice := rand.New(rand.NewPCG(w.Seed, uint64(i)))
			for wait.For(ctx, retryEvery) {
				w.session(ctx, dice)
			}
		})
	}
	sessions.Wait()
}

// Pause waits for the transactions that are under way, and holds back the next ones
// until the returned function is called.
func (w *Writers) Pause() (resume func()) {
	w.gate.Lock()
	return w.gate.Unlock
}

// session writes over one connection until that fails.
func (w *Writers) session(ctx context.Context, dice *rand.Rand) {
	connectCtx, cancel := context.WithTimeout(ctx, writeLimit)
	conn, err := pgx.Connect(connectCtx, w.URL())
	cancel()
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	w.gate.RLock()
	err = w.finish(ctx, conn, false)
	w.gate.RUnlock()
	if err != nil {
		w.note(err)
		return
	}
	pause := time.Duration(float64(time.Second) * 3 * float64(w.Sessions) / float64(w.Rate)) // three events in the mean
	for wait.For(ctx, time.Duration(dice.Float64()*2*float64(pause))) {
		w.gate.RLock()
		err := w.Transaction(ctx, conn, w.choose(dice), dice)
		w.gate.RUnlock()
		if err != nil {
			w.note(err)
			return
		}
	}
}

// Planned is an event that will be sent.
type Planned struct {
	Channel  Channel
	Kind     Kind
	Undone   bool // rolled back to a savepoint
	Released bool // in a subtransaction that is released
}

func (w *Writers) choose(dice *rand.Rand) []Planned {
	plans := make([]Planned, 1+dice.IntN(5))
	taken := map[string]bool{} // PostgreSQL drops a notification that equals one of its transaction
	for i := range plans {
		p := Planned{Channel: w.Channels[dice.IntN(len(w.Channels))], Kind: Small, Undone: dice.IntN(20) == 0, Released: dice.IntN(10) == 0}
		switch n := dice.IntN(100); {
		case n < 5:
			p.Kind = Large
		case n < 20:
			p.Kind = Equal
		case n < 30:
			p.Kind = Empty
		}
		if name := p.Channel.Name + string(p.Kind); (p.Kind == Equal || p.Kind == Empty) && !p.Channel.Durable && taken[name] {
			p.Kind = Small
		} else {
			taken[name] = true
		}
		plans[i] = p
	}
	return plans
}

// Transaction sends events in one transaction. A dice may roll it back as a whole; nil
// commits. An error says nothing of whether it was committed: the ledger does.
func (w *Writers) Transaction(ctx context.Context, conn *pgx.Conn, plans []Planned, dice *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	batch := &pgx.Batch{}
	var ids []int64
	batch.Queue("BEGIN")
	for _, p := range plans {
		id := w.next.Add(1)
		if p.Undone || p.Released {
			batch.Queue("SAVEPOINT s")
		}
		if !p.Undone {
			ids = append(ids, id)
		}
		batch.Queue("INSERT INTO ledger (id, channel, kind) VALUES ($1, $2, $3)", id, p.Channel.Name, string(p.Kind))
		function := "pg_notify"
		if p.Channel.Durable {
			function = "pgbridge.notify"
		}
		batch.Queue("SELECT "+function+"($1::text, $2::text)", p.Channel.Name, payload(id, p.Kind, p.Channel.LargeSize))
		if p.Undone {
			batch.Queue("ROLLBACK TO s")
		} else if p.Released {
			batch.Queue("RELEASE s")
		}
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if dice != nil && dice.IntN(20) == 0 {
		_, err := conn.Exec(ctx, "ROLLBACK")
		return err
	}
	if dice != nil && dice.IntN(heldOneIn) < w.Sessions {
		wait.For(ctx, time.Duration(dice.Int64N(int64(heldFor))))
	}
	if err := w.commit(ctx, conn, plans, dice); err != nil {
		w.mu.Lock()
		w.maybe++
		w.mu.Unlock()
		return err
	}
	w.mu.Lock()
	w.answered = append(w.answered, ids...)
	w.mu.Unlock()
	return nil
}

// commit ends a transaction, in one step or two.
func (w *Writers) commit(ctx context.Context, conn *pgx.Conn, plans []Planned, dice *rand.Rand) error {
	plain := slices.ContainsFunc(plans, func(p Planned) bool { return !p.Channel.Durable }) // cannot be prepared
	if dice == nil || plain || !w.Prepared || dice.IntN(5) != 0 {
		_, err := conn.Exec(ctx, "COMMIT")
		return err
	}
	gid := fmt.Sprintf("chaos.%d.%d", conn.PgConn().PID(), w.next.Add(1))
	if _, err := conn.Exec(ctx, "PREPARE TRANSACTION '"+gid+"'"); err != nil {
		return err
	}
	if dice.IntN(3) == 0 {
		wait.For(ctx, time.Duration(dice.IntN(1000))*time.Millisecond) // others commit meanwhile
	}
	_, err := conn.Exec(ctx, "COMMIT PREPARED '"+gid+"'")
	return err
}

// finish commits what sessions left prepared that are no more, or what all of them did:
// whether it is committed the ledger tells.
func (w *Writers) finish(ctx context.Context, conn *pgx.Conn, all bool) error {
	if !w.Prepared {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	rows, err := conn.Query(ctx, `SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'chaos.%' AND ($1
		OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = split_part(gid, '.', 2)::int))`, all)
	if err != nil {
		return err
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, gid := range gids {
		if _, err := conn.Exec(ctx, "COMMIT PREPARED '"+gid+"'"); err != nil {
			return err
		}
	}
	return nil
}

// Last sends one small event to each channel, however often it takes, and returns when
// a COMMIT was answered: the keys by channel. It is for while the writers pause.
func (w *Writers) Last(ctx context.Context) (map[string]string, error) {
	for {
		keys, err := w.once(ctx)
		if err == nil {
			return keys, nil
		}
		if !wait.For(ctx, retryEvery) {
			return nil, fmt.Errorf("send the last events: %w", err)
		}
	}
}

func (w *Writers) once(ctx context.Context) (map[string]string, error) {
	conn, err := pgx.Connect(ctx, w.URL())
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := w.finish(ctx, conn, true); err != nil {
		return nil, err
	}
	var plans []Planned
	keys, id := map[string]string{}, w.next.Load()
	for i, c := range w.Channels {
		plans = append(plans, Planned{Channel: c, Kind: Small})
		keys[c.Name] = key(id+int64(i)+1, Small)
	}
	return keys, w.Transaction(ctx, conn, plans, nil)
}

func (w *Writers) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refused == nil {
		w.refused = map[string]int{}
	}
	if !errors.Is(err, context.Canceled) {
		w.refused[err.Error()]++
	}
}

// Taken is what the writers know since it was last asked.
type Taken struct {
	Answered []int64 // events whose COMMIT was answered
	Maybe    int     // transactions whose COMMIT was not
	Refused  map[string]int
}

// Take returns what the writers know, and forgets it.
func (w *Writers) Take() Taken {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := Taken{w.answered, w.maybe, w.refused}
	w.answered, w.maybe, w.refused = nil, 0, nil
	return t
}
