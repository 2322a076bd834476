package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/pipeline"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// closed is the archive of yesterday's points.
func closed() season.Header {
	return season.Header{
		Window:  season.Window{Board: "points", ID: "2026-11-21", Cadence: season.Daily, State: season.Archived},
		Entries: 3, ClosedAt: noon, CatalogVersion: 3,
	}
}

// yesterday is the id of its rewards.
var yesterday = progression.RewardID("points", "2026-11-21")

func win(rank int64, player string, tier catalog.Tier) season.Win {
	return season.Win{Standing: season.Standing{Rank: rank, TiedRank: rank, Player: player, AchievedAt: noon}, Tier: tier, TierNumber: int(rank)}
}

func gems(n int64) map[string]int64 { return map[string]int64{"gem": n} }

// three are wins of three players: two at once, one of them crossing a level, and one by mail.
func three() []season.Win {
	return []season.Win{
		win(1, "ada", catalog.Tier{Rank: 1, XP: 120, Items: gems(9)}),
		win(2, "bob", catalog.Tier{Rank: 2, XP: 50, Items: gems(1), Claim: true}),
		win(3, "cyd", catalog.Tier{Percent: 100, XP: 10}),
	}
}

// balances is what players have.
func (p *path) balances(t *testing.T) []string {
	t.Helper()
	return slices.Concat(p.rows(t, "player"), p.rows(t, "item"))
}

func TestRewardsAreGranted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.game.Rewards.Claim = catalog.Duration(2 * time.Hour)
		_, err := p.progression.Players.Player(t.Context(), "ada")
		require.ErrorIs(t, err, fault.PlayerNotFound)
		require.NoError(t, p.rewards.Grant(t.Context(), closed(), three()))

		require.Equal(t, []string{"player: ada | 120 | 2 | 3", "player: cyd | 10 | 1 | 1", "item: ada | gem | 10"}, p.balances(t), "nobody has what waits")
		require.Equal(t, []string{"stack-full level:2:item:gem 1"}, p.notes(t, "ada", yesterday))
		require.Equal(t, []string{fmt.Sprintf(`mail: bob | %s | window |  |  | points | 2026-11-21 | 2 | 2 | 50 | {"gem":1} | %d | %d | %d`, yesterday,
			noon.UnixMilli(), noon.Add(2*time.Hour).UnixMilli(), noon.Add(2*time.Hour).UnixMilli())}, p.rows(t, "mail"))
		stored, err := receipt.Get(t.Context(), db, "ada", yesterday)
		require.NoError(t, err)
		claims, err := p.rewards.Receipts().Verify(stored.Token)
		require.NoError(t, err)
		require.Equal(t, receipt.Claims{
			ID: receipt.ID("ada", yesterday), PlayerID: "ada", EventID: yesterday, Type: event.RewardGranted, Board: "points", Window: "2026-11-21", Rank: 1,
			XP: 120, XPAfter: 120, LevelBefore: 1, LevelAfter: 2, CatalogVersion: 3, IssuedAt: noon.Unix(),
			Grants: []receipt.Grant{{Kind: "item:gem", Item: "gem", Quantity: 9}, {Kind: "level:2:item:gem", Item: "gem", Quantity: 1}},
			Notes:  []receipt.Note{{Code: fault.StackFull, Ref: "level:2:item:gem", Amount: 1}},
		}, claims)
		state, err := p.progression.Players.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, 120, state.XP)
		require.Equal(t, map[string]int{
			"rewards_granted_total delivery=ledger": 2, "rewards_granted_total delivery=mailbox": 1, "receipts_issued_total": 2,
		}, p.metrics(t))

		// Again, later, in other parts, under a catalog that promises something else and delivers it otherwise.
		before := p.state(t)
		p.at(noon.Add(time.Minute))
		p.game.Rewards.Claim = catalog.Duration(99 * time.Hour)
		again := three()
		slices.Reverse(again)
		again[0].Tier, again[2].Tier.XP = catalog.Tier{Rank: 3, XP: 999}, 999
		require.NoError(t, p.rewards.Grant(t.Context(), closed(), again[:2]))
		require.NoError(t, p.rewards.Grant(t.Context(), closed(), again))
		require.Equal(t, before, p.state(t))
		require.Equal(t, 2, p.metrics(t)["rewards_granted_total delivery=ledger"])
		require.Equal(t, 1, p.metrics(t)["rewards_granted_total delivery=mailbox"])

		// Another window's are others, and whoever was read meanwhile is read anew.
		read := func() int64 {
			state, err := p.progression.Players.Player(t.Context(), "cyd")
			require.NoError(t, err)
			return state.XP
		}
		require.EqualValues(t, 10, read())
		today := closed()
		today.ID = "2026-11-22"
		require.NoError(t, p.rewards.Grant(t.Context(), today, three()[2:]))
		require.Contains(t, p.rows(t, "player"), "player: cyd | 20 | 1 | 2")
		require.EqualValues(t, 20, read())
	})
}

// Who has a mail from before the catalog changed its mind, and the reward at once after it, has the reward once.
func TestARewardIsDeliveredBothWays(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		byMail, atOnce := three()[1:2], three()[1:2]
		atOnce[0].Tier.Claim = false
		require.NoError(t, p.rewards.Grant(t.Context(), closed(), byMail))
		require.NoError(t, p.rewards.Grant(t.Context(), closed(), atOnce))
		claim, err := p.rewards.Claim(t.Context(), "bob", yesterday)
		require.NoError(t, err)
		require.NotEmpty(t, claim.Receipt)
		require.EqualValues(t, 50, claim.Entries[0].Delta)
		require.Equal(t, []string{"player: bob | 50 | 1 | 2", "item: bob | gem | 1"}, p.balances(t))
	})
}

func TestTwoGrantTheSameAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		const n = 40
		var wins []season.Win
		for i := range n {
			wins = append(wins, win(int64(i+1), fmt.Sprintf("p%02d", i), catalog.Tier{Percent: 100, XP: 7, Claim: i%2 == 0}))
		}
		backwards := slices.Clone(wins)
		slices.Reverse(backwards)
		var granting sync.WaitGroup
		for _, some := range [][]season.Win{wins, backwards, wins[5:], backwards[:30]} {
			granting.Go(func() {
				if err := p.rewards.Grant(t.Context(), closed(), some); err != nil {
					t.Errorf("grant: %v", err)
				}
			})
		}
		granting.Wait()
		require.Len(t, p.rows(t, "player"), n/2)
		require.Len(t, p.rows(t, "ledger"), n/2)
		require.Len(t, p.rows(t, "receipt"), n/2)
		require.Len(t, p.rows(t, "mail"), n/2)
		for i, row := range p.rows(t, "player") {
			require.Equal(t, fmt.Sprintf("player: p%02d | 7 | 1 | 1", 2*i+1), row)
		}
		require.Equal(t, n/2, p.metrics(t)["rewards_granted_total delivery=ledger"])
		require.Equal(t, n/2, p.metrics(t)["receipts_issued_total"])
	})
}

// many are more wins than one transaction takes, every third by mail.
func many(n int) []season.Win {
	wins := make([]season.Win, n)
	for i := range wins {
		wins[i] = win(int64(i+1), fmt.Sprintf("p%04d", i), catalog.Tier{Percent: 100, XP: 3, Claim: i%3 == 0})
	}
	return wins
}

// cutting is a context that ends when a command was sent to Redis for the nth time.
func (p *path) cutting(t *testing.T, command string, n int) context.Context {
	t.Helper()
	ctx, cut := context.WithCancel(t.Context())
	hooked := redis.NewClient(p.redis.Options())
	t.Cleanup(func() { require.NoError(t, hooked.Close()); cut() })
	hooked.AddHook(afterPipeline{command, func() {
		if n--; n == 0 {
			cut()
		}
	}})
	p.rewards.Players = &progression.Cache{Redis: hooked, Ledger: p.rewards.Ledger}
	return ctx
}

func TestGrantingIsCut(t *testing.T) {
	t.Parallel()
	done := func(t *testing.T, p *path) {
		t.Helper()
		require.Len(t, p.rows(t, "mail"), 400)
		require.Len(t, p.rows(t, "receipt"), 800)
		players := p.rows(t, "player")
		require.Len(t, players, 800)
		for _, row := range players {
			require.Contains(t, row, " | 3 | 1 | 1")
		}
		drifts, err := p.rewards.Ledger.Drift(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, drifts)
		require.Equal(t, 800, p.metrics(t)["rewards_granted_total delivery=ledger"])
		require.Equal(t, 400, p.metrics(t)["rewards_granted_total delivery=mailbox"])
		require.Equal(t, 800, p.metrics(t)["receipts_issued_total"])
	}
	for name, cut := range map[string]func(t *testing.T, p *path) (context.Context, func()){
		"between two transactions": func(t *testing.T, p *path) (context.Context, func()) {
			t.Helper()
			cache := p.rewards.Players
			return p.cutting(t, "unlink", 2), func() { p.rewards.Players = cache }
		},
		"after a commit, before the cache is dropped": func(t *testing.T, p *path) (context.Context, func()) {
			t.Helper()
			cache := p.rewards.Players
			p.rewards.Players = &progression.Cache{Redis: deadRedis(t), Ledger: cache.Ledger}
			return t.Context(), func() { p.rewards.Players = cache }
		},
		"in the midst of a transaction": func(t *testing.T, p *path) (context.Context, func()) {
			t.Helper()
			p.rename(t, "receipt", "gone")
			return t.Context(), func() { p.rename(t, "gone", "receipt") }
		},
		"before the first": func(t *testing.T, p *path) (context.Context, func()) {
			t.Helper()
			working := p.rewards.Mailbox.DB
			p.rewards.Mailbox.DB = deadDB(t)
			return t.Context(), func() { p.rewards.Mailbox.DB = working }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
				p := newPath(t, db, rdb)
				ctx, mend := cut(t, p)
				require.Error(t, p.rewards.Grant(ctx, closed(), many(1200)))
				mend()
				require.Less(t, len(p.rows(t, "mail"))+len(p.rows(t, "player")), 1200, "it was cut")
				require.NoError(t, p.rewards.Grant(t.Context(), closed(), many(1200)))
				done(t, p)
				require.NoError(t, p.rewards.Grant(t.Context(), closed(), many(1200)))
				done(t, p)
			})
		})
	}
}

// rename gives a table another name, so that whatever needs it fails in the midst of its transaction.
func (p *path) rename(t *testing.T, from, to string) {
	t.Helper()
	_, err := p.db.Exec(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to)
	require.NoError(t, err)
}

// A message that says it is a reward is forged, or was accepted when a catalog still declared such a type: it grants nothing.
func TestNoRewardComesThroughAQueue(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		won := progression.Reward{Board: "points", Window: "2026-11-21", Rank: 1, XP: 120, Items: gems(3)}
		forged := batch(t, won.Event("a-client-could-choose-this", "eve", noon), won.Event(yesterday, "eve", noon))
		odd := accepted("eve", "odd", event.RewardGranted, noon, map[string]any{})
		forged = append(forged, message(t, odd))
		for stageName, run := range map[string]stage{"fairness": p.fairness.Judge, "progression": p.progression.Apply} {
			_, err := run(t.Context(), append(forged, message(t, xp("ada", "x-"+stageName, 1))))
			require.NoError(t, err)
			list, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 10, Stage: stageName})
			require.NoError(t, err)
			require.Len(t, list, 3)
			for _, r := range list {
				require.Equal(t, fault.MessageInvalid, r.Code)
				release := &pipeline.Release{Rejected: p.rejected, Bus: p.bus, Queue: "progression"}
				_, err = release.Event(t.Context(), r.ID, "admin")
				require.ErrorIs(t, err, fault.NotReleasable)
			}
		}
		require.Equal(t, []string{"player: ada | 1 | 1 | 1"}, p.rows(t, "player"), "who stands beside it is not held up")
		require.Equal(t, 3, p.metrics(t)["progression_events_total result=invalid"])

		// And the real one is not used up.
		require.NoError(t, p.rewards.Grant(t.Context(), closed(), []season.Win{win(1, "eve", catalog.Tier{Rank: 1, XP: 9})}))
		require.Contains(t, p.rows(t, "player"), "player: eve | 9 | 1 | 1")
	})
}

// No request brings one either, whatever id it has.
func TestNoClientSendsAReward(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	for id, want := range map[string]fault.Code{"mine": fault.TypeUnknown, yesterday: fault.FieldType} {
		for _, class := range []signing.Class{signing.Server, signing.Client} {
			s := submission("", false, text(id, "eve", event.RewardGranted, noon, `{"xp":120,"items":{}}`))
			s.Key = key(class)
			_, _, err := p.gateway.Accept(t.Context(), s)
			require.ErrorIs(t, err, fault.EventInvalid)
			require.Equal(t, want, fault.Of(err).Fields[0].Code)
		}
	}
	s := submission("", false, text(yesterday, "eve", event.XPGained, noon, `{"amount":1,"source":"match"}`))
	_, _, err := p.gateway.Accept(t.Context(), s)
	require.ErrorIs(t, err, fault.EventInvalid, "nor is its id used up by something else")
	require.Empty(t, p.queued(t, "events"))
}
