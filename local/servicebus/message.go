package servicebus

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"liveops/core/bus"
	"liveops/core/fault"
	"liveops/local/servicebus/amqp"
)

// What Service Bus says of a message beside what its sender did.
const (
	annotationSequenceNumber = amqp.Symbol("x-opt-sequence-number")
	annotationEnqueuedAt     = amqp.Symbol("x-opt-enqueued-time")
	annotationLockedUntil    = amqp.Symbol("x-opt-locked-until")
	annotationScheduledAt    = amqp.Symbol("x-opt-scheduled-enqueue-time")
	annotationSource         = amqp.Symbol("x-opt-deadletter-source")
	annotationState          = amqp.Symbol("x-opt-message-state")
	annotationLockToken      = amqp.Symbol("x-opt-lock-token")

	deadLetterReason = "DeadLetterReason"
	deadLetterDetail = "DeadLetterErrorDescription"
)

// incoming is a message as the broker takes it. The rest of it goes along as its envelope, with the body only when that is
// more than bytes.
func incoming(m *amqp.Message) bus.Message {
	out := bus.Message{
		ID: m.Text(amqp.MessageID), ContentType: m.Text(amqp.ContentType), TimeToLive: m.TimeToLive, Envelope: m,
	}
	var plain bool
	if out.Body, plain = m.WithoutData(); !plain {
		out.Body = bytes.Join(m.Data, nil)
	}
	if id := m.Property(amqp.MessageID); out.ID == "" && id != nil {
		out.ID = fmt.Sprint(id)
	}
	for name, value := range m.ApplicationProperties {
		key, isText := name.(string)
		text, ok := value.(string)
		if !isText || !ok {
			continue
		}
		if out.Properties == nil {
			out.Properties = map[string]string{}
		}
		out.Properties[key] = text
	}
	for _, name := range []any{annotationScheduledAt, string(annotationScheduledAt)} {
		if at, ok := m.Annotations[name].(time.Time); ok {
			out.ScheduledAt = at
		}
	}
	return out
}

// outgoing is a delivery as a client gets it.
func outgoing(d bus.Delivery) *amqp.Message {
	m := envelope(d.Message)
	m.DeliveryCount = uint32(max(d.DeliveryCount-1, 0))
	m.TimeToLive = 0
	if !d.ExpiresAt.IsZero() {
		m.TimeToLive = d.ExpiresAt.Sub(d.EnqueuedAt)
	}
	m.Annotations[annotationSequenceNumber] = d.SequenceNumber
	m.Annotations[annotationEnqueuedAt] = d.EnqueuedAt
	if !d.LockedUntil.IsZero() {
		m.Annotations[annotationLockedUntil] = d.LockedUntil
	}
	if d.DeadLetterSource != "" {
		m.Annotations[annotationSource] = d.DeadLetterSource
		m.ApplicationProperties = maps.Clone(m.ApplicationProperties)
		if m.ApplicationProperties == nil {
			m.ApplicationProperties = amqp.Map{}
		}
		m.ApplicationProperties[deadLetterReason] = d.DeadLetterReason
		m.ApplicationProperties[deadLetterDetail] = d.DeadLetterDetail
	}
	return m
}

// envelope is the message as its sender gave it, for the caller to change, its maps of annotations included.
func envelope(m bus.Message) *amqp.Message {
	if sent, ok := m.Envelope.(*amqp.Message); ok {
		out := *sent
		out.Annotations = maps.Clone(sent.Annotations)
		if out.Annotations == nil {
			out.Annotations = amqp.Map{}
		}
		if sent.Bodiless() {
			out.SetData(m.Body)
		}
		return &out
	}
	out := amqp.NewMessage(m.Body)
	out.Annotations = amqp.Map{}
	if m.ID != "" {
		out.Properties[amqp.MessageID] = m.ID
	}
	if m.ContentType != "" {
		out.Properties[amqp.ContentType] = amqp.Symbol(m.ContentType)
	}
	if len(m.Properties) > 0 {
		out.ApplicationProperties = amqp.Map{}
		for name, value := range m.Properties {
			out.ApplicationProperties[name] = value
		}
	}
	if !m.ScheduledAt.IsZero() {
		out.Annotations[annotationScheduledAt] = m.ScheduledAt
	}
	return out
}

// guid is a lock token in the order of .NET, which delivery tags have.
func guid(token string) (tag [16]byte) {
	id, _ := uuid.Parse(token) // it is the broker's
	tag = id
	tag[0], tag[1], tag[2], tag[3] = id[3], id[2], id[1], id[0]
	tag[4], tag[5] = id[5], id[4]
	tag[6], tag[7] = id[7], id[6]
	return tag
}

// text reads a member whose key is a string or a symbol.
func text(m amqp.Map, name string) string {
	if v, ok := m[name].(string); ok {
		return v
	}
	v, _ := m[amqp.Symbol(name)].(string)
	return v
}

// condition is how Azure names what the broker says; nil for no error.
func condition(err error) *amqp.Error {
	if err == nil {
		return nil
	}
	if refusal, is := errors.AsType[*amqp.Error](err); is {
		return refusal
	}
	name := ServerBusy
	switch {
	case fault.CodeOf(err) == fault.LockLost:
		name = LockLost
	case errors.Is(err, bus.ErrQueueMissing):
		name = NotFound
	case errors.Is(err, bus.ErrQueueFull):
		name = ResourceLimit
	case fault.KindOf(err) == fault.NotFound:
		name = MessageNotFound
	case fault.KindOf(err) == fault.TooLarge:
		name = MessageTooLarge
	case fault.KindOf(err) == fault.Internal:
		name = InternalError
	}
	return &amqp.Error{Condition: name, Description: err.Error()}
}
