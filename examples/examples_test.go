// Package examples holds catalogs to start from. What is tested here is that they say what the system reads.
package examples_test

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
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
	require.Len(t, c.Bosses, 7)
	require.Len(t, c.Items, 15)
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

// The arena's catalog documents the format, so it has to have every key.
func TestArenaHasEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("arena/catalog.yaml")
	require.NoError(t, err)
	var document any
	require.NoError(t, yaml.Unmarshal(text, &document))
	said := map[string]bool{}
	keys(reflect.TypeFor[catalog.Catalog](), document, func(place string, there bool) { said[place] = said[place] || there })
	require.Greater(t, len(said), 100)
	for place, there := range said {
		if place == "Curve.table" { // the curve is generated, and a comment shows the other way
			require.Contains(t, string(text), "`table: [")
			continue
		}
		require.True(t, there, "no %s", place)
	}
}

// keys calls each for every key that a value of the type can have, by the type and the key, with whether it is there.
func keys(t reflect.Type, value any, each func(place string, there bool)) {
	switch t.Kind() {
	case reflect.Pointer:
		keys(t.Elem(), value, each)
	case reflect.Slice:
		list, _ := value.([]any)
		for _, element := range list {
			keys(t.Elem(), element, each)
		}
	case reflect.Map:
		entries, _ := value.(map[string]any)
		for _, entry := range entries {
			keys(t.Elem(), entry, each)
		}
	case reflect.Struct:
		members, _ := value.(map[string]any)
		for _, field := range reflect.VisibleFields(t) {
			if field.Anonymous {
				continue
			}
			owner := t
			if len(field.Index) > 1 {
				owner = owner.FieldByIndex(field.Index[:1]).Type
			}
			key := field.Tag.Get("yaml")
			member, there := members[key]
			each(owner.Name()+"."+key, there)
			if there {
				keys(field.Type, member, each)
			}
		}
	}
}

func TestExamplesNameTheSchema(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"arena", "chess"} {
		text, err := os.ReadFile(name + "/catalog.yaml")
		require.NoError(t, err)
		first, _, _ := strings.Cut(string(text), "\n")
		schema, found := strings.CutPrefix(first, "# yaml-language-server: $schema=")
		require.True(t, found, first)
		require.FileExists(t, name+"/"+schema)
	}
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
