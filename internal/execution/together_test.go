package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// companyWorld is a pool of one connection, and a program whose calls may share it.
type companyWorld struct {
	t       *testing.T
	url     string
	through string // the URL whose round trips are counted
	counter *testenv.TripCounter
	pool    *session.Pool
	program *Program
}

// newCompany prepares a script that cannot write in a database that setup has prepared.
func newCompany(t *testing.T, setup, sql string) *companyWorld {
	t.Helper()
	w := &companyWorld{t: t, url: testenv.Postgres(t).NewDatabase(t)}
	testenv.Exec(t, w.url, setup)
	w.counter, w.through = testenv.NewTripCounter(t, w.url)
	w.pool = w.connections(1)
	parsed, err := script.ParseSQL(sql)
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	parsed.Settings.ReadOnly = &yes
	w.program = NewProgram(parsed, time.Minute)
	for range 2 { // prepares, and is quick
		if _, err := w.run(w.call(0)); err != nil {
			t.Fatal(err)
		}
	}
	w.program.company.took.Store(1)
	return w
}

// connections returns a pool of n.
func (w *companyWorld) connections(n int) *session.Pool {
	w.t.Helper()
	settings, err := postgres.Parse(w.through, postgres.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	pool, err := session.Open(w.t.Context(), "runs", session.NewHome(settings), n, 1, session.Limits{Statement: time.Minute, Idle: time.Minute}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(pool.Close)
	return pool
}

func (w *companyWorld) call(n int) *Call {
	return &Call{
		Program: w.program, Caller: "alice", Owner: "alice", Params: map[string]json.RawMessage{"n": json.RawMessage(fmt.Sprint(n))},
		Deadline: time.Now().Add(time.Minute),
	}
}

const smallReply = 4096

func (w *companyWorld) run(c *Call) (string, error) {
	done, err := Run(w.t.Context(), w.pool, c, smallReply, nil)
	return string(done.Body), err
}

// hold takes the only connection.
func (w *companyWorld) hold() *session.Session {
	w.t.Helper()
	s, err := w.pool.Acquire(w.t.Context(), "alice", "alice")
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// share runs calls with these parameters together, and returns what each was answered; empty
// means that it is to be run alone.
func (w *companyWorld) share(params ...int) (bodies []string) {
	w.t.Helper()
	if _, err := w.run(w.call(1)); err != nil { // in a new session it would be prepared
		w.t.Fatal(err)
	}
	s := w.hold()
	var seats []*seat
	for _, n := range params {
		seats = append(seats, seatOf(w.call(n), w.pool, smallReply))
	}
	well := together(w.t.Context(), s, seats, nil)
	for _, seat := range seats {
		bodies = append(bodies, string(seat.body))
	}
	if missing := slices.Contains(bodies, ""); well == missing {
		w.t.Errorf("all went well: %t, want %t: %q", well, !missing, bodies)
	}
	s.GiveBack(false)
	return bodies
}

// wants compares the last column of the answers, empty where there is none.
func wants(t *testing.T, what string, bodies []string, want ...string) {
	t.Helper()
	for i, body := range bodies {
		var reply struct {
			Results []struct{ Rows [][]any }
		}
		got := ""
		if body != "" {
			if err := json.Unmarshal([]byte(body), &reply); err != nil {
				t.Fatalf("%s: %v: %s", what, err, body)
			}
			rows := reply.Results[len(reply.Results)-1].Rows
			got = fmt.Sprint(rows[0][len(rows[0])-1])
		}
		if got != want[i] {
			t.Errorf("%s: call %d of %d is answered %q, want %q", what, i, len(bodies), got, want[i])
		}
	}
}

func TestCallsThatWaitShareARoundTrip(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT @n::int * 2")
	s := w.hold()
	before := w.counter.Trips()
	bodies := make([]string, mostTogether)
	var all sync.WaitGroup
	for i := range bodies {
		all.Go(func() {
			var err error
			if bodies[i], err = w.run(w.call(i)); err != nil {
				t.Error(err)
			}
		})
	}
	testenv.Wait(t, time.Minute, "all to wait", func() bool { return w.pool.Stat().Waiting == mostTogether })
	s.GiveBack(false)
	all.Wait()
	var want []string
	for i := range bodies {
		want = append(want, fmt.Sprint(2*i))
	}
	wants(t, "shared", bodies, want...)
	if trips := w.counter.Trips() - before; trips != 1 {
		t.Errorf("%d calls that waited took %d round trips, want 1", mostTogether, trips)
	}
}

// Whoever has come at the same time goes along though there is a connection for each.
func TestCallsThatComeTogetherShareARoundTrip(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT @n::int * 2")
	w.pool = w.connections(mostTogether)
	testenv.Wait(t, time.Minute, "fewer round trips than calls", func() bool {
		before := w.counter.Trips()
		bodies := make([]string, mostTogether)
		var want []string
		var all sync.WaitGroup
		for i := range bodies {
			want = append(want, fmt.Sprint(2*i))
			all.Go(func() {
				var err error
				if bodies[i], err = w.run(w.call(i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		wants(t, "come together", bodies, want...)
		return w.counter.Trips()-before < mostTogether
	})
}

// Where each call makes a round trip much longer, those that have a connection of their own
// are not kept waiting for others.
func TestDearCallsGoAlone(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT @n::int")
	company := w.program.company
	greets := func() bool {
		s := seatOf(w.call(1), w.pool, smallReply)
		taken := s.greet()
		return !taken && s.sits && s.Granted()
	}
	company.ran(time.Millisecond)
	for range 64 {
		company.ranTogether(8, time.Millisecond+8*dearCall/2)
	}
	if !greets() {
		t.Error("calls that are cheap are not sent together")
	}
	company.ranTogether(8, time.Millisecond+8*dearCall) // an exception
	if !greets() {
		t.Error("one dear call parts them all")
	}
	for range 64 {
		company.ranTogether(8, time.Millisecond+8*2*dearCall)
		company.ranTogether(1, time.Hour) // who is alone keeps nobody
	}
	if greets() {
		t.Error("calls that are dear are sent together")
	}
	waits := seatOf(w.call(1), w.pool, smallReply)
	waits.Waits()
	if n := len(company.take(seatOf(w.call(0), w.pool, smallReply))); n != 1 {
		t.Errorf("%d calls that wait are taken, want 1", n)
	}
	for range shyFor {
		company.ran(time.Millisecond)
	}
	if !greets() {
		t.Error("they are never sent together again")
	}
}

func TestWhatIsRefusedIsRunAlone(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT 12 / (@n::int - 3)")
	wants(t, "one divides by zero", w.share(4, 5, 3, 6), "12", "6", "", "")
	if _, err := w.run(w.call(3)); err == nil || !strings.Contains(err.Error(), "22012") {
		t.Errorf("alone it fails with %v", err)
	}
	body, err := w.run(w.call(7))
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "the next one", []string{body}, "3")
}

func TestWhoeverIsSlowKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT pg_sleep(CASE @n::int WHEN 3 THEN 3600 ELSE 0 END), @n::int")
	wants(t, "one sleeps", w.share(1, 2, 3, 4), "1", "2", "", "")
	wants(t, "behind it", w.share(4, 5), "4", "5")
}

func TestWhatOneLeavesReachesNoOther(t *testing.T) {
	t.Parallel()
	w := newCompany(t, `DO $$ BEGIN CREATE ROLE another; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE FUNCTION leave(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
			IF n = 2 THEN PERFORM set_config('role', 'another', false); END IF;
			IF n = 3 THEN PERFORM set_config('work_mem', '1234kB', false), pg_advisory_lock(7); END IF;
			IF n = 4 THEN LISTEN elsewhere; EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT 1'; END IF;
			IF n = 5 THEN PERFORM pg_advisory_lock(8); RAISE 'no'; END IF;
			RETURN concat_ws(' ', current_user = session_user, current_setting('work_mem') = '1234kB',
				(SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE name = 'held'));
		END $$`, "SELECT leave(@n::int)")
	const clean = "t f 0 0"
	wants(t, "a role", w.share(1, 2, 1), clean, "f f 0 0", "")
	wants(t, "settings and locks", w.share(3, 1), "t t 0 0", clean)
	wants(t, "channels and cursors", w.share(4, 1, 1), "t f 0 1", clean, clean)
	wants(t, "a lock, and an error", w.share(1, 5, 1), clean, "", "")
	testenv.Wait(t, time.Minute, "the lock to be released", func() bool {
		return testenv.Value[int](t, w.url, "SELECT count(*)::int FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND datname = current_database()") == 0
	})
}

// What comes behind whoever leaves the session another is to be run again, so nobody
// keeps its rows.
func TestRowsBehindBadCompanyAreNotKept(t *testing.T) {
	t.Parallel()
	w := newCompany(t, `DO $$ BEGIN CREATE ROLE another; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE FUNCTION leave(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
			IF n = 2 THEN PERFORM set_config('role', 'another', false); END IF;
			RETURN repeat('x', 3000);
		END $$`, "SELECT leave(@n::int)")
	if _, err := w.run(w.call(1)); err != nil {
		t.Fatal(err)
	}
	s := w.hold()
	var seats []*seat
	var executions []*Execution
	for _, n := range []int{1, 2, 1, 1} {
		own := seatOf(w.call(n), w.pool, smallReply)
		open := own.open
		own.open = func(s *session.Session, buffer []byte) part {
			x, _ := open(s, buffer).(*Execution)
			executions = append(executions, x)
			return x
		}
		seats = append(seats, own)
	}
	if together(t.Context(), s, seats, nil) {
		t.Error("all went well with one that leaves a role")
	}
	s.GiveBack(false)
	for i, x := range executions {
		if kept, want := len(x.reply.body) > 3000, i < 2; kept != want {
			t.Errorf("call %d of %d has its rows: %t, want %t", i, len(executions), kept, want)
		}
	}
}

// A row that is many times longer in JSON than PostgreSQL sends it is not written in order
// to see that it does not fit.
func TestARowThatGrowsIsNotWritten(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", `SELECT repeat(CASE @n::int WHEN 1 THEN E'\x01' WHEN 2 THEN '"' ELSE 'x' END, CASE @n::int WHEN 0 THEN 1 ELSE 900000 END)`)
	const limit = 1 << 20
	for what, c := range map[string]struct {
		n    int
		fits bool
	}{"control characters": {1, false}, "quotes": {2, false}, "letters": {3, true}} {
		s := w.hold()
		x := newExecution(w.call(c.n), s, 1, limit, nil)
		done, err := x.once(t.Context())
		if fits := err == nil && len(done.Body) > 900_000; fits != c.fits || !fits && !errors.Is(err, errTooLarge) {
			t.Errorf("%s: %d bytes and %v, want an answer: %t", what, len(done.Body), err, c.fits)
		}
		if held := cap(x.reply.body); !c.fits && held > limit/2 {
			t.Errorf("%s: what cannot be answered has taken %d bytes", what, held)
		}
		x.Close()
		s.GiveBack(false)
	}
}

func TestALostConnectionTakesNoAnswersAlong(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT CASE @n::int WHEN 3 THEN pg_terminate_backend(pg_backend_pid())::int ELSE @n::int END")
	wants(t, "one ends the backend", w.share(1, 2, 3, 4), "1", "2", "", "")
	wants(t, "on another connection", w.share(4, 5), "4", "5")
}

func TestWhoGivesUpDoesNotWaitForOthers(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT @n::int")
	s := seatOf(w.call(1), w.pool, smallReply)
	s.Waits()
	w.program.company.take(seatOf(w.call(0), w.pool, smallReply))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.result(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever gives up is told %v, want %v", err, context.Canceled)
	}
}

func TestNoticesAreOnesOwn(t *testing.T) {
	t.Parallel()
	w := newCompany(t, `CREATE FUNCTION say(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'said %', n; RETURN n; END $$`, "SELECT say(@n::int)")
	for i, body := range w.share(11, 22, 33) {
		own := fmt.Sprintf("said %d%d", i+1, i+1)
		if strings.Count(body, "said ") != 1 || !strings.Contains(body, own) {
			t.Errorf("call %d is answered %s, want the notice %q and no other", i, body, own)
		}
	}
}

func TestAResultTooLargeIsTriedAlone(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT repeat('x', @n::int), @n::int")
	wants(t, "one is too large", w.share(1, 100_000, 2), "1", "", "2")
}

func TestWhoSharesAConnection(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT @n::int")
	company := w.program.company
	sit := func(change func(*Call)) *seat {
		c := w.call(1)
		change(c)
		s := seatOf(c, w.pool, smallReply)
		s.Waits()
		return s
	}
	leader := seatOf(w.call(0), w.pool, smallReply)
	for what, change := range map[string]func(*Call){
		"another caller": func(c *Call) { c.Caller = "bob" },
		"another owner":  func(c *Call) { c.Owner = "bob" },
		"too little time": func(c *Call) {
			c.Deadline = time.Now().Add(togetherFor / 2)
		},
	} {
		s := sit(change)
		if n := len(company.take(leader)); n != 0 || !s.Granted() {
			t.Errorf("%s: %d calls are taken, want none", what, n)
		}
	}
	for range 2 * mostTogether {
		sit(func(*Call) {})
	}
	if n := len(company.take(leader)); n != mostTogether-1 {
		t.Errorf("%d calls are taken, want %d", n, mostTogether-1)
	}

	s := w.hold()
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if s, err := w.pool.Acquire(ctx, "bob", "bob"); err == nil {
			s.GiveBack(false)
		}
	})
	testenv.Wait(t, time.Minute, "somebody else to wait", func() bool { return w.pool.Stat().Waiting == 1 })
	if n := len(company.take(leader)); n != 0 {
		t.Errorf("while somebody else waits %d calls are taken, want none", n)
	}
	cancel()
	waiting.Wait()
	s.GiveBack(false)
}

// Calls that end badly have company no more for a while: each time would be in vain.
func TestBadCompanyIsLeft(t *testing.T) {
	t.Parallel()
	w := newCompany(t, "", "SELECT @n::int")
	w.program.company.end(nil, false)
	if w.call(1).sociable(t.Context()) {
		t.Error("calls have company right after they ended badly")
	}
	for range shyFor {
		w.program.company.ran(time.Millisecond)
	}
	if !w.call(1).sociable(t.Context()) {
		t.Error("calls have no company for ever")
	}
	large := w.call(1)
	large.Params = map[string]json.RawMessage{"n": json.RawMessage(`"` + strings.Repeat("1", smallCall) + `"`)}
	if large.sociable(t.Context()) {
		t.Error("a call with long parameters has company")
	}
	w.program.company.ran(2 * quickRun)
	if w.call(1).sociable(t.Context()) {
		t.Error("slow calls have company")
	}
}
