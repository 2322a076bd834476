package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"liveops/core/bus"
	"liveops/core/fault"
	"liveops/core/pipeline"
	"liveops/handler/azfunc"
)

// TestTheHoldAndTheDeliveriesOutlastAnOutage is the calculation of docs/decisions/0016-outages.md.
func TestTheHoldAndTheDeliveriesOutlastAnOutage(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	delete(e.settings, "BATCH_HOLD")
	config, err := ReadConfig(e.getenv)
	require.NoError(t, err)
	require.Equal(t, DefaultHold, config.Hold)

	lasts := azfunc.Outlasts(config.Hold, MaxDeliveryCount)
	require.Equal(t, 48*time.Minute+time.Second, lasts)
	require.Less(t, DefaultHold, invocationDeadline, "a failure in time is held in full")
	require.LessOrEqual(t, invocationDeadline+10*time.Second, LockDuration, "an answer, and settling a batch, find the lock held")

	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "decisions", "0016-outages.md"))
	require.NoError(t, err)
	for what, value := range map[string]any{
		"hold": DefaultHold, "count": MaxDeliveryCount, "lock": LockDuration, "deadline": invocationDeadline, "sum": lasts, "redrive": pipeline.RedriveBatch,
	} {
		d, timed := value.(time.Duration)
		if timed {
			value = fmt.Sprintf("%.0f s", d.Seconds())
		}
		require.Contains(t, string(text), fmt.Sprint(value), what)
	}
}

// simulation is the application in simulated time: on a broker and behind two hosts that do as the real ones do, with a database
// that can be down.
type simulation struct {
	*App
	bus  *bus.Memory
	down atomic.Bool
	sent int
}

// simulate runs a test in simulated time. The queues allow so many deliveries.
func simulate(t *testing.T, deliveries int, test func(t *testing.T, s *simulation)) {
	t.Helper()
	e := newEnvironment(t) // outside of the bubble, where Redis would keep time from passing
	delete(e.settings, "BATCH_HOLD")
	synctest.Test(t, func(t *testing.T) {
		queue := func(name string) bus.Queue {
			return bus.Queue{Name: name, LockDuration: LockDuration, MaxDeliveryCount: deliveries, DuplicateWindow: 10 * time.Minute}
		}
		e.bus, e.clock = bus.NewMemory(time.Now, queue("events"), queue("progression")), time.Now
		s := &simulation{App: e.app(t), bus: e.bus}
		require.NoError(t, s.start(t.Context()))

		server := &azfunc.Server{Deadline: invocationDeadline, Hold: s.config.Hold}
		server.Queue("fairness", "messages", s.stage(s.cut(s.fairness.Judge)))
		server.Queue("progression", "messages", s.stage(s.cut(s.progression.Apply)))
		handler := server.Handler()
		ctx, stop := context.WithCancel(t.Context())
		var host errgroup.Group
		for range 2 { // replicas
			host.Go(func() error { return s.pump(ctx, handler, "events", "fairness") })
			host.Go(func() error { return s.pump(ctx, handler, "progression", "progression") })
		}
		defer func() {
			stop()
			require.ErrorIs(t, host.Wait(), context.Canceled)
		}()
		test(t, s)
	})
}

// cut fails a stage while the database is down.
func (s *simulation) cut(run stage) stage {
	return func(ctx context.Context, batch []bus.Message) (pipeline.Outcome, error) {
		if s.down.Load() {
			return nil, fault.DatabaseUnavailable.Errorf("down")
		}
		return run(ctx, batch)
	}
}

type stage = func(context.Context, []bus.Message) (pipeline.Outcome, error)

// pump delivers a queue to its function as the Functions host does: one batch at a time, all completed or all abandoned.
func (s *simulation) pump(ctx context.Context, handler http.Handler, queue, function string) error {
	for {
		batch, err := s.bus.Receive(ctx, queue, 500)
		if err != nil {
			return err
		}
		bodies, ids, counts := make([][]byte, len(batch)), make([]string, len(batch)), make([]int, len(batch))
		for i, d := range batch {
			bodies[i], ids[i], counts[i] = d.Body, d.ID, d.DeliveryCount
		}
		envelope, err := json.Marshal(map[string]any{
			"Data": map[string]any{"messages": bodies}, "Metadata": map[string]any{"MessageIdArray": ids, "DeliveryCountArray": counts},
		})
		if err != nil {
			return err
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+function, bytes.NewReader(envelope)))
		settle := s.bus.Abandon
		if w.Code == http.StatusOK {
			settle = s.bus.Complete
		}
		for _, d := range batch {
			if err := settle(context.WithoutCancel(ctx), queue, d); err != nil {
				return err
			}
		}
	}
}

// load sends an event with 5 XP, now.
func (s *simulation) load(t *testing.T) {
	t.Helper()
	id, player := fmt.Sprint("e", s.sent), fmt.Sprint("p", s.sent%7)
	s.sent++
	require.NoError(t, s.bus.Publish(t.Context(), "events", []bus.Message{{ID: player + "." + id, Body: acceptedBody(t, xpText(id, player, 5))}}))
}

func (s *simulation) counts(t *testing.T) (sum bus.Counts) {
	t.Helper()
	for _, queue := range []string{"events", "progression"} {
		counts, err := s.bus.Counts(queue)
		require.NoError(t, err)
		sum.Active, sum.Locked, sum.Dead = sum.Active+counts.Active, sum.Locked+counts.Locked, sum.Dead+counts.Dead
	}
	return sum
}

// Messages wait out an outage of more than ten minutes under load, none becomes a dead letter, and each has its effect once.
func TestAnOutageOfMinutes(t *testing.T) {
	t.Parallel()
	simulate(t, MaxDeliveryCount, func(t *testing.T, s *simulation) {
		for range 10 {
			s.load(t)
			time.Sleep(time.Second)
		}
		require.Equal(t, bus.Counts{}, s.counts(t))
		s.down.Store(true)
		for range 12 * 60 {
			s.load(t)
			time.Sleep(time.Second)
			require.Zero(t, s.counts(t).Dead)
		}
		s.down.Store(false)
		for range 60 {
			s.load(t)
			time.Sleep(time.Second)
		}
		require.Equal(t, bus.Counts{}, s.counts(t), "it drained, and nothing is dead")

		var xp, rows int
		require.NoError(t, s.db.Row(t.Context(), "SELECT SUM(xp) FROM player", nil, &xp))
		require.NoError(t, s.db.Row(t.Context(), "SELECT COUNT(*) FROM ledger WHERE kind = 'xp'", nil, &rows))
		require.Equal(t, []int{s.sent * 5, s.sent}, []int{xp, rows}, "each event once")
	})
}

// The calculation says when the first message of an outage without end becomes a dead letter.
func TestAnOutageWithoutEnd(t *testing.T) {
	t.Parallel()
	for _, deliveries := range []int{10, MaxDeliveryCount} {
		t.Run(fmt.Sprint(deliveries), func(t *testing.T) {
			t.Parallel()
			simulate(t, deliveries, func(t *testing.T, s *simulation) {
				s.down.Store(true)
				begin := time.Now()
				for s.counts(t).Dead == 0 {
					if time.Since(begin)%(30*time.Second) == 0 {
						s.load(t)
					}
					time.Sleep(time.Second)
					synctest.Wait()
				}
				require.Equal(t, azfunc.Outlasts(DefaultHold, deliveries), time.Since(begin))
				require.Equal(t, 1, s.counts(t).Dead, "the oldest only")
			})
		})
	}
}
