package azfunc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"liveops/core/tracing"
)

// traceparents are those of different traces; of an even number the trace is kept.
func traceparent(n int) string {
	return fmt.Sprintf("00-%032x-%016x-%02x", n+1, n+1, (n+1)%2)
}

func traced(t *testing.T, traceparents []string, then func(ctx context.Context, batch []Message) error, header ...string) []sdktrace.ReadOnlySpan {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	s := &Server{Tracer: provider.Tracer("test")}
	s.Queue("fairness", "messages", func(ctx context.Context, batch []Message) (Outcome, error) { return nil, then(ctx, batch) })
	bodies, metadata := make([]any, len(traceparents)), batchMetadata(len(traceparents))
	all := make([]any, len(traceparents))
	for i, parent := range traceparents {
		bodies[i], all[i] = []byte("x"), map[string]any{"traceparent": parent}
	}
	metadata["ApplicationPropertiesArray"] = all
	post(s.Handler(), "/fairness", envelope(t, "messages", bodies, metadata), header...)
	require.Len(t, recorder.Started(), len(recorder.Ended()), "every span has ended")
	return recorder.Ended()
}

func TestABatchGoesOnInTheFirstTraceThatIsKept(t *testing.T) {
	t.Parallel()
	sent := []string{traceparent(1), traceparent(0), "", traceparent(2), "nonsense", traceparent(0), traceparent(4)}
	var inside string
	var led []string
	spans := traced(t, sent, func(ctx context.Context, batch []Message) error {
		inside = tracing.Traceparent(ctx)
		for _, m := range batch {
			led = append(led, m.Properties["traceparent"])
		}
		return nil
	})
	require.Len(t, spans, 3)
	batch := spans[2]
	require.Equal(t, "fairness", batch.Name())
	require.Equal(t, trace.SpanKindConsumer, batch.SpanKind())
	require.Equal(t, trace.SpanContextFromContext(tracing.Continue(t.Context(), traceparent(0))), batch.Parent())
	var links []string
	for _, link := range batch.Links() {
		links = append(links, link.SpanContext.TraceID().String())
	}
	require.Equal(t, []string{traceparent(0)[3:35], traceparent(2)[3:35], traceparent(0)[3:35], traceparent(4)[3:35]}, links)

	for i, n := range []int{2, 4} {
		own := spans[i]
		require.Equal(t, "fairness message", own.Name())
		require.Equal(t, trace.SpanContextFromContext(tracing.Continue(t.Context(), traceparent(n))), own.Parent())
		require.Equal(t, batch.SpanContext(), own.Links()[0].SpanContext)
	}
	at := func(span sdktrace.ReadOnlySpan) string {
		return tracing.Traceparent(trace.ContextWithSpanContext(context.Background(), span.SpanContext()))
	}
	require.Equal(t, at(batch), inside)
	require.Equal(t, []string{traceparent(1), at(batch), "", at(spans[0]), "nonsense", at(batch), at(spans[1])}, led,
		"what a message leads to goes on from its span, and where nothing is kept from where it came")
}

func TestABatchOfWhichNothingIsKept(t *testing.T) {
	t.Parallel()
	require.Empty(t, traced(t, []string{traceparent(1), "", traceparent(3)}, func(ctx context.Context, batch []Message) error {
		require.Equal(t, traceparent(1)[3:35], tracing.TraceID(ctx), "its lines are found by the first message")
		require.Equal(t, traceparent(3), batch[2].Properties["traceparent"])
		return nil
	}))
}

func TestMessagesOfNoTraceBeginNone(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	s := &Server{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")} // which keeps what begins here
	s.Queue("fairness", "messages", func(ctx context.Context, _ []Message) (Outcome, error) {
		require.Empty(t, tracing.TraceID(ctx))
		return nil, nil
	})
	s.Timer("archive", func(ctx context.Context) (Outcome, error) {
		require.NotEmpty(t, tracing.TraceID(ctx))
		return nil, nil
	})
	metadata := batchMetadata(2)
	metadata["ApplicationPropertiesArray"] = []any{map[string]any{}, map[string]any{"traceparent": "nonsense"}}
	post(s.Handler(), "/fairness", envelope(t, "messages", []any{[]byte("x"), []byte("y")}, metadata))
	require.Empty(t, recorder.Started())
	post(s.Handler(), "/archive", `{"Data":{},"Metadata":{}}`)
	require.Len(t, recorder.Ended(), 1)
	require.Equal(t, "archive", recorder.Ended()[0].Name())
}

func TestTheHostsTrace(t *testing.T) {
	t.Parallel()
	spans := traced(t, []string{"", ""}, func(context.Context, []Message) error { return nil }, "Traceparent", traceparent(0))
	require.Len(t, spans, 1)
	require.Equal(t, traceparent(0)[3:35], spans[0].SpanContext().TraceID().String(), "messages without a trace belong to the host's")
	spans = traced(t, []string{traceparent(2)}, func(context.Context, []Message) error { return nil }, "Traceparent", traceparent(0))
	require.Equal(t, traceparent(2)[3:35], spans[0].SpanContext().TraceID().String())
	require.Equal(t, traceparent(0)[3:35], spans[0].Links()[0].SpanContext.TraceID().String())
}

func TestSpansEndWhateverBecomesOfTheBatch(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(context.Context, []Message) error{
		"an error": func(context.Context, []Message) error { return errors.New("ada is lost") },
		"a panic":  func(context.Context, []Message) error { panic("ada is lost") },
	} {
		spans := traced(t, []string{traceparent(0), traceparent(2)}, then)
		require.Len(t, spans, 2, name)
		for _, span := range spans {
			require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "internal-error"}, span.Status(), name)
			require.Empty(t, span.Events(), name)
		}
	}
}
