package pipeline_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/fault"
	"liveops/core/rejected"
	"liveops/core/store/storetest"
)

// bury delivers everything of a queue without success until it is among the dead letters.
func (p *path) bury(t *testing.T, queue string) {
	t.Helper()
	down := func(context.Context, []bus.Message) error { return errDown }
	for range 2 {
		require.Error(t, p.take(t, queue, asStage(down)))
	}
	counts, err := p.bus.Counts(queue)
	require.NoError(t, err)
	require.Zero(t, counts.Active)
}

func redrivePath(t *testing.T) *path {
	t.Helper()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	// Here duplicates are detected, as on the real broker.
	p.bus = bus.NewMemory(p.now, bus.Queue{Name: "events", MaxDeliveryCount: 2, DuplicateWindow: time.Hour},
		bus.Queue{Name: "progression", MaxDeliveryCount: 2, DuplicateWindow: time.Hour})
	p.redrive.Bus, p.fairness.Bus, p.gateway.Bus = p.bus, p.bus, p.bus
	return p
}

func TestRedriveBringsDeadLettersBack(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	p.layOut(t)
	lost := message(t, xp("ada", "x1", 5))
	lost.Properties = map[string]string{"traceparent": "00-1-2-01"}
	require.NoError(t, p.bus.Publish(t.Context(), "events", []bus.Message{lost}))
	ids := map[string]bool{lost.ID: true}
	for try := 1; try <= 3; try++ {
		p.bury(t, "events")
		outcome, err := p.redrive.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, "[redriven=1 given_up=0]", pipelineOutcome(outcome).String())
		back := p.queued(t, "events")
		require.Len(t, back, 1, "under another id, or duplicate detection would drop it")
		require.False(t, ids[back[0].ID])
		ids[back[0].ID] = true
		require.Equal(t, lost.Body, back[0].Body)
		require.Equal(t, lost.ContentType, back[0].ContentType)
		require.Equal(t, map[string]string{"traceparent": "00-1-2-01", "liveops-redrives": fmt.Sprint(try)}, back[0].Properties)
		require.Empty(t, p.queued(t, bus.DeadLetters("events")))
	}
	require.Equal(t, map[string]int{"dead_letters_total fate=redriven": 3}, noSweeps(p.metrics(t)))

	// The fourth time it is kept for an operator.
	p.bury(t, "events")
	outcome, err := p.redrive.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, "[redriven=0 given_up=1]", pipelineOutcome(outcome).String())
	require.Empty(t, p.queued(t, "events"))
	require.Empty(t, p.queued(t, bus.DeadLetters("events")))
	list, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, list, 1)
	r, err := p.rejected.Get(t.Context(), list[0].ID)
	require.NoError(t, err)
	require.Equal(t, []any{"redrive", fault.DeliveriesSpent, "ada", "x1"}, []any{r.Stage, r.Code, r.PlayerID, r.EventID})
	require.Contains(t, r.Detail, "events: "+bus.ReasonDeliveries)
	require.Equal(t, lost.Body, r.Body)
	require.Equal(t, 1, p.metrics(t)["dead_letters_total fate=given-up"])
}

func TestARedrivenEventHasItsEffectOnce(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	p.layOut(t)
	events := batch(t, xp("ada", "x1", 5))
	require.NoError(t, p.bus.Publish(t.Context(), "progression", events))
	_, err := p.progression.Apply(t.Context(), events) // it had its effect, and every completion was lost
	require.NoError(t, err)
	p.bury(t, "progression")
	_, err = p.redrive.Run(t.Context())
	require.NoError(t, err)
	p.settle(t)
	require.Equal(t, []string{"player: ada | 5 | 1 | 1"}, p.rows(t, "player"))
}

func TestRedriveIsCutAnywhere(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"receive", "publish", "published", "complete", "completed"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			p := redrivePath(t)
			events := batch(t, xp("ada", "x1", 5), xp("bob", "x2", 5))
			require.NoError(t, p.bus.Publish(t.Context(), "events", events))
			p.bury(t, "events")
			p.bus.Fail(func(is, _ string) error {
				if is == op {
					return fault.BusUnavailable.Wrap(errDown, "down")
				}
				return nil
			})
			_, err := p.redrive.Run(t.Context())
			require.ErrorIs(t, err, fault.BusUnavailable)
			p.bus.Fail(nil)
			p.at(noon.Add(2 * time.Minute)) // the locks of the dead letters run out
			_, err = p.redrive.Run(t.Context())
			require.NoError(t, err)
			bodies := map[string]int{}
			for _, m := range p.queued(t, "events") {
				bodies[string(m.Body)]++
			}
			require.Equal(t, map[string]int{string(events[0].Body): 1, string(events[1].Body): 1}, bodies,
				"nothing is lost, and a repeat of a try has the same id")
			require.Empty(t, p.queued(t, bus.DeadLetters("events")))
		})
	}
	t.Run("giving up", func(t *testing.T) {
		t.Parallel()
		p := redrivePath(t)
		spent := message(t, xp("ada", "x1", 5))
		spent.Properties = map[string]string{"liveops-redrives": "3"}
		require.NoError(t, p.bus.Publish(t.Context(), "events", []bus.Message{spent}))
		p.bury(t, "events")
		p.redrive.Rejected = failing{t}
		_, err := p.redrive.Run(t.Context())
		require.ErrorIs(t, err, fault.DatabaseUnavailable)
		require.Len(t, p.queued(t, bus.DeadLetters("events")), 1, "it stays until it is kept elsewhere")
		require.Zero(t, p.metrics(t)["dead_letters_total fate=given-up"])
	})
}

func TestTroubleWithOneQueueDoesNotStopTheOther(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	require.NoError(t, p.bus.Publish(t.Context(), "progression", batch(t, xp("ada", "x1", 5))))
	p.bury(t, "progression")
	p.bus.Fail(func(op, queue string) error {
		if op == "receive" && queue == bus.DeadLetters("events") {
			return fault.BusUnavailable.Wrap(errDown, "down")
		}
		return nil
	})
	_, err := p.redrive.Run(t.Context())
	require.ErrorIs(t, err, fault.BusUnavailable)
	require.Len(t, p.queued(t, "progression"), 1)
	require.Equal(t, 1, p.metrics(t)["dead_letters_total fate=redriven"])
}

func TestRedriveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.redrive.Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// A queue and the next carry an event under the same message id.
func TestDeadLettersOfTwoQueuesAreGivenUpApart(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	spent := message(t, xp("ada", "x1", 5))
	spent.Properties = map[string]string{"liveops-redrives": "3"}
	for _, queue := range []string{"events", "progression"} {
		require.NoError(t, p.bus.Publish(t.Context(), queue, []bus.Message{spent}))
		p.bury(t, queue)
		_, err := p.redrive.Run(t.Context())
		require.NoError(t, err)
		open, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 10, State: rejected.Open})
		require.NoError(t, err)
		require.Len(t, open, 1, "the release of the first does not hide the second")
		require.Contains(t, open[0].Detail, queue+": ")
		released, err := p.release().Event(t.Context(), open[0].ID, "operator")
		require.NoError(t, err)
		require.Equal(t, queue, released.Release.Queue)
	}
}

// What something else than the gateway sent may have no id.
func TestDeadLettersWithoutAnIDAreToldApart(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	first, second := message(t, xp("ada", "x1", 5)), message(t, xp("bob", "x2", 5))
	first.ID, second.ID = "", ""
	require.NoError(t, p.bus.Publish(t.Context(), "events", []bus.Message{first, second}))
	p.bury(t, "events")
	_, err := p.redrive.Run(t.Context())
	require.NoError(t, err)
	require.Len(t, p.queued(t, "events"), 2, "neither is taken for a duplicate of the other")
}
