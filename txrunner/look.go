package txrunner

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/internal/api/describe"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// ScriptState is a script, and what became of the requests on it.
type ScriptState struct {
	Name        string
	Kind        string // run, copy in or copy out
	Cursor      bool   // it can be opened as a cursor
	Description string
	Answered    Answered

	// What follows is there only where [Runner.LookAtScript] was asked.
	File     string
	Text     string
	Settings []string // as the file has them: word: value
	// Parameters and Columns are as PostgreSQL describes them; Problem is why it
	// does not, empty where it does.
	Parameters, Columns []TypedName
	Problem             string
}

// TypedName is a parameter or a column. A parameter can have several types, one for
// each statement, or none that is known.
type TypedName struct {
	Name  string
	Types []string
}

// Backend is what PostgreSQL says of one of its processes.
type Backend struct {
	State     string   // active, idle in transaction and the like
	WaitType  string   // empty: it does not wait
	WaitEvent string   // what for
	Blockers  []uint32 // PIDs of who holds the lock that it waits for
}

// Scripts returns all scripts by name. It asks nobody.
func (r *Runner) Scripts() []ScriptState {
	programs := *r.scripts.programs.Load()
	all := make([]ScriptState, 0, len(programs))
	for _, name := range r.scripts.names() {
		if p := programs[name]; p != nil {
			all = append(all, r.scriptState(p))
		}
	}
	return all
}

func (r *Runner) scriptState(p *execution.Program) ScriptState {
	e := newEntry(p)
	return ScriptState{Name: e.Name, Kind: e.Kind, Cursor: e.Cursor, Description: e.Description, Answered: newAnswered(r.answers.Of(e.Name))}
}

// LookAtScript asks PostgreSQL what a script's parameters and columns are; false
// means that there is no such script. It blocks until PostgreSQL has answered, or
// ctx ends.
func (r *Runner) LookAtScript(ctx context.Context, name string) (ScriptState, bool) {
	p := r.scripts.get(name)
	if p == nil {
		return ScriptState{}, false
	}
	d := r.scriptState(p)
	d.File, d.Text, d.Settings = p.Script.File, p.Script.Text(), settingLines(settingsOf(p))
	described, err := r.lookAtScript(ctx, p)
	if err != nil {
		d.Problem = explain(err)
		for _, name := range p.Script.Params {
			d.Parameters = append(d.Parameters, TypedName{Name: name})
		}
		return d, true
	}
	for _, one := range described.Parameters {
		d.Parameters = append(d.Parameters, TypedName{one.Name, one.Types})
	}
	for _, one := range described.Columns {
		d.Columns = append(d.Columns, TypedName{one.Name, []string{one.Type}})
	}
	return d, true
}

func (r *Runner) lookAtScript(ctx context.Context, p *execution.Program) (describe.Description, error) {
	if !r.opened.Load() {
		return describe.Description{}, service.Errorf(service.CodeUnavailable, "PostgreSQL was not asked yet")
	}
	described, notNull, err := r.describeStatements(ctx, p, ownWork, time.Now().Add(r.config.MaxTimeout))
	if err != nil {
		return describe.Description{}, err
	}
	return details(p, described, notNull)
}

// explain says why PostgreSQL does not describe a script. No parameter was sent, so
// its message quotes none.
func explain(err error) string {
	failure := service.AsError(err)
	if failure.SQLState == "" {
		return failure.Message
	}
	text := failure.Message + " (SQLSTATE " + failure.SQLState + ")"
	if failure.Line > 0 {
		text = fmt.Sprintf("line %d: %s", failure.Line, text)
	}
	return text
}

func settingLines(s describe.Settings) (lines []string) {
	add := func(word, value string) {
		if value != "" {
			lines = append(lines, word+": "+value)
		}
	}
	flag := func(b *bool) string {
		if b == nil {
			return ""
		}
		return strconv.FormatBool(*b)
	}
	add("isolation", s.Isolation)
	add("read_only", flag(s.ReadOnly))
	add("deferrable", flag(s.Deferrable))
	if s.TimeoutMS > 0 {
		add("timeout", (time.Duration(s.TimeoutMS) * time.Millisecond).String())
	}
	if s.Retries != nil {
		add("retries", strconv.Itoa(*s.Retries))
	}
	add("role", s.Role)
	if s.Concurrency > 0 {
		add("concurrency", strconv.Itoa(s.Concurrency))
	}
	add("bucket", strings.Join(s.Buckets, ", "))
	return lines
}

const backendColumns = 5

const backendsSQL = `SELECT a.pid, COALESCE(a.state, ''), COALESCE(a.wait_event_type, ''), COALESCE(a.wait_event, ''),
	CASE WHEN a.wait_event_type OPERATOR(pg_catalog.=) 'Lock' THEN pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(a.pid), ',') ELSE '' END
FROM pg_catalog.pg_stat_activity a WHERE a.pid OPERATOR(pg_catalog.=) ANY (ARRAY[%s]::pg_catalog.int4[])`

// LookAtBackends asks PostgreSQL what some of its processes do and wait for. It
// blocks until that has answered or ctx ends.
func (r *Runner) LookAtBackends(ctx context.Context, pids []uint32) (map[uint32]Backend, error) {
	found := map[uint32]Backend{}
	if len(pids) == 0 || !r.opened.Load() {
		return found, nil
	}
	s, err := execution.Acquire(ctx, r.runs, ownWork, session.Ourselves)
	if err != nil {
		return nil, fmt.Errorf("look at the backends of transactions: %w", err)
	}
	rows, err := postgres.ReadRows(ctx, s.Conn, fmt.Sprintf(backendsSQL, joined(pids)), backendColumns)
	s.GiveBack(err != nil)
	if err != nil {
		return nil, fmt.Errorf("look at the backends of transactions: %w", err)
	}
	for _, row := range rows {
		b := Backend{State: string(row[1]), WaitType: string(row[2]), WaitEvent: string(row[3]), Blockers: splitPIDs(string(row[4]))}
		for _, pid := range splitPIDs(string(row[0])) {
			found[pid] = b
		}
	}
	return found, nil
}

func joined(pids []uint32) string {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.FormatUint(uint64(pid), 10)
	}
	return strings.Join(words, ",")
}

func splitPIDs(list string) (pids []uint32) {
	for word := range strings.SplitSeq(list, ",") {
		if pid, err := strconv.ParseUint(word, 10, 32); err == nil {
			pids = append(pids, uint32(pid))
		}
	}
	return pids
}

// LookAtJobs asks JetStream what jobs there are, of all replicas; nil means that none
// are taken. It blocks until that has answered, ctx ends or a few seconds have passed.
func (r *Runner) LookAtJobs(ctx context.Context) (*JobsState, error) {
	if r.jobs == nil {
		return nil, nil
	}
	b, err := r.jobs.Backlog(ctx)
	if err != nil {
		return nil, err
	}
	s := r.jobsState()
	s.Waiting, s.UnderWay, s.Again, s.Oldest = b.Waiting, b.UnderWay, b.Again, b.Oldest
	return s, nil
}
