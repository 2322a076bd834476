// Package servicebus is the bus port on Azure Service Bus. It knows the traps of the SDK and nothing of what a message
// means; nothing else imports the SDK.
package servicebus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"liveops/core/bus"
	"liveops/core/fault"
)

const (
	// limit bounds a publish or a settlement whose caller gave no earlier deadline. The SDK's settlement ignores its own
	// retry options and would go on for minutes.
	limit = 10 * time.Second
	// maxReceive is the SDK's limit of messages in one call.
	maxReceive = 5000
)

// Bus is a namespace of Azure Service Bus. It connects when first used and again after a loss, and is safe for concurrent
// use.
type Bus struct {
	client *azservicebus.Client

	mu        sync.Mutex
	senders   map[string]*azservicebus.Sender
	receivers map[string]*receiver
	closed    bool
	running   sync.WaitGroup
}

var (
	_ bus.Publisher = (*Bus)(nil)
	_ bus.Receiver  = (*Bus)(nil)
)

// receiver is one link; the SDK allows one receive at a time on it, and settling beside it.
type receiver struct {
	*azservicebus.Receiver
	turn chan struct{}
}

// Config names the namespace by exactly one of the two.
type Config struct {
	ConnectionString string // Endpoint=sb://…
	Namespace        string // fully qualified; let in by the default Azure credential, which on AKS is the workload's identity
}

// Open makes a Bus. It does not connect yet.
func Open(config Config) (*Bus, error) {
	options := &azservicebus.ClientOptions{
		// Three tries within about 150 ms: whoever waits is an HTTP request, or a batch that will come again. The SDK's own
		// delay would be four seconds.
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: 20 * time.Millisecond, MaxRetryDelay: 200 * time.Millisecond},
	}
	client, err := newClient(config, options)
	if err != nil {
		return nil, err
	}
	return &Bus{client: client, senders: map[string]*azservicebus.Sender{}, receivers: map[string]*receiver{}}, nil
}

func newClient(config Config, options *azservicebus.ClientOptions) (*azservicebus.Client, error) {
	if (config.ConnectionString == "") == (config.Namespace == "") {
		return nil, errors.New("open Service Bus: give either a connection string or a namespace")
	}
	if config.ConnectionString != "" {
		client, err := azservicebus.NewClientFromConnectionString(config.ConnectionString, options)
		if err != nil {
			return nil, errors.New("open Service Bus: not a connection string") // err would quote the key
		}
		return client, nil
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("find an Azure credential: %w", err)
	}
	client, err := azservicebus.NewClient(config.Namespace, credential, options)
	if err != nil {
		return nil, fmt.Errorf("open Service Bus namespace %q: %w", config.Namespace, err)
	}
	return client, nil
}

// Publish implements bus.Publisher. It sends as few batches as the tier allows, one after the other.
func (b *Bus) Publish(ctx context.Context, queue string, messages []bus.Message) error {
	if err := bus.Check(messages); err != nil {
		return err
	}
	if err := b.enter(); err != nil {
		return err
	}
	defer b.running.Done()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	sender, err := b.sender(queue)
	if err != nil {
		return translate("publish to "+queue, err)
	}
	err = send(ctx, sender, messages)
	if lost(err) {
		drop(b, b.senders, queue, sender)
	}
	return translate("publish to "+queue, err)
}

func send(ctx context.Context, sender *azservicebus.Sender, messages []bus.Message) error {
	batches, err := split(messages, func() (*azservicebus.MessageBatch, error) { return sender.NewMessageBatch(ctx, nil) })
	if err != nil {
		return err
	}
	for _, batch := range batches {
		if err := sender.SendMessageBatch(ctx, batch, nil); err != nil {
			return err
		}
	}
	return nil
}

type batch interface {
	AddMessage(message *azservicebus.Message, options *azservicebus.AddMessageOptions) error
}

// split fills batches in order. It is done before anything is sent, so that a message no batch can hold stops them all.
func split[B batch](messages []bus.Message, empty func() (B, error)) ([]B, error) {
	var batches []B
	for _, m := range messages {
		out := outgoing(m)
		err := azservicebus.ErrMessageTooLarge
		if len(batches) > 0 {
			err = batches[len(batches)-1].AddMessage(out, nil)
		}
		if errors.Is(err, azservicebus.ErrMessageTooLarge) {
			next, newErr := empty()
			if newErr != nil {
				return nil, newErr
			}
			batches = append(batches, next)
			err = next.AddMessage(out, nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// Receive implements bus.Receiver. Calls for one queue take turns.
func (b *Bus) Receive(ctx context.Context, queue string, most int) ([]bus.Delivery, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.running.Done()
	r, err := b.receiver(queue)
	if err != nil {
		return nil, translate("receive from "+queue, err)
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		// No message and no error is what the SDK answers after it lost a link: not that the queue is empty.
		got, err := r.ReceiveMessages(ctx, min(max(most, 1), maxReceive), nil)
		if len(got) > 0 {
			deliveries := make([]bus.Delivery, len(got))
			for i, m := range got {
				deliveries[i] = incoming(m)
			}
			return deliveries, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if lost(err) {
				drop(b, b.receivers, queue, r)
			}
			return nil, translate("receive from "+queue, err)
		}
	}
}

// Complete implements bus.Receiver.
func (b *Bus) Complete(ctx context.Context, queue string, d bus.Delivery) error {
	return b.settle(ctx, "complete on "+queue, queue, d, func(ctx context.Context, r *receiver, m *azservicebus.ReceivedMessage) error {
		return r.CompleteMessage(ctx, m, nil)
	})
}

// Abandon implements bus.Receiver.
func (b *Bus) Abandon(ctx context.Context, queue string, d bus.Delivery) error {
	return b.settle(ctx, "abandon on "+queue, queue, d, func(ctx context.Context, r *receiver, m *azservicebus.ReceivedMessage) error {
		return r.AbandonMessage(ctx, m, nil)
	})
}

// settle names the message by nothing but its lock token, which sends the settlement over the management link: settling
// over a link that was lost since takes the SDK 40 seconds and the connection with it.
func (b *Bus) settle(ctx context.Context, what, queue string, d bus.Delivery,
	do func(context.Context, *receiver, *azservicebus.ReceivedMessage) error,
) error {
	token, err := uuid.Parse(d.LockToken)
	if err != nil {
		return fmt.Errorf("%s: lock token: %w", what, err)
	}
	if err := b.enter(); err != nil {
		return err
	}
	defer b.running.Done()
	r, err := b.receiver(queue)
	if err != nil {
		return translate(what, err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return translate(what, do(ctx, r, &azservicebus.ReceivedMessage{LockToken: token}))
}

// Close lets what is under way finish, as long as ctx allows, and closes the connection. Everything after it is
// fault.Unavailable.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		b.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	return b.client.Close(ctx)
}

func (b *Bus) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fault.ShuttingDown.Errorf("the connection to the queues is closed")
	}
	b.running.Add(1)
	return nil
}

// translate makes a fault of what the SDK says. Whatever it says beyond the message and its lock means that the broker, the
// network or a permission is in the way, and may pass.
func translate(what string, err error) error {
	var sdk *azservicebus.Error
	switch {
	case err == nil, fault.KindOf(err) != fault.Internal:
		return err
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, azservicebus.ErrMessageTooLarge):
		return fault.EventTooLarge.Wrap(fmt.Errorf("%s: %w", what, err), "a message is larger than the queue takes")
	case errors.As(err, &sdk) && sdk.Code == azservicebus.CodeLockLost:
		return fault.LockLost.Wrap(fmt.Errorf("%s: %w", what, err), "the lock on the message has ended")
	}
	return fault.BusUnavailable.Wrap(fmt.Errorf("%s: %w", what, err), "the queue cannot be reached, try again")
}
