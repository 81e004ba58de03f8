package operate

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/stream"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// JobState is how far a job has come.
type JobState string

// The states of jobs.
const (
	JobWaiting JobState = "waiting" // nobody has taken it yet
	JobTaken   JobState = "taken"   // it runs, or waits for its next attempt
	JobFailed  JobState = "failed"
	JobDone    JobState = "done"
)

// Job is one in the stream of jobs, or in that of results.
type Job struct {
	ID     string   `json:"id"`     // empty: it has none of its own and is not done
	Kind   string   `json:"kind"`   // run or copy; empty for what is done
	Script string   `json:"script"` // as its subject names it
	State  JobState `json:"state"`
	// Sequence is its place in the stream of jobs or, once it is done, of results.
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"` // when it was left or, once it is done, when that was
	Attempts int       `json:"attempts,omitempty"`
	Error    string    `json:"error,omitempty"` // why it failed, in a line
}

// ErrNoJob says that no stream holds a job.
var ErrNoJob = errors.New("no such job")

// mostNamed is how many jobs with one id are named.
const mostNamed = 5

// mostScanned bounds how many messages are looked through for one.
const mostScanned = 100_000

// Jobs lists the jobs that are not done, the oldest first, at most limit of them; it
// returns how many there are.
func (o *Operator) Jobs(ctx context.Context, limit int) (jobs []Job, total int, err error) {
	stream, err := o.stream(ctx, o.options.Jobs)
	if err != nil {
		return nil, 0, err
	}
	taken := o.taken(ctx, stream)
	total = int(stream.CachedInfo().State.Msgs)
	err = o.scan(ctx, stream, o.options.Prefix+".job.>", func(m *jetstream.RawStreamMsg) bool {
		if len(jobs) == limit {
			return false
		}
		jobs = append(jobs, o.leftJob(m, taken))
		return true
	})
	return jobs, total, err
}

func (o *Operator) leftJob(m *jetstream.RawStreamMsg, taken uint64) Job {
	kind, script, _ := strings.Cut(strings.TrimPrefix(m.Subject, o.options.Prefix+".job."), ".")
	job := Job{ID: jobID(m.Header), Kind: kind, Script: script, State: JobWaiting, Sequence: m.Sequence, At: m.Time}
	if m.Sequence <= taken {
		job.State = JobTaken
	}
	return job
}

func jobID(h nats.Header) string { return cmp.Or(h.Get(api.HeaderJob), h.Get(nats.MsgIdHdr)) }

// taken is the last job that a replica has taken. Whoever may not ask sees all as
// waiting.
func (o *Operator) taken(ctx context.Context, stream jetstream.Stream) uint64 {
	consumer, err := stream.Consumer(ctx, strings.ReplaceAll(o.options.Prefix, ".", "_")+"_jobs")
	if err != nil {
		return 0
	}
	return consumer.CachedInfo().Delivered.Stream
}

// Results lists the last results, the latest first, at most limit of them.
func (o *Operator) Results(ctx context.Context, limit int) ([]Job, error) {
	stream, err := o.stream(ctx, o.options.Results)
	if err != nil {
		return nil, err
	}
	state := stream.CachedInfo().State
	var jobs []Job
	for seq := state.LastSeq; seq >= max(state.FirstSeq, 1) && len(jobs) < limit && state.LastSeq-seq < mostScanned; seq-- {
		m, err := stream.GetMsg(ctx, seq)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			continue
		case err != nil:
			return nil, reading(ctx, o.options.Results, err)
		case m.Header.Get(api.HeaderJob) == "": // what others have had another stream say there
			continue
		}
		jobs = append(jobs, o.endedJob(m))
	}
	return jobs, nil
}

func (o *Operator) endedJob(m *jetstream.RawStreamMsg) Job {
	script := strings.TrimPrefix(m.Subject, o.options.Prefix+".result.")
	if at := strings.LastIndexByte(script, '.'); at >= 0 {
		script = script[:at]
	}
	job := Job{ID: m.Header.Get(api.HeaderJob), Script: script, State: JobDone, Sequence: m.Sequence, At: m.Time}
	job.Attempts, _ = strconv.Atoi(m.Header.Get(api.HeaderAttempts)) // 0: it does not say
	if err := client.ErrorIn(&nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}); err != nil {
		job.State, job.Error = JobFailed, err.Error()
	}
	return job
}

// Result is the last word about a job: the message that the stream of results keeps.
// The error is ErrNoJob where it keeps none.
func (o *Operator) Result(ctx context.Context, id string) (*nats.Msg, error) {
	stream, err := o.stream(ctx, o.options.Results)
	if err != nil {
		return nil, err
	}
	m, err := o.byToken(ctx, stream, o.options.Prefix+".result.>", id)
	if err != nil {
		return nil, err
	}
	if m.Header.Get(api.HeaderJob) == "" {
		return nil, fmt.Errorf("%s: something else than a result is in its place: %w", m.Subject, ErrNoJob)
	}
	return &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}, nil
}

// Retry leaves a job that failed once more, as it was and under the same id. The
// error is ErrNoJob where the stream of failed jobs does not hold it.
func (o *Operator) Retry(ctx context.Context, id string) error {
	stream, err := o.stream(ctx, api.FailedStream(o.options.Results))
	if err != nil {
		return err
	}
	m, err := o.byToken(ctx, stream, o.options.Prefix+".failed.>", id)
	if err != nil {
		return err
	}
	to := m.Header.Get(api.HeaderJobSubject)
	if !strings.HasPrefix(to, o.options.Prefix+".job.") {
		return fmt.Errorf("the job was not left below %s.job", o.options.Prefix)
	}
	again := nats.NewMsg(to)
	again.Header.Set(api.HeaderJob, id)
	again.Data = m.Data
	// The stream would drop the job's own id, as one that it has seen.
	if _, err := o.options.JetStream.PublishMsg(ctx, again, jetstream.WithMsgID(rand.Text()), jetstream.WithExpectStream(o.options.Jobs)); err != nil {
		return fmt.Errorf("leave the job again: %w", err)
	}
	err = o.remove(ctx, stream, m.Sequence)
	if err != nil && !errors.Is(err, ErrNoJob) { // which has failed again already
		return fmt.Errorf("the job was left again, but is still kept as a failed one: %w", err)
	}
	return nil
}

// Remove takes a job that is not done, or has failed, out of its stream. One that runs
// at the moment goes on, and has its result. The error is ErrNoJob where neither
// stream holds it.
func (o *Operator) Remove(ctx context.Context, id string) error {
	stream, err := o.stream(ctx, o.options.Jobs)
	if err != nil {
		return err
	}
	var found uint64
	var subjects []string
	err = o.scan(ctx, stream, o.options.Prefix+".job.>", func(m *jetstream.RawStreamMsg) bool {
		if jobID(m.Header) == id || jobID(m.Header) == "" && strconv.FormatUint(m.Sequence, 10) == id {
			found, subjects = m.Sequence, append(subjects, m.Subject)
		}
		return len(subjects) < mostNamed
	})
	switch {
	case err != nil:
		return err
	case len(subjects) > 1: // whoever leaves a job chooses its id
		return fmt.Errorf("several jobs have this id: %s", strings.Join(subjects, ", "))
	}
	failed := o.removeFailed(ctx, id) // one that has failed a moment ago can be in both streams still
	if found == 0 {
		return failed
	}
	err = o.remove(ctx, stream, found)
	if failed == nil && errors.Is(err, ErrNoJob) { // whoever ran it was faster
		return nil
	}
	return err
}

// removeFailed takes a job out of the stream of failed ones. The error is ErrNoJob where that does not hold it.
func (o *Operator) removeFailed(ctx context.Context, id string) error {
	stream, err := o.stream(ctx, api.FailedStream(o.options.Results))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return ErrNoJob
	}
	if err != nil {
		return err
	}
	m, err := o.byToken(ctx, stream, o.options.Prefix+".failed.>", id)
	if err != nil {
		return err
	}
	return o.remove(ctx, stream, m.Sequence)
}

// byToken finds the message whose subject ends with a job's id.
func (o *Operator) byToken(ctx context.Context, stream jetstream.Stream, filter, id string) (*jetstream.RawStreamMsg, error) {
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, reading(ctx, stream.CachedInfo().Config.Name, err)
	}
	var subjects []string
	for s := range info.State.Subjects {
		if strings.HasSuffix(s, "."+subject.Token(id)) {
			subjects = append(subjects, s)
		}
	}
	slices.Sort(subjects)
	switch {
	case len(subjects) == 0:
		return nil, ErrNoJob
	case len(subjects) > 1:
		return nil, fmt.Errorf("jobs of several scripts have this id: %s", strings.Join(subjects, ", "))
	}
	m, err := stream.GetLastMsgForSubject(ctx, subjects[0])
	if err != nil {
		return nil, reading(ctx, stream.CachedInfo().Config.Name, err)
	}
	return m, nil
}

// scan calls f for each message of a subject, the oldest first, until it returns false.
func (o *Operator) scan(ctx context.Context, from jetstream.Stream, filter string, f func(*jetstream.RawStreamMsg) bool) error {
	info := from.CachedInfo()
	seq, name := max(info.State.FirstSeq, 1), info.Config.Name
	for range mostScanned {
		m, err := stream.After(ctx, o.options.JetStream, name, filter, seq)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return nil
		case err == nil && m.Sequence < seq:
			err = errors.New("JetStream answers with a message that was not asked for")
		}
		if err != nil {
			return reading(ctx, name, err)
		}
		if !f(m) {
			return nil
		}
		seq = m.Sequence + 1
	}
	return nil
}

func (o *Operator) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := o.options.JetStream.Stream(ctx, name)
	if err != nil {
		return nil, reading(ctx, name, err)
	}
	return stream, nil
}

func reading(ctx context.Context, stream string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("read the stream %s: %w", stream, err)
}

// remove deletes a message. The error is ErrNoJob where somebody else was faster.
func (o *Operator) remove(ctx context.Context, from jetstream.Stream, sequence uint64) error {
	err := deletion(ctx, from, sequence)
	if !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // which has no error of its own for that
		return err
	}
	m, look := stream.After(ctx, o.options.JetStream, from.CachedInfo().Config.Name, ">", sequence)
	if errors.Is(look, jetstream.ErrMsgNotFound) || look == nil && m.Sequence > sequence {
		return ErrNoJob
	}
	return err
}

// deletion deletes a message. The library panics where the answer is neither success nor an
// error. https://github.com/nats-io/nats.go/blob/v1.55.0/jetstream/stream.go#L719
func deletion(ctx context.Context, from jetstream.Stream, sequence uint64) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("JetStream does not say whether it deleted the message")
		}
	}()
	if err := from.DeleteMsg(ctx, sequence); err != nil {
		return fmt.Errorf("remove the job: %w", err)
	}
	return nil
}
