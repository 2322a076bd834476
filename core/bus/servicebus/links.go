package servicebus

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"liveops/core/bus"
)

// sender gives the queue's sender; all of them share one connection, which is made by the first send.
func (b *Bus) sender(queue string) (*azservicebus.Sender, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.senders[queue]; ok {
		return s, nil
	}
	s, err := b.client.NewSender(queue, nil)
	if err == nil {
		b.senders[queue] = s
	}
	return s, err
}

func (b *Bus) receiver(queue string) (*receiver, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, ok := b.receivers[queue]; ok {
		return r, nil
	}
	options := &azservicebus.ReceiverOptions{}
	base, dead := strings.CutSuffix(queue, bus.DeadLetters(""))
	if dead {
		options.SubQueue = azservicebus.SubQueueDeadLetter
	}
	r, err := b.client.NewReceiverForQueue(base, options)
	if err != nil {
		return nil, err
	}
	b.receivers[queue] = &receiver{Receiver: r, turn: make(chan struct{}, 1)}
	return b.receivers[queue], nil
}

// lost says that a link will not do any more and the next use should make another.
func lost(err error) bool {
	var sdk *azservicebus.Error
	return errors.As(err, &sdk) && (sdk.Code == azservicebus.CodeConnectionLost || sdk.Code == azservicebus.CodeClosed)
}

// drop forgets a lost link and closes it beside the caller, who has waited enough: the other end may be gone.
func drop[L interface {
	comparable
	Close(ctx context.Context) error
}](b *Bus, links map[string]L, queue string, link L) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if links[queue] != link {
		return
	}
	delete(links, queue)
	b.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = link.Close(ctx) // a lost link cannot be closed better than by forgetting it
	})
}

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
		ExpiresAt:        value(m.ExpiresAt),
		LockedUntil:      value(m.LockedUntil),
		DeadLetterSource: value(m.DeadLetterSource),
		DeadLetterReason: value(m.DeadLetterReason),
		DeadLetterDetail: value(m.DeadLetterErrorDescription),
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
