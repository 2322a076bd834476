package progression_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// naive is the game played by hand, one player, one event and one piece at a time.
type naive struct {
	catalog *catalog.Catalog
	seen    map[string]bool
	xp      int64
	level   int
	items   map[string]int64
}

func (n *naive) play(e event.Accepted) {
	if n.seen[e.ID] {
		return
	}
	n.seen[e.ID] = true
	switch e.Type {
	case "xp_gained":
		n.gain(int64(e.Data["amount"].(float64)))
	case "boss_killed":
		boss := n.catalog.Bosses[e.Data["boss"].(string)]
		if n.level >= boss.RequiredLevel {
			n.take(boss.Items)
			n.gain(boss.XP)
		}
	case "item_acquired":
		n.take(map[string]int64{e.Data["item"].(string): int64(e.Data["quantity"].(float64))})
	case "logged_in":
		n.gain(n.catalog.Events["logged_in"].XP)
	case "reward_granted":
		items := map[string]int64{}
		for item, quantity := range e.Data["items"].(map[string]any) {
			items[item] = int64(quantity.(float64))
		}
		n.take(items)
		n.gain(int64(e.Data["xp"].(float64)))
	}
}

func (n *naive) gain(xp int64) {
	for ; xp > 0; xp-- {
		n.xp++
		if n.level < len(n.catalog.XP.Table) && n.xp == n.catalog.XP.Table[n.level] {
			n.level++
			n.take(n.catalog.Rewards.Levels[n.level].Items)
		}
	}
}

func (n *naive) take(items map[string]int64) {
	for item, quantity := range items {
		stack := n.catalog.Items[item].Stack
		for ; quantity > 0; quantity-- {
			if stack == 0 || n.items[item] < stack {
				n.items[item]++
			}
		}
	}
}

var itemNames = []string{"axe", "gem", "map"}

func loot(t *rapid.T, label string) map[string]int64 {
	return rapid.MapOf(rapid.SampledFrom(itemNames), rapid.Int64Range(1, 4)).Draw(t, label)
}

func anyCatalog(t *rapid.T) *catalog.Catalog {
	c := &catalog.Catalog{
		Version: rapid.IntRange(1, 9).Draw(t, "version"),
		XP:      catalog.Curve{Table: []int64{0}},
		Rewards: catalog.Rewards{Levels: map[int]catalog.Reward{}},
		Bosses:  map[string]catalog.Worth{},
		Items:   map[string]catalog.Item{},
		Events:  map[string]catalog.EventType{"logged_in": {Worth: catalog.Worth{XP: rapid.Int64Range(0, 20).Draw(t, "login")}}},
	}
	for _, step := range rapid.SliceOfN(rapid.Int64Range(1, 60), 0, 8).Draw(t, "steps") {
		c.XP.Table = append(c.XP.Table, c.XP.Table[len(c.XP.Table)-1]+step)
		c.Rewards.Levels[len(c.XP.Table)] = catalog.Reward{Items: loot(t, "reward")}
	}
	for _, item := range itemNames {
		c.Items[item] = catalog.Item{Stack: rapid.Int64Range(0, 12).Draw(t, "stack")}
	}
	for _, boss := range []string{"rat", "hydra"} {
		c.Bosses[boss] = catalog.Worth{
			XP: rapid.Int64Range(0, 150).Draw(t, "boss xp"), Items: loot(t, "loot"), RequiredLevel: rapid.IntRange(0, 4).Draw(t, "required"),
		}
	}
	return c
}

func anyEvent(run int64) *rapid.Generator[event.Accepted] {
	return rapid.Custom(func(t *rapid.T) event.Accepted {
		player := fmt.Sprintf("r%d-%c", run, rapid.SampledFrom([]rune("abc")).Draw(t, "player"))
		id := fmt.Sprintf("e%d", rapid.IntRange(1, 40).Draw(t, "id")) // some come with two bodies: the first counts
		switch rapid.IntRange(0, 5).Draw(t, "type") {
		case 0:
			return gained(player, id, rapid.Int64Range(0, 120).Draw(t, "amount"))
		case 1:
			return killed(player, id, rapid.SampledFrom([]string{"rat", "hydra"}).Draw(t, "boss"))
		case 2:
			return acquired(player, id, rapid.SampledFrom(itemNames).Draw(t, "item"), rapid.Int64Range(0, 9).Draw(t, "quantity"))
		case 3:
			return did(player, id, "logged_in", map[string]any{})
		case 4:
			won := progression.Reward{Board: "daily", Window: "w", Rank: 1, XP: rapid.Int64Range(0, 150).Draw(t, "won"), Items: loot(t, "prize")}
			return won.Event(progression.RewardID("daily", id), player, at)
		}
		return scored(player, id)
	})
}

// Any catalog, any stream in batches of any size, redelivered in part or in whole, with batches that are cut before their
// commit: what comes out is what playing by hand gives.
func TestAgainstPlayingByHand(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		var runs atomic.Int64
		rapid.Check(t, func(r *rapid.T) {
			c := anyCatalog(r)
			l := ledgerOn(db, c)
			byHand := map[string]*naive{}
			events := rapid.SliceOfN(anyEvent(runs.Add(1)), 1, 60).Draw(r, "events")
			var batches [][]event.Accepted
			for rest := events; len(rest) > 0; {
				n := rapid.IntRange(1, len(rest)).Draw(r, "batch")
				batches = append(batches, rest[:n])
				rest = rest[n:]
				if again := rapid.IntRange(-3, len(batches)-1).Draw(r, "again"); again >= 0 {
					batches = append(batches, batches[again])
				}
			}
			for _, batch := range batches {
				if rapid.Bool().Draw(r, "cut") {
					cut := errors.New("cut")
					_, err := l.Apply(t.Context(), batch, func(*store.Tx, []*progression.Effect) error { return cut })
					require.ErrorIs(r, err, cut)
				}
				effects, err := l.Apply(t.Context(), batch, nil)
				require.NoError(r, err)
				for i, e := range batch {
					n := byHand[e.PlayerID]
					if n == nil {
						n = &naive{catalog: c, seen: map[string]bool{}, level: 1, items: map[string]int64{}}
						byHand[e.PlayerID] = n
					}
					require.Equal(r, !n.seen[e.ID], effects[i].Fresh)
					n.play(e)
					if effects[i].Fresh {
						require.Equal(r, n.xp, effects[i].XPAfter)
						require.Equal(r, n.level, effects[i].LevelAfter)
					}
				}
			}
			for player, n := range byHand {
				state, err := l.Player(t.Context(), player)
				require.NoError(r, err)
				held := map[string]int64{}
				for _, h := range state.Items {
					held[h.Item] = h.Quantity
				}
				require.Equal(r, n.xp, state.XP)
				require.Equal(r, n.level, state.Level)
				require.Equal(r, n.items, held)
				require.True(r, slices.IsSortedFunc(state.Items, func(a, b progression.Holding) int { return strings.Compare(a.Item, b.Item) }))
			}
		})
		noDrift(t, ledgerOn(db, nil))
	})
}
