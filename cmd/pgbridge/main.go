// Command pgbridge puts a PostgreSQL database on a NATS bus.
//
// It exits with 0 after a signal or when its work is done, 1 after a failure
// at run time and 2 when it was used or configured wrongly. What it says goes
// to stderr; stdout holds results only.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/shells"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/starter"
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)) }

// cli is the command line.
type cli struct {
	Serve      serveCmd             `cmd:"" help:"Run the bridge until a signal."`
	Check      checkCmd             `cmd:"" help:"Check the configuration, the scripts and what both servers allow."`
	Migrate    migrateCmd           `cmd:"" help:"Make the table for message ids, and the streams."`
	Init       starter.InitCmd      `cmd:"" help:"Write a first configuration, script and compose file."`
	Dev        devCmd               `cmd:"" help:"Try it: throw-away servers, example events and scripts, live output."`
	Sub        subCmd               `cmd:"" help:"Print events and gaps as they arrive, or from a stream."`
	Notify     notifyCmd            `cmd:"" help:"Notify a channel."`
	Ls         lsCmd                `cmd:"" help:"List scripts and channels."`
	Status     statusCmd            `cmd:"" help:"Show what each replica does, its problems and open transactions."`
	Describe   describeCmd          `cmd:"" help:"Show what a script is for, what it takes and what it returns."`
	Run        runCmd               `cmd:"" help:"Run a script, or SQL, and print what comes back."`
	Tx         txCmd                `cmd:"" help:"Drive a transaction line by line, or run a file of requests in one."`
	Jobs       jobsCmd              `cmd:"" help:"List jobs, show their results, try failed ones again, remove them."`
	Copy       copyCmd              `cmd:"" help:"Copy rows out to a file, or in from one: all or none."`
	Cursor     cursorCmd            `cmd:"" help:"Read a script's result page by page, or all of it, whatever its size."`
	Completion shells.CompletionCmd `cmd:"" help:"Write the completion for a shell."`
	Man        shells.ManCmd        `cmd:"" help:"Write man pages."`
	Version    versionCmd           `cmd:"" help:"Print the version."`
}

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
		kong.Bind(p, shells.Version(ownVersion())),
		kong.BindTo(stdout, (*io.Writer)(nil)),
	)
	if err != nil {
		fmt.Fprintln(stderr, "pgbridge:", err)
		return exitFailed
	}
	if shells.Asks(args) {
		return complete(parser.Model, args, p)
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
