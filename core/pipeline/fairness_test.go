package pipeline_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/journal"
	"liveops/core/rejected"
	"liveops/core/store"
	"liveops/core/store/storetest"
	"liveops/core/tracing"
)

func kill(player, id string, at time.Time) event.Accepted {
	return accepted(player, id, event.BossKilled, at, map[string]any{"boss": "rat"})
}

// foul is a batch with something for every way a message can take.
func foul(t *testing.T) []bus.Message {
	t.Helper()
	fair := message(t, xp("ada", "fair", 5))
	fair.Properties = map[string]string{tracing.Property: "00-1-2-01", "else": "stays behind"}
	return append([]bus.Message{{ID: "odd", Body: []byte("\xff no event")}, fair}, batch(t,
		xp("eve", "unfair", 101), xp("eve", "also-unfair", 102),
		kill("bob", "k1", noon), kill("bob", "k2", noon.Add(time.Second)), xp("ada", "fair-too", 5))...)
}

func TestFairnessTakesOutWhatIsUnfair(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		outcome, err := p.fairness.Judge(t.Context(), foul(t))
		require.NoError(t, err)
		require.Equal(t, "[forwarded=3 dropped=4 blocked=1 cases=1]", pipelineOutcome(outcome).String())

		var forwarded []string
		for _, m := range p.queued(t, "progression") {
			forwarded = append(forwarded, m.ID)
			require.Equal(t, "application/json", m.ContentType)
		}
		require.Equal(t, []string{"ada.fair", "bob.k1", "ada.fair-too"}, forwarded)
		first := p.queued(t, "progression")[0]
		require.Equal(t, map[string]string{tracing.Property: "00-1-2-01"}, first.Properties)
		require.Equal(t, message(t, xp("ada", "fair", 5)).Body, first.Body)

		list, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 10})
		require.NoError(t, err)
		reasons := map[string]fault.Code{}
		for _, r := range list {
			require.Equal(t, "fairness", r.Stage)
			reasons[r.MessageID] = r.Code
			kept, err := p.rejected.Get(t.Context(), r.ID)
			require.NoError(t, err)
			switch r.MessageID {
			case "odd":
				require.Equal(t, "\xff no event", string(kept.Body))
				require.Empty(t, r.PlayerID)
			case "eve.unfair":
				require.Equal(t, message(t, xp("eve", "unfair", 101)).Body, kept.Body)
				require.Equal(t, []string{"eve", "unfair"}, []string{r.PlayerID, r.EventID})
			}
		}
		require.Equal(t, map[string]fault.Code{
			"odd": fault.MessageInvalid, "eve.unfair": fault.ImpossibleValue, "eve.also-unfair": fault.ImpossibleValue, "bob.k2": fault.MinimumInterval,
		}, reasons)
		require.Len(t, p.rows(t, "fairness_decision"), 3)
		require.Equal(t, map[string]int{
			"fairness_decisions_total verdict=allow": 3, "fairness_decisions_total verdict=deny": 2, "fairness_decisions_total verdict=throttle": 1,
			"fairness_decision_seconds": 1, "cases_opened_total": 1,
			"anomaly_flags_total mode=enforce rule=impossible-value": 2, "anomaly_flags_total mode=enforce rule=minimum-interval": 1,
			"dropped_events_total reason=message-invalid": 1, "dropped_events_total reason=impossible-value": 2, "dropped_events_total reason=minimum-interval": 1,
		}, p.metrics(t))

		// The deny is a block, for ten minutes, on the very next request; the throttle is none.
		inForce, err := p.fairness.Records.InForce(t.Context(), "eve", "bob", "ada")
		require.NoError(t, err)
		require.Len(t, inForce, 1)
		blocks := inForce["eve"]
		require.Len(t, blocks, 1)
		require.Equal(t, noon.Add(10*time.Minute), blocks[0].Until)
		_, _, err = p.gateway.Accept(t.Context(), submission("k1", false, xpText("next", "eve", 5)))
		require.ErrorIs(t, err, fault.PlayerBlocked)
		require.Equal(t, blocks[0].DecisionID, fault.Of(err).Extra["decision_id"])
		p.at(noon.Add(10 * time.Minute))
		_, _, err = p.gateway.Accept(t.Context(), submission("k2", false, xpText("next", "eve", 5)))
		require.NoError(t, err)
		_, _, err = p.gateway.Accept(t.Context(), submission("k3", false, xpText("next", "bob", 5)))
		require.NoError(t, err)
	})
}

// failing is a rejected store out of reach, that polices what it is given.
type failing struct{ t *testing.T }

func (f failing) Put(ctx context.Context, rejections []rejected.Rejection) error {
	require.NotNil(f.t, ctx)
	for _, r := range rejections {
		require.NotEmpty(f.t, r.Stage)
		require.NotEmpty(f.t, r.Code)
		require.NotEmpty(f.t, r.MessageID)
		require.Equal(f.t, r.PlayerID == "", r.EventID == "")
	}
	return fault.DatabaseUnavailable.Wrap(errDown, "down")
}

func (failing) MarkBatchReleased(context.Context, []rejected.Rejection, string, string) error {
	return fault.DatabaseUnavailable.Wrap(errDown, "down")
}

// A batch that is cut at any step comes again, and ends where it would have ended at once.
func TestFairnessIsCutAnywhere(t *testing.T) {
	t.Parallel()
	type final struct {
		state       []string
		progression []string
		metrics     map[string]int
	}
	run := func(t *testing.T, p *path, break_ func() (heal func())) final {
		t.Helper()
		p.layOut(t)
		require.NoError(t, p.bus.Publish(t.Context(), "events", foul(t)))
		if break_ != nil {
			heal := break_()
			err := p.take(t, "events", p.fairness.Judge)
			require.ErrorIs(t, err, fault.Unavailable)
			heal()
			counts, err := p.bus.Counts("events")
			require.NoError(t, err)
			require.Equal(t, len(foul(t)), counts.Active, "nothing is settled")
			require.Zero(t, counts.Dead)
			if len(p.rows(t, "fairness_decision")) > 0 || len(p.redis.Keys(t.Context(), "fairness:*").Val()) > 0 {
				p.at(noon.Add(5 * time.Second)) // the redelivery comes later, and what was judged stays judged
			}
		}
		require.NoError(t, p.take(t, "events", p.fairness.Judge))
		judged := p.metrics(t)
		delete(judged, "fairness_decision_seconds") // of every try
		progression := map[string]bool{}
		var order []string
		for _, m := range p.queued(t, "progression") {
			if !progression[m.ID] {
				order = append(order, m.ID+" "+string(m.Body))
			}
			progression[m.ID] = true
		}
		p.at(noon.Add(5 * time.Second))
		require.NoError(t, p.take(t, "progression", p.progression.Apply))
		ruling, err := p.gate.Enter(t.Context(), gate.Entry{KeyID: "k", Nonce: "n", Players: []gate.Player{{ID: "eve"}}})
		require.NoError(t, err)
		require.Equal(t, noon.Add(10*time.Minute), ruling.Players[0].Blocked.Until)
		return final{late(p.state(t)), order, judged}
	}
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		smooth := newPath(t, db, rdb)
		want := run(t, smooth, nil)
		require.Len(t, want.progression, 3)

		for name, break_ := range map[string]func(t *testing.T, p *path) (heal func()){
			"judging": func(t *testing.T, p *path) func() {
				working := p.fairness.Ladder.States
				p.fairness.Ladder.States = fairness.RedisStates{Redis: deadRedis(t)}
				return func() { p.fairness.Ladder.States = working }
			},
			"recording": func(t *testing.T, p *path) func() {
				working := p.fairness.Records
				p.fairness.Records = &fairness.Records{DB: deadDB(t), Now: p.now}
				return func() { p.fairness.Records = working }
			},
			"keeping the rejected": func(t *testing.T, p *path) func() {
				working := p.fairness.Rejected
				p.fairness.Rejected = failing{t}
				return func() { p.fairness.Rejected = working }
			},
			"reading what is in force": func(t *testing.T, p *path) func() {
				working := p.fairness.Sanctions.Records
				p.fairness.Sanctions.Records = &fairness.Records{DB: deadDB(t), Now: p.now}
				return func() { p.fairness.Sanctions.Records = working }
			},
			"hiding": func(_ *testing.T, p *path) func() {
				p.hidden.err = fault.RedisUnavailable.Wrap(errDown, "down")
				return func() { p.hidden.err = nil }
			},
			"telling the gate": func(t *testing.T, p *path) func() {
				working := p.gate.Redis
				p.gate.Redis = deadRedis(t)
				return func() { p.gate.Redis = working }
			},
			"publishing": func(_ *testing.T, p *path) func() {
				p.bus.Fail(failOn("publish"))
				return func() { p.bus.Fail(nil) }
			},
			"the answer of the broker": func(_ *testing.T, p *path) func() {
				p.bus.Fail(failOn("published"))
				return func() { p.bus.Fail(nil) }
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cache, _ := storetest.Miniredis(t)
				p := newPath(t, storetest.SQLite(t), cache)
				got := run(t, p, func() func() { return break_(t, p) })
				require.Equal(t, want, got)
			})
		}
	})
}

func failOn(operation string) func(op, queue string) error {
	return func(op, _ string) error {
		if op == operation {
			return fault.BusUnavailable.Wrap(errDown, "down")
		}
		return nil
	}
}

func TestFairnessRulesInShadow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.game.Fairness.Rules["impossible-value"] = catalog.Rule{Mode: "shadow", Verdict: "deny"}
		_, err := p.fairness.Judge(t.Context(), batch(t, xp("eve", "unfair", 101)))
		require.NoError(t, err)
		require.Len(t, p.queued(t, "progression"), 1)
		require.Empty(t, p.rows(t, "rejected"))
		require.Empty(t, p.rows(t, "sanction"))
		require.Len(t, p.rows(t, "fairness_decision"), 1, "the evidence is kept")
		require.Equal(t, map[string]int{
			"fairness_decision_seconds": 1, "fairness_decisions_total verdict=allow": 1, "anomaly_flags_total mode=shadow rule=impossible-value": 1,
		}, p.metrics(t))
		_, _, err = p.gateway.Accept(t.Context(), submission("k", false, xpText("next", "eve", 5)))
		require.NoError(t, err)
	})
}

func TestFairnessPublishesNothingOfABatchThatIsAllBad(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	p.bus.Fail(failOn("publish"))
	_, err := p.fairness.Judge(t.Context(), []bus.Message{{ID: "odd", Body: []byte("{}")}})
	require.NoError(t, err, "there is nothing to publish")
	require.Len(t, p.rows(t, "rejected"), 1)
}

// Events are recorded as they came, whatever the verdict, each once, for as long as the policy says; where it says nothing, none is.
func TestEventsAreRecorded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		recorded := func() (ids []string) {
			require.NoError(t, p.fairness.Journal.Each(t.Context(), time.Time{}, noon.Add(time.Hour), func(e event.Accepted) error {
				ids = append(ids, e.Identity())
				return nil
			}))
			return ids
		}
		_, err := p.fairness.Judge(t.Context(), batch(t, xp("ada", "before", 5)))
		require.NoError(t, err)
		require.Empty(t, recorded())

		p.game.Fairness.Record = catalog.Duration(time.Minute)
		for range 2 {
			_, err = p.fairness.Judge(t.Context(), foul(t))
			require.NoError(t, err)
		}
		all := []string{"ada.fair", "ada.fair-too", "bob.k1", "bob.k2", "eve.also-unfair", "eve.unfair"}
		require.Equal(t, all, recorded())
		p.at(noon.Add(time.Minute))
		p.layOut(t)
		require.Equal(t, all, recorded())
		p.at(noon.Add(time.Minute + time.Millisecond))
		p.layOut(t)
		require.Empty(t, recorded())

		p.fairness.Journal = &journal.Journal{DB: deadDB(t)}
		require.NoError(t, p.bus.Publish(t.Context(), "events", batch(t, xp("ada", "after", 5))))
		require.Error(t, p.take(t, "events", p.fairness.Judge))
		require.Len(t, p.queued(t, "events"), 1, "nothing is settled")
		for _, m := range p.queued(t, "progression") {
			require.NotEqual(t, "ada.after", m.ID)
		}
	})
}
