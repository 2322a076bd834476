package progression

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

func TestFitting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ balance, delta, limit, want int64 }{
		{0, 5, 10, 5},
		{8, 5, 10, 2},
		{10, 5, 10, 0},
		{12, 5, 10, 0}, // above a limit that was lowered: kept, not cut
		{12, -5, 10, -5},
		{3, -5, 10, -3},
		{0, -5, 10, 0},
		{0, 0, 10, 0},
		{7, math.MaxInt64, event.MaxInteger, event.MaxInteger - 7},
		{7, math.MinInt64, event.MaxInteger, -7},
	} {
		require.Equal(t, c.want, fitting(c.balance, c.delta, c.limit), "%+v", c)
	}
}

// alone advances a player of whom nothing was counted yet.
func alone(c *catalog.Catalog, p progress, e event.Accepted) (*Effect, []wish) {
	local := func() time.Time { return e.At.UTC() }
	return advance(c, p, e, offered(c, e.Event), local, &tallies{amounts: map[tally]int64{}, changed: map[tally]bool{}})
}

func TestAdvanceNeverFails(t *testing.T) {
	t.Parallel()
	c := &catalog.Catalog{
		XP: catalog.Curve{Table: []int64{0, 100}},
		Bosses: map[string]catalog.Worth{
			"rich": {XP: math.MaxInt64, Items: map[string]int64{"gem": math.MaxInt64, "gone": 1}},
			"poor": {XP: math.MinInt64, Items: map[string]int64{"gem": math.MinInt64}},
		},
		Items:  map[string]catalog.Item{"gem": {}, "eco-*": {Stack: 1}},
		Events: map[string]catalog.EventType{"logged_in": {Worth: catalog.Worth{XP: 5}}},
	}
	long := "eco-" + strings.Repeat("x", 5000)
	for name, test := range map[string]struct {
		event event.Event
		xp    int64
		notes []Note
	}{
		"no amount":         {event.Event{Type: event.XPGained}, 0, []Note{{fault.FieldType, "amount", 0}}},
		"text for amount":   {event.Event{Type: event.XPGained, Data: map[string]any{"amount": "5"}}, 0, []Note{{fault.FieldType, "amount", 0}}},
		"half a point":      {event.Event{Type: event.XPGained, Data: map[string]any{"amount": 0.5}}, 0, []Note{{fault.FieldType, "amount", 0}}},
		"boss gone":         {event.Event{Type: event.BossKilled, Data: map[string]any{"boss": "hydra"}}, 0, []Note{{fault.BossUnknown, "boss:hydra", 0}}},
		"no boss":           {event.Event{Type: event.BossKilled}, 0, []Note{{fault.BossUnknown, "boss", 0}}},
		"item gone":         {event.Event{Type: event.ItemAcquired, Data: map[string]any{"item": "axe", "quantity": 2.0}}, 0, []Note{{fault.ItemUnknown, "item:axe", 2}}},
		"item too long":     {event.Event{Type: event.ItemAcquired, Data: map[string]any{"item": long, "quantity": 1.0}}, 0, []Note{{fault.ItemUnknown, "item", 1}}},
		"family itself":     {event.Event{Type: event.ItemAcquired, Data: map[string]any{"item": "eco-*", "quantity": 1.0}}, 0, []Note{{fault.ItemUnknown, "item", 1}}},
		"no quantity":       {event.Event{Type: event.ItemAcquired, Data: map[string]any{"item": "gem"}}, 0, []Note{{fault.FieldType, "quantity", 0}}},
		"type gone":         {event.Event{Type: "danced"}, 0, []Note{{fault.TypeUnknown, "danced", 0}}},
		"declared":          {event.Event{Type: "logged_in"}, 5, nil},
		"reward of nothing": {event.Event{Type: event.RewardGranted}, 0, []Note{{fault.FieldType, "xp", 0}}},
		"reward of odd things": {event.Event{Type: event.RewardGranted, Data: map[string]any{
			"xp": 7.0, "items": map[string]any{"gone": 2.0, "gem": 0.5, long: 1.0},
		}}, 7, []Note{
			{fault.FieldType, "item:gem", 0}, {fault.ItemUnknown, "item", 1}, {fault.ItemUnknown, "item:gone", 2},
		}},
		"ranked only": {event.Event{Type: event.ScoreSubmitted, Data: map[string]any{"board": "daily", "score": 7.0}}, 0, nil},
		"more than fits": {event.Event{Type: event.BossKilled, Data: map[string]any{"boss": "rich"}}, event.MaxInteger - 50, []Note{
			{fault.BalanceLimit, "xp", math.MaxInt64 - event.MaxInteger + 50},
			{fault.BalanceLimit, "item:gem", math.MaxInt64 - event.MaxInteger},
			{fault.ItemUnknown, "item:gone", 1},
		}},
		"more than there is": {event.Event{Type: event.BossKilled, Data: map[string]any{"boss": "poor"}}, -50, []Note{
			{fault.BalanceLimit, "xp", math.MinInt64 + 50},
			{fault.BalanceLimit, "item:gem", math.MinInt64},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			effect, wishes := alone(c, progress{xp: 50, level: 1}, event.Accepted{Event: test.event})
			effect.settle(c, wishes, &account{items: map[string]int64{}})
			require.Equal(t, test.xp, effect.XP)
			require.Equal(t, 50+test.xp, effect.XPAfter)
			require.Equal(t, test.notes, effect.Notes)
			require.Equal(t, test.xp != 0, effect.Granted())
		})
	}
}

// The kinds are the ledger's key: two grants of one event must never share one, and each must fit its column.
func TestKindsAreDistinctAndFit(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("g", event.MaxID)
	loot := map[string]int64{"gem": 1, longest: 2}
	c := &catalog.Catalog{
		Bosses:  map[string]catalog.Worth{"hydra": {XP: 1000, Items: loot}},
		Items:   map[string]catalog.Item{"gem": {}, longest: {}},
		Rewards: catalog.Rewards{Levels: map[int]catalog.Reward{}},
	}
	for level := 1; level <= 1000; level++ {
		c.XP.Table = append(c.XP.Table, int64(level-1))
		c.Rewards.Levels[level] = catalog.Reward{Items: loot}
	}
	e := event.Accepted{Event: event.Event{Type: event.BossKilled, Data: map[string]any{"boss": "hydra"}}}
	effect, wishes := alone(c, progress{level: 1}, e)
	effect.settle(c, wishes, &account{items: map[string]int64{}})
	require.Equal(t, 1000, effect.LevelAfter)
	require.Len(t, effect.Grants, 2+2*999)
	seen := map[string]bool{Root: true}
	for _, g := range effect.Grants {
		require.False(t, seen[g.Kind], g.Kind)
		seen[g.Kind] = true
		require.LessOrEqual(t, len(g.Kind), 96)
	}
	require.Equal(t, "item:gem", effect.Grants[0].Kind)
	require.Equal(t, "level:2:item:gem", effect.Grants[2].Kind)
	require.Equal(t, "level:1000:item:"+longest, effect.Grants[len(effect.Grants)-1].Kind)
	require.Equal(t, int64(2000), effect.Grants[len(effect.Grants)-1].Balance)
}
