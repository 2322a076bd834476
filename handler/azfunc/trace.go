package azfunc

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"liveops/core/tracing"
)

// spans are those of an invocation: of the batch, and of its messages that belong to other traces.
type spans struct {
	batch    trace.Span
	messages []trace.Span
}

func (s *spans) end(err error) {
	for _, span := range append(s.messages, s.batch) {
		tracing.Fail(span, err)
		span.End()
	}
}

// follow starts the spans of an invocation. A batch holds messages of many traces, and what is done for it is done once: its span goes
// on in the trace of the first message whose trace is kept, so that this one shows everything, and is linked to all of those; each of
// the others gets a span in its own trace, linked to the batch's. What a message leads to goes on from its span. Messages of no trace
// begin none: that was decided when their events were taken in.
func (s *Server) follow(ctx context.Context, name string, batch []Message, told *told) context.Context {
	parents := make([]trace.SpanContext, len(batch))
	above, kept := trace.SpanContextFromContext(ctx), []trace.Link(nil)
	if above.IsSampled() && len(batch) > 0 {
		kept = append(kept, trace.Link{SpanContext: above}) // the host's own
	}
	first := -1
	for i, m := range batch {
		parents[i] = trace.SpanContextFromContext(tracing.Continue(context.Background(), m.Properties[tracing.Property]))
		if !parents[i].IsValid() {
			continue
		}
		if first < 0 || parents[i].IsSampled() && !parents[first].IsSampled() {
			first = i
		}
		if parents[i].IsSampled() {
			kept = append(kept, trace.Link{SpanContext: parents[i]})
		}
	}
	if first >= 0 {
		above = parents[first]
	}
	if len(batch) > 0 && !above.IsValid() {
		return ctx
	}
	kind := trace.SpanKindConsumer
	attributes := []attribute.KeyValue{
		attribute.String("faas.name", name), attribute.String("faas.invocation_id", InvocationID(ctx)),
		attribute.Int("messaging.batch.message_count", len(batch)),
	}
	if batch == nil {
		kind, attributes = trace.SpanKindInternal, attributes[:2]
	}
	ctx, span := s.Tracer.Start(trace.ContextWithSpanContext(ctx, above), name, trace.WithSpanKind(kind), trace.WithLinks(kept...), trace.WithAttributes(attributes...))
	started := &spans{batch: span}
	defer told.spans.Store(started)
	if !span.IsRecording() {
		return ctx
	}
	here := trace.WithLinks(trace.Link{SpanContext: span.SpanContext()})
	for i, m := range batch {
		switch {
		case parents[i].Equal(above):
			m.Properties[tracing.Property] = tracing.Traceparent(ctx)
		case parents[i].IsSampled():
			own, one := s.Tracer.Start(trace.ContextWithSpanContext(context.Background(), parents[i]), name+" message", trace.WithSpanKind(kind), here)
			m.Properties[tracing.Property] = tracing.Traceparent(own)
			started.messages = append(started.messages, one)
		}
	}
	return ctx
}
