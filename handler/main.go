// Command handler is the Functions custom handler: the binary that the Functions host starts in production. It links no
// stand-in; `liveops dev` runs the same application on embedded ones.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
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
	if err := app.Run(ctx, os.Getenv, app.Options{Version: version}); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
	os.Exit(restart)
}
