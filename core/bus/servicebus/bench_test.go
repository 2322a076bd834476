package servicebus

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	local "liveops/local/servicebus"
)

// BenchmarkPublish measures publishes of one message of 300 bytes by concurrent callers, and the same by callers that each send a
// batch of their own over one link, which is what sharing is for. Both take turns in the same run, so that the ratio
// "of-alone" means something on any machine. For a lone caller it is about latency: his 99th percentile must stay within
// one and a half of the other's, plus the linger.
//
// The broker does nothing with what it gets. It is free, so that the wire and the SDK are all that is measured, or takes a
// tenth of a millisecond for each operation on its queue, whatever is in it, as one does that stores before it confirms.
func BenchmarkPublish(b *testing.B) {
	for cost, name := range map[time.Duration]string{0: "free", 100 * time.Microsecond: "100µs"} {
		for _, callers := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/%d", name, callers), func(b *testing.B) { compare(b, broker(b, cost), callers) })
		}
	}
}

func compare(b *testing.B, config Config, callers int) {
	b.Helper()
	shared, err := Open(config)
	require.NoError(b, err)
	defer func() { require.NoError(b, shared.Close(context.Background())) }()
	client, err := shared.client()
	require.NoError(b, err)
	defer func() { require.NoError(b, client.Close(context.Background())) }()
	sender, err := client.NewSender(benchQueue, nil)
	require.NoError(b, err)
	alone := func(ctx context.Context, m bus.Message) error {
		batch, err := sender.NewMessageBatch(ctx, nil)
		if err != nil {
			return err
		}
		if err := batch.AddMessage(outgoing(m), nil); err != nil {
			return err
		}
		return sender.SendMessageBatch(ctx, batch, nil)
	}
	together := func(ctx context.Context, m bus.Message) error {
		return shared.Publish(ctx, benchQueue, []bus.Message{m})
	}

	var with, without load
	load := func(publish func(context.Context, bus.Message) error) load {
		return press(b, callers, 300*time.Millisecond, publish)
	}
	load(alone) // opens the links
	load(together)
	for b.Loop() {
		without.add(load(alone))
		with.add(load(together))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(without.rate(), "alone/s")
	b.ReportMetric(with.rate(), "publishes/s")
	b.ReportMetric(with.rate()/without.rate(), "of-alone")
	if callers == 1 {
		b.ReportMetric(float64(with.p99().Microseconds()), "p99-µs")
		b.ReportMetric(float64(without.p99().Microseconds()), "p99-alone-µs")
	}
}

const benchQueue = "events"

// costly takes everything and keeps nothing. An operation occupies its queue for as long as it costs.
type costly struct {
	*bus.Memory
	cost time.Duration

	mu   sync.Mutex
	free time.Time // when the queue is
}

// Publish implements bus.Publisher.
func (c *costly) Publish(context.Context, string, []bus.Message) error {
	if c.cost == 0 {
		return nil
	}
	c.mu.Lock()
	now := time.Now()
	if c.free.Before(now) {
		c.free = now
	}
	c.free = c.free.Add(c.cost)
	wait := c.free.Sub(now)
	c.mu.Unlock()
	if wait > 2*time.Millisecond { // no sleep is shorter than one or two
		time.Sleep(wait)
	}
	return nil
}

// broker is an endpoint on TCP, before a broker to which an operation costs so much.
func broker(b *testing.B, cost time.Duration) Config {
	b.Helper()
	server := local.New(&costly{Memory: bus.NewMemory(time.Now, bus.Queue{Name: benchQueue}), cost: cost}, local.Options{})
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { require.NoError(b, server.Close()) })
	return Config{ConnectionString: server.ConnectionString(listener.Addr().String())}
}

// load is what callers achieved.
type load struct {
	took      time.Duration
	publishes int
	calls     []time.Duration // of a lone caller
}

func (l *load) add(more load) {
	l.took, l.publishes, l.calls = l.took+more.took, l.publishes+more.publishes, append(l.calls, more.calls...)
}

func (l *load) rate() float64 { return float64(l.publishes) / l.took.Seconds() }

func (l *load) p99() time.Duration {
	slices.Sort(l.calls)
	return l.calls[len(l.calls)*99/100]
}

// press publishes as fast as callers can for a while.
func press(b *testing.B, callers int, during time.Duration, publish func(context.Context, bus.Message) error) load {
	b.Helper()
	var serial, publishes atomic.Int64
	var calls []time.Duration
	body := make([]byte, 300)
	start := time.Now()
	var over atomic.Bool
	time.AfterFunc(during, func() { over.Store(true) })
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			count := 0
			for ; !over.Load(); count++ {
				began := time.Now()
				if err := publish(b.Context(), bus.Message{ID: strconv.FormatInt(serial.Add(1), 10), Body: body}); err != nil {
					b.Error(err)
					return
				}
				if callers == 1 {
					calls = append(calls, time.Since(began))
				}
			}
			publishes.Add(int64(count))
		})
	}
	group.Wait()
	return load{time.Since(start), int(publishes.Load()), calls}
}
