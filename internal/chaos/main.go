// Command chaos breaks PostgreSQL, NATS, the links to them and the replicas of
// pgbridge at random, from outside, while events are written, and then compares what
// was committed with what arrived: every item, in order.
//
//	go run ./internal/chaos -seed 7 -for 10m -profile durable
//
// A run has rounds: faults under traffic, then quiet, then the comparison. Every
// discrepancy is printed with the timeline that led to it; the logs of the replicas
// and what arrived are kept beside. A seed chooses the same faults again, not the same
// moments.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/chaos/internal/fault"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func main() {
	testenv.ServeNATSChild()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// options are what the command line asks for.
type options struct {
	seed     uint64
	length   time.Duration
	profile  string
	replicas int
	servers  int
	rate     int
	faults   string
	perRound int
	ring     bool
	program  string
	other    string
	keep     string
	race     bool
	verbose  bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano())%1_000_000, "what chooses the faults and the writes")
	flags.DurationVar(&o.length, "for", 10*time.Minute, "how long faults go on")
	flags.StringVar(&o.profile, "profile", "all", strings.Join(profileNames(), ", "))
	flags.IntVar(&o.replicas, "replicas", 2, "replicas of pgbridge")
	flags.IntVar(&o.servers, "servers", 1, "nats-servers, 1 or 3")
	flags.IntVar(&o.rate, "rate", 300, "events a second")
	flags.StringVar(&o.faults, "faults", "", "kinds of faults, separated by commas, instead of the profile's: replica, backend, link, nats, stream, marker, ddl, postgres, update")
	flags.IntVar(&o.perRound, "per-round", 12, "faults before things are compared")
	flags.BoolVar(&o.ring, "ring", false, "a fault that leaves one listener alone is no excuse for a gap on a plain channel with JetStream; waits for all replicas after each fault")
	flags.StringVar(&o.program, "program", "", "a program of pgbridge's that is built already; else it is built")
	flags.StringVar(&o.other, "other", "", "another program of pgbridge's, for rolling updates")
	flags.StringVar(&o.keep, "keep", ".cache/chaos", "folder for what belongs to a discrepancy")
	flags.BoolVar(&o.race, "race", false, "build pgbridge with the race detector")
	flags.BoolVar(&o.verbose, "v", false, "print what happens as it happens")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var faults []error
	if _, known := profiles()[o.profile]; !known {
		faults = append(faults, fmt.Errorf("-profile %s: want one of %s", o.profile, strings.Join(profileNames(), ", ")))
	}
	if o.replicas < 1 || o.replicas > 9 {
		faults = append(faults, fmt.Errorf("-replicas %d: want 1 to 9", o.replicas))
	}
	if o.servers != 1 && o.servers != 3 {
		faults = append(faults, fmt.Errorf("-servers %d: want 1 or 3", o.servers))
	}
	if o.rate < 1 || o.perRound < 1 {
		faults = append(faults, errors.New("-rate and -per-round: want a number above 0"))
	}
	return o, errors.Join(faults...)
}

// kinds are the kinds of faults that were asked for.
func (o options) kinds() []fault.Kind {
	if o.faults == "" {
		return profiles()[o.profile].faults
	}
	var kinds []fault.Kind
	for kind := range strings.SplitSeq(o.faults, ",") {
		kinds = append(kinds, fault.Kind(strings.TrimSpace(kind)))
	}
	return kinds
}

// run exits with 1 where something was wrong with pgbridge or the run, 2 for a wrong
// command line.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := &runner{options: o, out: stdout}
	err = testenv.Program(ctx, "chaos", func(t testing.TB) error { return r.run(t) })
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(stderr, "chaos:", err)
	}
	r.report.print(stdout)
	if err != nil || r.report.findings > 0 {
		fmt.Fprintf(stdout, "FAILED: %d discrepancies with -seed %d\n", r.report.findings, o.seed)
		return 1
	}
	return 0
}

// build makes the program that is tested, once, unless it is given.
func (o options) build(ctx context.Context, dir string) (string, error) {
	if o.program != "" {
		return filepath.Abs(o.program)
	}
	program := filepath.Join(dir, "pgbridge")
	args := []string{"build", "-o", program}
	if o.race {
		args = append(args, "-race")
	}
	out, err := exec.CommandContext(ctx, "go", append(args, "github.com/pgbridge/pgbridge/cmd/pgbridge")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build pgbridge: %w\n%s", err, out)
	}
	return program, nil
}
