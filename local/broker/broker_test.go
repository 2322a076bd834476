package broker_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/bus/bustest"
	"liveops/core/fault"
	"liveops/local/broker"
)

func serve(t *testing.T, b broker.Bus) *broker.Client {
	t.Helper()
	server := httptest.NewServer(broker.Serve(b))
	t.Cleanup(server.Close)
	client := broker.NewClient(server.URL)
	t.Cleanup(client.HTTP.CloseIdleConnections)
	return client
}

func TestClientHoldsTheContract(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T) bustest.Broker {
		var clock atomic.Int64
		clock.Store(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixNano())
		now := func() time.Time { return time.Unix(0, clock.Load()).UTC() }
		m := bus.NewMemory(now, bus.Queue{Name: "q", DuplicateWindow: 10 * time.Minute})
		return bustest.Broker{Bus: serve(t, m), Queue: "q", MaxDeliveryCount: 10, LockDuration: time.Minute, Pass: func(d time.Duration) {
			clock.Add(int64(d))
			m.Wake()
		}}
	})
}

func TestErrorsKeepTheirKind(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(time.Now, bus.Queue{Name: "q"})
	client := serve(t, m)
	err := client.Complete(t.Context(), "q", bus.Delivery{LockToken: "gone"})
	require.ErrorIs(t, err, fault.LockLost)
	require.ErrorIs(t, err, fault.Conflict)

	err = client.Publish(t.Context(), "q", []bus.Message{{ID: strings.Repeat("x", bus.MaxID+1)}})
	require.ErrorContains(t, err, "characters")
	require.Equal(t, fault.Internal, fault.KindOf(err))

	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, client.Publish(ended, "q", []bus.Message{{ID: "a"}}), context.Canceled)

	nowhere := broker.NewClient("http://127.0.0.1:1")
	require.ErrorIs(t, nowhere.Publish(t.Context(), "q", []bus.Message{{ID: "a"}}), fault.Unavailable)
	_, err = nowhere.Receive(t.Context(), "q", 1)
	require.ErrorIs(t, err, fault.Unavailable)
}

// TestAReceiverThatDies leaves its messages to the others, whether it had them or still waited.
func TestAReceiverThatDies(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(time.Now, bus.Queue{Name: "q", LockDuration: 100 * time.Millisecond})
	require.NoError(t, m.Publish(t.Context(), "q", []bus.Message{{ID: "a"}}))
	_, err := serve(t, m).Receive(t.Context(), "q", 1)
	require.NoError(t, err)
	got, err := serve(t, m).Receive(t.Context(), "q", 1)
	require.NoError(t, err)
	require.Equal(t, 2, got[0].DeliveryCount)
}
