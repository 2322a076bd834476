package servicebus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/local/servicebus"
	"liveops/local/servicebus/amqp"
)

func memory(queues ...bus.Queue) *bus.Memory {
	if queues == nil {
		queues = []bus.Queue{{Name: "q", DuplicateWindow: 10 * time.Minute}}
	}
	return bus.NewMemory(time.Now, queues...)
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), d)
	t.Cleanup(stop)
	return ctx
}

func sender(t *testing.T, c *azservicebus.Client) *azservicebus.Sender {
	t.Helper()
	s, err := c.NewSender("q", nil)
	require.NoError(t, err)
	return s
}

func receiver(t *testing.T, c *azservicebus.Client) *azservicebus.Receiver {
	t.Helper()
	r, err := c.NewReceiverForQueue("q", nil)
	require.NoError(t, err)
	return r
}

func text(id string) *azservicebus.Message {
	return &azservicebus.Message{MessageID: &id, Body: []byte("body of " + id)}
}

// receive collects n messages.
func receive(t *testing.T, r *azservicebus.Receiver, n int) []*azservicebus.ReceivedMessage {
	t.Helper()
	ctx := within(t, 20*time.Second)
	var got []*azservicebus.ReceivedMessage
	for len(got) < n {
		more, err := r.ReceiveMessages(ctx, n-len(got), nil)
		require.NoError(t, err)
		got = append(got, more...)
	}
	return got
}

func TestEverythingASenderSaysArrives(t *testing.T) {
	t.Parallel()
	c := open(t, memory(), servicebus.Options{}).client(t)
	sent := &azservicebus.Message{
		MessageID: new("id"), Body: []byte{0, 0xff}, ContentType: new("application/json"), Subject: new("subject"), CorrelationID: new("correlation"),
		To: new("to"), ReplyTo: new("reply"), ReplyToSessionID: new("reply session"), PartitionKey: new("key"), TimeToLive: new(time.Hour),
		ApplicationProperties: map[string]any{"text": "t", "number": int64(-5), "yes": true, "float": 1.5, "time": time.UnixMilli(5).UTC()},
	}
	require.NoError(t, sender(t, c).SendMessage(within(t, time.Minute), sent, nil))
	got := receive(t, receiver(t, c), 1)[0]
	got.ApplicationProperties["time"] = got.ApplicationProperties["time"].(time.Time).UTC() //nolint:forcetypeassert // or it fails
	require.Equal(t, sent, got.Message())
	require.Equal(t, got.EnqueuedTime.Add(time.Hour), *got.ExpiresAt)
}

func TestMessagesOfThisProcessArrive(t *testing.T) {
	t.Parallel()
	e := open(t, memory(), servicebus.Options{})
	require.NoError(t, e.memory.Publish(t.Context(), "q", []bus.Message{{ID: "id", Body: []byte("b"), ContentType: "text/plain", Properties: map[string]string{"a": "b"}}}))
	got := receive(t, receiver(t, e.client(t)), 1)[0]
	require.Equal(t, "id", got.MessageID)
	require.Equal(t, []byte("b"), got.Body)
	require.Equal(t, "text/plain", *got.ContentType)
	require.Equal(t, map[string]any{"a": "b"}, got.ApplicationProperties)
}

func TestLargeMessagesTakeManyFrames(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	e := open(t, memory(bus.Queue{Name: "q", MaxBody: size}), servicebus.Options{MaxMessageSize: size + 1024})
	c := e.client(t)
	var bodies [][]byte
	for i := range 8 {
		bodies = append(bodies, bytes.Repeat([]byte{byte(i), 1, 2, 3}, size/4))
		require.NoError(t, sender(t, c).SendMessage(within(t, time.Minute), &azservicebus.Message{Body: bodies[i]}, nil))
	}
	for _, m := range receive(t, receiver(t, c), len(bodies)) { // in any order, when the SDK gives some back in between
		require.True(t, bytes.Equal(bodies[m.Body[0]], m.Body), "message %d", m.Body[0])
	}
	err := sender(t, c).SendMessage(within(t, time.Minute), &azservicebus.Message{Body: make([]byte, size+2048)}, nil)
	require.ErrorIs(t, err, azservicebus.ErrMessageTooLarge)
}

func TestABatchIsTakenWhole(t *testing.T) {
	t.Parallel()
	e := open(t, memory(bus.Queue{Name: "q", MaxMessages: 1500}), servicebus.Options{})
	c := e.client(t)
	s := sender(t, c)
	ctx := within(t, time.Minute)
	full := func() *azservicebus.MessageBatch {
		batch, err := s.NewMessageBatch(ctx, nil)
		require.NoError(t, err)
		for n := 0; ; n++ {
			if err := batch.AddMessage(&azservicebus.Message{Body: make([]byte, 200)}, nil); err != nil {
				require.ErrorIs(t, err, azservicebus.ErrMessageTooLarge)
				return batch
			}
		}
	}
	batch := full()
	require.Greater(t, batch.NumMessages(), int32(900), "256 KB")
	require.NoError(t, s.SendMessageBatch(ctx, batch, nil))
	counts, err := e.memory.Counts("q")
	require.NoError(t, err)
	require.Equal(t, int(batch.NumMessages()), counts.Active)
	require.ErrorContains(t, s.SendMessageBatch(ctx, full(), nil), "resource-limit-exceeded")
	after, err := e.memory.Counts("q")
	require.NoError(t, err)
	require.Equal(t, counts, after)
	require.Len(t, receive(t, receiver(t, c), counts.Active), counts.Active)
}

func TestOverTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(web.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := servicebus.New(memory(), servicebus.Options{})
	go func() { _ = s.Serve(tls.NewListener(listener, web.TLS)) }()
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	options := quick()
	options.CustomEndpoint = listener.Addr().String()
	options.TLSConfig = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com", MinVersion: tls.VersionTLS12}
	options.TLSConfig.RootCAs.AddCert(web.Certificate())
	c, err := azservicebus.NewClientFromConnectionString("Endpoint=sb://example.com;SharedAccessKeyName=n;SharedAccessKey=k", options)
	require.NoError(t, err)
	t.Cleanup(func() { closing(t, c) })
	require.NoError(t, sender(t, c).SendMessage(within(t, time.Minute), text("a"), nil))
}

func TestWithinTheProcess(t *testing.T) {
	t.Parallel()
	s := servicebus.New(memory(), servicebus.Options{})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	c := connected(t, s)
	require.NoError(t, sender(t, c).SendMessage(within(t, time.Minute), text("a"), nil))
	require.Equal(t, "a", receive(t, receiver(t, c), 1)[0].MessageID)
}

// identity is a credential as a workload has it on AKS: its tokens are no shared access signatures.
type identity struct{}

func (identity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "a.b.c", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestByIdentity(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key servicebus.Key
		err string
	}{
		"whoever comes":   {servicebus.Key{}, ""},
		"who has the key": {servicebus.Key{Name: "n", Value: "k"}, "unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servicebus.New(memory(), servicebus.Options{Key: test.key})
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			c, err := azservicebus.NewClient("games.servicebus.windows.net", identity{}, inside(s))
			require.NoError(t, err)
			t.Cleanup(func() { closing(t, c) })
			err = sender(t, c).SendMessage(within(t, time.Minute), text("a"), nil)
			if test.err == "" {
				require.NoError(t, err)
				require.Equal(t, "a", receive(t, receiver(t, c), 1)[0].MessageID)
			} else {
				require.ErrorContains(t, err, test.err)
			}
		})
	}
}

// TestIdleConnectionsLive lets twenty minutes pass: the SDK hangs up on a silent endpoint after one.
func TestIdleConnectionsLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := servicebus.New(memory(), servicebus.Options{})
		var connections atomic.Int32
		s.Fail(func(o servicebus.Operation) servicebus.Fault {
			if o.Name == servicebus.OpConnect {
				connections.Add(1)
			}
			return servicebus.Fault{}
		})
		c, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("anywhere"), inside(s))
		require.NoError(t, err)
		out := sender(t, c)
		require.NoError(t, out.SendMessage(t.Context(), text("before"), nil))
		time.Sleep(20 * time.Minute)
		require.NoError(t, out.SendMessage(t.Context(), text("after"), nil))
		require.EqualValues(t, 1, connections.Load())
		require.NoError(t, c.Close(t.Context()))
		require.NoError(t, s.Close())
	})
}

func TestSilentClientsAreCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := servicebus.New(memory(), servicebus.Options{IdleTimeout: time.Minute})
		silent, err := s.Dial(t.Context())
		require.NoError(t, err)
		began := time.Now()
		_, err = silent.Read(make([]byte, 1))
		require.Error(t, err)
		require.Equal(t, 10*time.Second, time.Since(began), "of the handshake")

		p := dial(t, s)
		began = time.Now()
		p.gone()
		require.Equal(t, time.Minute, time.Since(began))
		require.NoError(t, s.Close())
	})
}

// TestWhatNobodyAskedForIsNotCounted sends while a receiver has credit left and no call is under way: the SDK releases what
// comes then.
func TestWhatNobodyAskedForIsNotCounted(t *testing.T) {
	t.Parallel()
	e := open(t, memory(bus.Queue{Name: "q", MaxDeliveryCount: 2}), servicebus.Options{})
	c := e.client(t)
	in, out := receiver(t, c), sender(t, c)
	ctx := within(t, time.Minute)
	require.NoError(t, out.SendMessage(ctx, text("first"), nil))
	got, err := in.ReceiveMessages(ctx, 50, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	var released atomic.Int32
	e.Fail(func(o servicebus.Operation) servicebus.Fault {
		if o.Name == servicebus.OpRelease {
			released.Add(1)
		}
		return servicebus.Fault{}
	})
	require.NoError(t, out.SendMessage(ctx, text("second"), nil))
	require.Eventually(t, func() bool { return released.Load() > 5 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, receive(t, in, 1)[0].DeliveryCount)
}

func TestUnseenMessagesComeBackUncounted(t *testing.T) {
	t.Parallel()
	s := servicebus.New(memory(), servicebus.Options{})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.Fail(func(o servicebus.Operation) servicebus.Fault {
		if o.Name == servicebus.OpReceive {
			return servicebus.Fault{Kind: servicebus.Drop}
		}
		return servicebus.Fault{}
	})
	p := dial(t, s)
	p.begin()
	p.write(&amqp.Attach{Name: "r", Role: amqp.Receiver, ReceiverMode: amqp.ReceiverSecond, Source: &amqp.Terminus{Address: "q"}})
	p.write(&amqp.Flow{IncomingWindow: 100, OutgoingWindow: 100, Handle: new(uint32(0)), LinkCredit: new(uint32(10))})
	c := connected(t, s)
	require.NoError(t, sender(t, c).SendMessage(within(t, time.Minute), text("a"), nil))
	p.gone()
	s.Fail(nil)
	require.EqualValues(t, 1, receive(t, receiver(t, c), 1)[0].DeliveryCount)
}

func TestCodes(t *testing.T) {
	t.Parallel()
	code := func(err error) azservicebus.Code {
		var sdk *azservicebus.Error
		require.ErrorAs(t, err, &sdk)
		return sdk.Code
	}
	e := open(t, memory(), servicebus.Options{Key: servicebus.Key{Name: "n", Value: "k"}})
	ctx := within(t, time.Minute)
	c := e.client(t)
	missing, err := c.NewSender("missing", nil)
	require.NoError(t, err)
	require.Equal(t, azservicebus.CodeNotFound, code(missing.SendMessage(ctx, text("a"), nil)))
	from, err := c.NewReceiverForQueue("missing", nil)
	require.NoError(t, err)
	_, err = from.ReceiveMessages(ctx, 1, nil)
	require.Equal(t, azservicebus.CodeNotFound, code(err))

	stranger, err := azservicebus.NewClientFromConnectionString(strings.Replace(e.ConnectionString(e.address), "SharedAccessKey=k", "SharedAccessKey=other", 1), quick())
	require.NoError(t, err)
	t.Cleanup(func() { closing(t, stranger) })
	require.Equal(t, azservicebus.CodeUnauthorizedAccess, code(sender(t, stranger).SendMessage(ctx, text("a"), nil)))

	require.NoError(t, sender(t, c).SendMessage(ctx, text("a"), nil))
	r := receiver(t, c)
	m := receive(t, r, 1)[0]
	require.NoError(t, r.CompleteMessage(ctx, m, nil))
	again := held(bus.Delivery{LockToken: "ab000000-0000-0000-0000-0000000000cd"})
	require.Equal(t, azservicebus.CodeLockLost, code(r.CompleteMessage(ctx, again, nil)), "over the management link")
	require.Equal(t, azservicebus.CodeLockLost, code(r.RenewMessageLock(ctx, again, nil)))
	require.Equal(t, azservicebus.CodeNotFound, code(sender(t, c).CancelScheduledMessages(ctx, []int64{99}, nil)))
}

func TestALockThatEndedIsLostOnItsLink(t *testing.T) {
	t.Parallel()
	clock := newClock()
	m := bus.NewMemory(clock.now, bus.Queue{Name: "q"})
	c := open(t, m, servicebus.Options{}).client(t)
	ctx := within(t, time.Minute)
	for _, id := range []string{"a", "b", "c", "d"} {
		require.NoError(t, sender(t, c).SendMessage(ctx, text(id), nil))
	}
	r := receiver(t, c)
	got := receive(t, r, 4)
	clock.pass(2 * time.Minute)
	m.Wake()
	for i, settle := range []func() error{
		func() error { return r.CompleteMessage(ctx, got[0], nil) },
		func() error { return r.AbandonMessage(ctx, got[1], nil) },
		func() error { return r.DeferMessage(ctx, got[2], nil) },
		func() error { return r.DeadLetterMessage(ctx, got[3], nil) },
	} {
		var sdk *azservicebus.Error
		require.ErrorAs(t, settle(), &sdk, "settlement %d", i)
		require.Equal(t, azservicebus.CodeLockLost, sdk.Code)
	}
}

// TestSettlementsOnTheLink settles as the SDK does by itself, where the conformance suite names messages by their lock.
func TestSettlementsOnTheLink(t *testing.T) {
	t.Parallel()
	e := open(t, memory(), servicebus.Options{})
	c := e.client(t)
	ctx := within(t, time.Minute)
	for _, id := range []string{"completed", "abandoned", "deferred", "dead"} {
		require.NoError(t, sender(t, c).SendMessage(ctx, text(id), nil))
	}
	r := receiver(t, c)
	got := receive(t, r, 4)
	require.NoError(t, r.CompleteMessage(ctx, got[0], nil))
	require.NoError(t, r.AbandonMessage(ctx, got[1], nil))
	require.NoError(t, r.DeferMessage(ctx, got[2], nil))
	require.NoError(t, r.DeadLetterMessage(ctx, got[3], &azservicebus.DeadLetterOptions{Reason: new("r"), ErrorDescription: new("d")}))
	counts, err := e.memory.Counts("q")
	require.NoError(t, err)
	require.Equal(t, bus.Counts{Active: 1, Deferred: 1, Dead: 1}, counts)
	require.EqualValues(t, 2, receive(t, r, 1)[0].DeliveryCount)
	deferred, err := r.ReceiveDeferredMessages(ctx, []int64{*got[2].SequenceNumber}, nil)
	require.NoError(t, err)
	require.NoError(t, r.CompleteMessage(ctx, deferred[0], nil))
	dead, err := c.NewReceiverForQueue("q", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	require.NoError(t, err)
	m := receive(t, dead, 1)[0]
	require.Equal(t, "r d q", *m.DeadLetterReason+" "+*m.DeadLetterErrorDescription+" "+*m.DeadLetterSource)
}

func TestTheDeferredCanBeReceivedAndDeleted(t *testing.T) {
	t.Parallel()
	e := open(t, memory(), servicebus.Options{})
	c := e.client(t)
	ctx := within(t, time.Minute)
	require.NoError(t, sender(t, c).SendMessage(ctx, text("a"), nil))
	r := receiver(t, c)
	m := receive(t, r, 1)[0]
	require.NoError(t, r.DeferMessage(ctx, m, nil))
	deleting, err := c.NewReceiverForQueue("q", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	require.NoError(t, err)
	got, err := deleting.ReceiveDeferredMessages(ctx, []int64{*m.SequenceNumber}, nil)
	require.NoError(t, err)
	require.Equal(t, "a", got[0].MessageID)
	counts, err := e.memory.Counts("q")
	require.NoError(t, err)
	require.Zero(t, counts)
}

// TestFaults has every operation go wrong once in every way; the SDK gets over it, and nothing is lost or doubled.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, op := range []string{
		servicebus.OpConnect, servicebus.OpAuthorize, servicebus.OpAttach, servicebus.OpSend, servicebus.OpReceive, servicebus.OpComplete,
		servicebus.OpRenew, servicebus.OpPeek, servicebus.OpSchedule, servicebus.OpAbandon,
	} {
		for kind, name := range map[servicebus.FaultKind]string{
			servicebus.None: "delay", servicebus.Refuse: "refuse", servicebus.Detach: "detach", servicebus.Drop: "drop", servicebus.DropAfter: "drop after",
		} {
			t.Run(fmt.Sprintf("%s %s", name, op), func(t *testing.T) {
				t.Parallel()
				clock := newClock()
				m := bus.NewMemory(clock.now, bus.Queue{Name: "q", DuplicateWindow: time.Hour})
				e := open(t, m, servicebus.Options{})
				var happened atomic.Bool
				e.Fail(func(o servicebus.Operation) servicebus.Fault {
					if o.Name != op || !happened.CompareAndSwap(false, true) {
						return servicebus.Fault{}
					}
					return servicebus.Fault{Kind: kind, Delay: 5 * time.Millisecond}
				})
				c := e.client(t)
				ctx := within(t, 30*time.Second)
				out, in := sender(t, c), receiver(t, c)
				insist(t, ctx, func() error { return out.SendMessage(ctx, text("now"), nil) })
				insist(t, ctx, func() error {
					_, err := out.ScheduleMessages(ctx, []*azservicebus.Message{text("later")}, clock.now().Add(time.Hour), nil)
					return err
				})
				insist(t, ctx, func() error {
					peeked, err := in.PeekMessages(ctx, 10, &azservicebus.PeekMessagesOptions{FromSequenceNumber: new(int64(0))})
					if err == nil {
						require.Len(t, peeked, 2)
					}
					return err
				})
				abandoned := false
				for deliveries := 0; ; deliveries++ {
					counts, err := m.Counts("q")
					require.NoError(t, err)
					if counts.Active+counts.Locked == 0 {
						require.Equal(t, bus.Counts{Scheduled: 1}, counts)
						break
					}
					require.Less(t, deliveries, 10)
					got, _ := in.ReceiveMessages(ctx, 1, nil)
					require.NoError(t, ctx.Err())
					if len(got) > 0 {
						lock := held(bus.Delivery{LockToken: uuid.UUID(got[0].LockToken).String()})
						soon := within(t, 500*time.Millisecond) // the SDK would wait for seconds before it tried again
						if !abandoned {
							abandoned = in.AbandonMessage(soon, lock, nil) == nil
						} else if in.RenewMessageLock(soon, lock, nil) == nil {
							_ = in.CompleteMessage(soon, lock, nil) // the counts tell
						}
					}
					clock.pass(2 * time.Minute) // what is still locked comes again
					m.Wake()
				}
				require.True(t, happened.Load())
			})
		}
	}
}

// insist tries again until there is no error.
func insist(t *testing.T, ctx context.Context, do func() error) {
	t.Helper()
	for {
		err := do()
		if err == nil {
			return
		}
		require.NoError(t, ctx.Err(), "%v", err)
	}
}

// TestNothingRunsAfterClose looks for goroutines of the endpoint after it was closed in the middle of everything.
func TestNothingRunsAfterClose(t *testing.T) {
	s := servicebus.New(memory(), servicebus.Options{})
	c := connected(t, s)
	ctx := within(t, time.Minute)
	require.NoError(t, sender(t, c).SendMessage(ctx, text("a"), nil))
	in := receiver(t, c)
	receive(t, in, 1)
	waiting := make(chan error, 1)
	go func() {
		_, err := in.ReceiveMessages(ctx, 1, nil)
		waiting <- err
	}()
	s.Fail(func(servicebus.Operation) servicebus.Fault { return servicebus.Fault{Delay: time.Hour} })
	out := sender(t, c)
	go func() { _ = out.SendMessage(ctx, text("late"), nil) }()
	require.NoError(t, s.Close())
	require.NotRegexp(t, `liveops/local/servicebus\.\(\*(conn|writer|source)`, stacks())
	require.ErrorIs(t, s.Serve(nil), net.ErrClosed)
	refused, err := s.Dial(t.Context())
	require.NoError(t, err)
	_, err = refused.Read(make([]byte, 1))
	require.Error(t, err)
}

func stacks() string {
	buffer := make([]byte, 4<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// inside are quick options that connect within this process.
func inside(s *servicebus.Server) *azservicebus.ClientOptions {
	options := quick()
	options.NewWebSocketConn = func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) { return s.Dial(ctx) }
	return options
}

func connected(t *testing.T, s *servicebus.Server) *azservicebus.Client {
	t.Helper()
	c, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("anywhere"), inside(s))
	require.NoError(t, err)
	t.Cleanup(func() { closing(t, c) })
	return c
}
