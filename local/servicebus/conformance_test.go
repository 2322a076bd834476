package servicebus_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/bus/bustest"
	adapter "liveops/core/bus/servicebus"
	"liveops/core/fault"
	"liveops/local/servicebus"
)

// TestTheSDKSeesWhatMemoryDoes holds the contract of everything a Service Bus queue does over the wire: the port by the adapter
// of production, the rest by the SDK itself.
func TestTheSDKSeesWhatMemoryDoes(t *testing.T) {
	t.Parallel()
	bustest.RunFull(t, func(t *testing.T) bustest.FullBroker {
		clock := newClock()
		m := bus.NewMemory(clock.now, bus.Queue{Name: "q", DuplicateWindow: 10 * time.Minute})
		e := open(t, m, servicebus.Options{})
		return bustest.FullBroker{
			Broker: bustest.Broker{Queue: "q", MaxDeliveryCount: 10, LockDuration: time.Minute, Pass: func(d time.Duration) {
				clock.pass(d)
				m.Wake()
			}},
			Full: e.wired(t),
		}
	})
}

// clock is moved by the test only.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// endpoint is a Server on a port of its own.
type endpoint struct {
	*servicebus.Server
	memory  *bus.Memory
	address string
}

func open(t *testing.T, m *bus.Memory, options servicebus.Options) *endpoint {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &endpoint{servicebus.New(m, options), m, listener.Addr().String()}
	served := make(chan error, 1)
	go func() { served <- e.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, e.Close())
		require.NoError(t, <-served)
	})
	return e
}

// quick are options of the SDK for tests: its own would wait for seconds.
func quick() *azservicebus.ClientOptions {
	return &azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{
		MaxRetries: 3, RetryDelay: time.Millisecond, MaxRetryDelay: 20 * time.Millisecond,
	}}
}

func (e *endpoint) client(t *testing.T) *azservicebus.Client {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(e.ConnectionString(e.address), quick())
	require.NoError(t, err)
	t.Cleanup(func() { closing(t, client) })
	return client
}

func closing(t *testing.T, c interface {
	Close(ctx context.Context) error
},
) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	_ = c.Close(ctx) // its connection may have been cut on purpose
}

// wired is the broker as the SDK shows it.
type wired struct {
	*adapter.Bus
	t        *testing.T
	client   *azservicebus.Client
	sender   *azservicebus.Sender
	mu       sync.Mutex
	locking  map[string]*azservicebus.Receiver
	deleting map[string]*azservicebus.Receiver
}

func (e *endpoint) wired(t *testing.T) *wired {
	t.Helper()
	b, err := adapter.Open(adapter.Config{ConnectionString: e.ConnectionString(e.address)})
	require.NoError(t, err)
	t.Cleanup(func() { closing(t, b) })
	w := &wired{Bus: b, t: t, client: e.client(t), locking: map[string]*azservicebus.Receiver{}, deleting: map[string]*azservicebus.Receiver{}}
	w.sender, err = w.client.NewSender("q", nil)
	require.NoError(t, err)
	return w
}

func (w *wired) receiver(queue string, mode azservicebus.ReceiveMode) *azservicebus.Receiver {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.locking
	if mode == azservicebus.ReceiveModeReceiveAndDelete {
		all = w.deleting
	}
	if r := all[queue]; r != nil {
		return r
	}
	r, err := w.client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{ReceiveMode: mode})
	require.NoError(w.t, err)
	all[queue] = r
	return r
}

// kind is the fault that the SDK's error stands for.
func kind(err error) error {
	var sdk *azservicebus.Error
	if !errors.As(err, &sdk) {
		return err
	}
	switch sdk.Code {
	case azservicebus.CodeNotFound:
		return fault.MessageNotFound.Wrap(err, "not found")
	case azservicebus.CodeLockLost:
		return fault.LockLost.Wrap(err, "lock lost")
	}
	return err
}

func (w *wired) Schedule(ctx context.Context, _ string, messages []bus.Message) ([]int64, error) {
	var numbers []int64
	for _, m := range messages {
		out := &azservicebus.Message{MessageID: &m.ID, Body: m.Body}
		if m.TimeToLive > 0 {
			out.TimeToLive = &m.TimeToLive
		}
		more, err := w.sender.ScheduleMessages(ctx, []*azservicebus.Message{out}, m.ScheduledAt, nil)
		if err != nil {
			return nil, kind(err)
		}
		numbers = append(numbers, more...)
	}
	return numbers, nil
}

func (w *wired) Cancel(ctx context.Context, _ string, sequenceNumbers []int64) error {
	return kind(w.sender.CancelScheduledMessages(ctx, sequenceNumbers, nil))
}

func (w *wired) ReceiveAndDelete(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	options := &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: 20 * time.Millisecond}
	got, err := w.receiver(queue, azservicebus.ReceiveModeReceiveAndDelete).ReceiveMessages(ctx, limit, options)
	return deliveries(got), kind(err)
}

func (w *wired) ReceiveDeferred(ctx context.Context, queue string, sequenceNumbers []int64) ([]bus.Delivery, error) {
	got, err := w.receiver(queue, azservicebus.ReceiveModePeekLock).ReceiveDeferredMessages(ctx, sequenceNumbers, nil)
	return deliveries(got), kind(err)
}

func (w *wired) Defer(ctx context.Context, queue string, d bus.Delivery) error {
	return kind(w.receiver(queue, azservicebus.ReceiveModePeekLock).DeferMessage(ctx, held(d), nil))
}

func (w *wired) DeadLetter(ctx context.Context, queue string, d bus.Delivery, reason, detail string) error {
	return kind(w.receiver(queue, azservicebus.ReceiveModePeekLock).DeadLetterMessage(ctx, held(d), &azservicebus.DeadLetterOptions{
		Reason: &reason, ErrorDescription: &detail,
	}))
}

func (w *wired) Renew(ctx context.Context, queue string, d bus.Delivery) (time.Time, error) {
	m := held(d)
	if err := w.receiver(queue, azservicebus.ReceiveModePeekLock).RenewMessageLock(ctx, m, nil); err != nil {
		return time.Time{}, kind(err)
	}
	return *m.LockedUntil, nil
}

func (w *wired) Peek(queue string, from int64, limit int) ([]bus.Peeked, error) {
	options := &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from}
	got, err := w.receiver(queue, azservicebus.ReceiveModePeekLock).PeekMessages(w.t.Context(), limit, options)
	var peeked []bus.Peeked
	for i, d := range deliveries(got) {
		d.LockToken = ""
		peeked = append(peeked, bus.Peeked{Delivery: d, State: bus.State(got[i].State)})
	}
	return peeked, kind(err)
}

// held names a delivery by its lock, as the SDK takes it over the management link.
func held(d bus.Delivery) *azservicebus.ReceivedMessage {
	return &azservicebus.ReceivedMessage{LockToken: uuid.MustParse(d.LockToken)}
}

func deliveries(got []*azservicebus.ReceivedMessage) []bus.Delivery {
	var all []bus.Delivery
	for _, m := range got {
		d := bus.Delivery{
			Message:   bus.Message{ID: m.MessageID, Body: m.Body},
			LockToken: uuid.UUID(m.LockToken).String(), SequenceNumber: *m.SequenceNumber, DeliveryCount: int(m.DeliveryCount),
			EnqueuedAt: *m.EnqueuedTime,
		}
		if m.LockedUntil != nil {
			d.LockedUntil = *m.LockedUntil
		} else {
			d.LockToken = ""
		}
		if m.TimeToLive != nil && *m.TimeToLive > 0 { // without one the SDK takes the enqueued time for the end
			d.ExpiresAt = *m.ExpiresAt
		}
		if m.ScheduledEnqueueTime != nil {
			d.ScheduledAt = *m.ScheduledEnqueueTime
		}
		for into, from := range map[*string]*string{
			&d.DeadLetterSource: m.DeadLetterSource, &d.DeadLetterReason: m.DeadLetterReason, &d.DeadLetterDetail: m.DeadLetterErrorDescription,
		} {
			if from != nil {
				*into = *from
			}
		}
		all = append(all, d)
	}
	return all
}
