package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// What the host does with a handler that fails, by the numbers of the contract (§2.2, §2.4, §2.5).
const (
	pollEvery       = 25 * time.Millisecond
	exitRestart     = 200
	maxFailures     = 3
	failuresForgot  = 30 * time.Minute
	killWait        = time.Second
	idleConnections = 60 * time.Second
)

// worker keeps the one handler of a host alive.
type worker struct {
	app     *App
	handler Handler
	now     func() time.Time
	log     *slog.Logger

	mu      sync.Mutex
	current *instance     // nil while starting
	over    error         // set when there will be no further life
	changed chan struct{} // closed at each change of the two
}

// instance is one life of the handler that answered its first request.
type instance struct {
	address   string          // 127.0.0.1:port
	life      context.Context // ends with it
	transport *http.Transport
	condemn   func() // asks for its end and the next one
}

var (
	errRestart      = errors.New("restart")
	errHandlerEnded = errors.New("the handler ended")
	errNoHandler    = errors.New("the handler did not become ready in time")
)

// dismiss lets nobody begin anything more on this instance.
func (w *worker) dismiss(inst *instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == inst {
		w.current = nil
	}
}

// ended says whether there will be no further life.
func (w *worker) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over != nil
}

// await gives the running instance, and waits while one is starting, at most four times the initialisation timeout.
func (w *worker) await(ctx context.Context) (*instance, error) {
	var late <-chan time.Time
	for {
		w.mu.Lock()
		current, over, changed := w.current, w.over, w.changed
		w.mu.Unlock()
		switch {
		case over != nil:
			return nil, over
		case current != nil:
			return current, nil
		case late == nil:
			timer := time.NewTimer(4 * w.app.initialize)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-late:
			return nil, errNoHandler
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (w *worker) set(current *instance, over error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current, w.over = current, over
	close(w.changed)
	w.changed = make(chan struct{})
}

// run starts the handler and starts it again until ctx ends or it failed three times, which it tells stop before anybody
// who waits for the handler hears of it.
func (w *worker) run(ctx context.Context, stop context.CancelCauseFunc) {
	var failures int
	var latest time.Time
	for {
		err := w.live(ctx)
		if ctx.Err() != nil {
			w.set(nil, errHandlerEnded)
			return
		}
		if errors.Is(err, errRestart) {
			w.log.Info("handler restarts", slog.Any("reason", err))
			continue
		}
		now := w.now()
		if failures > 0 && now.Sub(latest) > failuresForgot {
			failures = 0
		}
		failures, latest = failures+1, now
		w.log.Error("handler failed", slog.Any("error", err), slog.Int("failures", failures))
		if failures >= maxFailures {
			err = fmt.Errorf("exceeded http worker restart retry count, shutting down Functions Host: %w", err)
			stop(err)
			w.set(nil, err)
			return
		}
	}
}

// live is one life, from start to end, and says why it ended: errRestart when that does not count as a failure.
func (w *worker) live(ctx context.Context) error {
	port, err := w.port(ctx)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	p, err := w.handler.start(w.app, map[string]string{
		"FUNCTIONS_CUSTOMHANDLER_PORT":      strconv.Itoa(port),
		"FUNCTIONS_HTTPWORKER_PORT":         strconv.Itoa(port),
		"FUNCTIONS_CUSTOMHANDLER_WORKER_ID": id,
		"FUNCTIONS_HTTPWORKER_ID":           id,
		"FUNCTIONS_APP_ROOT_PATH":           ".",
	}, w.log)
	if err != nil {
		return err
	}
	life, end := context.WithCancelCause(context.Background())
	condemned := make(chan struct{})
	inst := &instance{
		address:   net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		life:      life,
		transport: transport(life),
	}
	inst.condemn = sync.OnceFunc(func() {
		w.dismiss(inst)
		close(condemned)
	})
	defer func() {
		var over error
		if ctx.Err() != nil {
			over = errHandlerEnded // known before the first invocation fails for it
		}
		w.set(nil, over)
		p.kill()
		end(errHandlerEnded)
		select {
		case <-p.done:
		case <-time.After(killWait):
		}
	}()

	if err := w.ready(ctx, inst, p); err != nil {
		return err
	}
	w.set(inst, nil)
	done := p.done
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-condemned:
			return fmt.Errorf("%w: a function timed out", errRestart)
		case <-done:
			if err := exited(p); err != nil {
				return err
			}
			w.log.Warn("handler exited with 0 and is not started again")
			done = nil
		}
	}
}

// ready polls GET / until there is any answer.
func (w *worker) ready(ctx context.Context, inst *instance, p *process) error {
	timeout := time.NewTimer(w.app.initialize)
	defer timeout.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	done := p.done
	for !inst.answers(ctx) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return errors.New("initializing HttpWorker timed out")
		case <-done:
			if err := exited(p); err != nil {
				return err
			}
			done = nil // nobody starts it again: the timeout ends this
		case <-poll.C:
		}
	}
	return nil
}

// exited is what the end of a process means: nil for 0, which the host does not act upon.
func exited(p *process) error {
	switch {
	case p.code == 0:
		return nil
	case p.code == exitRestart:
		return fmt.Errorf("%w: the handler asked for it", errRestart)
	case p.why != nil:
		return fmt.Errorf("handler exited with code %d: %w", p.code, p.why)
	default:
		return fmt.Errorf("handler exited with code %d", p.code)
	}
}

// transport keeps connections to one life of the handler and breaks them all when that life ends, as the end of a process
// does.
func transport(life context.Context) *http.Transport {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     idleConnections,
		DisableCompression:  true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			stop := context.AfterFunc(life, func() { _ = conn.Close() })
			return tied{conn, stop}, nil
		},
	}
}

type tied struct {
	net.Conn
	untie func() bool
}

// Close implements net.Conn.
func (t tied) Close() error {
	t.untie()
	return t.Conn.Close()
}

// answers says whether the handler answers GET / with any status. Only a refused or reset connection means that it does not.
func (inst *instance) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+inst.address+"/", http.NoBody)
	if err != nil {
		return false
	}
	response, err := inst.transport.RoundTrip(request)
	if err != nil {
		return ctx.Err() == nil && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET)
	}
	_ = response.Body.Close()
	return true
}

// port is the configured one, or any that is free.
func (w *worker) port(ctx context.Context) (int, error) {
	if fixed := w.app.handler.Port; fixed != nil {
		return *fixed, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}
