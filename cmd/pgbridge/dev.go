package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/examples"
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
one of them written to every second, and prints the events as they arrive. The
example scripts can be run meanwhile. Ctrl-C removes everything again.

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
	bridge   *bridge.Bridge
	runner   *txrunner.Runner // nil without the example
	log      *zap.Logger
	events   *nats.Conn
	viewer   *nats.Conn
	messages <-chan *nats.Msg
	nats     *server.Server
	example  *example
	scripts  string         // the folder with the example's
	closers  []func() error // in the order of opening
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
	for _, step := range []func(context.Context) error{d.openPostgres, d.openExample, d.openNATS, d.openBridge, d.openRunner} {
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
		s, err := pgserver.Start(ctx, pgserver.Config{Binaries: tools})
		if err != nil {
			return err
		}
		d.onClose(s.Close)
		d.url = s.URL("")
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
	d.example = &example{settings: d.settings}
	if err := d.example.create(ctx); err != nil {
		return err
	}
	d.onClose(d.example.drop)
	return nil
}

// openNATS takes the usual port, or a free one where it is taken.
func (d *playground) openNATS(context.Context) error {
	dir, err := os.MkdirTemp("", "pgbridge-dev-")
	if err != nil {
		return fmt.Errorf("make a folder for NATS: %w", err)
	}
	d.onClose(func() error { return os.RemoveAll(dir) })
	e := natsconn.Embedded{Host: "127.0.0.1", Port: server.DEFAULT_PORT, Name: "pgbridge-dev", StoreDir: dir}
	if d.nats, err = e.Start(); err != nil {
		e.Port = 0
		d.nats, err = e.Start()
	}
	if err != nil {
		return err
	}
	d.onClose(func() error { natsconn.Stop(d.nats); return nil })
	return nil
}

func (d *playground) openBridge(context.Context) (err error) {
	d.log = newLogger(d.process.stderr, "console", zapcore.WarnLevel)
	keep := natsconn.Keeper{Name: "pgbridge dev", InProcess: d.nats, Logger: d.log}
	if d.events, err = natsconn.Events(natsconn.Settings{}, keep); err != nil {
		return err
	}
	d.onClose(func() error { d.events.Close(); return nil })
	d.viewer, err = natsconn.Once(natsconn.Settings{}, "pgbridge dev viewer", nats.InProcessServer(d.nats))
	if err != nil {
		return err
	}
	d.onClose(func() error { d.viewer.Close(); return nil })
	if d.messages, err = subscribe(d.viewer, []string{"pgbridge.event.>", "pgbridge.gap.>"}); err != nil {
		return err
	}
	d.bridge, err = bridge.New(bridge.Config{
		ConnString: d.url, ApplicationName: "pgbridge dev",
		Events: d.events, Channels: d.channels(), Logger: d.log,
		StopGrace: 3 * time.Second,
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
	if err := os.CopyFS(dir, examples.Scripts()); err != nil {
		return fmt.Errorf("write the example scripts: %w", err)
	}
	d.scripts = dir
	keep := natsconn.Keeper{Name: "pgbridge dev requests", InProcess: d.nats, Logger: d.log}
	requests, err := natsconn.Requests(natsconn.Settings{}, keep)
	if err != nil {
		return err
	}
	d.onClose(func() error { requests.Close(); return nil })
	copies, err := newCopier(requests, "", d.log)
	if err != nil {
		return err
	}
	d.runner, err = txrunner.New(txrunner.Config{
		ConnString: d.example.connString(d.url), ApplicationName: "pgbridge dev",
		Requests: requests, Scripts: dir, Logger: d.log, StopGrace: 3 * time.Second,
		Extensions: extensions(copies.Extension()),
	})
	if err != nil {
		return fmt.Errorf("prepare runner: %w", err)
	}
	return nil
}

func (d *playground) channels() map[string]bridge.Channel {
	channels := map[string]bridge.Channel{}
	for _, name := range d.cmd.Channel {
		channels[name] = bridge.Channel{Notify: true}
	}
	if d.example != nil {
		channels[exampleChannel] = bridge.Channel{Notify: true}
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
	work.Go(func() error { return receive(ctx, d.messages, 0, newPrinter(d.process.stdout, false)) })
	if d.example != nil {
		work.Go(func() error { return d.runner.Run(ctx) })
		work.Go(func() error { d.example.write(ctx, time.Second); return nil })
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
		return exampleChannel
	}
	return d.cmd.Channel[0]
}

// instructions are for a person, so they do not go where events go.
func (d *playground) instructions() {
	own, url := ownCommand(), d.nats.ClientURL()
	d.say("\nEvents appear below. In another terminal, notify and subscribe yourself:\n")
	d.say("    %s", d.notifyLine())
	d.say("    %s sub --nats %s\n", own, url)
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
