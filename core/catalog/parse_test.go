package catalog_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
)

// smallest is as little as a catalog can say.
const smallest = "version: 1\nname: tiny\nxp: {table: [0]}\n"

const full = `version: 7
name: arena
zone: Europe/Berlin
events:
  xp_gained:
    every: 2s
    fields: {amount: {min: 1, max: 500}, source: {enum: [match, quest]}}
    sources: {match: 1000}
    daily: 1500
  score_submitted:
    fields: {hero: {type: string, length: 12, optional: true}}
  match_finished:
    xp: 15
    every: 1m30s
    rate: {events: 5, per: 10s}
    fields:
      map: {type: string, enum: [foundry, harbor]}
      won: {type: boolean}
      seconds: {min: -5, max: 1800, optional: true}
xp:
  generate: {levels: 5, first: 100, percent: 150}
rewards:
  levels: {2: {items: {potion: 3}}, 5: {items: {eco-c00: 1}, claim: true}}
  claim: 1h
bosses:
  dragon: {xp: 40, items: {potion: 2}, required_level: 3, cooldown: 1h, once: week, daily: 80}
items:
  potion: {stack: 20, overflow: convert, convert: {item: gold, quantity: 2}}
  gold:
  eco-*: {stack: 1, slots: 100, overflow: mailbox, xp: 3, items: {gold: 1}, claim: true, required_level: 2, cooldown: 1m, once: ever, daily: 30}
modifiers:
  weekend: {starts: 2026-11-28T18:00, ends: 2026-11-30, percent: 200, types: [xp_gained, match_finished]}
  nothing: {starts: 2026-12-24, ends: 2026-12-25, percent: 0}
boards:
  rating: {operator: latest, order: asc, zone: Europe/Berlin, windows: [daily, season], public: true, min: 0, max: 4000, velocity: {per_10s: 1, per_60s: 2, per_1h: 3}}
  rating-best:
    from: rating
    windows: [season, all_time]
    metadata: {title: Best, icon: ""}
    entry: [hero]
    size: 100
    age: 1s
    rewards: {season: [{rank: 1, xp: 5}, {percent: 50, items: {potion: 1}, claim: true}]}
    hall_of_fame: 0
    retention: 24h
seasons:
  - {id: s01, starts: 2026-01-01, ends: 2026-04-01}
  - {id: s02, starts: 2026-04-01, ends: 2026-07-01T12:00}
privacy: {grace: 48h}
fairness:
  burst: {events: 50}
  keys: {client: {events: 2000, per: 1s}}
  escalation: {throttles: 0}
  baseline: {periods: 7}
  record: 1h
  rules: {score-velocity: {mode: shadow, verdict: flag}, population: {verdict: shadow, points: 0, limit: 4.25, after: 1000}}
`

func ptr(n int64) *int64 { return &n }

func TestParseReadsEverythingAndFillsInDefaults(t *testing.T) {
	t.Parallel()
	c, err := catalog.Parse([]byte(full))
	require.NoError(t, err)

	seconds := func(n int) catalog.Duration { return catalog.Duration(time.Duration(n) * time.Second) }
	require.Equal(t, &catalog.Catalog{
		Version: 7,
		Name:    "arena",
		Zone:    "Europe/Berlin",
		Events: map[string]catalog.EventType{
			"xp_gained": {Every: seconds(2), Sources: map[string]int64{"match": 1000}, Worth: catalog.Worth{Daily: 1500}, Fields: map[string]catalog.Field{
				"amount": {Type: "integer", Min: ptr(1), Max: ptr(500)},
				"source": {Type: "string", Enum: []string{"match", "quest"}},
			}},
			"score_submitted": {Fields: map[string]catalog.Field{
				"board": {Type: "string"}, "score": {Type: "integer"}, "window_id": {Type: "string", Length: 64, Optional: true},
				"hero": {Type: "string", Length: 12, Optional: true},
			}},
			"boss_killed":   {Fields: map[string]catalog.Field{"boss": {Type: "string"}}},
			"item_acquired": {Fields: map[string]catalog.Field{"item": {Type: "string"}, "quantity": {Type: "integer"}}},
			"match_finished": {Worth: catalog.Worth{XP: 15}, Every: seconds(90), Rate: catalog.Rate{Events: 5, Per: seconds(10)}, Fields: map[string]catalog.Field{
				"map":     {Type: "string", Enum: []string{"foundry", "harbor"}},
				"won":     {Type: "boolean"},
				"seconds": {Type: "integer", Min: ptr(-5), Max: ptr(1800), Optional: true},
			}},
		},
		XP: catalog.Curve{Table: []int64{0, 100, 250, 475, 812}},
		Rewards: catalog.Rewards{Levels: map[int]catalog.Reward{
			2: {Items: map[string]int64{"potion": 3}},
			5: {Items: map[string]int64{"eco-c00": 1}, Claim: true},
		}, Claim: seconds(3600)},
		Bosses: map[string]catalog.Worth{"dragon": {XP: 40, Items: map[string]int64{"potion": 2}, RequiredLevel: 3, Cooldown: seconds(3600), Once: "week", Daily: 80}},
		Items: map[string]catalog.Item{
			"potion": {Stack: 20, Overflow: catalog.Convert, Convert: &catalog.Conversion{Item: "gold", Quantity: 2}},
			"gold":   {Overflow: catalog.Reject},
			"eco-*": {Stack: 1, Slots: 100, Overflow: catalog.Mailbox, Worth: catalog.Worth{
				XP: 3, Items: map[string]int64{"gold": 1}, Claim: true, RequiredLevel: 2, Cooldown: seconds(60), Once: "ever", Daily: 30,
			}},
		},
		Modifiers: map[string]catalog.Modifier{
			"weekend": {Starts: "2026-11-28T18:00", Ends: "2026-11-30", Percent: 200, Types: []string{"xp_gained", "match_finished"}},
			"nothing": {Starts: "2026-12-24", Ends: "2026-12-25"},
		},
		Boards: map[string]catalog.Board{
			"rating": {
				Operator: "latest", Order: "asc", Zone: "Europe/Berlin", Windows: []string{"daily", "season"}, Public: true,
				Min: ptr(0), Max: ptr(4000), Velocity: catalog.Velocity{Per10s: 1, Per60s: 2, Per1h: 3},
				HallOfFame: 3,
			},
			"rating-best": {
				From: "rating", Operator: "best", Order: "desc", Zone: "UTC", Windows: []string{"season", "all_time"},
				Metadata: map[string]string{"title": "Best", "icon": ""}, Entry: []string{"hero"}, Size: 100, Age: seconds(1),
				Rewards: map[string][]catalog.Tier{"season": {
					{Rank: 1, XP: 5}, {Percent: 50, Items: map[string]int64{"potion": 1}, Claim: true},
				}},
				Retention: seconds(24 * 3600),
			},
		},
		Seasons: []catalog.Season{
			{ID: "s01", Starts: "2026-01-01", Ends: "2026-04-01"},
			{ID: "s02", Starts: "2026-04-01", Ends: "2026-07-01T12:00"},
		},
		Privacy: catalog.Privacy{Grace: seconds(48 * 3600)},
		Fairness: catalog.Fairness{
			Burst:     catalog.Rate{Events: 50, Per: seconds(1)},
			Sustained: catalog.Rate{Events: 300, Per: seconds(60)},
			Keys:      map[string]catalog.Rate{"client": {Events: 2000, Per: seconds(1)}},
			Block:     seconds(600),
			Escalation: catalog.Escalation{
				Factor: 3, Most: seconds(720 * 3600), Memory: seconds(720 * 3600), Throttles: 0, Within: seconds(600),
			},
			Suspicion: catalog.Suspicion{HalfLife: seconds(72 * 3600), Case: 10},
			Shadow:    seconds(24 * 3600),
			Baseline:  catalog.Baseline{Period: seconds(24 * 3600), Periods: 7},
			Record:    seconds(3600),
			Grace:     seconds(600),
			Rules: map[string]catalog.Rule{
				"impossible-value": {Mode: "enforce", Verdict: "deny", Points: 5},
				"minimum-interval": {Mode: "enforce", Verdict: "throttle"},
				"score-velocity":   {Mode: "shadow", Verdict: "flag", Points: 5},
				"own-history":      {Mode: "enforce", Verdict: "flag", Points: 2, Limit: 6, After: 20},
				"population":       {Mode: "enforce", Verdict: "shadow", Points: 0, Limit: 4.25, After: 1000},
				"regular-timing":   {Mode: "enforce", Verdict: "flag", Points: 5, Limit: 0.05, After: 50},
			},
		},
	}, c)
}

func TestParseTakesWhatItWrote(t *testing.T) {
	t.Parallel()
	c, err := catalog.Parse([]byte(full))
	require.NoError(t, err)
	written, err := yaml.Marshal(c)
	require.NoError(t, err)
	again, err := catalog.Parse(written)
	require.NoError(t, err)
	require.Equal(t, c, again)
	asJSON, err := yaml.YAMLToJSON(written)
	require.NoError(t, err)
	again, err = catalog.Parse(asJSON)
	require.NoError(t, err)
	require.Equal(t, c, again)
}

func TestParseExplicitZeroIsNotADefault(t *testing.T) {
	t.Parallel()
	c, err := catalog.Parse([]byte(smallest + "fairness: {grace: 0}\n"))
	require.NoError(t, err)
	require.Zero(t, c.Fairness.Grace)
	_, err = catalog.Parse([]byte(smallest + "fairness: {burst: {events: 0}}\n"))
	require.EqualError(t, err, "line 4: fairness.burst.events: must be from 1 to 1000000")
}

// update writes what is found in testdata/bad beside each file, to be read before it is committed.
var update = flag.Bool("update", false, "write the golden files")

// Each file of testdata/bad is refused with the problems beside it: all of them, with line and path, in order.
func TestParseNamesEveryMistake(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.Greater(t, len(files), 60)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			c, err := catalog.Parse(text)
			require.Nil(t, c)
			var problems *catalog.Problems
			require.ErrorAs(t, err, &problems)
			var got strings.Builder
			for _, p := range problems.List {
				got.WriteString(p.String() + "\n")
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}

func TestParseRefusesHugeFiles(t *testing.T) {
	t.Parallel()
	_, err := catalog.Parse([]byte(smallest + strings.Repeat("#", catalog.MaxSize)))
	require.ErrorContains(t, err, "at most 524288 are read")
}

func TestProblemsText(t *testing.T) {
	t.Parallel()
	_, err := catalog.Parse([]byte("name: n\nxp: {table: [1]}\n"))
	require.EqualError(t, err, "2 problems\n  version: required, 1 or more\n  line 2: xp.table[0]: must be 0: level 1 is reached with no XP")
}

func TestLoad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "catalog.yaml")
	_, err := catalog.Load(file)
	require.ErrorIs(t, err, os.ErrNotExist)

	require.NoError(t, os.WriteFile(file, []byte("version: 0\n"), 0o600))
	_, err = catalog.Load(file)
	var problems *catalog.Problems
	require.ErrorAs(t, err, &problems)
	require.ErrorContains(t, err, "catalog "+file+": 3 problems")

	require.NoError(t, os.WriteFile(file, []byte(smallest), 0o600))
	c, err := catalog.Load(file)
	require.NoError(t, err)
	require.Equal(t, "tiny", c.Name)
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "0": 0} {
		var d catalog.Duration
		require.NoError(t, d.UnmarshalText([]byte(text)))
		require.Equal(t, want, time.Duration(d))
		written, err := d.MarshalText()
		require.NoError(t, err)
		var again catalog.Duration
		require.NoError(t, again.UnmarshalText(written))
		require.Equal(t, d, again)
	}
	for _, text := range []string{"", "90", "-1s", "1 s", "soon", "9999999h"} {
		var d catalog.Duration
		require.Error(t, d.UnmarshalText([]byte(text)), text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(smallest))
	f.Add([]byte(`{"version":1,"name":"j","xp":{"generate":{"levels":3,"first":1,"percent":1}}}`))
	f.Add([]byte("a: &a [*a]\nb: <<\n? c\n: d\n- !!map {}\n"))
	f.Add([]byte("seasons:\n-\n- \nxp: {table: [~]}\n"))
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := catalog.Parse(text)
		if err != nil {
			var problems *catalog.Problems
			require.ErrorAs(t, err, &problems)
			require.NotEmpty(t, problems.List)
			require.NotEmpty(t, err.Error())
			return
		}
		require.NotEmpty(t, c.XP.Table)
		require.Zero(t, c.XP.Table[0])
		require.Equal(t, 1, c.XP.Level(0))
		written, err := yaml.Marshal(c)
		require.NoError(t, err)
		again, err := catalog.Parse(written)
		require.NoError(t, err, "%s", written)
		require.Len(t, again.Boards, len(c.Boards))
		require.Empty(t, catalog.Compare(c, again))
	})
}
