// Package bus carries messages between the stages: the port that the pipeline publishes and receives through, and an
// in-memory broker with the semantics of Azure Service Bus. It knows nothing of what a message means.
package bus

import (
	"context"
	"time"
)

// MaxBody is the largest body a message may have, in bytes: the 256 KB of the Service Bus Standard tier, less room for
// headers.
const MaxBody = 240 << 10

// Message is one thing to publish. ID is what duplicate detection compares, at most 128 characters; a repeat of the same
// message must carry the same ID. Properties travel beside the body, such as traceparent.
type Message struct {
	ID          string
	Body        []byte
	ContentType string
	Properties  map[string]string
	ScheduledAt time.Time // not visible before; zero: at once
	// TimeToLive counts from the instant the message is visible. After it a message nobody holds becomes a dead letter. Zero:
	// the queue's; when the queue has one too, the shorter holds.
	TimeToLive time.Duration
	// Envelope is the message in the form of an adapter, beside what the port knows of it. Memory carries it and nothing else
	// looks at it; it stays in this process.
	Envelope any
}

// Publisher sends messages to a queue.
type Publisher interface {
	// Publish returns nil only after the broker confirmed every message. After an error any of them may have been taken:
	// publish all again under the same IDs. Order within one call is kept. It is safe for concurrent use. A broker out of
	// reach is fault.Unavailable; a message over MaxBody is fault.TooLarge and nothing of that call was sent.
	Publish(ctx context.Context, queue string, messages []Message) error
}

// Delivery is a received message under a lock. Whoever holds it settles it before LockedUntil; otherwise it comes again with
// DeliveryCount one higher, until the queue's limit moves it to the dead letters.
type Delivery struct {
	Message
	LockToken        string // a lower-case GUID
	SequenceNumber   int64
	DeliveryCount    int // 1 on the first delivery
	EnqueuedAt       time.Time
	ExpiresAt        time.Time // zero: never
	LockedUntil      time.Time
	DeadLetterSource string // the queue a dead letter came from
	DeadLetterReason string
	DeadLetterDetail string
}

// Receiver takes messages from a queue, peek-locked.
type Receiver interface {
	// Receive waits until at least one message is there or ctx ends, and gives at most limit of them. It returns no
	// message and ctx's error when ctx ended first.
	Receive(ctx context.Context, queue string, limit int) ([]Delivery, error)
	// Complete removes a delivery. A lost lock is fault.Conflict: the message will come again.
	Complete(ctx context.Context, queue string, d Delivery) error
	// Abandon gives the delivery back at once, with its delivery count raised.
	Abandon(ctx context.Context, queue string, d Delivery) error
}

// MaxBacklog is how many messages of a queue are counted at most.
const MaxBacklog = 1000

// Backlog is what waits in a queue.
type Backlog struct {
	Messages int       // MaxBacklog stands for as many or more
	Oldest   time.Time // when the oldest of them came into the queue; zero without any
}

// Peeker looks at a queue, locks nothing and changes nothing.
type Peeker interface {
	// Backlog counts the messages of a queue that can be received now or that somebody holds, and none that is scheduled or
	// deferred. It does not wait. A broker out of reach is fault.Unavailable.
	Backlog(ctx context.Context, queue string) (Backlog, error)
}

// DeadLetters is the name of a queue's dead letter queue.
func DeadLetters(queue string) string { return queue + "/$DeadLetterQueue" }
