// Command liveops is the system's command for people: it runs the whole system on one machine, plays recordings into it,
// and asks it questions. What it does to a running system it does through the public API.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // boards name IANA zones

	"github.com/alecthomas/kong"

	"liveops/handler/app"
)

// version is set by the build.
var version = "dev"

// Exit codes.
const (
	exitFailed  = 1 // it could not be done; the line on stderr says why
	exitUsage   = 2 // the command line is wrong; the line on stderr says how
	exitRefused = 3 // it was done, and the answer is no: rejected events, an invalid receipt or archive, dead letters given up
)

// errRefused is the error of a command that did its work and got a no, which it has printed.
var errRefused = errors.New("refused")

const description = `A game's live operations on one machine, and the tools to work with them.

Exit codes: 0 done, 1 could not be done, 2 wrong command line, 3 done and the answer is no (rejected events, an invalid receipt or
archive, dead letters given up).

Examples:
  liveops dev --demo
  liveops sample | liveops replay - --secret-file DIR/dev-server.secret
  liveops top arena-score`

type commands struct {
	Dev       devCommand       `cmd:"" help:"Run the whole system in this process."`
	Sample    sampleCommand    `cmd:"" help:"Write the events of a small made-up game, as NDJSON."`
	Replay    replayCommand    `cmd:"" help:"Sign recorded events and post them, each player's in order."`
	Sign      signCommand      `cmd:"" help:"Print a signed curl line for an event."`
	Top       topCommand       `cmd:"" help:"Print the top of a board."`
	Verify    verifyCommand    `cmd:"" help:"Check a receipt, or an archived leaderboard."`
	Simulate  simulateCommand  `cmd:"" help:"Try another fairness policy on recorded events, beside the current one."`
	Decisions decisionsCommand `cmd:"" help:"Print what the fairness rules found."`
	Cases     casesCommand     `cmd:"" help:"Look at players under suspicion, and decide."`
	Sessions  sessionsCommand  `cmd:"" help:"Make the key of a player's session, or end all of his."`
	Windows   windowsCommand   `cmd:"" help:"Look at the windows of leaderboards; end, extend or rebuild one."`
	Archives  archivesCommand  `cmd:"" help:"List, download and prove the final order of windows."`
	Players   playersCommand   `cmd:"" help:"Write out what is held on a player, or have him forgotten."`
	Redrive   redriveCommand   `cmd:"" help:"Bring dead letters back to their queues."`
	Migrate   migrateCommand   `cmd:"" help:"Bring a database's schema up to date."`
	Rebuild   rebuildCommand   `cmd:"" help:"Make the rankings in Redis anew from the database."`
	Catalog   catalogCommand   `cmd:"" help:"Check a game's catalog, compare two, or write the schema for editors."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

func main() {
	app.KeepStderrClean()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// exited carries kong's wish to exit out of its parser.
type exited int

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) (code int) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case exited:
			code = int(p)
		default:
			panic(p)
		}
	}()
	t := &terminal{in: in, out: &printer{to: out}, err: errs}
	var c commands
	parser, err := kong.New(&c,
		kong.Name("liveops"), kong.Writers(out, errs), kong.Exit(func(code int) { panic(exited(code)) }),
		kong.Description(description), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(t),
	)
	if err != nil {
		say(errs, err.Error())
		return exitFailed
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		say(errs, fmt.Sprintf("%v (see %s --help)", err, commandOf(err)))
		return exitUsage
	}
	err = chosen.Run()
	if err == nil || errors.Is(err, errRefused) {
		err = cmp.Or(t.out.err, err)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errRefused):
		return exitRefused
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		say(errs, "interrupted")
	default:
		say(errs, err.Error())
	}
	return exitFailed
}

// say prints an error on one line, however many it has.
func say(to io.Writer, text string) {
	var parts []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	_, _ = fmt.Fprintln(to, "liveops:", strings.Join(parts, "; "))
}

// commandOf is the command that a command line was meant for, as far as it could be read.
func commandOf(err error) string {
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return "liveops " + node.Name
		}
	}
	return "liveops"
}

type versionCommand struct{}

// Help implements kong's longer help.
func (versionCommand) Help() string {
	return `Examples:
  liveops version`
}

func (versionCommand) Run(t *terminal) error {
	t.out.printf("liveops %s\n", version)
	return nil
}
