package servicebus

import (
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"liveops/core/bus"
)

func outgoing(m bus.Message) *azservicebus.Message {
	out := &azservicebus.Message{Body: m.Body}
	if m.ID != "" {
		out.MessageID = &m.ID
	}
	if m.ContentType != "" {
		out.ContentType = &m.ContentType
	}
	if len(m.Properties) > 0 {
		out.ApplicationProperties = make(map[string]any, len(m.Properties))
		for name, value := range m.Properties {
			out.ApplicationProperties[name] = value
		}
	}
	if !m.ScheduledAt.IsZero() {
		out.ScheduledEnqueueTime = new(m.ScheduledAt.UTC())
	}
	if m.TimeToLive > 0 {
		out.TimeToLive = &m.TimeToLive
	}
	return out
}

func incoming(m *azservicebus.ReceivedMessage) bus.Delivery {
	d := bus.Delivery{
		Message: bus.Message{
			ID: m.MessageID, Body: m.Body, ContentType: value(m.ContentType), ScheduledAt: value(m.ScheduledEnqueueTime),
			TimeToLive: value(m.TimeToLive),
		},
		LockToken:        uuid.UUID(m.LockToken).String(),
		SequenceNumber:   value(m.SequenceNumber),
		DeliveryCount:    int(m.DeliveryCount),
		EnqueuedAt:       value(m.EnqueuedTime),
		LockedUntil:      value(m.LockedUntil),
		DeadLetterSource: value(m.DeadLetterSource),
		DeadLetterReason: value(m.DeadLetterReason),
		DeadLetterDetail: value(m.DeadLetterErrorDescription),
	}
	if d.TimeToLive > 0 { // without one the SDK takes the instant of its enqueuing for its end
		d.ExpiresAt = value(m.ExpiresAt)
	}
	for name, property := range m.ApplicationProperties {
		if text, ok := property.(string); ok {
			if d.Properties == nil {
				d.Properties = map[string]string{}
			}
			d.Properties[name] = text
		}
	}
	return d
}

// value is what p points to, or nothing.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
