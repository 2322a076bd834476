// Package tracing carries the trace of an event along its way: as W3C trace context in headers and message properties, and as
// spans of OpenTelemetry in between. The edges decide whether a trace is kept; here nothing is, unless the span of the context
// is. Spans say what was done, how often and with what result, and never for whom: no player, no key, no text of an error.
// It knows neither exporters nor what the stages do, and no baggage: nothing travels but the ids.
package tracing

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"liveops/core/fault"
)

// Property is the header, and the property of a message, that carries the trace context.
const Property = "traceparent"

// Scope names the spans of this module.
const Scope = "liveops"

// Continue makes ctx part of the trace of a traceparent. One that is missing or not well formed changes nothing.
// https://www.w3.org/TR/trace-context/
func Continue(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{Property: traceparent})
}

// Traceparent is that of the span of ctx, for whatever follows from it; empty outside of a trace.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[Property]
}

// TraceID is that of the span of ctx, in hexadecimal; empty outside of a trace.
func TraceID(ctx context.Context) string {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		return span.TraceID().String()
	}
	return ""
}

// Start begins a span below that of ctx; end takes what became of it. Where the span of ctx is not kept, neither is this one, and it
// costs next to nothing.
func Start(ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	above := trace.SpanFromContext(ctx)
	if !above.IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := above.TracerProvider().Tracer(Scope).Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	return ctx, func(err error) {
		Fail(span, err)
		span.End()
	}
}

// Fail notes an error on a span, by its code.
func Fail(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		code := string(fault.CodeOf(err))
		span.SetAttributes(attribute.String("error.type", code))
		span.SetStatus(codes.Error, code)
	}
}

// Observe notes a value, with the trace it is from as its exemplar where the trace is kept.
func Observe(ctx context.Context, histogram prometheus.Observer, value float64) {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		if with, ok := histogram.(prometheus.ExemplarObserver); ok {
			with.ObserveWithExemplar(value, prometheus.Labels{"trace_id": span.TraceID().String()})
			return
		}
	}
	histogram.Observe(value)
}
