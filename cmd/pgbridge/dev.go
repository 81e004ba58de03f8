package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/example"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/logging"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/state"
	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/txrunner"
)

type devCmd struct {
	Postgres    string        `placeholder:"URL" help:"Use this database instead of a throw-away server."`
	PostgresBin string        `placeholder:"DIR" help:"Folder of PostgreSQL's server programs (or PGBRIDGE_POSTGRES_BIN)."`
	Channel     []string      `sep:"none" placeholder:"NAME" help:"Listen on this channel too; repeatable."`
	Example     bool          `help:"Make the example tables in the database of --postgres too, and drop it at the end."`
	For         time.Duration `placeholder:"DURATION" help:"End by itself after this time."`
}

// Help shows examples.
func (devCmd) Help() string {
	return `Runs an embedded NATS server and a throw-away PostgreSQL with example tables,
one of them written to every second, and prints the events as they arrive, those
of a plain channel and those of a durable one. The example scripts can be run
meanwhile, and the console, whose address comes first, shows what goes on.
Ctrl-C removes everything again.

Examples:

    pgbridge dev
    pgbridge dev --for 30s
    pgbridge dev --postgres postgres://app@localhost/app --channel orders`
}

// Run prints events until a signal or until the time is up.
func (cmd devCmd) Run(ctx context.Context, p *process) (err error) {
	if cmd.Postgres == "" {
		cmd.Example = true
	} else if len(cmd.Channel) == 0 && !cmd.Example {
		return &usageError{errors.New("with --postgres name a --channel to listen on, or ask for the --example")}
	}
	if cmd.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cmd.For)
		defer cancel()
	}
	d := &playground{cmd: cmd, process: p, url: cmd.Postgres}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx); err != nil {
		if ctx.Err() != nil { // stopped while starting
			return nil
		}
		return err
	}
	return d.run(ctx)
}

// playground is what dev runs; closing it leaves nothing behind.
type playground struct {
	cmd     devCmd
	process *process

	url      string // of the database
	settings *postgres.Settings
	psql     string // path, if there is one
	// throwaway says that the server is: a durable channel is shown, too, jobs are taken,
	// and visitors come.
	throwaway bool
	bridge    *bridge.Bridge
	runner    *txrunner.Runner // nil without the example
	log       *zap.Logger
	events    *nats.Conn
	viewer    *nats.Conn
	page      *devConsole
	seen      *client.Subscription
	nats      *server.Server
	example   *example.Example
	scripts   string         // the folder with the example's
	closers   []func() error // in the order of opening
}

func (d *playground) onClose(f func() error) { d.closers = append(d.closers, f) }

func (d *playground) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	return errors.Join(errs...)
}

func (d *playground) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{d.openPostgres, d.openExample, d.openNATS, d.openBridge, d.openRunner, d.openConsole} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *playground) openPostgres(ctx context.Context) (err error) {
	tools, findErr := pgserver.Find(d.cmd.PostgresBin)
	if d.psql, err = tools.Tool("psql"); err != nil {
		d.psql = ""
	}
	if d.url == "" {
		if findErr != nil {
			return findErr
		}
		d.say("starting a throw-away PostgreSQL …")
		s, err := pgserver.Start(ctx, pgserver.Config{Binaries: tools, Settings: map[string]string{"wal_level": "logical"}})
		if err != nil {
			return err
		}
		d.onClose(s.Close)
		d.url, d.throwaway = s.URL(""), true
	}
	d.settings, err = postgres.Parse(d.url, postgres.Options{ApplicationName: "pgbridge dev"})
	if err != nil {
		return &usageError{fmt.Errorf("--postgres: %w", err)}
	}
	return nil
}

func (d *playground) openExample(ctx context.Context) error {
	if !d.cmd.Example {
		return nil
	}
	d.example = example.In(d.settings)
	if err := d.example.Create(ctx); err != nil {
		return err
	}
	d.onClose(d.example.Drop)
	if d.throwaway {
		d.example.SendDurably()
		return migrateDev(ctx, d.settings)
	}
	return nil
}

func (d *playground) openNATS(context.Context) (err error) {
	d.nats, err = startDevNATS(d.onClose)
	return err
}

// watch opens a connection for somebody who watches.
func (d *playground) watch() (*nats.Conn, error) {
	return natsconn.Once(natsconn.Settings{}, "pgbridge dev viewer", nats.InProcessServer(d.nats))
}

func (d *playground) openBridge(ctx context.Context) (err error) {
	d.log = logging.New(d.process.stderr, "console", "warn")
	keep := natsconn.Keeper{Name: "pgbridge dev", InProcess: d.nats, Logger: d.log}
	if d.events, err = natsconn.Events(natsconn.Settings{}, keep); err != nil {
		return err
	}
	d.onClose(func() error { d.events.Close(); return nil })
	d.viewer, err = d.watch()
	if err != nil {
		return err
	}
	d.onClose(func() error { d.viewer.Close(); return nil })
	viewer, err := client.New(d.viewer, client.Options{})
	if err != nil {
		return err
	}
	if d.seen, err = viewer.Subscribe(ctx, client.SubscribeOptions{}); err != nil {
		return err
	}
	d.onClose(func() error { d.seen.Close(); return nil })
	d.bridge, err = bridge.New(bridge.Config{
		ConnString: d.url, ApplicationName: "pgbridge dev", Group: "dev-" + rand.Text(), // no replica of one that serves the database
		Events: d.events, Channels: d.channels(), Logger: d.log, Report: state.Of(ownVersion(), func() *bridge.Bridge { return d.bridge }, func() *txrunner.Runner { return d.runner }).Report,
		StopGrace: 3 * time.Second, Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
	})
	if err != nil {
		return fmt.Errorf("prepare bridge: %w", err)
	}
	return nil
}

// openRunner serves the example scripts from a folder that can be edited.
func (d *playground) openRunner(context.Context) error {
	if d.example == nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "pgbridge-dev-")
	if err != nil {
		return fmt.Errorf("make a folder for scripts: %w", err)
	}
	d.onClose(func() error { return os.RemoveAll(dir) })
	if err := writeDevScripts(dir, d.throwaway); err != nil {
		return fmt.Errorf("write the example scripts: %w", err)
	}
	d.scripts = dir
	keep := natsconn.Keeper{Name: "pgbridge dev requests", InProcess: d.nats, Logger: d.log}
	requests, err := natsconn.Requests(natsconn.Settings{}, keep)
	if err != nil {
		return err
	}
	d.onClose(func() error { requests.Close(); return nil })
	copies, err := newCopier(copier.Config{Requests: requests, Logger: d.log})
	if err != nil {
		return err
	}
	d.runner, err = txrunner.New(txrunner.Config{
		ConnString: d.example.ConnString(d.url), ApplicationName: "pgbridge dev",
		Requests: requests, Scripts: dir, Logger: d.log, StopGrace: time.Second, Jobs: devJobs(d.throwaway),
		Extensions: extensions(copies.Extension()),
	})
	if err != nil {
		return fmt.Errorf("prepare runner: %w", err)
	}
	return nil
}

func (d *playground) openConsole(context.Context) (err error) {
	if d.page, err = newDevConsole(d.bridge, d.runner, d.viewer, d.watch, d.log); err == nil {
		d.onClose(d.page.Close)
	}
	return err
}

func (d *playground) channels() map[string]bridge.Channel {
	channels := map[string]bridge.Channel{}
	for _, name := range d.cmd.Channel {
		channels[name] = bridge.Channel{Notify: true}
	}
	if d.example != nil {
		channels[example.Channel] = bridge.Channel{Notify: true}
	}
	if d.throwaway {
		channels[example.DurableChannel] = bridge.Channel{Durable: true}
	}
	return channels
}

// run blocks until ctx ends.
func (d *playground) run(ctx context.Context) error {
	d.instructions()
	if d.psql == "" {
		go d.notifyTyped(ctx) // a read from a terminal cannot be ended
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return d.bridge.Run(ctx) })
	work.Go(func() error { return d.page.Run(ctx) })
	work.Go(func() error {
		return printEvents(ctx, d.seen.Events, 0, console.Messages{Out: d.process.stdout}, d.say)
	})
	if d.example != nil {
		work.Go(func() error { return d.runner.Run(ctx) })
		work.Go(func() error { d.example.Write(ctx, time.Second); return nil })
	}
	if d.throwaway {
		work.Go(func() error { return visit(ctx, d.watch) })
	}
	return work.Wait()
}

// notifyTyped sends each line from the terminal as a notification.
func (d *playground) notifyTyped(ctx context.Context) {
	for lines := bufio.NewScanner(d.process.stdin); lines.Scan() && ctx.Err() == nil; {
		if err := notify(ctx, d.settings, d.channel(), lines.Text()); err != nil {
			d.say("NOTIFY: %v", err)
		}
	}
}

func (d *playground) say(format string, args ...any) {
	fmt.Fprintf(d.process.stderr, format+"\n", args...)
}

// channel is the one that the instructions are about.
func (d *playground) channel() string {
	if d.example != nil {
		return example.Channel
	}
	return d.cmd.Channel[0]
}

// instructions are for a person, so they do not go where events go.
func (d *playground) instructions() {
	own, url := console.OwnCommand(), d.nats.ClientURL()
	d.say("\nSee what it does, live: %s", d.page.URL())
	if d.throwaway {
		d.say("Visitors keep it busy: two transactions, of which one waits for the other, a cursor, a")
		d.say("copy and jobs, some of which fail. They use the scripts demo.*, and nothing of yours.")
	}
	d.say("\nEvents appear below. In another terminal, notify and subscribe yourself:\n")
	d.say("    %s", d.notifyLine())
	d.say("    %s sub --nats %s\n", own, url)
	if d.throwaway {
		d.say("Each row is sent twice: on the channel %s with NOTIFY, and on the durable channel", example.Channel)
		d.say("%s, through the write-ahead log, into the stream PGBRIDGE_DURABLE.\n", example.DurableChannel)
	}
	if d.example != nil {
		d.say("Run scripts, which are read again when you edit them in %s:\n", d.scripts)
		d.say("    %s run --nats %s transfer source=1 target=2 amount=10.50", own, url)
		d.say("    %s run --nats %s orders.search customer=ada", own, url)
		d.say("    %s cursor --nats %s orders.all", own, url)
		d.say("    %s copy --nats %s export_orders customer=Ada\n", own, url)
	}
	d.say("Ctrl-C ends this and removes everything.\n")
}

func (d *playground) notifyLine() string {
	if d.psql == "" {
		return "(there is no psql: type a line here and press Enter, it becomes a NOTIFY)"
	}
	return notifyLine(d.psql, d.url, d.cmd.Postgres != "", d.channel())
}
