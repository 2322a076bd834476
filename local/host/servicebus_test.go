package host_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	adapter "liveops/core/bus/servicebus"
	"liveops/local/host"
	"liveops/local/servicebus"
)

// way is how a host reaches a broker.
type way func(t *testing.T, broker *bus.Memory) bus.Receiver

// eachWay runs a test on the broker itself, and by the adapter of production over an endpoint.
func eachWay(t *testing.T, test func(t *testing.T, reach way)) {
	t.Helper()
	for name, reach := range map[string]way{
		"memory": func(_ *testing.T, broker *bus.Memory) bus.Receiver { return broker },
		"servicebus": func(t *testing.T, broker *bus.Memory) bus.Receiver {
			t.Helper()
			return serve(t, broker).bus
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, reach)
		})
	}
}

// namespace is an endpoint of a broker, and a client of it.
type namespace struct {
	*servicebus.Server
	bus *adapter.Bus
}

func serve(t *testing.T, broker *bus.Memory) namespace {
	t.Helper()
	endpoint := servicebus.New(broker, servicebus.Options{})
	client, err := adapter.Open(adapter.Config{ConnectionString: endpoint.ConnectionString("localhost"), Connect: endpoint.Dial})
	require.NoError(t, err)
	n := namespace{endpoint, client}
	t.Cleanup(func() {
		n.close(t)
		require.NoError(t, endpoint.Close())
	})
	return n
}

func (n namespace) close(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = n.bus.Close(ctx) // what was cut cannot say goodbye
}

// failing lets a fault meet an operation so many times. done says whether it did.
func (n namespace) failing(times int32, operation string, f servicebus.Fault) (done func() bool) {
	left := new(atomic.Int32)
	left.Store(times)
	n.Fail(func(o servicebus.Operation) servicebus.Fault {
		if o.Name != operation || left.Add(-1) < 0 {
			return servicebus.Fault{}
		}
		return f
	})
	return func() bool { return left.Load() <= 0 }
}

// The receive loop outlives whatever the network and the broker do to it, and what was lost on the way comes again when its lock ends.
func TestReceivingSurvives(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		operation string
		fault     servicebus.Fault
	}{
		"a cut":               {},
		"connections refused": {servicebus.OpConnect, servicebus.Fault{Kind: servicebus.Drop}},
		"tokens refused":      {servicebus.OpAuthorize, servicebus.Fault{Kind: servicebus.Refuse, Condition: servicebus.Unauthorized}},
		"links refused":       {servicebus.OpAttach, servicebus.Fault{Kind: servicebus.Refuse, Condition: servicebus.ServerBusy}},
		"links ended":         {servicebus.OpReceive, servicebus.Fault{Kind: servicebus.Detach}},
		"a busy server":       {servicebus.OpReceive, servicebus.Fault{Kind: servicebus.Detach, Condition: servicebus.ServerBusy}},
		"a receive cut":       {servicebus.OpReceive, servicebus.Fault{Kind: servicebus.Drop}},
	} {
		for _, cardinality := range []string{"one", "many"} {
			t.Run(name+", "+cardinality, func(t *testing.T) {
				t.Parallel()
				broker := orders(func(q *bus.Queue) { q.LockDuration = 2 * time.Second; q.MaxDeliveryCount = 10 })
				n := serve(t, broker)
				r := start(t, map[string]string{
					"host.json": hostJSON(proxied, ""), "f": queueFunction(`,"cardinality":"` + cardinality + `","dataType":"binary"`),
				}, host.Options{Handler: reply(200, "application/json", "{}"), Bus: n.bus})
				publish(t, broker, "before")
				require.NoError(t, r.next().Err)
				settled(t, broker)

				done := n.failing(3, f.operation, f.fault)
				if f.operation != servicebus.OpReceive {
					n.Cut()
				}
				require.NoError(t, broker.Publish(t.Context(), "orders", []bus.Message{{ID: "after", Body: []byte("after")}}))
				require.NoError(t, r.next().Err)
				require.Equal(t, bus.Counts{}, settled(t, broker))
				require.True(t, f.operation == "" || done())
				require.NoError(t, r.stop())
			})
		}
	}
}

// Contract §6.3: a batch is completed message by message, so one that cannot be is alone in coming again.
func TestBatchIsSettledByMessage(t *testing.T) {
	t.Parallel()
	broker := orders(func(q *bus.Queue) { q.LockDuration = 2 * time.Second; q.MaxDeliveryCount = 10 })
	n := serve(t, broker)
	done := n.failing(1, servicebus.OpComplete, servicebus.Fault{Kind: servicebus.Refuse, Condition: servicebus.LockLost})
	publish(t, broker, "0", "1", "2", "3", "4", "5", "6", "7")
	r := start(t, map[string]string{
		"host.json": hostJSON(proxied, `"extensions":{"serviceBus":{"minMessageBatchSize":8,"maxBatchWaitTime":"00:00:01"}}`),
		"f":         queueFunction(`,"cardinality":"many","dataType":"binary"`),
	}, host.Options{Handler: reply(200, "application/json", "{}"), Bus: n.bus})
	require.Equal(t, 8, r.next().Messages)
	again := r.next()
	require.Equal(t, bus.Counts{}, settled(t, broker))
	require.True(t, done())
	require.Equal(t, 1, again.Messages, "only the one comes again")
	require.Contains(t, r.log.String(), "settlement failed")
}

// A host that stops while messages come has handled what it took. What was on its way to it comes to the next one, at the
// latest when its lock ends: the SDK cannot give everything back.
func TestStopLosesNothing(t *testing.T) {
	t.Parallel()
	for _, cardinality := range []string{"one", "many"} {
		t.Run(cardinality, func(t *testing.T) {
			t.Parallel()
			broker := orders(func(q *bus.Queue) { q.LockDuration = 2 * time.Second; q.MaxDeliveryCount = 10 })
			var messages []bus.Message
			for i := range 2000 {
				messages = append(messages, bus.Message{ID: fmt.Sprint(i), Body: []byte("x")})
			}
			require.NoError(t, broker.Publish(t.Context(), "orders", messages))
			files := map[string]string{
				"host.json": hostJSON(proxied, ""), "f": queueFunction(`,"cardinality":"` + cardinality + `","dataType":"binary"`),
			}
			n := serve(t, broker)
			first := start(t, files, host.Options{Handler: reply(200, "application/json", "{}"), Bus: n.bus})
			first.next()
			require.NoError(t, first.stop())
			for len(first.outcome) > 0 {
				require.NoError(t, first.next().Err)
			}
			require.NotContains(t, first.log.String(), "settlement failed")
			n.close(t)
			require.NotZero(t, counts(t, broker))

			start(t, files, host.Options{Handler: reply(200, "application/json", "{}"), Bus: serve(t, broker).bus})
			require.Equal(t, bus.Counts{}, settled(t, broker))
		})
	}
}
