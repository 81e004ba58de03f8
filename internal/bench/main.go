// Command bench measures pgbridge beside bare loops, in one run, on a
// throw-away PostgreSQL with fsync on and an in-process NATS server. Each
// contender is a process of its own, so that its memory can be seen.
//
// A bare loop is the least that moves notifications to NATS: lib/pq's Listener
// and one publish for each, without queue, gaps, ids (core) or chains.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() { os.Exit(run(os.Args[1:])) }

// options are the sizes of a run.
type options struct {
	events      int // in each throughput run
	rounds      int // of each contender, taking turns
	notes       int // one at a time, for latency
	outage      int // events while NATS is away, for memory
	payload     int // bytes
	transaction int // notifications
	writers     int
	seconds     int // of each TPC-B run
	copyRows    int
	copyRounds  int
	cursorRows  int
	channels    int
	durables    int // events in a slot
	only        string
	peers       peers
	json, svg   string // files to be written
	drawn       string // a file with JSON to draw, instead of measuring
}

func run(args []string) int {
	if len(args) == 3 && args[0] == "bare" { // what this program starts itself as
		return bare(contenderKind(args[1]), args[2])
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.events, "events", 300_000, "events in each throughput run")
	flags.IntVar(&o.rounds, "rounds", 5, "runs of each contender, taking turns")
	flags.IntVar(&o.notes, "notes", 3_000, "single notifications, for latency")
	flags.IntVar(&o.outage, "outage", 500_000, "events while NATS is away, for memory")
	flags.IntVar(&o.payload, "payload", 200, "bytes of a payload")
	flags.IntVar(&o.transaction, "transaction", 100, "notifications in a transaction")
	flags.IntVar(&o.writers, "writers", 2, "connections that write")
	flags.IntVar(&o.seconds, "seconds", 5, "length of each TPC-B run")
	flags.IntVar(&o.copyRows, "copy-rows", 2_000_000, "rows of a copy, of about 100 bytes")
	flags.IntVar(&o.copyRounds, "copy-rounds", 3, "copies of each kind, taking turns")
	flags.IntVar(&o.cursorRows, "cursor-rows", 2_000_000, "rows of five columns read through a cursor")
	flags.IntVar(&o.channels, "channels", 10_000, "how many are many")
	flags.IntVar(&o.durables, "durables", 2_000_000, "durable events that have gathered")
	flags.StringVar(&o.only, "only", "events,peers,lone,restarts,channels,metrics,requests,copy,cursors,memory,durable", "what to measure")
	flags.Var(&o.peers, "peer", "NAME=COMMAND: another program to measure events on core NATS with, any number of times; sh runs it, with BENCH_POSTGRES_URL, BENCH_NATS_URL, BENCH_CHANNEL and BENCH_SUBJECT set")
	flags.StringVar(&o.json, "json", "", "write all figures to this file, as JSON")
	flags.StringVar(&o.svg, "svg", "", "write a chart of what is compared to this file")
	flags.StringVar(&o.drawn, "draw", "", "measure nothing, and draw the figures of this JSON file")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if o.drawn != "" {
		if err := drawAgain(o.drawn, o.svg); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func measure(ctx context.Context, o options) (err error) {
	lab, err := openLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.close()) }()
	fmt.Printf("PostgreSQL %s, payloads of %d bytes, transactions of %d\n", lab.version, o.payload, o.transaction)
	return errors.Join(lab.all(ctx, o), lab.report.table(os.Stdout), lab.report.write(o.json, o.svg))
}

// all measures what is wanted.
func (l *lab) all(ctx context.Context, o options) error {
	if strings.Contains(o.only, "events") {
		if err := l.events(ctx, o); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "peers") {
		if err := l.besidePeers(ctx, o); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "lone") {
		if err := l.lone(ctx, o); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "restarts") {
		if err := l.restarts(ctx, o); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "channels") {
		if err := l.manyChannels(ctx, o); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "metrics") {
		if err := l.metrics(ctx, o); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	if strings.Contains(o.only, "requests") {
		if err := errors.Join(l.transactions(ctx, o), l.reading(ctx, o), l.keyRates(ctx, o)); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "copy") {
		if err := l.copies(ctx, o); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "cursors") {
		if err := l.cursors(ctx, o); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "memory") {
		if err := l.residence(ctx); err != nil {
			return err
		}
	}
	if strings.Contains(o.only, "durable") {
		return l.durables(ctx, o)
	}
	return nil
}

func (l *lab) events(ctx context.Context, o options) error {
	if err := l.throughput(ctx, o, core, "throughput, core", 0.90); err != nil {
		return fmt.Errorf("throughput, core: %w", err)
	}
	if err := l.throughput(ctx, o, jetStream, "throughput, jetstream", 1.30); err != nil {
		return fmt.Errorf("throughput, jetstream: %w", err)
	}
	if err := l.throughputOnCluster(ctx, o); err != nil {
		return fmt.Errorf("throughput, jetstream on three servers: %w", err)
	}
	if err := l.latency(ctx, o); err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	return l.outage(ctx, o)
}
