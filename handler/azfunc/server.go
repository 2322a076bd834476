// Package azfunc is the handler's side of the Azure Functions custom handler protocol: how the Functions host calls a
// queue or timer function over HTTP, and how it must be answered so that messages are neither lost nor stuck. Nothing else
// knows that protocol. It knows nothing of what a message means, nor of the HTTP API that the host proxies through.
package azfunc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"liveops/core/fault"
	"liveops/core/tracing"
)

// PortVariable names the environment variable in which the host passes the port to listen on.
const PortVariable = "FUNCTIONS_CUSTOMHANDLER_PORT"

// The defaults of a Server's fields.
const (
	DefaultDeadline = 25 * time.Second
	DefaultDrain    = 10 * time.Second
	DefaultMaxBody  = 32 << 20
)

// patience is how long a stage has to come back once its deadline has passed.
const patience = time.Second

// Server answers the Functions host. Its fields and functions are set before Handler or Serve and not changed after; the
// zero value of every field is usable. It is served once.
type Server struct {
	// Log gets one line per invocation. Its output must be stdout: the host takes every line on stderr for an error.
	Log *slog.Logger
	// Registerer takes the metrics of invocations, function_…; nil registers them nowhere.
	Registerer prometheus.Registerer
	// Tracer makes a span of every invocation, and of every message of a trace that is kept; nil makes none.
	Tracer trace.Tracer
	// HTTP answers whatever is neither an invocation nor the host's readiness check; nil answers 404.
	HTTP http.Handler

	// Deadline is how long one invocation may take, 0 for DefaultDeadline. It must lie below functionTimeout, after which the
	// host kills the process without a warning, and below the queue's lock duration, after which the batch is delivered
	// again: a stage that ignores its context is left behind and answered for one second later.
	Deadline time.Duration
	// Hold is how long the answer to a failed batch is held back at most, within the deadline; 0 does not. The broker delivers
	// an abandoned message again at once, so without it all deliveries of a batch burn within a second of an outage. It grows
	// with the deliveries, as the function Hold says, of the most delivered message: the others wait longer than they need
	// to, but a message that came new into the batch would let the oldest burn the deliveries it has left. It does not apply to
	// fault.Conflict, which asks for another try at once, and ends when the server shuts down.
	Hold time.Duration
	// Drain is how long running requests have to finish after a shutdown began, 0 for DefaultDrain.
	Drain time.Duration
	// Now tells how long messages waited, by the clock of the broker; nil: time.Now.
	Now func() time.Time
	// MaxBody is the largest invocation that is read, in bytes, 0 for DefaultMaxBody. It must hold a whole batch, whose
	// bodies the host inflates by a third.
	MaxBody int64

	functions map[string]*function // by path

	once        sync.Once
	stopping    chan struct{}            // closed when a shutdown begins
	aborted     chan struct{}            // closed when it can wait no longer
	invocations *prometheus.CounterVec   // function, outcome
	faults      *prometheus.CounterVec   // function, code
	duration    *prometheus.HistogramVec // function
	age         *prometheus.HistogramVec // function
	success     *prometheus.GaugeVec     // function
}

// Queue answers the invocations of a queue function, with the name of its folder in functions/ and of the trigger's binding.
// The batch is never empty. An error, a panic or a missed deadline makes the host abandon the whole batch, nil makes it
// complete the whole batch. ctx carries the deadline and the invocation id and does not end with the host's connection.
func (s *Server) Queue(name, binding string, fn func(ctx context.Context, batch []Message) (Outcome, error)) {
	s.add(name, &function{held: true, run: func(ctx context.Context, body []byte, told *told) (Outcome, error) {
		batch, err := decode(body, binding)
		if err != nil {
			return nil, err
		}
		ctx = s.follow(ctx, name, batch, told)
		most, oldest := 0, time.Time{}
		for _, m := range batch {
			most = max(most, m.DeliveryCount)
			if !m.EnqueuedAt.IsZero() && (oldest.IsZero() || m.EnqueuedAt.Before(oldest)) {
				oldest = m.EnqueuedAt
			}
		}
		told.deliveries.Store(int64(most))
		if !oldest.IsZero() {
			tracing.Observe(ctx, s.age.WithLabelValues(name), max(0, s.Now().Sub(oldest).Seconds()))
		}
		about := Outcome{slog.Int("messages", len(batch)), slog.Int("deliveries", most)}
		if len(batch) == 0 {
			return about, nil
		}
		outcome, err := fn(ctx, batch)
		return append(about, outcome...), err
	}})
}

// Timer answers the invocations of a timer function. The schedule's status in the invocation is not read: it is missing or
// unparsable too often. The host does not repeat a failed run before the next tick.
func (s *Server) Timer(name string, fn func(ctx context.Context) (Outcome, error)) {
	s.add(name, &function{run: func(ctx context.Context, _ []byte, told *told) (Outcome, error) {
		return fn(s.follow(ctx, name, nil, told))
	}})
}

func (s *Server) add(name string, f *function) {
	f.name = name
	if s.functions == nil {
		s.functions = make(map[string]*function)
	}
	if _, taken := s.functions["/"+name]; taken || name == "" || strings.ContainsAny(name, "/%") {
		panic(fmt.Sprintf("azfunc: the function %q cannot be added", name))
	}
	s.functions["/"+name] = f
}

// Handler is everything the host calls.
func (s *Server) Handler() http.Handler {
	s.once.Do(s.prepare)
	return http.HandlerFunc(s.route)
}

func (s *Server) prepare() {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.HTTP == nil {
		s.HTTP = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusNotFound, `{"error":"not found"}`)
		})
	}
	if s.Deadline <= 0 {
		s.Deadline = DefaultDeadline
	}
	if s.Drain <= 0 {
		s.Drain = DefaultDrain
	}
	if s.MaxBody <= 0 {
		s.MaxBody = DefaultMaxBody
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Tracer == nil {
		s.Tracer = noop.Tracer{}
	}
	s.stopping, s.aborted = make(chan struct{}), make(chan struct{})
	metrics := promauto.With(s.Registerer)
	s.invocations = metrics.NewCounterVec(prometheus.CounterOpts{
		Name: "function_invocations_total", Help: "Invocations by the Functions host, by outcome.",
	}, []string{"function", "outcome"})
	s.duration = metrics.NewHistogramVec(prometheus.HistogramOpts{
		Name: "function_duration_seconds", Help: "Time an invocation took, without the time its answer was held back.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 60},
	}, []string{"function"})
	s.faults = metrics.NewCounterVec(prometheus.CounterOpts{
		Name: "function_faults_total", Help: "Invocations that failed, by the code of the fault.",
	}, []string{"function", "code"})
	s.age = metrics.NewHistogramVec(prometheus.HistogramOpts{
		Name: "function_message_age_seconds", Help: "How long the oldest message of a batch had been in its queue.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}, []string{"function"})
	s.success = metrics.NewGaugeVec(prometheus.GaugeOpts{
		Name: "function_last_success_timestamp_seconds", Help: "When an invocation by this host succeeded last, Unix time; 0: none did.",
	}, []string{"function"})
	for _, f := range s.functions {
		for _, outcome := range []string{succeeded, failed, panicked, timedOut} {
			s.invocations.WithLabelValues(f.name, outcome)
		}
		for _, code := range fault.Outages() { // a rate needs the 0 before the first
			s.faults.WithLabelValues(f.name, string(code))
		}
		s.duration.WithLabelValues(f.name)
		s.success.WithLabelValues(f.name)
		if f.held {
			s.age.WithLabelValues(f.name)
		}
	}
}

// route compares whole paths. The host follows redirects as a GET without a body, so there must be none: no ServeMux here.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		reply(w, http.StatusOK, `{"status":"running"}`) // asked every 25 ms until the first answer
		return
	}
	if f := s.functions[path]; f != nil && r.Method == http.MethodPost {
		s.invoke(w, r, f)
		return
	}
	s.HTTP.ServeHTTP(w, r.WithContext(withInvocationID(r.Context(), r)))
}

// PortError says that the host's port variable cannot be used. A handler that chose a port itself would never be called.
type PortError struct{ Value string }

func (e *PortError) Error() string {
	if e.Value == "" {
		return PortVariable + " is not set: the Functions host sets it when it starts the handler"
	}
	return fmt.Sprintf("%s is %q: not a port", PortVariable, e.Value)
}

// Listen opens the host's port on the loopback interface, the only place where the host calls. port is the value of
// PortVariable; one that cannot be used is a *PortError.
func Listen(ctx context.Context, port string) (net.Listener, error) {
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return nil, &PortError{Value: port}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, fmt.Errorf("listen for the Functions host: %w", err)
	}
	return l, nil
}

// Run is Listen and Serve.
func (s *Server) Run(ctx context.Context, port string) error {
	l, err := Listen(ctx, port)
	if err != nil {
		return err
	}
	return s.Serve(ctx, l)
}

// Serve answers on l until ctx ends, then takes no more requests and waits for the running ones, at most Drain; what still
// runs then is cancelled and cut. It returns nil when everything was answered. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := s.server()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the Functions host: %w", err)
	case <-ctx.Done():
	}

	close(s.stopping)
	err := shutdown(ctx, server, s.Drain)
	if err == nil {
		return nil
	}
	close(s.aborted)
	if shutdown(ctx, server, 2*patience) != nil {
		err = errors.Join(err, server.Close())
	}
	return fmt.Errorf("finish running requests: %w", err)
}

func (s *Server) server() *http.Server {
	handler := s.Handler()
	return &http.Server{
		Handler: handler,
		// The host keeps idle connections for about a minute; closing one it is about to use fails an invocation. A read or
		// write timeout would do the same to a long one, which has its own deadline.
		IdleTimeout:       10 * time.Minute,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn), // its default is stderr
	}
}

func shutdown(ctx context.Context, server *http.Server, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	return server.Shutdown(ctx)
}
