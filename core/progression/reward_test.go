package progression_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// An id that a client could send is one that a client could use up before the window ends.
func TestNoClientCanSendARewardID(t *testing.T) {
	t.Parallel()
	require.Equal(t, "reward~_FDUCe0xkFJB5K5bBjcpk_00", progression.RewardID("trophies", "2026-11-22"), "what is on record is known by it")
	seen := map[string]bool{}
	longest := strings.Repeat("b", event.MaxID)
	for _, w := range [][2]string{{"a", "b"}, {"b", "a"}, {"ab", ""}, {"", "ab"}, {"A", "b"}, {longest, longest}} {
		id := progression.RewardID(w[0], w[1])
		require.False(t, event.ValidID(id))
		require.LessOrEqual(t, len(id), event.MaxID)
		require.NotContains(t, id, ".", "a receipt's id is made of both ids with a dot between")
		require.False(t, seen[id])
		seen[id] = true
	}
}

func TestARewardIsWorthWhatItCarries(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		promised := game()
		l := ledgerOn(db, promised)
		l.Catalog = func() *catalog.Catalog { // another one by now, with a smaller stack and without the axe
			c := game()
			c.Version, c.Items["gem"] = 8, catalog.Item{Stack: 6}
			delete(c.Items, "axe")
			return c
		}
		id := progression.RewardID("daily", "2026-11-22")
		won := progression.Reward{Board: "daily", Window: "2026-11-22", Rank: 1, XP: 120, Items: map[string]int64{"gem": 9, "axe": 1, "fang": 2}}.Event(id, "p", at)
		for range 2 {
			effects, err := l.Apply(t.Context(), []event.Accepted{won}, nil)
			require.NoError(t, err)
			require.Len(t, effects, 1)
		}
		// A later try under another promise is the same reward.
		apply(t, l, progression.Reward{Board: "daily", Window: "2026-11-22", Rank: 1, XP: 999}.Event(id, "p", noon))

		entries, err := l.Entries(t.Context(), "p", id)
		require.NoError(t, err)
		kinds := []string{}
		for _, e := range entries {
			require.Equal(t, event.RewardGranted, e.EventType)
			require.Equal(t, at, e.EffectiveAt)
			kinds = append(kinds, e.Kind)
		}
		require.Equal(t, []string{"xp", "item:fang", "item:gem"}, kinds, "the gem of level 2 has no room on the stack any more")
		require.Equal(t, notes{
			{Code: fault.ItemUnknown, Ref: "item:axe", Amount: 1},
			{Code: fault.StackFull, Ref: "item:gem", Amount: 3},
			{Code: fault.StackFull, Ref: "level:2:item:gem", Amount: 1},
		}, entries[0].Notes)
		state, err := l.Player(t.Context(), "p")
		require.NoError(t, err)
		require.Equal(t, progression.State{
			PlayerID: "p", XP: 120, Level: 2, Items: holdings{{"fang", 2}, {"gem", 6}}, Version: 3, UpdatedAt: noon,
		}, state)
		noDrift(t, l)
	})
}

// The event is one like any other: written down and read again it is the same and worth the same.
func TestARewardSurvivesItsEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		won := progression.Reward{
			Board: "daily", Window: "w", Rank: rapid.Int64Range(1, event.MaxInteger).Draw(t, "rank"),
			XP:    rapid.Int64Range(0, event.MaxInteger).Draw(t, "xp"),
			Items: rapid.MapOf(rapid.SampledFrom(itemNames), rapid.Int64Range(1, event.MaxInteger)).Draw(t, "items"),
		}
		at := time.UnixMilli(rapid.Int64Range(0, math.MaxUint32*1000).Draw(t, "at"))
		e := won.Event("id", "p", at)
		xp, ok := e.Int("xp")
		require.True(t, ok)
		require.Equal(t, won.XP, xp)
		for item, quantity := range won.Items {
			got, ok := event.Event{Data: e.Data["items"].(map[string]any)}.Int(item)
			require.True(t, ok)
			require.Equal(t, quantity, got)
		}
		body, err := e.Encode()
		require.NoError(t, err)
		read, err := event.DecodeAccepted(body)
		require.NoError(t, err)
		require.Equal(t, e, read)
	})
}
