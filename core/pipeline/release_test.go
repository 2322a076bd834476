package pipeline_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/fault"
	"liveops/core/pipeline"
	"liveops/core/rejected"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func (p *path) release() *pipeline.Release {
	return &pipeline.Release{
		Rejected: p.rejected, Records: p.fairness.Records, Sanctions: p.fairness.Sanctions, Bus: p.bus, Queue: "progression",
		Origins: []string{"events", "progression"},
	}
}

// rejection gives the one rejection of a message.
func (p *path) rejection(t *testing.T, message string) rejected.Rejection {
	t.Helper()
	list, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 1000})
	require.NoError(t, err)
	for _, r := range list {
		if r.MessageID == message {
			return r
		}
	}
	require.Fail(t, "not rejected", message)
	return rejected.Rejection{}
}

// What the ladder denied counts when an operator says so, although the ladder would deny it again.
func TestAReleasedEventHasItsEffect(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		denied := batch(t, xp("eve", "unfair", 101))
		_, err := p.fairness.Judge(t.Context(), denied)
		require.NoError(t, err)
		p.settle(t)
		require.Empty(t, p.rows(t, "player"))
		found := p.rejection(t, "eve.unfair")

		p.at(noon.Add(time.Minute))
		released, err := p.release().Event(t.Context(), found.ID, "operator")
		require.NoError(t, err)
		want := rejected.Release{Queue: "progression", At: noon.Add(time.Minute), By: "operator"}
		require.Equal(t, want, released.Release)
		sent := p.queued(t, "progression")
		require.Len(t, sent, 1)
		require.NotEqual(t, denied[0].ID, sent[0].ID)
		require.Equal(t, denied[0].Body, sent[0].Body)
		require.Equal(t, "application/json", sent[0].ContentType)
		p.settle(t)
		require.Equal(t, []string{"player: eve | 101 | 2 | 2"}, p.rows(t, "player"))
		require.Len(t, p.rows(t, "receipt"), 1)

		// Again, by another operator: the same answer, and nothing is sent.
		p.at(noon.Add(time.Hour))
		again, err := p.release().Event(t.Context(), found.ID, "another")
		require.NoError(t, err)
		require.Equal(t, released, again)
		require.Empty(t, p.queued(t, "progression"))

		// The message that was denied comes again, and is denied again.
		_, err = p.fairness.Judge(t.Context(), denied)
		require.NoError(t, err)
		require.Empty(t, p.queued(t, "progression"))
		after := p.rejection(t, "eve.unfair")
		require.Equal(t, want, after.Release)
		require.Equal(t, 2, after.Times)
		require.Equal(t, noon.Add(time.Hour), after.LastAt)
	})
}

// unmarked is a rejected store that dies before it marks.
type unmarked struct{ *rejected.Store }

func (unmarked) MarkReleased(context.Context, string, string, string) (rejected.Rejection, error) {
	return rejected.Rejection{}, fault.DatabaseUnavailable.Wrap(errDown, "down")
}

func TestReleaseIsCutAnywhere(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		fail func(p *path, r *pipeline.Release)
		code fault.Code
		sent int
	}{
		{"before it is sent", func(p *path, _ *pipeline.Release) { p.bus.Fail(failOn("publish")) }, fault.BusUnavailable, 0},
		{"before the broker says so", func(p *path, _ *pipeline.Release) { p.bus.Fail(failOn("published")) }, fault.BusUnavailable, 1},
		{"before it is marked", func(_ *path, r *pipeline.Release) { r.Rejected = unmarked{r.Rejected.(*rejected.Store)} }, fault.DatabaseUnavailable, 1},
		{"before it is read", func(p *path, r *pipeline.Release) {
			r.Rejected = &rejected.Store{DB: deadDB(t), Now: p.now}
		}, fault.DatabaseUnavailable, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
				p := newPath(t, db, rdb) // its broker detects no duplicates, so the ledger must
				p.layOut(t)
				_, err := p.fairness.Judge(t.Context(), batch(t, xp("eve", "unfair", 101)))
				require.NoError(t, err)
				id := p.rejection(t, "eve.unfair").ID

				r := p.release()
				test.fail(p, r)
				_, err = r.Event(t.Context(), id, "operator")
				require.ErrorIs(t, err, test.code)
				require.ErrorIs(t, err, fault.Unavailable)
				p.bus.Fail(nil)
				require.Zero(t, p.rejection(t, "eve.unfair").Release)
				sent := p.queued(t, "progression")
				require.Len(t, sent, test.sent)
				p.settle(t) // what was sent may well be done before the release is tried again

				_, err = p.release().Event(t.Context(), id, "operator")
				require.NoError(t, err)
				repeated := p.queued(t, "progression")
				require.Len(t, repeated, 1)
				if test.sent > 0 {
					require.Equal(t, sent[0], repeated[0], "under the same id, so that a broker can drop it")
				}
				p.settle(t)
				require.Equal(t, []string{"player: eve | 101 | 2 | 2"}, p.rows(t, "player"))
				require.Equal(t, "operator", p.rejection(t, "eve.unfair").Release.By)
			})
		})
	}
}

func TestConcurrentReleasesCountOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		_, err := p.fairness.Judge(t.Context(), batch(t, xp("eve", "unfair", 101)))
		require.NoError(t, err)
		id := p.rejection(t, "eve.unfair").ID
		const operators = 4
		released, failures := make([]rejected.Rejection, operators), make([]error, operators)
		var wg sync.WaitGroup
		for n := range operators {
			wg.Go(func() { released[n], failures[n] = p.release().Event(t.Context(), id, "operator") })
		}
		wg.Wait()
		for n := range operators {
			require.NoError(t, failures[n])
			require.Equal(t, released[0].Release, released[n].Release)
		}
		p.settle(t)
		require.Equal(t, []string{"player: eve | 101 | 2 | 2"}, p.rows(t, "player"))
	})
}

// A dead letter that the redrive gave up goes back to the queue it died in.
func TestADeadLetterGivenUpIsReleased(t *testing.T) {
	t.Parallel()
	for _, queue := range []string{"events", "progression"} {
		t.Run(queue, func(t *testing.T) {
			t.Parallel()
			p := redrivePath(t)
			p.layOut(t)
			lost := message(t, xp("ada", "x1", 5))
			lost.Properties = map[string]string{"liveops-redrives": "3"}
			require.NoError(t, p.bus.Publish(t.Context(), queue, []bus.Message{lost}))
			p.bury(t, queue)
			_, err := p.redrive.Run(t.Context())
			require.NoError(t, err)

			released, err := p.release().Event(t.Context(), p.rejection(t, lost.ID).ID, "operator")
			require.NoError(t, err)
			require.Equal(t, queue, released.Release.Queue)
			sent := p.queued(t, queue)
			require.Len(t, sent, 1, "under another id, or duplicate detection would drop it")
			require.Equal(t, lost.Body, sent[0].Body)
			require.Empty(t, sent[0].Properties["liveops-redrives"], "it may be redriven again")
			p.settle(t)
			require.Equal(t, []string{"player: ada | 5 | 1 | 1"}, p.rows(t, "player"))

			// Without this queue, there is nowhere for it to go.
			r := p.release()
			r.Origins = []string{"others"}
			require.NoError(t, p.rejected.Put(t.Context(), []rejected.Rejection{
				{Stage: "redrive", MessageID: "m", Code: fault.DeliveriesSpent, Detail: queue + ": spent", Body: lost.Body},
			}))
			_, err = r.Event(t.Context(), p.rejection(t, "m").ID, "operator")
			require.ErrorIs(t, err, fault.NotReleasable)
		})
	}
}

func TestWhatCannotBeReleased(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	good := message(t, xp("ada", "x1", 5)).Body
	for _, r := range []rejected.Rejection{
		{Stage: "fairness", MessageID: "odd", Code: fault.MessageInvalid, Body: []byte("\xff no event")},
		{Stage: "fairness", MessageID: "unjudged", Code: fault.MessageInvalid, Body: good},
		{Stage: "fairness", MessageID: "lost", Code: fault.ImpossibleValue},
		{Stage: "progression", MessageID: "invalid", Code: fault.MessageInvalid, Body: []byte("{}")},
		{Stage: "progression", MessageID: "unread", Code: fault.MessageInvalid, Body: good},
		{Stage: "redrive", MessageID: "spent", Code: fault.DeliveriesSpent, Detail: "events: reason: ", Body: []byte("{}")},
		{Stage: "redrive", MessageID: "elsewhere", Code: fault.DeliveriesSpent, Detail: "event: events: ", Body: good},
		{Stage: "redrive", MessageID: "nowhere", Code: fault.DeliveriesSpent, Body: good},
		{Stage: "archive", MessageID: "unheard", Code: fault.ImpossibleValue, Detail: "events: ", Body: good},
	} {
		require.NoError(t, p.rejected.Put(t.Context(), []rejected.Rejection{r}))
		_, err := p.release().Event(t.Context(), p.rejection(t, r.MessageID).ID, "operator")
		require.ErrorIs(t, err, fault.NotReleasable, r.MessageID)
		require.ErrorIs(t, err, fault.Invalid)
		require.Equal(t, fault.NotReleasable, fault.CodeOf(err))
		require.NotEmpty(t, fault.Of(err).Detail)
		require.Zero(t, p.rejection(t, r.MessageID).Release)
	}
	_, err := p.release().Event(t.Context(), "nothing", "operator")
	require.ErrorIs(t, err, fault.RejectedNotFound)
	require.Empty(t, p.queued(t, "events"))
	require.Empty(t, p.queued(t, "progression"))
}
