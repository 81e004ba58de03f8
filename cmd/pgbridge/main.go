// Command pgbridge puts a PostgreSQL database on a NATS bus.
//
// It exits with 0 after a signal or when its work is done, 1 after a failure
// at run time and 2 when it was used or configured wrongly. What it says goes
// to stderr; stdout holds results only.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)) }

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// cli is the command line.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the bridge until a signal."`
	Check   checkCmd   `cmd:"" help:"Check the configuration, the scripts and what both servers allow."`
	Migrate migrateCmd `cmd:"" help:"Make the table for message ids, and the streams."`
	Dev     devCmd     `cmd:"" help:"Try it: throw-away servers, example events and scripts, live output."`
	Sub     subCmd     `cmd:"" help:"Print events and gaps as they arrive."`
	Run     runCmd     `cmd:"" help:"Run a script, or SQL, and print what comes back."`
	Copy    copyCmd    `cmd:"" help:"Copy rows out to a file, or in from one: all or none."`
	Cursor  cursorCmd  `cmd:"" help:"Read a script's result page by page, or all of it, whatever its size."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// process is what a command gets of its surroundings.
type process struct {
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// run is the program: arguments in, exit code out.
func run(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &process{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	var c cli
	helped := -1 // the code that --help asks to exit with
	parser, err := kong.New(&c,
		kong.Name("pgbridge"),
		kong.Description("PostgreSQL on NATS: notifications, scripts and transactions."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { helped = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Bind(p),
	)
	if err != nil {
		fmt.Fprintln(stderr, "pgbridge:", err)
		return exitFailed
	}
	k, err := parser.Parse(args)
	switch {
	case helped >= 0:
		return helped
	case err != nil:
		return p.fail(&usageError{fmt.Errorf("%w (see pgbridge --help)", err)})
	}
	ctx, stop := untilSignal()
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	return p.fail(k.Run())
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends; the
// second kills the process, as it would without us.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// fail prints an error, each line of it, and returns its exit code.
func (p *process) fail(err error) int {
	if err == nil {
		return exitOK
	}
	var silent *silentError
	if errors.As(err, &silent) {
		return silent.code
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(p.stderr, "pgbridge:", strings.TrimRight(line, "\n"))
	}
	var usage *usageError
	var faulty *configError
	if errors.As(err, &usage) || errors.As(err, &faulty) {
		return exitUsage
	}
	return exitFailed
}

// silentError ends a command that has said what is wrong.
type silentError struct{ code int }

func (e *silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// configFlags say where the configuration comes from.
type configFlags struct {
	Config   string   `short:"c" placeholder:"FILE" help:"Configuration file (or PGBRIDGE_CONFIG)."`
	Postgres string   `placeholder:"URL" help:"PostgreSQL connection string: postgres.url."`
	NATS     string   `name:"nats" placeholder:"URL" help:"NATS server: nats.url."`
	Channel  []string `sep:"none" placeholder:"NAME" help:"Listen on this channel too; repeatable."`
	Set      []string `sep:"none" placeholder:"KEY=VALUE" help:"Set any key of the file, as in channels.orders.envelope=json; repeatable."`
}

func (f configFlags) sources(p *process) sources {
	s := sources{
		file: f.Config, environ: p.environ,
		postgres: f.Postgres, nats: f.NATS, channels: f.Channel, set: f.Set,
	}
	if s.file == "" {
		s.file = p.getenv(envConfig)
	}
	return s
}

// getenv looks a variable up in the environment that run was given.
func (p *process) getenv(name string) string {
	for _, entry := range p.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
