package main

import (
	"os"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
)

const tiny = "version: 1\nname: tiny\nxp: {table: [0, 100]}\n"

func TestCatalogCheck(t *testing.T) {
	t.Parallel()
	good := write(t, tiny+"bosses: {dragon: {xp: 5}}\n")
	bad := write(t, "name: tiny\nxp: {table: [1]}\nbosses:\n  dragon: {xp: -1, once: month}\nitem: {}\n")
	broken := write(t, "version: 1\nname: [a\n")

	o := command(t, "", "catalog", "check", good, arena)
	requireDone(t, o)
	require.Contains(t, o.out, good+": tiny version 1 is good (event types 4, levels 2, bosses 1, items 0, modifiers 0, boards 0, seasons 0)\n")
	require.Contains(t, o.out, "/examples/arena/catalog.yaml: arena version ")

	o = command(t, "", "catalog", "check", bad, good, broken)
	require.Equal(t, exitRefused, o.code)
	require.Empty(t, o.errs)
	require.Equal(t, []string{
		bad + ":1: version: required, 1 or more",
		bad + ":2: xp.table[0]: must be 0: level 1 is reached with no XP",
		bad + ":4: bosses.dragon.once: must be one of day, week, season, ever",
		bad + ":4: bosses.dragon.xp: must be from 0 to 2^53-1",
		bad + ":5: item: unknown key; there are version, name, zone, events, xp, rewards, bosses, items, modifiers, boards, seasons, fairness, privacy",
		good + ": tiny version 1 is good (event types 4, levels 2, bosses 1, items 0, modifiers 0, boards 0, seasons 0)",
		broken + ":2: not YAML: sequence end token ']' not found",
	}, strings.Split(strings.TrimSpace(o.out), "\n"))
}

func TestCatalogDiff(t *testing.T) {
	t.Parallel()
	first := write(t, tiny+"bosses: {dragon: {xp: 5}}\nboards: {rating: {windows: [daily]}}\n")
	next := write(t, strings.Replace(tiny, "version: 1", "version: 2", 1)+
		"bosses: {dragon: {xp: 10, once: week}}\nboards: {rating: {windows: [daily], order: asc}}\n")

	o := command(t, "", "catalog", "diff", first, next)
	requireDone(t, o)
	require.Equal(t, `version
    version 2 follows version 1
bosses
    the boss dragon is worth 10 XP instead of 5
    the boss dragon is worth something only once each week: what came before this version may not count
boards
  ! the board rating ranks in order asc instead of desc: scores of before and after do not compare
4 changes, 1 to be looked at twice
`, o.out)

	o = command(t, "", "catalog", "diff", next, first)
	require.Equal(t, exitRefused, o.code)
	require.Empty(t, o.errs)
	require.Contains(t, o.out, "  ! version 1 is not above 2: a running system would refuse it\n")

	o = command(t, "", "catalog", "diff", first, first)
	require.Equal(t, exitRefused, o.code)
	require.Equal(t, "the two are the same game in the same version, 1\n", o.out)

	o = command(t, "", "catalog", "diff", "--json", first, next)
	requireDone(t, o)
	var changes []catalog.Change
	require.NoError(t, json.Unmarshal([]byte(o.out), &changes))
	require.Len(t, changes, 4)
	require.Equal(t, "boards.rating.order", changes[3].Path)
	require.True(t, changes[3].Warning)

	bad := write(t, tiny+"bosses: {dragon: {xp: -1}}\n")
	o = command(t, "", "catalog", "diff", first, bad)
	require.Equal(t, exitRefused, o.code)
	require.Equal(t, bad+":4: bosses.dragon.xp: must be from 0 to 2^53-1\n", o.out)

	command(t, "", "catalog", "diff", first).requireError(t, exitUsage, "<after>")
	command(t, "", "catalog", "check", first, t.TempDir()).requireError(t, exitUsage, "is a directory")
}

func TestCatalogSchema(t *testing.T) {
	t.Parallel()
	o := command(t, "", "catalog", "schema")
	requireDone(t, o)
	published, err := os.ReadFile("../../docs/catalog.schema.json")
	require.NoError(t, err)
	require.Equal(t, string(published), o.out)
}
