package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"liveops/core/tracing"
)

// maxLinks is how many messages a batch's span is linked to at most; host.json lets no batch be larger.
const maxLinks = 512

// openTraces makes the tracer of the edges. What a caller began is kept when he keeps it, of what begins here a share. Nothing waits for
// the receiver: spans gather in a bounded queue, and what finds no room in it is lost.
func (a *App) openTraces(ctx context.Context) (trace.Tracer, error) {
	if a.config.TracesEndpoint == "" {
		return noop.Tracer{}, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(a.config.TracesEndpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	limits.LinkCountLimit = maxLinks
	a.traces = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&spanExporter{SpanExporter: exporter, log: a.options.Log, failures: promauto.With(a.registry).NewCounter(prometheus.CounterOpts{
			Name: "trace_export_failures_total", Help: "Batches of spans that the OTLP receiver did not take.",
		})}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(a.config.TraceRatio))),
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.namespace", "liveops"), attribute.String("service.name", a.config.ServiceName),
			attribute.String("service.version", a.options.Version), attribute.String("service.instance.id", hostname()),
		)),
	)
	return a.traces.Tracer(tracing.Scope), nil
}

// spanExporter says itself what the SDK would write to stderr, where the Functions host takes every line for an error.
type spanExporter struct {
	sdktrace.SpanExporter
	log      *slog.Logger
	failures prometheus.Counter
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.failures.Inc()
		e.log.LogAttrs(ctx, slog.LevelWarn, "export spans", slog.Int("lost", len(spans)), slog.String("error", err.Error()))
	}
	return nil
}

// hostname is the pod's name on Kubernetes.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
