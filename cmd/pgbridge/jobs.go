package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/client/operate"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

// jobsCmd are the commands about jobs.
type jobsCmd struct {
	Ls     jobsLsCmd     `cmd:"" help:"List the jobs that are not done, and the last results."`
	Result jobsResultCmd `cmd:"" help:"Show a job's result."`
	Retry  jobsRetryCmd  `cmd:"" help:"Leave failed jobs once more, as they were."`
	Rm     jobsRmCmd     `cmd:"" help:"Remove jobs that are not done, or have failed."`
}

// Help shows examples.
func (jobsCmd) Help() string {
	return `The streams of jobs and of their results are read directly, which takes a NATS user
who may do that.

Examples:

    pgbridge jobs ls
    pgbridge jobs result order-77
    pgbridge jobs retry order-77
    pgbridge jobs rm order-77`
}

type jobsLsCmd struct {
	clientFlags
	Limit int  `default:"20" placeholder:"N" help:"At most so many jobs, and so many results."`
	JSON  bool `name:"json" help:"Print JSON."`
}

// Help shows examples.
func (jobsLsCmd) Help() string {
	return `A job is waiting until a replica has taken it; then it runs, or waits for its next
attempt, until it is done or has failed.

Examples:

    pgbridge jobs ls
    pgbridge jobs ls --limit 100
    pgbridge jobs ls --json | jq -r '.[] | select(.state == "failed") | .id'`
}

// Run lists.
func (cmd jobsLsCmd) Run(ctx context.Context, p *process) error {
	if cmd.Limit < 1 {
		return &usageError{errors.New("--limit: want a number from 1")}
	}
	return cmd.inspect(ctx, p, "jobs", func(ctx context.Context, r *remote) error {
		jobs, total, err := r.Operator.Jobs(ctx, cmd.Limit)
		if err != nil {
			return err
		}
		results, err := r.Results(ctx, cmd.Limit)
		switch {
		case err != nil:
			return err
		case cmd.JSON:
			return printJSON(p, append(append([]operate.Job{}, jobs...), results...))
		}
		if err := printJobs(p.stdout, append(jobs, results...), time.Now()); err != nil {
			return fmt.Errorf("print the jobs: %w", err)
		}
		if total > len(jobs) {
			r.say("%d of %d jobs that are not done are shown; --limit shows more", len(jobs), total)
		}
		return nil
	})
}

func printJobs(out io.Writer, jobs []operate.Job, now time.Time) error {
	rows := [][]string{{"JOB", "SCRIPT", "STATE", "SINCE", "ATTEMPTS", "ERROR"}}
	for _, j := range jobs {
		attempts := "-"
		if j.Attempts > 0 {
			attempts = strconv.Itoa(j.Attempts)
		}
		id := cmp.Or(j.ID, strconv.FormatUint(j.Sequence, 10)) // by which rm finds it
		rows = append(rows, []string{id, j.Script, string(j.State), console.Span(now.Sub(j.At)), attempts, console.FirstLine(j.Error)})
	}
	return console.Columns(out, rows)
}

type jobsResultCmd struct {
	clientFlags
	ID string `arg:"" help:"The job's id."`
	outputFlags
}

// Help shows examples.
func (jobsResultCmd) Help() string {
	return `Prints the result as run prints a reply. Exits with 1 where the job has failed, or
no result is kept.

Examples:

    pgbridge jobs result order-77
    pgbridge jobs result order-77 --csv`
}

// Run prints the result.
func (cmd jobsResultCmd) Run(ctx context.Context, p *process) error {
	return cmd.inspect(ctx, p, "jobs", func(ctx context.Context, r *remote) error {
		m, err := r.Operator.Result(ctx, cmd.ID)
		if err != nil {
			return about(cmd.ID, err)
		}
		reply, err := client.ReadReply(m)
		if err != nil {
			return err
		}
		return cmd.replies(p, p.stdout).Print(reply)
	})
}

type jobsRetryCmd struct {
	clientFlags
	IDs []string `arg:"" name:"id" help:"The jobs' ids."`
}

// Help shows examples.
func (jobsRetryCmd) Help() string {
	return `A job that failed is kept as it was left for as long as its result. Tried again it
has the same id, so that it is done once, whatever else happens to it.

Examples:

    pgbridge jobs retry order-77
    pgbridge jobs ls --json | jq -j '.[] | select(.state == "failed") | .id + "\u0000"' | xargs -0 pgbridge jobs retry --

Whoever leaves a job chooses its id, which can begin with a dash or hold spaces: -0 and
-- keep it one id.`
}

// Run leaves them again.
func (cmd jobsRetryCmd) Run(ctx context.Context, p *process) error {
	return cmd.inspect(ctx, p, "jobs", func(ctx context.Context, r *remote) error {
		for _, id := range cmd.IDs {
			if err := r.Retry(ctx, id); err != nil {
				return about(id, err)
			}
			r.say("job %s is left again", console.Printable(id))
		}
		return nil
	})
}

type jobsRmCmd struct {
	clientFlags
	IDs []string `arg:"" name:"id" help:"The jobs' ids; of a job that has none the number in the stream."`
}

// Help shows examples.
func (jobsRmCmd) Help() string {
	return `A job that runs at the moment is not interrupted: it may still be done, and has its
result then.

Example:

    pgbridge jobs rm order-77`
}

// Run removes them.
func (cmd jobsRmCmd) Run(ctx context.Context, p *process) error {
	return cmd.inspect(ctx, p, "jobs", func(ctx context.Context, r *remote) error {
		for _, id := range cmd.IDs {
			if err := r.Remove(ctx, id); err != nil {
				return about(id, err)
			}
			r.say("job %s is removed", console.Printable(id))
		}
		return nil
	})
}

func about(id string, err error) error {
	return fmt.Errorf("job %s: %w", console.Printable(id), err)
}
