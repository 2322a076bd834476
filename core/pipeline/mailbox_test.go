package pipeline_test

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/mailbox"
	"liveops/core/pipeline"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// mailed is a path on which ada has a mail that waits for an hour. Nobody else has been there.
func mailed(t *testing.T, db *store.DB, rdb *redis.Client, tier catalog.Tier) *path {
	t.Helper()
	p := newPath(t, db, rdb)
	p.game.Rewards.Claim = catalog.Duration(time.Hour)
	tier.Claim = true
	require.NoError(t, p.rewards.Grant(t.Context(), closed(), []season.Win{win(1, "ada", tier)}))
	return p
}

func (p *path) claim(t *testing.T) pipeline.Claim {
	t.Helper()
	claim, err := p.rewards.Claim(t.Context(), "ada", yesterday)
	require.NoError(t, err)
	return claim
}

func TestAMailIsClaimed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := mailed(t, db, rdb, catalog.Tier{Rank: 1, XP: 120, Items: map[string]int64{"gem": 9, "gone": 1}})
		_, err := p.progression.Players.Player(t.Context(), "ada")
		require.ErrorIs(t, err, fault.PlayerNotFound)
		p.at(noon.Add(10 * time.Minute))
		claim := p.claim(t)
		require.Equal(t, mailbox.Mail{
			PlayerID: "ada", ID: yesterday, Source: "window", Board: "points", Window: "2026-11-21", Rank: 1, TiedRank: 1, XP: 120,
			Items: map[string]int64{"gem": 9, "gone": 1}, SentAt: noon, ExpiresAt: noon.Add(time.Hour), ClaimedAt: noon.Add(10 * time.Minute),
		}, claim.Mail)
		require.Len(t, claim.Entries, 3)
		require.Equal(t, []string{"item-unknown item:gone 1", "stack-full level:2:item:gem 1"}, p.notes(t, "ada", yesterday))
		claims, err := p.rewards.Receipts().Verify(claim.Receipt)
		require.NoError(t, err)
		require.Equal(t, []any{event.RewardGranted, yesterday, "points", "2026-11-21", int64(1), noon.Add(10 * time.Minute).Unix()},
			[]any{claims.Type, claims.EventID, claims.Board, claims.Window, claims.Rank, claims.IssuedAt})
		require.Len(t, claims.Notes, 2)
		state, err := p.progression.Players.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, 120, state.XP)

		// Again, long after it would have expired.
		before := p.state(t)
		p.at(noon.Add(1000 * time.Hour))
		require.Equal(t, claim, p.claim(t))
		require.Equal(t, before, p.state(t))
		require.Equal(t, 1, p.metrics(t)["mails_claimed_total"])
		require.Equal(t, 1, p.metrics(t)["receipts_issued_total"])

		_, err = p.rewards.Claim(t.Context(), "bob", yesterday)
		require.ErrorIs(t, err, fault.MailNotFound)
		require.Empty(t, p.rows(t, "player")[1:], "asking makes nobody a player")
	})
}

func TestAMailThatBringsNothingAnyMore(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := mailed(t, storetest.SQLite(t), rdb, catalog.Tier{Rank: 1, Items: map[string]int64{"gone": 1}})
	claim := p.claim(t)
	require.Empty(t, claim.Receipt, "nothing was granted")
	require.Equal(t, mailbox.Claimed, claim.Mail.State(noon))
	require.Equal(t, []string{"item-unknown item:gone 1"}, p.notes(t, "ada", yesterday))
	require.Equal(t, claim, p.claim(t))
}

func TestAMailExpires(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := mailed(t, db, rdb, catalog.Tier{Rank: 1, XP: 5})
		p.at(noon.Add(time.Hour))
		before := p.state(t)
		_, err := p.rewards.Claim(t.Context(), "ada", yesterday)
		require.ErrorIs(t, err, fault.MailExpired)
		require.Equal(t, before, p.state(t))
		require.NoError(t, p.rewards.Grant(t.Context(), closed(), []season.Win{win(1, "ada", catalog.Tier{Rank: 1, XP: 5, Claim: true})}))
		require.Equal(t, before, p.state(t), "what is sent again has no new time")
		p.at(noon.Add(time.Hour - time.Millisecond))
		p.claim(t)
	})
}

// Many claim at the same moment, through caches and workers of their own: one effect, one receipt, the same answer.
func TestManyClaimAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := mailed(t, db, rdb, catalog.Tier{Rank: 1, XP: 120, Items: gems(3)})
		const n = 8
		claims := make([]pipeline.Claim, n)
		var claiming sync.WaitGroup
		for i := range n {
			claiming.Go(func() {
				var err error
				if claims[i], err = p.rewards.Claim(t.Context(), "ada", yesterday); err != nil {
					t.Errorf("claim: %v", err)
				}
			})
		}
		// Meanwhile she plays, and the sweep that sent the mail sends it again.
		claiming.Go(func() {
			for _, id := range []string{"x1", "x2", "x3"} {
				if _, err := p.progression.Apply(t.Context(), batch(t, xp("ada", id, 10))); err != nil {
					t.Errorf("apply: %v", err)
				}
				if err := p.rewards.Grant(t.Context(), closed(), []season.Win{win(1, "ada", catalog.Tier{Rank: 1, XP: 120, Claim: true})}); err != nil {
					t.Errorf("grant: %v", err)
				}
			}
		})
		claiming.Wait()
		for _, c := range claims {
			require.Equal(t, claims[0], c)
		}
		require.Equal(t, []string{"player: ada | 150 | 2 | 6", "item: ada | gem | 5"}, p.balances(t))
		require.Len(t, p.rows(t, "receipt"), 4)
		require.Equal(t, 1, p.metrics(t)["mails_claimed_total"])
		drifts, err := p.rewards.Ledger.Drift(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, drifts)
		state, err := p.progression.Players.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, 150, state.XP)
	})
}

// A claim that is cut anywhere has its whole effect or none, and a repeat has what is missing of it.
func TestAClaimIsCut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cut       func(t *testing.T, p *path) (mend func())
		committed bool
	}{
		"before anything": {func(t *testing.T, p *path) func() {
			t.Helper()
			working := p.rewards.Ledger
			p.rewards.Ledger = &progression.Ledger{DB: deadDB(t), Catalog: working.Catalog, Now: working.Now}
			return func() { p.rewards.Ledger = working }
		}, false},
		"after the mark on the mail": {func(t *testing.T, p *path) func() {
			t.Helper()
			p.rename(t, "receipt", "gone")
			return func() { p.rename(t, "gone", "receipt") }
		}, false},
		"while the ledger is written": {func(t *testing.T, p *path) func() {
			t.Helper()
			_, err := p.db.Exec(t.Context(), "ALTER TABLE ledger RENAME COLUMN notes TO gone")
			require.NoError(t, err)
			return func() {
				_, err := p.db.Exec(t.Context(), "ALTER TABLE ledger RENAME COLUMN gone TO notes")
				require.NoError(t, err)
			}
		}, false},
		"after the commit, before the cache is dropped": {func(t *testing.T, p *path) func() {
			t.Helper()
			cache := p.rewards.Players
			p.rewards.Players = &progression.Cache{Redis: deadRedis(t), Ledger: cache.Ledger}
			return func() { p.rewards.Players = cache }
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
				p := mailed(t, db, rdb, catalog.Tier{Rank: 1, XP: 120, Items: gems(3)})
				_, err := p.progression.Apply(t.Context(), batch(t, xp("ada", "x1", 10)))
				require.NoError(t, err)
				_, err = p.progression.Players.Player(t.Context(), "ada") // is in the cache now
				require.NoError(t, err)
				before := p.state(t)

				mend := test.cut(t, p)
				_, err = p.rewards.Claim(t.Context(), "ada", yesterday)
				require.Error(t, err)
				mend()
				if !test.committed {
					require.Equal(t, before, p.state(t), "nothing of it is left")
					require.Zero(t, p.metrics(t)["mails_claimed_total"])
				} else {
					require.Contains(t, p.rows(t, "player"), "player: ada | 130 | 2 | 4")
				}
				p.at(noon.Add(time.Minute))
				claim := p.claim(t)
				require.Equal(t, claim, p.claim(t))
				stored, err := receipt.Get(t.Context(), db, "ada", yesterday)
				require.NoError(t, err)
				require.Equal(t, stored.Token, claim.Receipt)
				require.Equal(t, []string{"player: ada | 130 | 2 | 4", "item: ada | gem | 5"}, p.balances(t))
				require.Equal(t, 1, p.metrics(t)["mails_claimed_total"])
				state, err := p.progression.Players.Player(t.Context(), "ada")
				require.NoError(t, err)
				require.EqualValues(t, 130, state.XP, "the cache knows")
			})
		})
	}
}

// A commit of which the client never hears is answered alike when he asks again.
func TestTheAnswerToAClaimIsLost(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := mailed(t, db, rdb, catalog.Tier{Rank: 1, XP: 120, Items: gems(3)})
		cache := p.rewards.Players
		ctx := p.cutting(t, "unlink", 1)
		_, err := p.rewards.Claim(ctx, "ada", yesterday)
		require.Error(t, err)
		after := p.state(t)
		p.rewards.Players = cache
		p.at(noon.Add(2 * time.Hour))
		claim := p.claim(t)
		require.Equal(t, noon, claim.Mail.ClaimedAt)
		require.Equal(t, after, p.state(t))
	})
}

// A mail is let go of when it was kept for long enough, by the tick that comes then.
func TestMailsArePurged(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := mailed(t, db, rdb, catalog.Tier{Rank: 1, XP: 5})
		listed := func() int {
			t.Helper()
			_, err := p.archive.Sweep(t.Context())
			require.NoError(t, err)
			mails, _, err := p.rewards.Mailbox.List(t.Context(), mailbox.Filter{Player: "ada"})
			require.NoError(t, err)
			return len(mails)
		}
		require.Equal(t, 1, listed())
		ended := p.now().Add(time.Hour)
		p.at(ended.Add(mailbox.Retention))
		require.Equal(t, 1, listed(), "to the instant")
		p.at(ended.Add(mailbox.Retention + time.Millisecond))
		require.Zero(t, listed())
	})
}
