// Package monitoring_test holds deploy/monitoring to a running system.
package monitoring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/local/replay"
	"liveops/local/sample"
	"liveops/local/server"
	"liveops/local/stack"
)

// repository is where this is.
var repository = filepath.Join("..", "..")

// TestBrokerAway cuts the broker off under load: whoever is on call learns that requests fail and that the timer which looks
// after the queues stands still.
func TestBrokerAway(t *testing.T) {
	t.Parallel()
	s := watch(t)
	s.isQuiet(t)

	s.Bus.Fail(func(string, string) error { return fault.BusUnavailable.Errorf("the broker is away") })
	s.fire(t, "GatewayErrorBudgetFastBurn", "FunctionFailing", "TimerStalled")

	s.Bus.Fail(nil)
	s.isQuiet(t)
	s.hasAll(t)
}

// TestNothingIsDelivered stops deliveries under load: the gateway goes on taking events, and what tells is the age of the oldest.
func TestNothingIsDelivered(t *testing.T) {
	t.Parallel()
	s := watch(t)
	s.isQuiet(t)

	s.Bus.Fail(func(op, queue string) error {
		if op == "receive" && (queue == "events" || queue == "progression") {
			return fault.BusUnavailable.Errorf("nothing is delivered")
		}
		return nil
	})
	s.fire(t, "QueueAgeHigh")
	require.NotContains(t, s.firing(t), "GatewayErrorBudgetFastBurn")

	s.Bus.Fail(nil)
	s.isQuiet(t)
	s.hasAll(t)
}

// watched is a system that is played on all the time, and a Prometheus that watches it.
type watched struct {
	*stack.Stack
	lapse
	prometheus string // its URL
	stopReplay func() // after what is on its way has been accepted

	mu     sync.Mutex
	events int // that were accepted
}

// installed gives the machine's programs when it has all of those that are named.
func installed(t *testing.T, names ...string) server.Programs {
	t.Helper()
	programs := server.Programs{Dirs: server.Path()}
	for _, name := range names {
		if programs.Find(name) == "" {
			if os.Getenv("TEST_SERVERS") == "required" {
				require.FailNow(t, "no "+name+" on PATH")
			}
			t.Skip("no " + name + " on PATH")
		}
	}
	return programs
}

// watch starts all of it.
func watch(t *testing.T) *watched {
	t.Helper()
	programs := installed(t, "prometheus")
	port, err := server.FreePort()
	require.NoError(t, err)
	s := &watched{lapse: lapse{time.Now()}}
	s.Stack, err = stack.Start(t.Context(), stack.Options{
		Listen: "127.0.0.1:0", MetricsAddr: "127.0.0.1:" + port, Data: t.TempDir(), Catalog: filepath.Join(repository, "examples", "arena", "catalog.yaml"),
		Settings: map[string]string{"BATCH_HOLD": (30 * time.Second / pace).String()}, Now: s.lapse.now, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	running.Go(func() { s.every(ctx, 30*time.Second, func() { _ = s.Trigger(ctx, "archive") }) }) // its failures are what the rules see
	running.Go(func() { s.every(ctx, time.Minute, func() { _ = s.Trigger(ctx, "redrive") }) })
	running.Go(func() { s.every(ctx, 2*time.Second, s.Bus.Wake) }) // its timers follow real time
	replaying, stopReplay := context.WithCancel(ctx)
	ended := make(chan error, 1)
	running.Go(func() { ended <- s.play(ctx, replaying) })
	s.stopReplay = func() {
		t.Helper()
		stopReplay()
		require.NoError(t, <-ended)
	}

	prometheus, err := programs.Prometheus(t.Context(), t.TempDir(), s.configuration(t, "127.0.0.1:"+port), "--query.lookback-delta="+(5*time.Minute/pace).String())
	require.NoError(t, err)
	t.Cleanup(prometheus.Kill)
	s.prometheus = prometheus.URL
	return s
}

// every does something again and again, so often by the quick clock, until ctx ends.
func (s *watched) every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval / pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// play sends a recorded game, some events of it at a time, until another context ends, and then what was begun.
func (s *watched) play(ctx, until context.Context) error {
	const chunk = 20
	var game bytes.Buffer
	if err := sample.Generate(&game, sample.Options{Seed: 1, Events: 20_000, Until: s.began}); err != nil {
		return err
	}
	events, err := replay.Read(&game)
	if err != nil {
		return err
	}
	player := replay.Player{URL: s.URL, Key: s.Secrets.Key(signing.Server), Batch: 1, Retries: 1000, Now: s.lapse.now}
	next := slices.Chunk(events, chunk)
	next(func(events []event.Event) bool { return true })
	return nil
}

// configuration writes local/monitoring/prometheus.yml for a system that goes fast, with the rules of deploy/monitoring, and gives
// its path.
func (s *watched) configuration(t *testing.T, target string) string {
	t.Helper()
	return ""
}
