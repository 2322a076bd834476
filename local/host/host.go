// Package host is an Azure Functions host for development and tests: it reads host.json and the functions' bindings, runs
// the custom handler in process or as a child process, and drives it over HTTP, from queues and by timers the way the
// real host does, failing where the real one fails.
//
// It is no production host. It knows no keys, no storage, no topics, sessions or output bindings other than http, and
// nothing of what the functions do; what it does not simulate it refuses to load. Locks of single
// messages are renewed where the bus can do that.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"liveops/core/bus"
)

// Options are what a Host needs besides the App. Only Handler is required, and Bus where a function has a queue trigger.
type Options struct {
	Handler Handler
	Bus     bus.Receiver
	Listen  string // host:port; empty: any free port of 127.0.0.1

	// Now and After drive the schedules; time.Now and time.After when nil. functionTimeout and the life of the handler
	// always run on real time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time

	Drain   time.Duration    // how long running invocations get when the host stops; 0: the real host's 10 s
	Log     *slog.Logger     // nil: discarded
	Observe func(Invocation) // called after every invocation, concurrently
}

// Host runs one App. It is used once.
type Host struct {
	app      *App
	options  Options
	worker   *worker
	routes   []*Function // HTTP functions in the order in which they are tried
	bodyMax  int64
	buffers  sync.Pool
	ready    chan struct{}
	address  net.Addr // set before ready is closed
	stop     context.CancelCauseFunc
	triggers sync.WaitGroup
}

// New makes a Host that Run starts.
func New(app *App, options Options) *Host {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.After == nil {
		options.After = time.After
	}
	if options.Drain == 0 {
		options.Drain = 10 * time.Second
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	h := &Host{
		app: app, options: options, ready: make(chan struct{}),
		worker: &worker{
			app: app, handler: options.Handler, now: options.Now, log: options.Log, changed: make(chan struct{}),
		},
		bodyMax: 104857600,
	}
	if limit, err := strconv.ParseInt(app.getenv("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"), 10, 64); err == nil && limit > 0 {
		h.bodyMax = limit
	}
	h.buffers.New = func() any { return new(buffer) }
	for i := range app.Functions {
		if f := &app.Functions[i]; f.Trigger == "httpTrigger" {
			h.routes = append(h.routes, f)
		}
	}
	slices.SortStableFunc(h.routes, func(a, b *Function) int { return a.template.before(b.template) })
	return h
}

// Ready is closed once the host listens and the handler answered for the first time.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// Addr is where the host listens. It is known when Ready is closed.
func (h *Host) Addr() net.Addr { return h.address }

// Run starts the handler and the triggers and blocks until ctx ends, or until the host gives up on its handler, which is
// the error. At the end triggers stop first, running invocations get Options.Drain, then the handler is killed.
func (h *Host) Run(ctx context.Context) error {
	if h.options.Handler == nil {
		return errors.New("functions host: no handler")
	}
	for _, f := range h.app.Functions {
		if f.Queue != "" && h.options.Bus == nil {
			return fmt.Errorf("functions host: function %q has a queue trigger and there is no bus", f.Name)
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", h.options.Listen)
	if err != nil {
		return fmt.Errorf("functions host: %w", err)
	}
	h.address = listener.Addr()

	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	h.stop = stop
	alive, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()

	var life sync.WaitGroup
	if len(h.app.Functions) > 0 { // without a function the host starts no handler
		life.Go(func() { h.worker.run(alive, stop) })
		life.Go(func() {
			if _, err := h.worker.await(serving); err == nil {
				close(h.ready)
			}
		})
	} else {
		close(h.ready)
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(h.options.Log.Handler(), slog.LevelDebug),
	}
	life.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			stop(fmt.Errorf("functions host: %w", err))
		}
	})
	for i := range h.app.Functions {
		switch f := &h.app.Functions[i]; f.Trigger {
		case "serviceBusTrigger":
			h.triggers.Go(func() { h.pump(serving, f) })
		case "timerTrigger":
			h.triggers.Go(func() { h.tick(serving, f) })
		}
	}

	<-serving.Done()
	h.drain(context.WithoutCancel(ctx), server)
	kill()
	_ = server.Close() // what still runs has lost its handler
	life.Wait()
	h.triggers.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(serving)
}

// drain lets running invocations end, for a bounded time.
func (h *Host) drain(ctx context.Context, server *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, h.options.Drain)
	defer cancel()
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		_ = server.Shutdown(ctx) // what it could not finish is cut
		h.triggers.Wait()
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		h.options.Log.Warn("functions host: invocations are cut off", slog.Duration("after", h.options.Drain))
	}
}

// Trigger runs a timer function once, now, beside its schedule, and waits for the outcome.
func (h *Host) Trigger(ctx context.Context, function string) error {
	for i := range h.app.Functions {
		if f := &h.app.Functions[i]; f.Name == function && f.Trigger == "timerTrigger" {
			return h.fire(ctx, f, nil)
		}
	}
	return fmt.Errorf("functions host: no timer function %q", function)
}

// Due names the timer functions whose schedule ticks after one instant and not after another, each once, in order of name.
// A schedule of a fixed interval is counted from the first of the two.
func (h *Host) Due(after, by time.Time) []string {
	var due []string
	for i := range h.app.Functions {
		if f := &h.app.Functions[i]; f.Trigger == "timerTrigger" && !f.plan.next(after).After(by) {
			due = append(due, f.Name)
		}
	}
	return due
}
