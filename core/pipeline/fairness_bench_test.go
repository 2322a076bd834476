package pipeline_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/bus/servicebus"
	"liveops/core/catalog"
	"liveops/core/store/storetest"
	local "liveops/local/servicebus"
)

// BenchmarkFairness measures fair events going through the stage behind the queue "events", in batches of 500, each batch followed
// by one more through the same stage with every rule off. "of-off" is the speed of the one over the speed of the other. The next
// queue is an endpoint of Service Bus on this machine, or nothing at all: then the stage with the ladder off does hardly more than
// read and write JSON.
func BenchmarkFairness(b *testing.B) {
	sql, cache := os.Getenv("TEST_MYSQL_URL"), os.Getenv("TEST_REDIS_URL")
	if sql == "" || cache == "" {
		b.Skip("needs real servers: TEST_MYSQL_URL and TEST_REDIS_URL")
	}
	for name, open := range map[string]func(b *testing.B) (next bus.Publisher, drain func()){"servicebus": endpoint, "nothing": nothing} {
		b.Run(name, func(b *testing.B) {
			p := newPath(b, storetest.MySQL(b, sql), storetest.Redis(b, cache))
			text, err := os.ReadFile(filepath.Join("..", "..", "examples", "chess", "catalog.yaml"))
			require.NoError(b, err)
			on, err := catalog.Parse(text)
			require.NoError(b, err)
			off := *on
			off.Fairness.Rules = maps.Clone(on.Fairness.Rules)
			for rule := range off.Fairness.Rules {
				off.Fairness.Rules[rule] = catalog.Rule{Mode: "off"}
			}
			next, drain := open(b)
			p.fairness.Bus = next
			games := &games{random: rand.New(rand.NewPCG(21, 22))}
			judge := func(game *catalog.Catalog) time.Duration {
				p.game = game
				messages := batch(b, games.play(500)...)
				began := time.Now()
				_, err := p.fairness.Judge(b.Context(), messages)
				took := time.Since(began)
				require.NoError(b, err)
				drain()
				return took
			}
			for range 20 { // most players are known
				judge(on)
			}
			judge(&off)
			var with, without time.Duration
			for b.Loop() {
				with += judge(on)
				without += judge(&off)
			}
			b.ReportMetric(float64(b.N*500)/with.Seconds(), "events/s")
			b.ReportMetric(float64(b.N*500)/without.Seconds(), "off/s")
			b.ReportMetric(without.Seconds()/with.Seconds(), "of-off")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type nowhere struct{}

func (nowhere) Publish(context.Context, string, []bus.Message) error { return nil }

func nothing(*testing.B) (bus.Publisher, func()) { return nowhere{}, func() {} }

func endpoint(b *testing.B) (bus.Publisher, func()) {
	b.Helper()
	memory := bus.NewMemory(time.Now, bus.Queue{Name: "progression", MaxDeliveryCount: 10})
	server := local.New(memory, local.Options{})
	publisher, err := servicebus.Open(servicebus.Config{ConnectionString: server.ConnectionString("localhost"), Connect: server.Dial})
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, publisher.Close(context.Background()))
		require.NoError(b, server.Close())
	})
	return publisher, func() {
		got, err := memory.ReceiveAndDelete(context.Background(), "progression", 1000)
		require.NoError(b, err)
		if len(got) != 500 {
			b.Fatal(fmt.Sprint("forwarded ", len(got)))
		}
	}
}
