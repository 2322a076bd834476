package azfunc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"liveops/core/fault"
	"liveops/core/tracing"
)

// Outcome is what a stage tells the log line of its invocation about what it did.
type Outcome []slog.Attr

// The outcomes of an invocation, in the log and in metrics.
const (
	succeeded = "ok"
	failed    = "failed"
	panicked  = "panicked"
	timedOut  = "timed out"
)

// lineKeys are the attributes the server itself puts on the line, and those of slog.
var lineKeys = []string{
	slog.LevelKey, slog.MessageKey, slog.TimeKey, slog.SourceKey,
	"function", "invocation_id", "trace_id", "outcome", "duration_ms", "hold_ms", "code", "error", "stack",
}

type function struct {
	name string
	held bool // the answer to a failure is held back
	run  func(ctx context.Context, body []byte, told *told) (Outcome, error)
}

// told is what a run tells of its invocation as soon as it knows: one that is left behind may do so later than it is asked.
type told struct {
	deliveries atomic.Int64 // of the batch's most delivered message
	spans      atomic.Pointer[spans]
}

type result struct {
	outcome string
	attrs   Outcome
	err     error
	stack   string
}

// invoke answers one invocation. Whatever happens the host gets a JSON object: an empty answer, or null, would leave the
// invocation hanging until functionTimeout kills the process.
func (s *Server) invoke(w http.ResponseWriter, r *http.Request, f *function) {
	start := time.Now()
	deadline := start.Add(s.Deadline)
	// The host does not cancel what it gave up on, and a closed connection says nothing about the messages.
	ctx, cancel := context.WithDeadline(withInvocationID(context.WithoutCancel(r.Context()), r), deadline)
	defer cancel()
	ctx = tracing.Continue(ctx, r.Header.Get("Traceparent"))

	status, answer := http.StatusOK, `{"Outputs":{},"Logs":[],"ReturnValue":null}`
	var res result
	var told told
	body, err := s.read(w, r, deadline)
	if err == nil {
		res = s.run(ctx, f, body, &told)
	} else {
		res = result{outcome: failed, err: err}
	}
	if res.err != nil {
		status, answer = http.StatusInternalServerError, failure(res)
		if _, over := errors.AsType[*http.MaxBytesError](res.err); over {
			status = http.StatusRequestEntityTooLarge
		}
	}

	if spans := told.spans.Load(); spans != nil {
		ctx = trace.ContextWithSpan(ctx, spans.batch)
		spans.end(res.err)
	}
	took, hold := time.Since(start), s.hold(f, res, int(told.deliveries.Load()), time.Until(deadline))
	s.count(ctx, f, res, took)
	s.line(ctx, f, res, took, hold) // before the wait, which a kill may end
	if hold > 0 {
		select {
		case <-time.After(hold):
		case <-s.stopping:
		}
	}
	reply(w, status, answer)
}

// read takes the body in. The deadline holds here too: a sender that stops in the middle must not keep the invocation open.
func (s *Server) read(w http.ResponseWriter, r *http.Request, deadline time.Time) ([]byte, error) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(deadline) // not supported by every ResponseWriter, and then not needed
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
	if err != nil {
		return nil, fmt.Errorf("read the invocation: %w", err)
	}
	_ = connection.SetReadDeadline(time.Time{})
	return body, nil
}

// run calls the stage on a goroutine of its own, so that neither a panic, nor runtime.Goexit, nor a context it ignores can
// keep the answer from the host.
func (s *Server) run(ctx context.Context, f *function, body []byte, told *told) result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan result, 1)
	go func() {
		res := result{outcome: panicked, err: errors.New("the stage ended its goroutine")}
		defer func() {
			if p := recover(); p != nil {
				res.err, res.stack = fmt.Errorf("panic: %v", p), string(debug.Stack())
			}
			done <- res
		}()
		attrs, err := f.run(ctx, body, told)
		res = result{outcome: succeeded, attrs: attrs, err: err}
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			res.outcome = timedOut
		default:
			res.outcome = failed
		}
	}()
	select {
	case res := <-done:
		return res
	case <-ctx.Done():
	case <-s.aborted:
		cancel(fault.ShuttingDown.Errorf("the handler is shutting down"))
	}
	select {
	case res := <-done:
		return res
	case <-time.After(patience):
		return result{outcome: timedOut, err: fmt.Errorf("the stage ignored the end of its context: %w", context.Cause(ctx))}
	}
}

// hold is how long the answer is held back.
func (s *Server) hold(f *function, res result, deliveries int, left time.Duration) time.Duration {
	if res.err == nil || !f.held || errors.Is(res.err, fault.Conflict) {
		return 0
	}
	return max(0, min(Hold(s.Hold, deliveries), left))
}

func (s *Server) count(ctx context.Context, f *function, res result, took time.Duration) {
	s.invocations.WithLabelValues(f.name, res.outcome).Inc()
	tracing.Observe(ctx, s.duration.WithLabelValues(f.name), took.Seconds())
	if res.err != nil {
		s.faults.WithLabelValues(f.name, string(fault.CodeOf(res.err))).Inc()
		return
	}
	s.success.WithLabelValues(f.name).SetToCurrentTime()
}

func (s *Server) line(ctx context.Context, f *function, res result, took, hold time.Duration) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("function", f.name),
		slog.String("invocation_id", InvocationID(ctx)),
		slog.String("outcome", res.outcome),
		slog.Float64("duration_ms", milliseconds(took)),
	}
	if trace := tracing.TraceID(ctx); trace != "" {
		attrs = append(attrs, slog.String("trace_id", trace))
	}
	if res.err != nil {
		level = slog.LevelError
		if kind := fault.KindOf(res.err); kind == fault.Unavailable || kind == fault.Conflict {
			level = slog.LevelWarn // it will come again, and nobody need look into the code
		}
		attrs = append(attrs, slog.String("code", string(fault.CodeOf(res.err))), slog.String("error", res.err.Error()))
	}
	if hold > 0 {
		attrs = append(attrs, slog.Float64("hold_ms", milliseconds(hold)))
	}
	if res.stack != "" {
		attrs = append(attrs, slog.String("stack", res.stack))
	}
	for _, attr := range res.attrs {
		if slices.Contains(lineKeys, attr.Key) {
			attr.Key = "stage_" + attr.Key // two members of one name are no JSON that a log store can query
		}
		attrs = append(attrs, attr)
	}
	s.Log.LogAttrs(ctx, level, "invocation", attrs...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// failure is for whoever calls by hand; the host reads no more than the status.
func failure(res result) string {
	text, err := json.Marshal(map[string]string{"error": res.outcome, "code": string(fault.CodeOf(res.err))})
	if err != nil {
		return `{"error":"failed"}`
	}
	return string(text)
}

// reply always says that it is JSON: left alone, net/http would call it text, which the host refuses.
func reply(w http.ResponseWriter, status int, object string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, object) // the host is gone: the broker delivers again
}

type invocationKey struct{}

// InvocationID is the host's id of the invocation or proxied request that ctx belongs to, empty outside of one.
func InvocationID(ctx context.Context) string {
	id, _ := ctx.Value(invocationKey{}).(string)
	return id
}

// withInvocationID takes the last id of the request: a forwarded request can carry the client's own before the host's.
func withInvocationID(ctx context.Context, r *http.Request) context.Context {
	values := r.Header.Values("X-Azure-Functions-InvocationId")
	if len(values) == 0 {
		return ctx
	}
	id := values[len(values)-1]
	id = strings.TrimSpace(id[strings.LastIndexByte(id, ',')+1:])
	if id == "" || len(id) > 64 {
		return ctx
	}
	return context.WithValue(ctx, invocationKey{}, id)
}
