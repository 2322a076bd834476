// Package web is the HTTP edge: routes, one log line and one set of metrics per request, and the one place where a fault
// becomes a status and a problem document. Handlers return errors. It knows nothing of what the routes do, nor of who may
// ask.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"liveops/core/fault"
	"liveops/core/tracing"
	"liveops/handler/azfunc"
)

// Handler answers a request, or returns the fault that becomes its answer. A fault returned after the answer has begun can
// only cut the connection.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Route is one line of the API. Pattern is a path of http.ServeMux without method and host; it is also the route's name in
// logs and metrics. A route for GET answers HEAD too, one without a method answers all of them.
type Route struct {
	Method  string
	Pattern string
	Handler Handler
	Quiet   bool // its log line is for debugging unless the status is 500 or above: probes
}

// Router serves a table of routes. What no route takes is a problem document as well, and nothing is ever redirected: a
// signature covers the path as it was sent, and a redirected POST loses its body.
type Router struct {
	Routes     []Route
	Log        *slog.Logger
	Registerer prometheus.Registerer // takes the metrics of requests, gateway_…; nil: nowhere
	Tracer     trace.Tracer          // makes a span of every request; nil: none
	Now        func() time.Time      // nil: time.Now
}

// unmatched is the route of what no pattern matches.
const unmatched = "unmatched"

// statusClientGone is what the log and the metrics say of a request whose client left first; nobody receives it.
const statusClientGone = 499

// methods are the values of the method label, in the order of the Allow header. Anything else counts as OTHER.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodOptions, http.MethodConnect, http.MethodTrace,
}

// Handler is the table as one http.Handler. It panics when a pattern is not valid or two of them conflict.
func (t Router) Handler() http.Handler {
	e := &edge{mux: http.NewServeMux(), log: t.Log, now: t.Now, tracer: t.Tracer}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.tracer == nil {
		e.tracer = noop.Tracer{}
	}
	metrics := promauto.With(t.Registerer)
	e.requests = metrics.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_requests_total", Help: "HTTP requests, by route pattern, method and status.",
	}, []string{"route", "method", "status"})
	e.duration = metrics.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gateway_request_duration_seconds", Help: "Time to answer an HTTP request, by route pattern.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"route"})
	e.faults = metrics.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_faults_total", Help: "Requests that were refused or failed, by the code of the fault.",
	}, []string{"code"})
	for _, code := range fault.Outages() { // a rate needs the 0 before the first
		e.faults.WithLabelValues(string(code))
	}
	for _, r := range t.Routes {
		e.mux.Handle(strings.TrimSpace(r.Method+" "+r.Pattern), &entry{route: r})
	}
	return e
}

// entry is what the mux holds, and how a route is told from the mux's own redirects and errors.
type entry struct{ route Route }

// ServeHTTP runs the handler. Its error travels back to the edge in the request's record, because the mux has no other way.
func (n *entry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	RecordOf(r.Context()).err = n.route.Handler(w, r)
}

type edge struct {
	mux      *http.ServeMux
	log      *slog.Logger
	now      func() time.Time
	tracer   trace.Tracer
	requests *prometheus.CounterVec   // route, method, status
	faults   *prometheus.CounterVec   // code
	duration *prometheus.HistogramVec // route
}

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := e.now()
	record := &Record{RequestID: requestID(r.Header)}
	ctx := tracing.Continue(r.Context(), r.Header.Get("Traceparent"))
	ctx, span := e.begin(ctx)
	defer span.End()
	r = r.WithContext(context.WithValue(ctx, recordKey{}, record))
	answer := &answerWriter{ResponseWriter: w}
	header := w.Header()
	header.Set("X-Request-Id", record.RequestID)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")

	route, err := e.find(header, r)
	var stack string
	if err == nil {
		stack, err = e.call(answer, r, record)
	}
	cut := false
	switch {
	case err == nil:
		if answer.status == 0 {
			answer.status = http.StatusOK // net/http sends it after the handler
		}
	case answer.status != 0:
		cut = true // too late for a problem; a half answer must not look like a whole one
	case r.Context().Err() != nil && errors.Is(err, context.Canceled):
		answer.status, cut = statusClientGone, true
	default:
		for _, name := range []string{"Content-Encoding", "Content-Length", "Etag", "Last-Modified"} {
			header.Del(name) // it described the answer that is not given
		}
		header.Set("Cache-Control", "no-store")
		_ = Problem(err, record.RequestID).Send(answer) // the client is gone, and the line below says what it was told
	}

	took := e.now().Sub(start)
	method := r.Method
	if !slices.Contains(methods, method) {
		method = "OTHER"
	}
	e.requests.WithLabelValues(route.Pattern, method, strconv.Itoa(answer.status)).Inc()
	tracing.Observe(ctx, e.duration.WithLabelValues(route.Pattern), took.Seconds())
	if err != nil {
		e.faults.WithLabelValues(string(code(err))).Inc()
	}
	describe(span, route, method, answer.status, err)
	level := severity(err, answer.status)
	if route.Quiet && answer.status < http.StatusInternalServerError {
		level = slog.LevelDebug
	}
	if e.log.Enabled(r.Context(), level) {
		attrs := []slog.Attr{
			slog.String("method", method), slog.String("route", route.Pattern), slog.Int("status", answer.status),
			slog.Float64("duration_ms", float64(took.Microseconds())/1000), slog.Int64("bytes", answer.bytes),
			slog.String("request_id", record.RequestID),
		}
		for _, more := range []slog.Attr{
			slog.String("trace_id", tracing.TraceID(ctx)), slog.String("key_id", record.KeyID),
			slog.String("invocation_id", azfunc.InvocationID(r.Context())), slog.String("stack", stack),
		} {
			if more.Value.String() != "" {
				attrs = append(attrs, more)
			}
		}
		if err != nil {
			attrs = append(attrs, slog.String("code", string(code(err))), slog.String("error", err.Error()))
		}
		e.log.LogAttrs(r.Context(), level, "request", append(attrs, record.attrs...)...)
	}
	if cut {
		panic(http.ErrAbortHandler) // closes the connection, and net/http does not log it
	}
}

// begin starts the span of a request. A trace that nobody began and nobody keeps ends here: to carry its ids along with every event would
// cost more than all the spans of those that are kept.
func (e *edge) begin(ctx context.Context) (context.Context, trace.Span) {
	within, span := e.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() && tracing.TraceID(ctx) == "" {
		return ctx, span
	}
	return within, span
}

// describe puts on the span of a request what is known at its end. What a client did wrong is no error of the server's span.
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/
func describe(span trace.Span, route Route, method string, status int, err error) {
	if !span.IsRecording() {
		return
	}
	span.SetName(method + " " + route.Pattern)
	span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route.Pattern),
		attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		tracing.Fail(span, err)
	} else if err != nil {
		span.SetAttributes(attribute.String("error.type", string(code(err))))
	}
}

// severity is by whom the line should be read: nobody for what a client did wrong, operations for a dependency that is
// down, whoever wrote the code for the rest.
func severity(err error, status int) slog.Level {
	switch {
	case err == nil:
		return slog.LevelInfo
	case fault.KindOf(err) == fault.Unavailable:
		return slog.LevelWarn
	case status >= http.StatusInternalServerError || (status < http.StatusBadRequest && fault.KindOf(err) == fault.Internal):
		return slog.LevelError
	}
	return slog.LevelInfo
}

// find names the route of a request, or says why there is none. A path that the mux would redirect is not found.
func (e *edge) find(header http.Header, r *http.Request) (Route, error) {
	if route, ok := e.match(r, r.Method); ok {
		return route, nil
	}
	var allowed []string
	other := Route{Pattern: unmatched}
	for _, method := range methods {
		if route, ok := e.match(r, method); ok {
			allowed, other.Pattern = append(allowed, method), route.Pattern
		}
	}
	if len(allowed) == 0 {
		return other, &fault.Error{Code: fault.RouteNotFound}
	}
	header.Set("Allow", strings.Join(allowed, ", "))
	return other, fault.MethodNotAllowed.Errorf("allowed here: %s", header.Get("Allow"))
}

// match asks the mux with no host, so that a Host header cannot matter.
func (e *edge) match(r *http.Request, method string) (Route, bool) {
	h, _ := e.mux.Handler(&http.Request{Method: method, URL: r.URL})
	n, ok := h.(*entry)
	if !ok {
		return Route{}, false
	}
	return n.route, true
}

// call runs the route's handler and turns a panic into an error. The mux matches once more here: only its own ServeHTTP
// gives the request its path values.
func (e *edge) call(w http.ResponseWriter, r *http.Request, record *Record) (stack string, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p) // asked for by the handler, and understood by net/http
		default:
			stack, err = string(debug.Stack()), fmt.Errorf("panic: %v", p)
		}
	}()
	e.mux.ServeHTTP(w, r)
	return "", record.err
}
