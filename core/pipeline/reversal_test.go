package pipeline_test

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/mailbox"
	"liveops/core/pipeline"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// crossed is a path on which ada reached levels 2 and 3 with the event x1, of which the one brought gems and the other sent a mail.
func crossed(t *testing.T, db *store.DB, rdb *redis.Client) *path {
	t.Helper()
	p := newPath(t, db, rdb)
	p.game.Rewards.Levels[3] = catalog.Reward{Items: gems(3), Claim: true}
	_, err := p.progression.Apply(t.Context(), batch(t, xp("ada", "x1", 350)))
	require.NoError(t, err)
	return p
}

var refund = progression.Order{Player: "ada", EventID: "x1", Actor: "liz", Reason: "a refund"}

func TestAReversalAndItsRepeatSayTheSame(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := crossed(t, db, rdb)
		_, err := p.progression.Players.Player(t.Context(), "ada") // is in the cache now
		require.NoError(t, err)
		mail := p.mailed(t, "level:3")
		p.at(noon.Add(time.Minute))
		first, err := p.reversals.Reverse(t.Context(), refund)
		require.NoError(t, err)
		require.True(t, first.Fresh)
		require.Equal(t, progression.Reversal{Order: refund, ID: progression.ReversalID("x1"), At: noon.Add(time.Minute)}, first.Reversal)
		require.Equal(t, []string{mail}, first.Withdrawn)
		require.Empty(t, first.Claimed)
		require.Len(t, first.Entries, 2)
		claims, err := p.rewards.Receipts().Verify(first.Receipt)
		require.NoError(t, err)
		require.Equal(t, receipt.Claims{
			ID: receipt.ID("ada", first.ID), PlayerID: "ada", EventID: first.ID, Type: event.EventReversed, Reverses: "x1",
			XP: -350, XPBefore: 350, LevelBefore: 3, LevelAfter: 3, Grants: []receipt.Grant{{Kind: "level:2:item:gem", Item: "gem", Quantity: -2}},
			CatalogVersion: 3, IssuedAt: noon.Add(time.Minute).Unix(),
		}, claims)
		stored, err := receipt.Get(t.Context(), db, "ada", "x1")
		require.NoError(t, err)
		require.Equal(t, noon.Add(time.Minute), stored.ReversedAt)
		state, err := p.progression.Players.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.Zero(t, state.XP, "the cache knows")

		p.at(noon.Add(2000 * time.Hour))
		before := p.state(t)
		again, err := p.reversals.Reverse(t.Context(), progression.Order{Player: "ada", EventID: "x1", Actor: "joe", Reason: "me too"})
		require.NoError(t, err)
		require.False(t, again.Fresh)
		again.Fresh = true
		require.Equal(t, first, again)
		require.Equal(t, before, p.state(t))
		require.Equal(t, 2, p.metrics(t)["receipts_issued_total"])
		require.Equal(t, 1, p.metrics(t)["reversals_total"])
		_, err = p.reversals.Reverse(t.Context(), progression.Order{Player: "ada", EventID: first.ID, Actor: "liz", Reason: "oops"})
		require.ErrorIs(t, err, fault.NotReversible)
	})
}

// What was claimed stands, and is named, so that it can be reversed too.
func TestAReversalNamesTheMailsThatWereClaimed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := crossed(t, db, rdb)
		mail := p.mailed(t, "level:3")
		claim, err := p.rewards.Claim(t.Context(), "ada", mail)
		require.NoError(t, err)
		reversal, err := p.reversals.Reverse(t.Context(), refund)
		require.NoError(t, err)
		require.Equal(t, []string{mail}, reversal.Claimed)
		require.Empty(t, reversal.Withdrawn)
		require.Equal(t, []string{"player: ada | 0 | 3 | 6", "item: ada | gem | 3"}, p.balances(t))
		again, err := p.rewards.Claim(t.Context(), "ada", mail)
		require.NoError(t, err)
		require.Equal(t, claim, again, "a repeated claim is answered alike")
		_, err = p.reversals.Reverse(t.Context(), progression.Order{Player: "ada", EventID: mail, Actor: "liz", Reason: "a refund"})
		require.NoError(t, err)
		require.Equal(t, []string{"player: ada | 0 | 3 | 8", "item: ada | gem | 0"}, p.balances(t))
	})
}

// A reversal that is cut anywhere has its whole effect or none, and a repeat has what is missing of it.
func TestAReversalIsCut(t *testing.T) {
	t.Parallel()
	without := func(table string) func(*testing.T, *path) func() {
		return func(t *testing.T, p *path) func() {
			t.Helper()
			p.rename(t, table, "gone")
			return func() { p.rename(t, "gone", table) }
		}
	}
	for name, cut := range map[string]func(*testing.T, *path) (mend func()){
		"at the receipts":  without("receipt"),
		"at the mails":     without("mail"),
		"at the record":    without("reversal"),
		"at the items":     without("item"),
		"after the commit": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
				p := crossed(t, db, rdb)
				_, err := p.progression.Players.Player(t.Context(), "ada") // is in the cache now
				require.NoError(t, err)
				before := p.state(t)
				if cut != nil {
					mend := cut(t, p)
					_, err := p.reversals.Reverse(t.Context(), refund)
					require.Error(t, err)
					mend()
					require.Equal(t, before, p.state(t), "nothing of it is left")
				} else {
					cache := p.reversals.Players
					p.reversals.Players = &progression.Cache{Redis: deadRedis(t), Ledger: cache.Ledger}
					_, err := p.reversals.Reverse(t.Context(), refund)
					require.ErrorIs(t, err, fault.Unavailable)
					p.reversals.Players = cache
				}
				reversal, err := p.reversals.Reverse(t.Context(), refund)
				require.NoError(t, err)
				require.Equal(t, cut != nil, reversal.Fresh)
				require.Equal(t, 1, p.metrics(t)["reversals_total"])
				require.Len(t, reversal.Withdrawn, 1)
				require.Equal(t, []string{"player: ada | 0 | 3 | 4", "item: ada | gem | 0"}, p.balances(t))
				state, err := p.progression.Players.Player(t.Context(), "ada")
				require.NoError(t, err)
				require.Zero(t, state.XP)
			})
		})
	}
}

// Many reverse one event, while she plays, claims and has it delivered again: it is taken back once, and the mail is either hers or withdrawn.
func TestReversedWhileSheClaims(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := crossed(t, db, rdb)
		mail := p.mailed(t, "level:3")
		const n = 4
		var reversals [n]pipeline.Reversal
		var claimed [n]error
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				var err error
				if reversals[i], err = p.reversals.Reverse(t.Context(), refund); err != nil {
					t.Errorf("reverse: %v", err)
				}
			})
			all.Go(func() { _, claimed[i] = p.rewards.Claim(t.Context(), "ada", mail) })
			all.Go(func() {
				for _, id := range []string{"x1", "x2", "x3"} {
					if _, err := p.progression.Apply(t.Context(), []bus.Message{message(t, xp("ada", id, 350))}); err != nil {
						t.Errorf("apply: %v", err)
					}
				}
			})
		}
		all.Wait()
		fresh := 0
		for _, r := range reversals {
			if r.Fresh {
				fresh++
			}
			r.Fresh = reversals[0].Fresh
			require.Equal(t, reversals[0], r)
		}
		require.Equal(t, 1, fresh)
		require.Equal(t, 1, p.metrics(t)["reversals_total"])
		kept, err := p.rewards.Mailbox.Get(t.Context(), "ada", mail)
		require.NoError(t, err)
		gems := int64(0)
		for _, err := range claimed {
			if kept.State(p.now()) == mailbox.Withdrawn {
				require.ErrorIs(t, err, fault.MailWithdrawn)
			} else {
				require.NoError(t, err)
				gems = 3
			}
		}
		state, err := p.progression.Players.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, 700, state.XP)
		require.Len(t, state.Items, int(min(1, gems)))
		if gems > 0 {
			require.Equal(t, gems, state.Items[0].Quantity)
		}
		drifts, err := p.rewards.Ledger.Drift(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, drifts)
	})
}

// A mail that does not fit stays as it was, and what it would have brought with it, too.
func TestAMailThatDoesNotFitWaitsOn(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.game.Items["gem"] = catalog.Item{Stack: 10, Overflow: "mailbox"}
		_, err := p.progression.Apply(t.Context(), batch(t, accepted("ada", "i1", event.ItemAcquired, noon, map[string]any{"item": "gem", "quantity": 17.0})))
		require.NoError(t, err)
		before, mail := p.state(t), p.mailed(t, "item:gem")
		for range 2 {
			_, err = p.rewards.Claim(t.Context(), "ada", mail)
			require.ErrorIs(t, err, fault.MailUnfit)
			require.Equal(t, before, p.state(t))
		}
		require.Zero(t, p.metrics(t)["mails_claimed_total"])
		_, err = p.progression.Apply(t.Context(), batch(t, accepted("ada", "i2", event.ItemAcquired, noon, map[string]any{"item": "gem", "quantity": -7.0})))
		require.NoError(t, err)
		claim, err := p.rewards.Claim(t.Context(), "ada", mail)
		require.NoError(t, err)
		claims, err := p.rewards.Receipts().Verify(claim.Receipt)
		require.NoError(t, err)
		require.Equal(t, []any{event.RewardGranted, "", "", int64(0)}, []any{claims.Type, claims.Board, claims.Window, claims.Rank})
		require.Equal(t, []string{"player: ada | 0 | 1 | 6", "item: ada | gem | 10"}, p.balances(t))
	})
}

func TestNoReversalComesThroughAQueue(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := crossed(t, storetest.SQLite(t), rdb)
	before := p.rows(t, "ledger")
	_, err := p.progression.Apply(t.Context(), batch(t, accepted("ada", "r1", event.EventReversed, noon, map[string]any{"event_id": "x1"})))
	require.NoError(t, err)
	require.Equal(t, before, p.rows(t, "ledger"))
	require.Len(t, p.rows(t, "rejected"), 1)
}
