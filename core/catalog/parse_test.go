package catalog_test

import (
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
events:
  xp_gained:
    every: 2s
    fields: {amount: {min: 1, max: 500}, source: {enum: [match, quest]}}
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
  levels: {2: {items: {potion: 3}}, 5: {items: {eco-c00: 1}}}
  claim: 1h
bosses:
  dragon: {xp: 40, items: {potion: 2}, required_level: 3}
items:
  potion: {stack: 20}
  gold:
  eco-*: {}
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
		Zone:    "UTC",
		Events: map[string]catalog.EventType{
			"xp_gained": {Every: seconds(2), Fields: map[string]catalog.Field{
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
			5: {Items: map[string]int64{"eco-c00": 1}},
		}, Claim: seconds(3600)},
		Bosses: map[string]catalog.Worth{"dragon": {XP: 40, Items: map[string]int64{"potion": 2}, RequiredLevel: 3}},
		Items:  map[string]catalog.Item{"potion": {Stack: 20}, "gold": {}, "eco-*": {}},
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
		Privacy: catalog.Privacy{Grace: seconds(720 * 3600)},
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

func TestParseNamesEveryMistake(t *testing.T) {
	t.Parallel()
	const name = "a name must be 1 to 64 of A-Z a-z 0-9 _ -"
	const window = "daily, weekly, season, all_time"
	for _, test := range []struct {
		name, text string
		bare       bool // the text stands alone, not after smallest
		want       []string
	}{
		{name: "nothing", bare: true, text: "", want: []string{"the catalog is empty"}},
		{name: "only a comment", bare: true, text: "# soon\n", want: []string{"the catalog is empty"}},
		{name: "not a mapping", bare: true, text: "- 1\n", want: []string{"line 1: must be a mapping of keys to values"}},
		{name: "not YAML", bare: true, text: "version: 1\nname: [a\n", want: []string{"line 2: not YAML: sequence end token ']' not found"}},
		{name: "two documents", text: "---\nversion: 2\n", want: []string{"line 4: a second document"}},
		{name: "nothing said", bare: true, text: "items: {}\n", want: []string{"name: required", "version: required, 1 or more", "xp.table: required, unless the curve is generated"}},
		{name: "unknown keys", text: "boards:\n  b: {windows: [daily], opperator: sum}\nbord: {}\n", want: []string{
			"line 5: boards.b.opperator: unknown key", "line 6: bord: unknown key",
		}},
		{name: "repeated keys", text: "items:\n  a: {}\n  b: {}\n  a: {}\nname: other\n", want: []string{
			"line 7: items.a: written before, on line 5", "line 8: name: written before, on line 2",
		}},
		{name: "anchors and tags", text: "items: &i\n  a: {}\nbosses: *i\nseasons: !!seq []\n", want: []string{
			"line 4: items: anchors, aliases and tags are not read",
			"line 6: bosses: anchors, aliases and tags are not read",
			"line 7: seasons: anchors, aliases and tags are not read",
		}},
		{name: "merge key", text: "items:\n  a: {stack: 1}\n  b: {<<: {stack: 1}}\n", want: []string{"line 6: items.b: a key must be a plain word"}},
		{name: "wrong shapes", bare: true, text: "version: one\nname: 7\nxp: {table: 5}\nitems: [a]\nboards: {b: {windows: daily, public: yes, min: 1.5, velocity: 3}}\nrewards: {levels: {two: {}}}\n", want: []string{
			"line 1: version: must be an integer",
			"line 2: name: must be a string",
			"line 3: xp.table: must be a list",
			"line 4: items: must be a mapping of keys to values",
			"line 5: boards.b.min: must be an integer",
			"line 5: boards.b.public: must be true or false",
			"line 5: boards.b.velocity: must be a mapping of keys to values",
			"line 5: boards.b.windows: must be a list",
			"line 6: rewards.levels.two: the key must be an integer",
		}},
		{name: "integers past 64 bits", text: "items: {a: {stack: 9223372036854775808}, b: {stack: 9007199254740992}}\n", want: []string{
			"line 4: items.a.stack: must be an integer of 64 bits",
			"line 4: items.b.stack: must be from 0 to 2^53-1",
		}},
		{name: "names", text: "items: {'a b': {}, a**: {}, '*': {}, \"\": {}}\nbosses: {hägar: {}}\nevents: {'x.y': {}}\nboards: {" + strings.Repeat("b", 65) + ": {windows: [daily]}}\n", want: []string{
			"line 4: items.: an item's name must be 1 to 64 of A-Z a-z 0-9 _ -, a family's end in one *",
			"line 4: items.*: an item's name must be 1 to 64 of A-Z a-z 0-9 _ -, a family's end in one *",
			"line 4: items.a b: an item's name must be 1 to 64 of A-Z a-z 0-9 _ -, a family's end in one *",
			"line 4: items.a**: an item's name must be 1 to 64 of A-Z a-z 0-9 _ -, a family's end in one *",
			"line 5: bosses.hägar: " + name,
			"line 6: events.x.y: " + name,
			"line 7: boards." + strings.Repeat("b", 65) + ": " + name,
		}},
		{name: "built-in events", text: `events:
  xp_gained:
    xp: 5
    fields:
      amount: {type: string}
      bonus: {}
      source: {optional: true}
  boss_killed:
    fields: {boss: {min: 1}}
`, want: []string{
			"line 6: events.xp_gained.xp: only for types declared here: what xp_gained is worth follows from its data",
			"line 8: events.xp_gained.fields.amount.type: is integer in every game",
			"line 9: events.xp_gained.fields.bonus: xp_gained has the fields amount, source and no other",
			"line 10: events.xp_gained.fields.source.optional: is required in every game",
			"line 12: events.boss_killed.fields.boss: min and max are for integers",
		}},
		{name: "fields of a score", text: `events:
  score_submitted:
    fields:
      window_id: {optional: false, type: integer}
      hero: {type: string}
      clan: {type: string, length: 2000, optional: true}
      level: {length: 4, optional: true}
  reward_granted: {}
`, want: []string{
			"line 7: events.score_submitted.fields.window_id.type: is string in every game",
			"line 8: events.score_submitted.fields.hero.optional: must be true: a score is a score without it",
			"line 9: events.score_submitted.fields.clan.length: must be from 0 to 1024",
			"line 10: events.score_submitted.fields.level.length: is for strings",
			"line 11: events.reward_granted: is not sent by clients",
		}},
		{name: "declared events", text: `events:
  quest:
    xp: -1
    every: 25h
    fields:
      a: {type: float}
      b: {enum: [x]}
      c: {min: 9007199254740992, max: -9007199254740992}
      d: {type: string, enum: [x, x, ""]}
      e: {min: 2, max: 1}
      "f g": {}
  raid: {every: soon}
`, want: []string{
			"line 6: events.quest.xp: must be from 0 to 2^53-1",
			"line 7: events.quest.every: must be from 0s to 24h0m0s",
			"line 9: events.quest.fields.a.type: must be one of integer, string, boolean",
			"line 10: events.quest.fields.b.enum: is for strings",
			"line 11: events.quest.fields.c.max: must be from -(2^53-1) to 2^53-1",
			"line 11: events.quest.fields.c.min: must be from -(2^53-1) to 2^53-1",
			"line 12: events.quest.fields.d.enum[1]: named twice",
			"line 12: events.quest.fields.d.enum[2]: must not be empty",
			"line 13: events.quest.fields.e.max: must not be below min",
			"line 14: events.quest.fields.f g: " + name,
			"line 15: events.raid.every: must be a length of time such as 90s or 24h",
		}},
		{name: "curve said twice", bare: true, text: "version: 1\nname: n\nxp:\n  table: [0]\n  generate: {levels: 2, first: 1, percent: 100}\n", want: []string{
			"line 3: xp: give either table or generate",
		}},
		{name: "curve that falls", bare: true, text: "version: 1\nname: n\nxp:\n  table: [5, 5, 4, 9007199254740992]\n", want: []string{
			"line 4: xp.table[0]: level 1 is reached with 0 XP",
			"line 4: xp.table[1]: must be above the level before, up to 2^53-1",
			"line 4: xp.table[2]: must be above the level before, up to 2^53-1",
			"line 4: xp.table[3]: must be above the level before, up to 2^53-1",
		}},
		{name: "curve from bad numbers", bare: true, text: "version: 1\nname: n\nxp:\n  generate: {levels: 0, first: 0, percent: 1001}\n", want: []string{
			"line 4: xp.generate.first: must be from 1 to 2^53-1",
			"line 4: xp.generate.levels: must be from 1 to 10000",
			"line 4: xp.generate.percent: must be from 1 to 1000",
		}},
		{name: "curve that overflows", bare: true, text: "version: 1\nname: n\nxp:\n  generate: {levels: 100, first: 9007199254740990, percent: 1000}\n", want: []string{
			"line 4: xp.generate: level 3 would take more than 2^53-1 XP",
		}},
		{name: "items that are not there", text: `bosses:
  dragon: {xp: -1, required_level: 2, items: {sword: 1, eco-c00: 0, eco-*: 1, "eco-é": 1}}
rewards:
  levels:
    1: {items: {eco-c00: 1}}
    2: {items: {shield: 9007199254740992}}
items: {eco-*: {stack: -1}}
`, want: []string{
			"line 5: bosses.dragon.items.eco-*: no such item",
			"line 5: bosses.dragon.items.eco-c00: must be from 1 to 2^53-1",
			"line 5: bosses.dragon.items.eco-é: no such item",
			"line 5: bosses.dragon.items.sword: no such item",
			"line 5: bosses.dragon.required_level: must be from 0 to 1",
			"line 5: bosses.dragon.xp: must be from 0 to 2^53-1",
			"line 8: rewards.levels.1: no level that can be reached: the curve has levels 1 to 1 and everybody starts at 1",
			"line 9: rewards.levels.2: no level that can be reached: the curve has levels 1 to 1 and everybody starts at 1",
			"line 9: rewards.levels.2.items.shield: must be from 1 to 2^53-1",
			"line 10: items.eco-*.stack: must be from 0 to 2^53-1",
		}},
		{name: "boards", text: `boards:
  a:
    operator: worst
    order: up
    zone: Mars/Olympus
    windows: [daily, hourly, daily, season]
    min: 2
    max: 1
    velocity: {per_10s: -1}
  b: {zone: Local}
  c: {zone: UTC, windows: []}
`, want: []string{
			"line 6: boards.a.operator: must be one of best, latest, sum",
			"line 7: boards.a.order: must be one of desc, asc",
			"line 8: boards.a.zone: no such time zone; use a name like Europe/Berlin",
			"line 9: boards.a.windows: season needs seasons, and the catalog has none",
			"line 9: boards.a.windows[1]: must be one of " + window,
			"line 9: boards.a.windows[2]: named twice",
			"line 11: boards.a.max: must not be below min",
			"line 12: boards.a.velocity.per_10s: must be from 0 to 2^53-1",
			"line 13: boards.b.windows: required, at least one of " + window,
			"line 13: boards.b.zone: no such time zone; use a name like Europe/Berlin",
			"line 14: boards.c.windows: required, at least one of " + window,
		}},
		{name: "boards from boards", text: `boards:
  a: {windows: [daily]}
  b: {windows: [daily], from: a}
  c: {windows: [daily], from: b}
  d: {windows: [daily], from: d}
  e: {windows: [daily], from: z}
  f: {windows: [daily], from: a, max: 5}
`, want: []string{
			"line 7: boards.c.from: must be a board that scores are submitted to",
			"line 8: boards.d.from: must be a board that scores are submitted to",
			"line 9: boards.e.from: no such board",
			"line 10: boards.f: min, max and velocity belong to the board the scores are submitted to",
		}},
		{name: "what boards tell, keep and bring", text: `events:
  score_submitted:
    fields:
      long: {type: string, optional: true}
      hero: {type: string, enum: [` + strings.Repeat("h", 65) + `], optional: true}
      level: {optional: true}
boards:
  a:
    windows: [daily, all_time]
    metadata: {"a b": x, long: ` + strings.Repeat("x", 257) + `}
    entry: [long, hero, level, score, nothing, level]
    size: 99
    age: 2m
    hall_of_fame: 1001
    retention: 900000h
    rewards:
      all_time: [{rank: 1, xp: 1}]
      weekly: []
      daily: [{}, {rank: 1, percent: 1, xp: 1}, {percent: 101, xp: -1}, {rank: -1, items: {sword: 1}}]
rewards: {claim: 1s}
`, want: []string{
			"line 13: boards.a.metadata.a b: " + name,
			"line 13: boards.a.metadata.long: at most 256 characters",
			"line 14: boards.a.entry: at most 4 fields",
			"line 14: boards.a.entry[0]: must be small: give the field an enum or a length, of at most 64 characters",
			"line 14: boards.a.entry[1]: must be small: give the field an enum or a length, of at most 64 characters",
			"line 14: boards.a.entry[3]: must be a further field of score_submitted, declared under events",
			"line 14: boards.a.entry[4]: must be a further field of score_submitted, declared under events",
			"line 14: boards.a.entry[5]: named twice",
			"line 15: boards.a.size: must be from 100 to 10000000",
			"line 16: boards.a.age: must be from 0s to 1m0s",
			"line 17: boards.a.hall_of_fame: must be from 0 to 1000",
			"line 18: boards.a.retention: must be from 0s to 876000h0m0s",
			"line 20: boards.a.rewards.all_time: must be a cadence of the board whose windows end",
			"line 21: boards.a.rewards.weekly: must be a cadence of the board whose windows end",
			"line 22: boards.a.rewards.daily[0]: give either rank or percent",
			"line 22: boards.a.rewards.daily[1]: give either rank or percent",
			"line 22: boards.a.rewards.daily[2].percent: must be from 1 to 100",
			"line 22: boards.a.rewards.daily[2].xp: must be from 0 to 2^53-1",
			"line 22: boards.a.rewards.daily[3].items.sword: no such item",
			"line 22: boards.a.rewards.daily[3].rank: must be from 1 to 2^53-1",
			"line 23: rewards.claim: must be from 1m0s to 876000h0m0s",
		}},
		{name: "seasons", text: `seasons:
  - {id: s02, starts: 2026-01-01, ends: 2026-04-01}
  - {id: s01, starts: 2026-03-31T23:59, ends: 2026-03-31}
  - {id: s03, starts: tomorrow, ends: 2026-13-01}
  - {id: 2026-x, starts: 2027-01-01, ends: 2027-02-01}
  - {id: weekly, starts: 2028-01-01, ends: 2028-02-01}
  - {starts: 2029-01-01}
`, want: []string{
			"line 6: seasons[1].ends: must be after starts",
			`line 6: seasons[1].id: must sort after "s02": ids sort as the seasons follow each other`,
			"line 6: seasons[1].starts: before the end of s02: seasons stand in order and do not overlap",
			"line 7: seasons[2].ends: must be like 2026-11-22 or 2026-11-22T18:00",
			"line 7: seasons[2].starts: must be like 2026-11-22 or 2026-11-22T18:00",
			"line 8: seasons[3].id: would be taken for another window: start with a letter, and do not use " + window,
			"line 9: seasons[4].id: would be taken for another window: start with a letter, and do not use " + window,
			"line 10: seasons[5].ends: must be like 2026-11-22 or 2026-11-22T18:00",
			"line 10: seasons[5].id: " + name,
		}},
		{name: "fairness", text: `fairness:
  burst: {events: 1000001, per: 10ms}
  sustained: {events: 2000, per: 1ms}
  block: 10
  grace: -5m
  rules:
    score-velocity: {mode: on, verdict: ban}
    impossible-value: {verdict: throttle, limit: 2}
    luck: {}
    population: {limit: far}
    own-history: {verdict: deny, limit: 0, after: 9, points: -1}
  keys: {a.b: {per: 1s}}
  escalation: {factor: 0, most: 1s, throttles: -1, within: 0}
  suspicion: {case: 0, half_life: 1s}
  baseline: {period: 1s, periods: 0}
  shadow: 1s
  record: 10000h
`, want: []string{
			"line 5: fairness.burst: at most one event a microsecond",
			"line 5: fairness.burst.events: must be from 1 to 1000000",
			"line 6: fairness.sustained: at most one event a microsecond",
			"line 7: fairness.block: must be a length of time such as 90s or 24h",
			"line 8: fairness.grace: must be a length of time such as 90s or 24h",
			"line 10: fairness.rules.score-velocity.mode: must be one of enforce, shadow, off",
			"line 10: fairness.rules.score-velocity.verdict: must be one of deny, flag",
			"line 11: fairness.rules.impossible-value: limit and after are for statistics; this rule's limits stand with the events and boards",
			"line 11: fairness.rules.impossible-value.verdict: must be one of deny",
			"line 12: fairness.rules.luck: no such rule; there are impossible-value, minimum-interval, own-history, population, regular-timing, score-velocity",
			"line 13: fairness.rules.population.limit: must be a number",
			"line 14: fairness.rules.own-history.after: must be from 10 to 1000000",
			"line 14: fairness.rules.own-history.limit: must be above 0, up to 1000",
			"line 14: fairness.rules.own-history.points: must be from 0 to 1000",
			"line 14: fairness.rules.own-history.verdict: must be one of flag, shadow",
			"line 15: fairness.keys.a.b: " + name,
			"line 15: fairness.keys.a.b.events: must be from 1 to 1000000",
			"line 16: fairness.escalation.factor: must be from 1 to 100",
			"line 16: fairness.escalation.most: must be from 10m0s to 8760h0m0s",
			"line 16: fairness.escalation.throttles: must be from 0 to 1000000",
			"line 16: fairness.escalation.within: must be from 1s to 24h0m0s",
			"line 17: fairness.suspicion.case: must be from 1 to 1000000",
			"line 17: fairness.suspicion.half_life: must be from 1m0s to 8760h0m0s",
			"line 18: fairness.baseline.period: must be from 1m0s to 168h0m0s",
			"line 18: fairness.baseline.periods: must be from 1 to 100",
			"line 19: fairness.shadow: must be from 1m0s to 8760h0m0s",
			"line 20: fairness.record: must be from 0s to 8760h0m0s",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := test.text
			if !test.bare {
				text = smallest + text
			}
			c, err := catalog.Parse([]byte(text))
			require.Nil(t, c)
			var problems *catalog.Problems
			require.ErrorAs(t, err, &problems)
			var got []string
			for _, p := range problems.List {
				got = append(got, p.String())
			}
			require.Equal(t, test.want, got)
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
	require.EqualError(t, err, "2 problems\n  version: required, 1 or more\n  line 2: xp.table[0]: level 1 is reached with 0 XP")
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
		require.NoError(t, err)
		require.Len(t, again.Boards, len(c.Boards))
	})
}
