// Command handler is the Functions custom handler: the binary that the Functions host starts in production. With the
// argument `migrate` it brings the database's schema up to date and ends, which is what a deployment runs first. It links no
// stand-in; `liveops dev` runs the same application on embedded ones.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	_ "time/tzdata" // boards name IANA zones, and the image may have none

	"liveops/handler/app"
)

// version is set by the build.
var version = "dev"

// restart is the exit code that the host takes for an intended restart. Exit 0 would leave it without a handler.
const restart = 200

func main() {
	app.KeepStderrClean()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	code, err := restart, error(nil)
	switch arguments := os.Args[1:]; {
	case len(arguments) == 0:
		err = app.Run(ctx, os.Getenv, app.Options{Version: version})
	case slices.Equal(arguments, []string{"migrate"}):
		code, err = 0, app.Migrate(ctx, os.Getenv, os.Stdout)
	default:
		err = fmt.Errorf("%q: the only argument there is, is migrate", arguments)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		code = 1
	}
	os.Exit(code) //nolint:gocritic // nothing is left to stop
}
