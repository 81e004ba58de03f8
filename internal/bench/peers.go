package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"
)

// peer is another program that moves notifications to core NATS.
type peer struct{ name, command string }

// peers are those that the flag names, one each time.
type peers []peer

func (p *peers) String() string { return "" }

// Set implements flag.Value.
func (p *peers) Set(text string) error {
	name, command, ok := strings.Cut(text, "=")
	if !ok || name == "" || command == "" {
		return errors.New("it has the form NAME=COMMAND")
	}
	*p = append(*p, peer{name, command})
	return nil
}

// startPeer runs the command with what it needs to know in the environment.
func (l *lab) startPeer(ctx context.Context, p peer) (*contender, error) {
	command := exec.Command("sh", "-c", "exec "+p.command)
	command.Env = append(os.Environ(), "BENCH_POSTGRES_URL="+l.url, "BENCH_NATS_URL="+l.natsURL(), "BENCH_CHANNEL="+channel, "BENCH_SUBJECT="+subject)
	return begin(command, func() error { return l.awaitEvent(ctx) })
}

// besidePeers prints how many events a second pgbridge moves on core NATS beside each
// peer, and the processor time of one.
func (l *lab) besidePeers(ctx context.Context, o options) error {
	for _, p := range o.peers {
		var rates, micros [2][]float64 // the peer, pgbridge
		for range o.rounds {
			for i, start := range []func() (*contender, error){
				func() (*contender, error) { return l.startPeer(ctx, p) },
				func() (*contender, error) { return l.start(ctx, false, core) },
			} {
				rate, err := l.runThrough(ctx, o, core, start, func(_ *contender, used time.Duration) {
					micros[i] = append(micros[i], float64(used.Microseconds())/float64(o.events))
				})
				if err != nil {
					return err
				}
				rates[i] = append(rates[i], rate)
			}
		}
		l.report.add(&figure{What: "throughput, core", Value: median(rates[1]), Unit: "events/s", Beside: p.name, Other: median(rates[0])})
		l.report.add(&figure{What: "throughput, core: CPU of an event", Value: median(micros[1]), Unit: "µs", Beside: p.name, Other: median(micros[0])})
	}
	return nil
}
