package pipeline_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/pipeline"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// keptOut gives the end of what keeps a player out at the gate; zero: nothing does.
func (p *path) keptOut(t *testing.T, player string) time.Time {
	t.Helper()
	pass, err := p.gate.Enter(t.Context(), gate.Entry{KeyID: "k", Nonce: signing.NewNonce(), Players: []gate.Player{{ID: player}}})
	require.NoError(t, err)
	if pass.Players[0].Blocked == nil {
		return time.Time{}
	}
	return pass.Players[0].Blocked.Until
}

// hides lists whom the rankings hide.
func (p *path) hides(t *testing.T) []string {
	t.Helper()
	players, err := p.hidden.Hidden(t.Context())
	require.NoError(t, err)
	return players
}

// judge gives the stage events.
func (p *path) judge(t *testing.T, player string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		_, err := p.fairness.Judge(t.Context(), batch(t, xp(player, id, 101)))
		require.NoError(t, err)
	}
}

func (p *path) order(kind fairness.ActionKind, key string) fairness.Order {
	return fairness.Order{Actor: "ops", Key: key, Kind: kind, Text: "because"}
}

// caseOf opens a case about a player.
func (p *path) caseOf(t *testing.T, player string) string {
	t.Helper()
	a, err := p.cases.Open(t.Context(), player, p.order(fairness.ActionOpen, "open "+player))
	require.NoError(t, err)
	return a.CaseID
}

func TestBlocksGrowAtTheGate(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.judge(t, "eve", "1")
		require.Equal(t, noon.Add(10*time.Minute), p.keptOut(t, "eve"))
		p.at(noon.Add(5 * time.Minute))
		p.judge(t, "eve", "2") // on the queue since before the block
		require.Equal(t, noon.Add(10*time.Minute), p.keptOut(t, "eve"))
		p.at(noon.Add(10 * time.Minute))
		require.Zero(t, p.keptOut(t, "eve"))
		p.judge(t, "eve", "3", "1", "2")
		require.Equal(t, noon.Add(40*time.Minute), p.keptOut(t, "eve"))
		_, _, err := p.gateway.Accept(t.Context(), submission("k", false, xpText("next", "eve", 5)))
		require.ErrorIs(t, err, fault.PlayerBlocked)
		require.Equal(t, fairness.DecisionID("eve", "3"), fault.Of(err).Extra["decision_id"])
	})
}

func TestTheVerdictShadowHides(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	p.game.Fairness.Rules["impossible-value"] = catalog.Rule{Mode: "enforce", Verdict: "shadow"}
	p.judge(t, "sly", "1", "1")
	require.Equal(t, []string{"sly"}, p.hides(t))
	require.Zero(t, p.keptOut(t, "sly"))
	require.Len(t, p.queued(t, "progression"), 2, "it counts")
	require.Equal(t, 1, p.metrics(t)["cases_opened_total"])

	// When it is over, a tick shows him. A tick with nothing to do does nothing.
	p.layOut(t)
	calls := p.hidden.calls
	p.layOut(t)
	require.Equal(t, calls, p.hidden.calls)
	p.at(noon.Add(24 * time.Hour))
	p.layOut(t)
	require.Empty(t, p.hides(t))
	require.Equal(t, calls+1, p.hidden.calls)
}

func TestOrdersAreEnforced(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		id := p.caseOf(t, "eve")
		act := func(o fairness.Order) {
			t.Helper()
			_, err := p.cases.Act(t.Context(), id, o)
			require.NoError(t, err)
		}
		act(p.order(fairness.ActionComment, "1"))
		require.Empty(t, p.hides(t))
		act(p.order(fairness.ActionShadowBan, "2"))
		require.Equal(t, []string{"eve"}, p.hides(t))
		require.Zero(t, p.keptOut(t, "eve"))
		act(p.order(fairness.ActionBan, "3"))
		require.Equal(t, fairness.Forever, p.keptOut(t, "eve"))
		shorter := p.order(fairness.ActionBan, "4")
		shorter.For = time.Hour
		act(shorter)
		require.Equal(t, noon.Add(time.Hour), p.keptOut(t, "eve"))
		act(p.order(fairness.ActionBan, "3"))
		require.Equal(t, noon.Add(time.Hour), p.keptOut(t, "eve"), "an old order again orders nothing anew")

		p.judge(t, "eve", "x") // a block beside the ban
		require.Equal(t, noon.Add(time.Hour), p.keptOut(t, "eve"))
		act(p.order(fairness.ActionUnban, "5"))
		require.Equal(t, noon.Add(10*time.Minute), p.keptOut(t, "eve"), "the block is still there")
		require.Empty(t, p.hides(t))
		act(p.order(fairness.ActionClear, "6"))
		require.Zero(t, p.keptOut(t, "eve"))
	})
}

// TestOrdersAreCutAnywhere has Redis fail after an order is on record. Its repeat, or the next tick, does the rest.
func TestOrdersAreCutAnywhere(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	id := p.caseOf(t, "eve")
	for _, kind := range []fairness.ActionKind{fairness.ActionBan, fairness.ActionUnban} {
		order := p.order(kind, string(kind))
		p.gate.Redis = deadRedis(t)
		_, err := p.cases.Act(t.Context(), id, order)
		require.ErrorIs(t, err, fault.Unavailable)
		p.gate.Redis = rdb
		p.hidden.err = fault.RedisUnavailable.Wrap(errDown, "down")
		_, err = p.cases.Act(t.Context(), id, order)
		require.ErrorIs(t, err, fault.Unavailable)
		require.Equal(t, kind == fairness.ActionBan, !p.keptOut(t, "eve").IsZero())
		p.hidden.err = nil
		require.Equal(t, kind == fairness.ActionUnban, len(p.hides(t)) == 1, "not yet done")
		if kind == fairness.ActionBan {
			_, err = p.cases.Act(t.Context(), id, order)
			require.NoError(t, err)
		} else {
			p.layOut(t)
		}
		require.Equal(t, kind == fairness.ActionBan, len(p.hides(t)) == 1)
	}
	require.Len(t, p.rows(t, "case_action"), 3, "open, ban, unban")
}

// TestEverybodyAtOnce has the stage, operators and the sweep work on the same players at once. In the end the gate and the rankings
// enforce what SQL says.
func TestEverybodyAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		const players = 3
		var ids []string
		for i := range players {
			ids = append(ids, p.caseOf(t, fmt.Sprint("p", i)))
		}
		var working sync.WaitGroup
		failed := make(chan error, 1000)
		for w := range 4 {
			working.Go(func() {
				for i := range 12 {
					n := (i + w) % players
					kind := []fairness.ActionKind{fairness.ActionBan, fairness.ActionUnban, fairness.ActionShadowBan, fairness.ActionClear}[(i*3+w)%4]
					order := p.order(kind, fmt.Sprint(w, " ", i))
					order.For = 0
					if kind == fairness.ActionBan {
						order.For = time.Duration(1+(i*7+w)%5) * time.Hour
					}
					_, err := p.cases.Act(t.Context(), ids[n], order)
					failed <- err
					_, err = p.fairness.Judge(t.Context(), batch(t, xp(fmt.Sprint("p", n), fmt.Sprint("e", i), 101)))
					failed <- err
					failed <- p.fairness.Sanctions.Sweep(t.Context())
				}
			})
		}
		working.Wait()
		close(failed)
		for err := range failed {
			require.NoError(t, err)
		}
		var hides []string
		for i := range players {
			player := fmt.Sprint("p", i)
			inForce, err := p.fairness.Records.InForce(t.Context(), player)
			require.NoError(t, err)
			var out time.Time
			hidden := false
			for _, s := range inForce[player] { // a ban comes first
				if s.Kind != fairness.ShadowBan && out.IsZero() {
					out = s.Until
				}
				hidden = hidden || s.Hides()
			}
			require.Equal(t, out, p.keptOut(t, player), "%v", inForce)
			if hidden {
				hides = append(hides, player)
			}
		}
		require.Equal(t, hides, p.hides(t))
	})
}

// A Redis that was emptied learns again whom it keeps out, and nobody else.
func TestSanctionsAreRestored(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	p.judge(t, "old", "1")
	p.at(noon.Add(10 * time.Minute))
	p.judge(t, "eve", "1")
	_, err := p.cases.Act(t.Context(), p.caseOf(t, "kim"), p.order(fairness.ActionBan, "1"))
	require.NoError(t, err)
	server.FlushAll()
	require.Zero(t, p.keptOut(t, "eve"))
	require.NoError(t, p.fairness.Sanctions.Restore(t.Context()))
	require.Equal(t, noon.Add(20*time.Minute), p.keptOut(t, "eve"))
	require.Equal(t, fairness.Forever, p.keptOut(t, "kim"))
	require.Zero(t, p.keptOut(t, "old"))
	_, _, err = p.gateway.Accept(t.Context(), submission("k1", false, xpText("a", "eve", 5)))
	require.Equal(t, fairness.DecisionID("eve", "1"), fault.Of(err).Extra["decision_id"])
	p.gate.Redis = deadRedis(t)
	require.ErrorIs(t, p.fairness.Sanctions.Restore(t.Context()), fault.RedisUnavailable)
}

// racing is a gate that lets something else happen in the middle of a block.
type racing struct {
	*gate.Gate
	meanwhile func()
}

func (r *racing) Block(ctx context.Context, player string, b gate.Block) error {
	if meanwhile := r.meanwhile; meanwhile != nil {
		r.meanwhile = nil
		meanwhile()
	}
	return r.Gate.Block(ctx, player, b)
}

// What was read before an operator lifted it is told after he did, and is taken back.
func TestALiftedBlockDoesNotComeBack(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	id := p.caseOf(t, "eve")
	slow := &racing{Gate: p.gate, meanwhile: func() {
		_, err := p.cases.Act(t.Context(), id, p.order(fairness.ActionClear, "1"))
		require.NoError(t, err)
	}}
	p.fairness.Sanctions = &pipeline.Sanctions{Records: p.fairness.Records, Gate: slow} // nobody to hide anybody
	p.judge(t, "eve", "1")
	require.Nil(t, slow.meanwhile)
	require.Zero(t, p.keptOut(t, "eve"))
}

// A release ends the block that came from its decision, and only that one.
func TestAReleaseLiftsItsBlock(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.judge(t, "eve", "1")
		p.at(noon.Add(time.Minute))
		p.judge(t, "eve", "2")
		first, second := p.rejection(t, "eve.1"), p.rejection(t, "eve.2")
		require.Equal(t, fairness.DecisionID("eve", "1"), pipeline.Decided(first))
		decision, err := p.fairness.Records.Decision(t.Context(), pipeline.Decided(first))
		require.NoError(t, err)
		require.Equal(t, first.ID, pipeline.Dropped(decision))

		_, err = p.release().Event(t.Context(), second.ID, "ops")
		require.NoError(t, err)
		require.Equal(t, noon.Add(10*time.Minute), p.keptOut(t, "eve"), "the block came from the other")

		// Redis is away when the gate is to be told: releasing it again tells it.
		p.gate.Redis = deadRedis(t)
		_, err = p.release().Event(t.Context(), first.ID, "ops")
		require.ErrorIs(t, err, fault.RedisUnavailable)
		p.gate.Redis = rdb
		require.NotZero(t, p.keptOut(t, "eve"))
		_, err = p.release().Event(t.Context(), first.ID, "ops")
		require.NoError(t, err)
		require.Zero(t, p.keptOut(t, "eve"))
		require.Len(t, p.queued(t, "progression"), 2, "each once")

		// The denied message comes again and blocks nobody; a ban is not for a release to lift.
		p.judge(t, "eve", "1", "2")
		require.Zero(t, p.keptOut(t, "eve"))
		_, err = p.cases.Act(t.Context(), p.caseOf(t, "eve"), p.order(fairness.ActionBan, "1"))
		require.NoError(t, err)
		_, err = p.release().Event(t.Context(), first.ID, "ops")
		require.NoError(t, err)
		require.Equal(t, fairness.Forever, p.keptOut(t, "eve"))
		require.Empty(t, pipeline.Dropped(fairness.Decision{Verdict: fairness.Flag}))
	})
}
