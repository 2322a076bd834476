// Package examples holds catalogs to start from. What is tested here is that they say what the system reads.
package examples_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
)

func TestArena(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load("arena/catalog.yaml")
	require.NoError(t, err)
	require.Equal(t, "arena", c.Name)
	require.Len(t, c.XP.Table, 40)
	require.Len(t, c.Bosses, 6)
	require.Len(t, c.Items, 12)
	require.Len(t, c.Seasons, 12)
	require.Equal(t, []string{"arena-score", "arena-total"}, c.Fed("arena-score"))
	require.Equal(t, "asc", c.Boards["gauntlet-time"].Order)
	require.Equal(t, catalog.Rate{Events: 300, Per: catalog.Duration(time.Minute)}, c.Fairness.Sustained)
	operators, zones := map[string]bool{}, map[string]bool{}
	for _, b := range c.Boards {
		operators[b.Operator], zones[b.Zone] = true, true
	}
	require.Equal(t, map[string]bool{"best": true, "latest": true, "sum": true}, operators)
	require.Equal(t, map[string]bool{"UTC": true, "Europe/Berlin": true, "America/New_York": true}, zones)
}

func TestChess(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load("chess/catalog.yaml")
	require.NoError(t, err)
	require.Equal(t, []string{"rating", "rating-best"}, c.Fed("rating"))
	require.Equal(t, "latest", c.Boards["rating"].Operator)
	require.Equal(t, "best", c.Boards["rating-best"].Operator)
	require.Equal(t, "sum", c.Boards["points"].Operator)
	for name, b := range c.Boards {
		require.Equal(t, []string{"daily", "weekly", "season", "all_time"}, b.Windows, name)
		require.Equal(t, "UTC", b.Zone, name)
	}
	for kind, data := range map[string]map[string]any{
		event.XPGained:       {"amount": 35.0, "source": "match"},
		event.ScoreSubmitted: {"board": "points", "score": 0.0},
		event.BossKilled:     {"boss": "swift-mate"},
		event.ItemAcquired:   {"item": "eco-c00", "quantity": 1.0},
	} {
		require.NoError(t, c.Check(event.Event{Type: kind, Data: data}))
	}
}
