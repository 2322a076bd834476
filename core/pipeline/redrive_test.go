package pipeline_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/pipeline"
	"liveops/core/rejected"
	"liveops/core/store"
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
	require.Equal(t, 1, p.metrics(t)["dead_letters_total fate=given-up"])

	// Every time is a row, and the one that waits for somebody is open.
	for state, want := range map[rejected.State]int{"": 4, rejected.Released: 3, rejected.Open: 1} {
		list, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 10, State: state})
		require.NoError(t, err)
		require.Len(t, list, want)
		for _, listed := range list {
			require.True(t, ids[listed.MessageID])
			r, err := p.rejected.Get(t.Context(), listed.ID)
			require.NoError(t, err)
			require.Equal(t, []any{"redrive", fault.DeliveriesSpent, "ada", "x1", 1}, []any{r.Stage, r.Code, r.PlayerID, r.EventID, r.Times})
			require.Equal(t, "events: "+bus.ReasonDeliveries+": Message could not be consumed after 2 delivery attempts.", r.Detail)
			require.Equal(t, lost.Body, r.Body)
			if !r.Release.At.IsZero() {
				require.Equal(t, rejected.Release{Queue: "events", At: noon, By: "redrive"}, r.Release)
			}
		}
	}
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

// cutStore is a rejected store out of reach at one step.
type cutStore struct {
	*rejected.Store
	at string // put, kept, mark or marked: the last of each pair has its effect
}

func (c cutStore) Put(ctx context.Context, rejections []rejected.Rejection) error {
	return c.cut("put", "kept", func() error { return c.Store.Put(ctx, rejections) })
}

func (c cutStore) MarkBatchReleased(ctx context.Context, rejections []rejected.Rejection, queue, by string) error {
	return c.cut("mark", "marked", func() error { return c.Store.MarkBatchReleased(ctx, rejections, queue, by) })
}

func (c cutStore) cut(before, after string, do func() error) error {
	down := fault.DatabaseUnavailable.Wrap(errDown, "down")
	if c.at == before {
		return down
	}
	if err := do(); err != nil || c.at != after {
		return err
	}
	return down
}

// Two letters come back and one is given up, wherever the run before was cut. Cut dead, it could not even give letters back.
func TestRedriveIsCutAnywhere(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"receive", "put", "kept", "publish", "published", "mark", "marked", "complete", "completed"} {
		for name, dead := range map[string]bool{"": false, " dead": true} {
			t.Run(at+name, func(t *testing.T) {
				t.Parallel()
				p := redrivePath(t)
				p.layOut(t)
				events := batch(t, xp("ada", "x1", 5), xp("bob", "x2", 5), xp("cyd", "x3", 5))
				events[2].Properties = map[string]string{"liveops-redrives": "3"}
				require.NoError(t, p.bus.Publish(t.Context(), "events", events))
				p.bury(t, "events")

				p.redrive.Rejected = cutStore{p.rejected, at}
				p.bus.Fail(func(op, _ string) error {
					if op == at || op == "abandon" && dead {
						return fault.BusUnavailable.Wrap(errDown, "down")
					}
					return nil
				})
				_, err := p.redrive.Run(t.Context())
				require.ErrorIs(t, err, fault.Unavailable)
				sent := p.queued(t, "events")
				if at == "receive" || at == "put" || at == "kept" || at == "publish" {
					require.Empty(t, sent)
				} else {
					require.Len(t, sent, 2)
					require.Len(t, p.rows(t, "rejected"), 3, "nothing is sent before it is kept")
				}
				if at != "completed" {
					require.Len(t, p.queued(t, bus.DeadLetters("events")), 3, "they stay until the end")
				}

				p.bus.Fail(nil)
				p.redrive.Rejected = p.rejected
				if dead {
					p.at(noon.Add(2 * time.Minute)) // the locks run out
				}
				_, err = p.redrive.Run(t.Context())
				require.NoError(t, err)
				require.Empty(t, p.queued(t, bus.DeadLetters("events")))
				bodies := map[string]int{}
				for _, m := range p.queued(t, "events") {
					bodies[string(m.Body)]++
				}
				require.Equal(t, map[string]int{string(events[0].Body): 1, string(events[1].Body): 1}, bodies,
					"nothing is lost, and a repeat of a try has the same id")
				for state, want := range map[rejected.State]int{rejected.Released: 2, rejected.Open: 1} {
					list, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 10, State: state})
					require.NoError(t, err)
					require.Len(t, list, want)
					for _, r := range list {
						require.Equal(t, noon, r.FirstAt.Truncate(time.Hour))
						if state == rejected.Released {
							require.Equal(t, []string{"events", "redrive"}, []string{r.Release.Queue, r.Release.By})
						}
					}
				}
				p.settle(t)
				require.Equal(t, []string{"player: ada | 5 | 1 | 1", "player: bob | 5 | 1 | 1"}, p.rows(t, "player"))
			})
		}
	}
}

func TestRedriveOnEveryDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		events := batch(t, xp("ada", "x1", 5), xp("bob", "x2", 5))
		for range 2 { // this broker drops no duplicates: each comes back twice
			require.NoError(t, p.bus.Publish(t.Context(), "progression", events))
		}
		p.bury(t, "progression")
		_, err := p.redrive.Run(t.Context())
		require.NoError(t, err)
		require.Len(t, p.queued(t, "progression"), 4)
		p.settle(t)
		require.Equal(t, []string{"player: ada | 5 | 1 | 1", "player: bob | 5 | 1 | 1"}, p.rows(t, "player"))
		require.Equal(t, "redrive", p.rejection(t, "ada.x1").Release.By)
		require.Equal(t, "redrive", p.rejection(t, "bob.x2").Release.By)
	})
}

// While the database is down nothing moves, and nothing is out of sight either: the letters are given back at once.
func TestRedriveWithoutADatabase(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	require.NoError(t, p.bus.Publish(t.Context(), "events", batch(t, xp("ada", "x1", 5), xp("bob", "x2", 5))))
	p.bury(t, "events")
	p.redrive.Rejected = failing{t}
	for range 5 {
		moved, err := p.redrive.Move(t.Context(), 100, "events")
		require.ErrorIs(t, err, fault.DatabaseUnavailable)
		require.Equal(t, []pipeline.Redriven{{Queue: "events", More: true}}, moved)
		require.Empty(t, p.queued(t, "events"))
		counts, err := p.bus.Counts("events")
		require.NoError(t, err)
		require.Equal(t, bus.Counts{Dead: 2}, counts)
	}
	require.Empty(t, noSweeps(p.metrics(t)))
	p.redrive.Rejected = p.rejected
	moved, err := p.redrive.Move(t.Context(), 100, "events")
	require.NoError(t, err)
	require.Equal(t, []pipeline.Redriven{{Queue: "events", Back: 2}}, moved)
}

func TestMoveIsBounded(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	var events []event.Accepted
	for i := range 25 {
		events = append(events, xp("ada", fmt.Sprint("x", i), 5))
	}
	require.NoError(t, p.bus.Publish(t.Context(), "events", batch(t, events...)))
	p.bury(t, "events")
	moves := []pipeline.Redriven{
		{Queue: "events", Back: 10, More: true}, {Queue: "events", Back: 10, More: true}, {Queue: "events", Back: 5}, {Queue: "events"},
	}
	for _, want := range moves {
		moved, err := p.redrive.Move(t.Context(), 10, "progression", "events")
		require.NoError(t, err)
		require.Equal(t, []pipeline.Redriven{{Queue: "progression"}, want}, moved)
	}
	require.Len(t, p.queued(t, "events"), 25)
}

// sparing is a broker that gives fewer messages at a time than it has, as a real one may.
type sparing struct{ *bus.Memory }

func (s sparing) Receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	return s.Memory.Receive(ctx, queue, min(limit, 3))
}

func TestMoveGoesOnToTheEnd(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	events := batch(t, xp("ada", "a", 5), xp("ada", "b", 5), xp("ada", "c", 5), xp("ada", "d", 5), xp("ada", "e", 5))
	require.NoError(t, p.bus.Publish(t.Context(), "events", events))
	p.bury(t, "events")
	p.redrive.Bus = sparing{p.bus}
	moved, err := p.redrive.Move(t.Context(), 4, "events")
	require.NoError(t, err)
	require.Equal(t, []pipeline.Redriven{{Queue: "events", Back: 4, More: true}}, moved)
	moved, err = p.redrive.Move(t.Context(), 4, "events")
	require.NoError(t, err)
	require.Equal(t, []pipeline.Redriven{{Queue: "events", Back: 1}}, moved)
}

// A letter that no queue would take any more is given up at once, rather than stand in the way of all others.
func TestALetterThatCannotBeSentIsGivenUp(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	require.NoError(t, p.bus.Publish(t.Context(), "events", batch(t, xp("ada", "x1", 5), xp("bob", "x2", 5))))
	p.bury(t, "events")
	p.redrive.Bus = swelling{p.bus}
	moved, err := p.redrive.Move(t.Context(), 100, "events")
	require.NoError(t, err)
	require.Equal(t, []pipeline.Redriven{{Queue: "events", Back: 1, GivenUp: 1}}, moved)
	require.Zero(t, p.rejection(t, "ada.x1").Release)
	require.Equal(t, "redrive", p.rejection(t, "bob.x2").Release.By)
}

// swelling is a broker that took a larger message from somebody else.
type swelling struct{ *bus.Memory }

func (s swelling) Receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	letters, err := s.Memory.Receive(ctx, queue, limit)
	if len(letters) > 0 {
		letters[0].Body = make([]byte, bus.MaxBody+1)
	}
	return letters, err
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
