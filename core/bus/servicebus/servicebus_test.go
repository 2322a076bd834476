package servicebus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/fault"
)

func TestTranslate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		kind fault.Kind
		code fault.Code
	}{
		"lock lost":    {&azservicebus.Error{Code: azservicebus.CodeLockLost}, fault.Conflict, fault.LockLost},
		"lost":         {&azservicebus.Error{Code: azservicebus.CodeConnectionLost}, fault.Unavailable, fault.BusUnavailable},
		"unauthorized": {fmt.Errorf("send: %w", &azservicebus.Error{Code: azservicebus.CodeUnauthorizedAccess}), fault.Unavailable, fault.BusUnavailable},
		"not found":    {&azservicebus.Error{Code: azservicebus.CodeNotFound}, fault.Unavailable, fault.BusUnavailable},
		"timeout":      {&azservicebus.Error{Code: azservicebus.CodeTimeout}, fault.Unavailable, fault.BusUnavailable},
		"closed":       {&azservicebus.Error{Code: azservicebus.CodeClosed}, fault.Unavailable, fault.BusUnavailable},
		"too large":    {azservicebus.ErrMessageTooLarge, fault.TooLarge, fault.EventTooLarge},
		"deadline":     {context.DeadlineExceeded, fault.Unavailable, fault.BusUnavailable},
		"network":      {&net.OpError{Op: "dial", Err: errors.New("refused")}, fault.Unavailable, fault.BusUnavailable},
		"cancelled":    {context.Canceled, fault.Internal, fault.Unexpected},
		"fault":        {fault.ShuttingDown.Errorf("x"), fault.Unavailable, fault.ShuttingDown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := translate("publish to q", test.err)
			require.Equal(t, test.kind, fault.KindOf(got))
			require.Equal(t, test.code, fault.CodeOf(got))
			require.ErrorIs(t, got, test.err)
		})
	}
	require.NoError(t, translate("publish to q", nil))
}

func TestOnlyALostLinkIsReplaced(t *testing.T) {
	t.Parallel()
	require.True(t, lost(&azservicebus.Error{Code: azservicebus.CodeConnectionLost}))
	require.True(t, lost(fmt.Errorf("send: %w", &azservicebus.Error{Code: azservicebus.CodeClosed})))
	require.False(t, lost(&azservicebus.Error{Code: azservicebus.CodeLockLost}))
	require.False(t, lost(nil))
}

func TestMessagesKeepWhatTheyCarry(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.FixedZone("", 3600))
	out := outgoing(bus.Message{ID: "p.e", Body: []byte{0, 0xff}, ContentType: "application/json", Properties: map[string]string{"traceparent": "00"}, ScheduledAt: at, TimeToLive: time.Hour})
	require.Equal(t, "p.e", *out.MessageID)
	require.Equal(t, []byte{0, 0xff}, out.Body)
	require.Equal(t, "application/json", *out.ContentType)
	require.Equal(t, map[string]any{"traceparent": "00"}, out.ApplicationProperties)
	require.Equal(t, at.UTC(), *out.ScheduledEnqueueTime)
	require.Equal(t, time.Hour, *out.TimeToLive)
	require.Equal(t, &azservicebus.Message{Body: []byte("x")}, outgoing(bus.Message{Body: []byte("x")}))

	in := incoming(&azservicebus.ReceivedMessage{
		MessageID: "p.e", Body: []byte{1}, ContentType: out.ContentType, TimeToLive: out.TimeToLive, DeliveryCount: 3, SequenceNumber: new(int64(7)),
		LockToken:             [16]byte{0xAB, 15: 0xCD},
		ApplicationProperties: map[string]any{"traceparent": "00", "count": int64(3)},
		EnqueuedTime:          &at, LockedUntil: &at, ExpiresAt: &at,
		DeadLetterReason: new("r"), DeadLetterErrorDescription: new("d"), DeadLetterSource: new("q"),
	})
	require.Equal(t, bus.Delivery{
		Message: bus.Message{
			ID: "p.e", Body: []byte{1}, ContentType: "application/json", Properties: map[string]string{"traceparent": "00"}, TimeToLive: time.Hour,
		},
		LockToken: "ab000000-0000-0000-0000-0000000000cd", SequenceNumber: 7, DeliveryCount: 3,
		EnqueuedAt: at, LockedUntil: at, ExpiresAt: at,
		DeadLetterReason: "r", DeadLetterDetail: "d", DeadLetterSource: "q",
	}, in)
	require.Equal(t, bus.Delivery{LockToken: "00000000-0000-0000-0000-000000000000"}, incoming(&azservicebus.ReceivedMessage{}))
}

// endpoint is a listener that hands every connection to serve, and a Bus that takes it for the namespace.
func endpoint(t *testing.T, serve func(net.Conn)) *Bus {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	b, err := Open(Config{ConnectionString: "Endpoint=sb://" + listener.Addr().String() + ";SharedAccessKeyName=n;SharedAccessKey=a2V5;UseDevelopmentEmulator=true"})
	require.NoError(t, err)
	return b
}

func TestUnreachableIsUnavailableWithinTheDeadline(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"hangs up": func(c net.Conn) { _ = c.Close() },
		"is silent": func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		},
		"talks nonsense": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := endpoint(t, serve)
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := b.Publish(ctx, "q", []bus.Message{{ID: "a", Body: []byte("x")}})
			require.ErrorIs(t, err, fault.BusUnavailable)
			settleCtx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err = b.Complete(settleCtx, "q", bus.Delivery{LockToken: "ab000000-0000-0000-0000-0000000000cd"})
			require.ErrorIs(t, err, fault.BusUnavailable)
			require.Less(t, time.Since(start), 3*time.Second)
			peekCtx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err = b.Backlog(peekCtx, "q")
			require.ErrorIs(t, err, fault.BusUnavailable)

			receiveCtx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err = b.Receive(receiveCtx, bus.DeadLetters("q"), 10)
			if receiveCtx.Err() == nil {
				require.ErrorIs(t, err, fault.BusUnavailable)
			} else {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		})
	}
}

func TestRefusedConnection(t *testing.T) {
	t.Parallel()
	b, err := Open(Config{ConnectionString: "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=a2V5;UseDevelopmentEmulator=true"})
	require.NoError(t, err)
	start := time.Now()
	err = b.Publish(t.Context(), "q", []bus.Message{{ID: "a"}})
	require.ErrorIs(t, err, fault.BusUnavailable)
	require.Less(t, time.Since(start), 3*time.Second, "a request waits for this")
}

func TestCheckedBeforeConnecting(t *testing.T) {
	t.Parallel()
	b := endpoint(t, func(net.Conn) { t.Error("connected") })
	err := b.Publish(t.Context(), "q", []bus.Message{{ID: "a"}, {ID: "b", Body: make([]byte, bus.MaxBody+1)}})
	require.ErrorIs(t, err, fault.TooLarge)
	err = b.Complete(t.Context(), "q", bus.Delivery{LockToken: "nonsense"})
	require.ErrorContains(t, err, "lock token")
}

func TestClosedIsUnavailable(t *testing.T) {
	t.Parallel()
	b := endpoint(t, func(c net.Conn) { _ = c.Close() })
	require.NoError(t, b.Close(t.Context()))
	require.ErrorIs(t, b.Publish(t.Context(), "q", []bus.Message{{ID: "a"}}), fault.Unavailable)
	_, err := b.Receive(t.Context(), "q", 1)
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = b.Backlog(t.Context(), "q")
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, b.Abandon(t.Context(), "q", bus.Delivery{LockToken: "ab000000-0000-0000-0000-0000000000cd"}), fault.Unavailable)
}

func TestOpen(t *testing.T) {
	t.Parallel()
	_, err := Open(Config{ConnectionString: "Endpoint=sb://x;SharedAccessKey=very-secret"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "very-secret")
	b, err := Open(Config{Namespace: "games.servicebus.windows.net"})
	require.NoError(t, err, "a credential is looked for when it is first needed")
	require.NoError(t, b.Close(t.Context()))
	for _, config := range []Config{{}, {ConnectionString: "Endpoint=sb://x", Namespace: "x"}} {
		_, err := Open(config)
		require.ErrorContains(t, err, "either")
	}
}
