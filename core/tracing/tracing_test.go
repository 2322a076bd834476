package tracing_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"liveops/core/fault"
	"liveops/core/tracing"
)

const (
	id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	kept       = "00-" + id + "-" + parent + "-01"
	unkept     = "00-" + id + "-" + parent + "-00"
)

func TestTraceID(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		kept:   id,
		unkept: id,
		"cc-" + id + "-" + parent + "-01-what-comes-later":     id,
		"00-" + id + "-" + parent + "-01-x":                    "",
		"cc-" + id + "-" + parent + "-01.x":                    "",
		"ff-" + id + "-" + parent + "-01":                      "",
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": "",
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":     "",
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":     "",
		"00_" + id + "-" + parent + "-01":                      "",
		"00-" + id + "-" + parent:                              "",
		"":                                                     "",
	} {
		ctx := tracing.Continue(t.Context(), header)
		require.Equal(t, want, tracing.TraceID(ctx), header)
		if want == "" {
			require.Empty(t, tracing.Traceparent(ctx), header)
		}
	}
}

func TestATraceGoesThroughWhereNobodyKeepsIt(t *testing.T) {
	t.Parallel()
	for _, traceparent := range []string{kept, unkept, ""} {
		ctx := tracing.Continue(t.Context(), traceparent)
		require.Equal(t, traceparent, tracing.Traceparent(ctx))
		inner, end := tracing.Start(ctx, "work", trace.SpanKindInternal)
		end(errors.New("boom"))
		require.Equal(t, traceparent, tracing.Traceparent(inner))
	}
}

func recorder() (*tracetest.SpanRecorder, trace.Tracer) {
	spans := tracetest.NewSpanRecorder()
	return spans, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))).Tracer("test")
}

func TestSpansOfAKeptTrace(t *testing.T) {
	t.Parallel()
	spans, tracer := recorder()
	above, root := tracer.Start(tracing.Continue(t.Context(), kept), "request")
	ctx, end := tracing.Start(above, "publish", trace.SpanKindProducer, attribute.Int("n", 2))
	require.NotEqual(t, tracing.Traceparent(above), tracing.Traceparent(ctx))
	end(fault.BusUnavailable.Wrap(errors.New("ada's secret"), "the broker does not answer"))
	root.End()

	ended := spans.Ended()
	require.Len(t, ended, 2)
	span := ended[0]
	require.Equal(t, "publish", span.Name())
	require.Equal(t, id, span.SpanContext().TraceID().String())
	require.Equal(t, root.SpanContext().SpanID(), span.Parent().SpanID())
	require.Equal(t, parent, ended[1].Parent().SpanID().String())
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "queue-unavailable"}, span.Status())
	require.Equal(t, []attribute.KeyValue{attribute.Int("n", 2), attribute.String("error.type", "queue-unavailable")}, span.Attributes())
	require.Empty(t, span.Events(), "the text of an error may name anybody")
}

func TestNoSpansOfAnUnkeptTrace(t *testing.T) {
	t.Parallel()
	spans, tracer := recorder()
	for _, traceparent := range []string{unkept, ""} {
		above, root := tracer.Start(tracing.Continue(t.Context(), traceparent), "request")
		ctx, end := tracing.Start(above, "publish", trace.SpanKindProducer)
		require.Equal(t, tracing.Traceparent(above), tracing.Traceparent(ctx))
		end(nil)
		root.End()
		require.NotEmpty(t, tracing.TraceID(ctx), "lines of one trace are found by its id all the same")
	}
	require.Empty(t, spans.Started())
}

func TestExemplars(t *testing.T) {
	t.Parallel()
	for traceparent, want := range map[string]string{kept: id, unkept: "", "": ""} {
		histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "h", Buckets: []float64{1}})
		tracing.Observe(tracing.Continue(context.Background(), traceparent), histogram, 0.5)
		var metric dto.Metric
		require.NoError(t, histogram.Write(&metric))
		require.Equal(t, uint64(1), metric.GetHistogram().GetSampleCount())
		exemplar := metric.GetHistogram().GetBucket()[0].GetExemplar()
		if want == "" {
			require.Nil(t, exemplar)
			continue
		}
		require.Equal(t, want, exemplar.GetLabel()[0].GetValue())
	}
}
