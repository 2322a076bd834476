// Package servicebus is the bus port on Azure Service Bus. Concurrent publishes share batches (lane), batches share
// connections, and a connection that is lost is replaced (connection). It knows the traps of the SDK and nothing of what a
// message means; nothing else imports the SDK. docs/decisions/0017-service-bus.md has the reasons.
package servicebus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"liveops/core/bus"
	"liveops/core/fault"
)

const (
	// limit bounds a settlement whose caller gave no earlier deadline.
	limit = 10 * time.Second
	// sendPatience is how long a batch waits for its confirmation before its connection is taken for lost, settlePatience a
	// settlement: it is not worth as much, and after a loss the SDK waits for four seconds.
	sendPatience   = 3 * time.Second
	settlePatience = time.Second
	// maxReceive is the SDK's limit of messages in one call.
	maxReceive = 5000
	// defaultConnections is enough for hundreds of thousands of messages a second.
	defaultConnections = 4
)

// Bus is a namespace of Azure Service Bus. It connects when first used and again after a loss, and is safe for concurrent
// use.
type Bus struct {
	client func() (*azservicebus.Client, error)
	most   int // connections

	mu          sync.Mutex
	connections []*connection
	lanes       map[string]*lane // by queue
	closed      bool             // no new calls
	ended       bool             // nothing at all
	running     sync.WaitGroup
}

var (
	_ bus.Publisher = (*Bus)(nil)
	_ bus.Receiver  = (*Bus)(nil)
	_ bus.Peeker    = (*Bus)(nil)
)

// Config names the namespace by exactly one of the first two.
type Config struct {
	ConnectionString string                                      // Endpoint=sb://…
	Namespace        string                                      // fully qualified; let in by the default Azure credential, which on AKS is the workload's identity
	Connections      int                                         // at most; 0: 4. More than one is opened only when it is the bottleneck
	Connect          func(ctx context.Context) (net.Conn, error) // instead of dialing, for tests; AMQP without TLS is spoken over it
}

// Open makes a Bus. It does not connect yet.
func Open(config Config) (*Bus, error) {
	client, err := clients(config)
	if err != nil {
		return nil, err
	}
	b := &Bus{client: client, most: cmp.Or(config.Connections, defaultConnections), lanes: map[string]*lane{}}
	if _, err := b.pick(0); err != nil { // what is wrong with config is said now
		return nil, err
	}
	return b, nil
}

// clients gives what makes a client, which is a connection. Its clients share one credential and so its tokens.
func clients(config Config) (func() (*azservicebus.Client, error), error) {
	if (config.ConnectionString == "") == (config.Namespace == "") {
		return nil, errors.New("open Service Bus: give either a connection string or a namespace")
	}
	options := &azservicebus.ClientOptions{
		// Three tries within about 150 ms: whoever waits is an HTTP request, or a batch that will come again. The SDK's own
		// delay would be four seconds.
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: 20 * time.Millisecond, MaxRetryDelay: 200 * time.Millisecond},
	}
	if config.Connect != nil {
		options.NewWebSocketConn = func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			return config.Connect(ctx)
		}
	}
	if config.ConnectionString != "" {
		return func() (*azservicebus.Client, error) {
			client, err := azservicebus.NewClientFromConnectionString(config.ConnectionString, options)
			if err != nil {
				return nil, errors.New("open Service Bus: not a connection string") // err would quote the key
			}
			return client, nil
		}, nil
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("find an Azure credential: %w", err)
	}
	return func() (*azservicebus.Client, error) {
		client, err := azservicebus.NewClient(config.Namespace, credential, options)
		if err != nil {
			return nil, fmt.Errorf("open Service Bus namespace %q: %w", config.Namespace, err)
		}
		return client, nil
	}, nil
}

// Publish implements bus.Publisher. Calls that come at the same time share batches; a call is split over several only when
// one cannot hold it, and then they are sent one after the other. The messages of a call that ended with its ctx may still
// be read for a moment.
func (b *Bus) Publish(ctx context.Context, queue string, messages []bus.Message) error {
	if err := bus.Check(messages); err != nil {
		return err
	}
	if err := b.enter(); err != nil {
		return err
	}
	defer b.running.Done()
	if len(messages) == 0 {
		return nil
	}
	if err := b.lane(queue).publish(ctx, messages); err != nil {
		return translate("publish to "+queue, err)
	}
	return nil
}

func (b *Bus) lane(queue string) *lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.lanes[queue]
	if !ok {
		l = &lane{
			open: func(ctx context.Context) (batch, error) { return b.batch(ctx, queue) },
			most: b.most * width, running: &b.running, draining: b.closed,
		}
		b.lanes[queue] = l
	}
	return l
}

// parcel is a batch for a queue, as large as the queue takes.
type parcel struct {
	*azservicebus.MessageBatch
	bus   *Bus
	queue string
}

func (b *Bus) batch(ctx context.Context, queue string) (*parcel, error) {
	p := &parcel{bus: b, queue: queue}
	err := b.try(ctx, 0, sendPatience, func(ctx context.Context, c *connection) error {
		s, err := b.sender(c, queue)
		if err == nil {
			p.MessageBatch, err = s.NewMessageBatch(ctx, nil)
		}
		return err
	})
	return p, err
}

func (p *parcel) add(m bus.Message) error {
	if p.NumMessages() == batchMessages {
		return errFull
	}
	err := p.AddMessage(outgoing(m), nil)
	if errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return errFull
	}
	return err
}

// send goes on as long as the batch is not confirmed. One that was taken, and its confirmation lost, is sent again under
// the same message ids, by which the queue knows it.
func (p *parcel) send(ctx context.Context) error {
	return p.bus.try(ctx, 1, sendPatience, func(ctx context.Context, c *connection) error {
		s, err := p.bus.sender(c, p.queue)
		if err != nil {
			return err
		}
		return s.SendMessageBatch(ctx, p.MessageBatch, nil)
	})
}

// Receive implements bus.Receiver. Calls for one queue take turns.
func (b *Bus) Receive(ctx context.Context, queue string, most int) ([]bus.Delivery, error) {
	for {
		got, err := within(ctx, func() ([]*azservicebus.ReceivedMessage, error) {
			return b.receive(ctx, queue, min(max(most, 1), maxReceive))
		})
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
			return nil, translate("receive from "+queue, err)
		}
	}
}

// receive gives no message and no error when a link or connection was lost: not that the queue is empty.
func (b *Bus) receive(ctx context.Context, queue string, most int) (got []*azservicebus.ReceivedMessage, err error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.running.Done()
	c, err := b.borrow(0)
	if err != nil {
		return nil, err
	}
	defer func() { b.giveBack(c, 0, lost(err)) }()
	r, err := b.receiver(c, queue)
	if err != nil {
		return nil, err
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-c.halted:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.running.Go(func() {
		select {
		case <-c.halted:
			cancel()
		case <-ctx.Done():
		}
	})
	got, err = r.ReceiveMessages(ctx, most, nil)
	if err == nil && len(got) == 0 {
		r.vain++
	} else {
		r.vain = 0
	}
	select {
	case <-c.halted:
		return got, nil
	default:
	}
	if r.vain > 1 { // once is a link that the SDK opens anew
		return nil, errVain
	}
	return got, err
}

// Complete implements bus.Receiver.
func (b *Bus) Complete(ctx context.Context, queue string, d bus.Delivery) error {
	_, err := b.settle(ctx, "complete on "+queue, queue, d, func(ctx context.Context, r *receiver, m *azservicebus.ReceivedMessage) error {
		return r.CompleteMessage(ctx, m, nil)
	})
	return err
}

// Abandon implements bus.Receiver.
func (b *Bus) Abandon(ctx context.Context, queue string, d bus.Delivery) error {
	_, err := b.settle(ctx, "abandon on "+queue, queue, d, func(ctx context.Context, r *receiver, m *azservicebus.ReceivedMessage) error {
		return r.AbandonMessage(ctx, m, nil)
	})
	return err
}

// Renew holds a delivery for another lock duration of its queue and gives the instant until which. A lost lock is
// fault.Conflict.
func (b *Bus) Renew(ctx context.Context, queue string, d bus.Delivery) (time.Time, error) {
	m, err := b.settle(ctx, "renew on "+queue, queue, d, func(ctx context.Context, r *receiver, m *azservicebus.ReceivedMessage) error {
		return r.RenewMessageLock(ctx, m, nil)
	})
	if err != nil {
		return time.Time{}, err
	}
	return value(m.LockedUntil), nil
}

// settle names the message by nothing but its lock token, which sends the settlement over the management link: the link
// that the message came by may be lost since. It gives the message that do was given.
func (b *Bus) settle(ctx context.Context, what, queue string, d bus.Delivery,
	do func(context.Context, *receiver, *azservicebus.ReceivedMessage) error,
) (*azservicebus.ReceivedMessage, error) {
	token, err := uuid.Parse(d.LockToken)
	if err != nil {
		return nil, fmt.Errorf("%s: lock token: %w", what, err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, err := within(ctx, func() (m *azservicebus.ReceivedMessage, err error) {
		if err := b.enter(); err != nil {
			return nil, err
		}
		defer b.running.Done()
		err = b.try(ctx, 0, settlePatience, func(ctx context.Context, c *connection) error {
			r, err := b.receiver(c, queue)
			if err != nil {
				return err
			}
			m = &azservicebus.ReceivedMessage{LockToken: token}
			return do(ctx, r, m)
		})
		return m, err
	})
	return m, translate(what, err)
}

// Backlog implements bus.Peeker. Messages are peeked page by page, so one that comes or goes meanwhile may be counted or not.
func (b *Bus) Backlog(ctx context.Context, queue string) (bus.Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var backlog bus.Backlog
	for from := int64(1); backlog.Messages < bus.MaxBacklog; {
		page, err := within(ctx, func() ([]*azservicebus.ReceivedMessage, error) {
			return b.peek(ctx, queue, from, bus.MaxBacklog-backlog.Messages)
		})
		if err != nil {
			return bus.Backlog{}, translate("peek into "+queue, err)
		}
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			from = max(from, value(m.SequenceNumber)+1)
			if m.State != azservicebus.MessageStateActive {
				continue
			}
			backlog.Messages++
			if at := value(m.EnqueuedTime); backlog.Oldest.IsZero() || at.Before(backlog.Oldest) {
				backlog.Oldest = at
			}
		}
	}
	return backlog, nil
}

// peek gives the next messages from a sequence number on, in whatever state; none when that was the last one. The broker may
// give fewer than it has.
func (b *Bus) peek(ctx context.Context, queue string, from int64, most int) (page []*azservicebus.ReceivedMessage, err error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.running.Done()
	err = b.try(ctx, 0, sendPatience, func(ctx context.Context, c *connection) error {
		r, err := b.receiver(c, queue)
		if err != nil {
			return err
		}
		page, err = r.PeekMessages(ctx, most, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
		return err
	})
	return page, err
}

// within gives what do does, or ctx's error a moment after ctx ended: the SDK holds locks while it connects, and whoever
// waits for one of them does so whatever his ctx says.
func within[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done: // above all messages, which would be locked for nobody
		return r.value, r.err
	case <-time.After(100 * time.Millisecond):
		var nothing T
		return nothing, ctx.Err()
	}
}

// Close ends what is being received, sends at once what gathers, lets it and what else is under way finish, as long as ctx
// allows, and closes the connections. Every call after it is fault.Unavailable. It gives ctx's error when something was
// left, which then ends by itself within seconds.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	for _, l := range b.lanes {
		l.drain()
	}
	for _, c := range b.connections {
		c.halt()
	}
	b.mu.Unlock()

	ended := make(chan error, 1)
	idle := make(chan struct{})
	go func() {
		b.running.Wait()
		close(idle)
	}()
	go func() {
		select {
		case <-idle:
		case <-ctx.Done():
		}
		ended <- b.end(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end closes the connections.
func (b *Bus) end(ctx context.Context) error {
	b.mu.Lock()
	b.ended = true
	connections := b.connections
	b.connections = nil
	b.mu.Unlock()
	var problems []error
	for _, c := range connections {
		problems = append(problems, c.client.Close(ctx))
	}
	return errors.Join(problems...)
}

func (b *Bus) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return shuttingDown()
	}
	b.running.Add(1)
	return nil
}

func shuttingDown() error { return fault.ShuttingDown.Errorf("the connection to the queues is closed") }

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
