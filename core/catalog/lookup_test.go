package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
)

func TestCurve(t *testing.T) {
	t.Parallel()
	curve := catalog.Curve{Table: []int64{0, 100, 250}}
	for _, test := range []struct {
		xp    int64
		level int
	}{{-5, 1}, {0, 1}, {99, 1}, {100, 2}, {249, 2}, {250, 3}, {1 << 53, 3}} {
		require.Equal(t, test.level, curve.Level(test.xp), "%d XP", test.xp)
	}
	for level, want := range map[int]int64{1: 100, 2: 250} {
		next, ok := curve.Next(level)
		require.True(t, ok)
		require.Equal(t, want, next)
	}
	for _, last := range []int{3, 4} {
		_, ok := curve.Next(last)
		require.False(t, ok)
	}
}

func TestGeneratedCurve(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		generate string
		want     []int64
	}{
		{"{levels: 1, first: 100, percent: 150}", []int64{0}},
		{"{levels: 4, first: 10, percent: 100}", []int64{0, 10, 20, 30}},
		{"{levels: 5, first: 10, percent: 115}", []int64{0, 10, 21, 33, 46}}, // steps 10, 11, 12, 13: 11×115/100 = 12.65
		{"{levels: 5, first: 4, percent: 50}", []int64{0, 4, 6, 7, 8}},
		{"{levels: 2, first: 9007199254740991, percent: 1000}", []int64{0, 9007199254740991}},
	} {
		c, err := catalog.Parse([]byte("version: 1\nname: n\nxp: {generate: " + test.generate + "}\n"))
		require.NoError(t, err)
		require.Equal(t, test.want, c.XP.Table, test.generate)
		require.Nil(t, c.XP.Generate)
	}
}

func TestCurveLevelAndNextAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := []int64{0}
		for _, step := range rapid.SliceOf(rapid.Int64Range(1, 1000)).Draw(t, "steps") {
			table = append(table, table[len(table)-1]+step)
		}
		curve := catalog.Curve{Table: table}
		xp := rapid.Int64Range(0, table[len(table)-1]+10).Draw(t, "xp")
		level := curve.Level(xp)
		require.LessOrEqual(t, table[level-1], xp)
		if next, ok := curve.Next(level); ok {
			require.Less(t, xp, next)
		} else {
			require.Len(t, table, level)
		}
	})
}

func TestItem(t *testing.T) {
	t.Parallel()
	c := catalog.Catalog{Items: map[string]catalog.Item{"gold": {Stack: 1}, "eco-*": {Stack: 2}, "eco-c*": {Stack: 3}, "eco-c00": {Stack: 4}}}
	for name, want := range map[string]int64{"gold": 1, "eco-b01": 2, "eco-": 2, "eco-c01": 3, "eco-c": 3, "eco-c00": 4, "eco-c000": 3} {
		item, ok := c.Item(name)
		require.True(t, ok, name)
		require.Equal(t, want, item.Stack, name)
	}
	for _, name := range []string{"", "golden", "eco", "eco-*", "ECO-b01"} {
		_, ok := c.Item(name)
		require.False(t, ok, name)
	}
}

func TestFed(t *testing.T) {
	t.Parallel()
	c := catalog.Catalog{Boards: map[string]catalog.Board{"m": {}, "z": {From: "m"}, "a": {From: "m"}, "o": {}}}
	require.Equal(t, []string{"a", "m", "z"}, c.Fed("m"))
	require.Equal(t, []string{"o"}, c.Fed("o"))
	require.Empty(t, c.Fed("a"))
	require.Empty(t, c.Fed("nothing"))
}

func TestTierReaches(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tier          catalog.Tier
		entries, last int64 // the last place within
	}{
		{catalog.Tier{Rank: 3}, 100, 3},
		{catalog.Tier{Rank: 3}, 2, 3},
		{catalog.Tier{Percent: 1}, 1, 1},
		{catalog.Tier{Percent: 1}, 100, 1},
		{catalog.Tier{Percent: 1}, 101, 2},
		{catalog.Tier{Percent: 50}, 7, 4},
		{catalog.Tier{Percent: 100}, 7, 7},
	} {
		require.True(t, test.tier.Reaches(test.last, test.entries), "%+v", test)
		require.False(t, test.tier.Reaches(test.last+1, test.entries), "%+v", test)
	}
}

func TestFamily(t *testing.T) {
	t.Parallel()
	c := &catalog.Catalog{Items: map[string]catalog.Item{"skin-*": {Stack: 1}, "skin-rare-*": {Stack: 2}, "skin-default": {Stack: 3}}}
	for name, want := range map[string]string{
		"skin-red": "skin-", "skin-": "skin-", "skin-rare-jade": "skin-rare-", "skin-rare": "skin-", "skin-default": "", "skin-default-2": "skin-", "axe": "", "": "", "skin-*": "",
	} {
		require.Equal(t, want, c.Family(name), "%q", name)
	}
}
