package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"liveops"
	"liveops/core/bus/servicebus"
	"liveops/handler/app"
	"liveops/local/host"
)

// The environment of a child, beside what the handler reads itself.
const (
	envRole   = "CRASH_ROLE"   // pod or handler; empty in the conductor
	envName   = "CRASH_NAME"   // of the pod
	envRoot   = "CRASH_ROOT"   // the script root
	envListen = "CRASH_LISTEN" // where the pod's host listens
	envLives  = "CRASH_LIVES"  // URL of lives
	envShift  = "CRASH_SHIFT"  // how far the clock of the test is ahead of the real one
)

// envServiceBus is the connection string, as the bindings of the functions name it.
const envServiceBus = "SERVICEBUS"

// farewell is how long a pod takes to close its connections to the broker.
const farewell = 5 * time.Second

// restart is the exit code that the host takes for an intended restart, as in the handler's own main.
const restart = 200

// child is a process that the conductor started: the same program, told by its environment what it is.
type child struct{ getenv func(string) string }

// run gives the exit code; ok is false in the conductor.
func (c child) run() (code int, ok bool) {
	roles := map[string]func(context.Context) error{"pod": c.pod, "handler": c.handler}
	role, ok := roles[c.getenv(envRole)]
	if !ok {
		return 0, false
	}
	app.KeepStderrClean()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := c.announce(ctx)
	if err == nil {
		err = role(ctx)
	}
	if exit, is := errors.AsType[host.ExitCode](err); is {
		return int(exit), true
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "error:", err)
		return 1, true
	}
	return 0, true
}

// announce tells the conductor that this process lives, and has it end with the conductor, however that ends.
func (c child) announce(ctx context.Context) error {
	query := url.Values{"who": {c.getenv(envRole) + c.getenv(envName)}, "pid": {strconv.Itoa(os.Getpid())}}
	request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, c.getenv(envLives)+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: &http.Transport{}}).Do(request) //nolint:bodyclose // it lasts as long as this process
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, response.Body)
		os.Exit(1)
	}()
	return nil
}

// now is the time of the test.
func (c child) now() time.Time {
	shift, _ := time.ParseDuration(c.getenv(envShift)) // the conductor wrote it
	return time.Now().Add(shift)
}

// pod is the Functions host, which starts the handler.
func (c child) pod(ctx context.Context) error {
	root := c.getenv(envRoot)
	functions, err := host.Load(os.DirFS(root), c.getenv)
	if err != nil {
		return err
	}
	queues, err := servicebus.Open(servicebus.Config{ConnectionString: c.getenv(envServiceBus)})
	if err != nil {
		return err
	}
	err = host.New(functions, host.Options{
		Handler: host.Command(root, envRole+"=handler"), Bus: queues, Listen: c.getenv(envListen),
		Now: c.now, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}).Run(ctx)
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer stop()
	return cmp.Or(err, queues.Close(closing))
}

// handler is the application as in production.
func (c child) handler(ctx context.Context) error {
	err := app.Run(ctx, c.getenv, app.Options{Version: "crash", Now: c.now})
	if err == nil {
		return host.ExitCode(restart)
	}
	return err
}

// stage assembles a script root whose handler is this program.
func stage(root string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.CopyFS(root, host.Layout(liveops.Functions)); err != nil {
		return err
	}
	return os.Symlink(self, filepath.Join(root, "handler"))
}
