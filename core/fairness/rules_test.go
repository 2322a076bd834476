package fairness

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// game is a catalog with a limit of every kind.
func game() *catalog.Catalog {
	return &catalog.Catalog{
		Version: 7,
		Fairness: catalog.Fairness{
			Rules: catalog.Rules(), Baseline: catalog.Baseline{Period: catalog.Duration(24 * time.Hour), Periods: 3},
		},
		Events: map[string]catalog.EventType{
			event.XPGained: {Every: catalog.Duration(2 * time.Second), Fields: map[string]catalog.Field{
				"amount": {Type: "integer", Min: new(int64(1)), Max: new(int64(500))},
				"source": {Type: "string", Enum: []string{"match", "quest"}},
			}},
			event.ScoreSubmitted: {Fields: map[string]catalog.Field{"board": {Type: "string"}, "score": {Type: "integer", Min: new(int64(-10))}}},
			event.BossKilled:     {Every: catalog.Duration(20 * time.Second)},
			"chat":               {Fields: map[string]catalog.Field{"loud": {Type: "boolean"}}},
		},
		Boards: map[string]catalog.Board{
			"arena": {Max: new(int64(1000)), Velocity: catalog.Velocity{Per10s: 100, Per60s: 300, Per1h: 2000}},
			"slow":  {Velocity: catalog.Velocity{Per1h: 10}},
			"free":  {},
		},
	}
}

func happened(player, id, kind string, at time.Time, data map[string]any) event.Accepted {
	return event.Accepted{Event: event.Event{ID: id, Type: kind, PlayerID: player, OccurredAt: at, Data: data}, At: at, ReceivedAt: at}
}

func xp(id string, at time.Time, amount float64) event.Accepted {
	return happened("p", id, event.XPGained, at, map[string]any{"amount": amount, "source": "match"})
}

func score(id string, at time.Time, board string, points float64) event.Accepted {
	return happened("p", id, event.ScoreSubmitted, at, map[string]any{"board": board, "score": points})
}

// judged asks one rule about an event of a player who is known by f, as the catalog sets the rule.
func judged(r rule, e event.Accepted, f *features, everybody crowd, c *catalog.Catalog) []Finding {
	v := view{
		Accepted: &e, measure: measureOf(&e, c), game: c, rule: c.Fairness.Rules[string(r.code)], known: f, crowd: everybody,
		period: e.At.Unix() / 60 / 1440 * 1440,
	}
	return r.judge(&v)
}

func TestImpossibleValue(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind string
		data map[string]any
		want []Finding
	}{
		"at the lower bound":    {event.XPGained, map[string]any{"amount": 1.0, "source": "match"}, nil},
		"below the lower bound": {event.XPGained, map[string]any{"amount": 0.0, "source": "match"}, []Finding{{Measure: "/data/amount", Limit: 1}}},
		"at the upper bound":    {event.XPGained, map[string]any{"amount": 500.0, "source": "quest"}, nil},
		"above the upper bound": {event.XPGained, map[string]any{"amount": 501.0, "source": "quest"}, []Finding{{Measure: "/data/amount", Limit: 500, Observed: 501}}},
		"not one of the words":  {event.XPGained, map[string]any{"amount": 5.0, "source": "Match"}, []Finding{{Measure: "/data/source", Text: "Match"}}},
		"two at once, in order": {event.XPGained, map[string]any{"amount": 501.0, "source": ""}, []Finding{{Measure: "/data/amount", Limit: 500, Observed: 501}, {Measure: "/data/source"}}},
		"a word cut in a rune":  {event.XPGained, map[string]any{"amount": 1.0, "source": strings.Repeat("x", 63) + "é"}, []Finding{{Measure: "/data/source", Text: strings.Repeat("x", 63)}}},
		"absent":                {event.XPGained, map[string]any{}, nil},
		"another form":          {event.XPGained, map[string]any{"amount": "501", "source": 7.0}, nil},
		"board at its bound":    {event.ScoreSubmitted, map[string]any{"board": "arena", "score": 1000.0}, nil},
		"board over its bound":  {event.ScoreSubmitted, map[string]any{"board": "arena", "score": 1001.0}, []Finding{{Measure: "/data/score", Limit: 1000, Observed: 1001}}},
		"field below its bound": {event.ScoreSubmitted, map[string]any{"board": "free", "score": -11.0}, []Finding{{Measure: "/data/score", Limit: -10, Observed: -11}}},
		"board without bounds":  {event.ScoreSubmitted, map[string]any{"board": "free", "score": 9e15}, nil},
		"unknown board":         {event.ScoreSubmitted, map[string]any{"board": "none", "score": 1001.0}, nil},
		"unknown type":          {"none", map[string]any{"amount": 501.0}, nil},
		"no bounds":             {"chat", map[string]any{"loud": true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, judged(impossibleValue(), happened("p", "e", test.kind, noon(), test.data), &features{}, crowd{}, game()))
		})
	}
}

func TestOwnHistory(t *testing.T) {
	t.Parallel()
	scores := func(n int, of func(i int) float64) *features {
		f := &features{}
		for i := range n {
			s := f.of(subject{true, "free"})
			s.habit = s.habit.with(scale(int64(of(i))))
		}
		return f
	}
	around1500 := func(i int) float64 { return 1500 + float64(i%7-3)*30 }
	for name, test := range map[string]struct {
		known *features
		score float64
		found bool
	}{
		"far above":                   {scores(20, around1500), 2200, true},
		"too little known":            {scores(19, around1500), 2200, false},
		"a good day":                  {scores(20, around1500), 1700, false},
		"far below":                   {scores(20, around1500), 100, false},
		"always the same, a bit more": {scores(20, func(int) float64 { return 10 }), 15, false},
		"always the same, a lot more": {scores(20, func(int) float64 { return 10 }), 40, true},
		"a first win after losses":    {scores(30, func(int) float64 { return 0 }), 2, false},
		"another board":               {&features{}, 2200, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := judged(ownHistory(), score("e", noon(), "free", test.score), test.known, crowd{}, game())
			require.Len(t, found, map[bool]int{true: 1}[test.found])
			for _, f := range found {
				require.Greater(t, f.Observed, f.Limit)
				require.Equal(t, int64(20), f.Baseline)
				require.NotEmpty(t, f.Text)
			}
		})
	}
	f := scores(20, around1500)
	require.Equal(t, "score 2200, usually 1494", judged(ownHistory(), score("e", noon(), "free", 2200), f, crowd{}, game())[0].Text)
	s := f.of(subject{true, "free"})
	for range 5 {
		s.habit = s.habit.with(scale(1e9))
	}
	require.NotEmpty(t, judged(ownHistory(), score("e", noon(), "free", 1e9), f, crowd{}, game()), "a cheat does not make the next look normal")

	c := game()
	c.Boards["free"] = catalog.Board{Order: "asc"}
	f = &features{}
	for i := range 20 {
		s := f.of(subject{true, "free"})
		s.habit = s.habit.with(-scale(int64(60_000 + i*500)))
	}
	require.Empty(t, judged(ownHistory(), score("e", noon(), "free", 200_000), f, crowd{}, c), "slow")
	found := judged(ownHistory(), score("e", noon(), "free", 20_000), f, crowd{}, c)
	require.Len(t, found, 1, "where less is better, less is suspicious")
	require.Contains(t, found[0].Text, "score 20000, usually 64")
}

func TestPopulation(t *testing.T) {
	t.Parallel()
	spread := Histogram{}
	for i := range 1000 {
		spread[binOf(scale(int64(1000+i)))]++
	}
	alike := Histogram{binOf(scale(7)): 19_990, binOf(scale(9)): 9, binOf(scale(30)): 1}
	poisoned := Histogram{}
	poisoned.add(spread)
	poisoned[binOf(scale(1e15))] = 10
	for name, test := range map[string]struct {
		crowd Histogram
		score float64
		want  string
	}{
		"in the middle":                 {spread, 1500, ""},
		"the best of them":              {spread, 2000, ""},
		"far above":                     {spread, 8000, "deviations_from_population"},
		"far below":                     {spread, 1, ""},
		"a few accounts change nothing": {poisoned, 8000, "deviations_from_population"},
		"too few":                       {Histogram{1: 199}, 1e9, ""},
		"all alike, like them":          {alike, 7, ""},
		"all alike, as the best":        {alike, 9, ""},
		"all alike, and beyond":         {alike, 10, "beyond_9999_of_10000"},
		"alike, but not many":           {Histogram{binOf(scale(7)): 9_000}, 1e9, ""},
		"nobody":                        {Histogram{}, 1e9, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := judged(population(), score("e", noon(), "free", test.score), &features{}, test.crowd.crowd(), game())
			if test.want == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			require.Equal(t, test.want, found[0].Measure)
			require.Greater(t, found[0].Observed, found[0].Limit)
		})
	}
	found := judged(population(), score("e", noon(), "free", 8000), &features{}, spread.crowd(), game())
	require.Equal(t, "8000, the median is 1502", found[0].Text)
	require.Equal(t, int64(1000), found[0].Baseline)

	told := &features{}
	s := told.of(subject{true, "free"})
	s.told, s.toldAt = noon().Unix()/60/1440*1440, float32(scale(8000))
	require.Empty(t, judged(population(), score("e", noon(), "free", 8000), told, spread.crowd(), game()), "once in a period")
	require.NotEmpty(t, judged(population(), score("e", noon(), "free", 9000), told, spread.crowd(), game()), "and when further away")
	require.NotEmpty(t, judged(population(), score("e", noon().Add(24*time.Hour), "free", 8000), told, spread.crowd(), game()), "and in the next")
	require.NotEmpty(t, judged(population(), xp("e", noon(), 8000), &features{}, spread.crowd(), game()), "gained XP is compared too")
}

// The median of a crowd is the one of its votes, but for the width of a bin; so is the median distance.
func TestCrowd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		votes := rapid.SliceOfN(rapid.Float64Range(-36, 36), 1, 200).Draw(r, "votes")
		h := Histogram{}
		for _, x := range votes {
			h[binOf(x)]++
		}
		got := h.crowd()
		median := func(of []float64) float64 { slices.Sort(of); return of[(len(of)-1)/2] }
		want := median(slices.Clone(votes))
		distances := make([]float64, len(votes))
		for i, x := range votes {
			distances[i] = math.Abs(x - got.median)
		}
		require.Equal(r, int64(len(votes)), got.size)
		require.InDelta(r, want, got.median, binWidth)
		require.InDelta(r, median(distances), got.away, binWidth)
		require.True(r, math.IsInf(got.most, 1), "200 votes say nothing of 1 in 10,000")
	})
}

func TestRegularTiming(t *testing.T) {
	t.Parallel()
	play := func(n int, interval func(i int) float64) int {
		f, at, flags := &features{}, noon(), 0
		c := game()
		p := policyOf(c)
		for i := range n {
			at = at.Add(time.Duration(interval(i)*1000) * time.Millisecond)
			e := happened("p", fmt.Sprint(i), "chat", at, nil)
			flags += len(judged(regularTiming(), e, f, crowd{}, c))
			f.count(&view{Accepted: &e, measure: measureOf(&e, c), game: c, known: f}, p, nil)
		}
		return flags
	}
	random := rand.New(rand.NewPCG(1, 2))
	for name, test := range map[string]struct {
		n        int
		interval func(i int) float64
		want     int
	}{
		"a machine":              {51, func(int) float64 { return 30 }, 1},
		"one short":              {50, func(int) float64 { return 30 }, 0},
		"looked at every 50":     {301, func(int) float64 { return 30 }, 6},
		"a jitter of 1 %":        {51, func(int) float64 { return 30 + .6*random.Float64() - .3 }, 1},
		"a machine that rests":   {60, func(i int) float64 { return 30 + 5000*float64((i+1)/9-i/9) }, 1},
		"a human":                {501, func(int) float64 { return 30 * math.Exp(random.NormFloat64()*.5) }, 0},
		"a steady human":         {501, func(int) float64 { return 30 + 3*random.NormFloat64() }, 0},
		"everything at one time": {200, func(int) float64 { return 0 }, 0},
	} {
		require.Equal(t, test.want, play(test.n, test.interval), name)
	}
}

func TestModesAndVerdictsComeFromTheCatalog(t *testing.T) {
	t.Parallel()
	c := game()
	asked := func() map[string][2]string {
		got := map[string][2]string{}
		p := policyOf(c)
		f := &features{}
		f.of(subject{name: event.XPGained}).happened(noon().UnixMilli(), 1000)
		for _, v := range p.views([]event.Accepted{xp("e", noon(), 501), score("f", noon(), "arena", 1000)}) {
			v.known = f
			for _, found := range p.judge(v) {
				require.Positive(t, found.Version)
				require.Equal(t, c.Fairness.Rules[found.Rule].Points, found.Points)
				got[found.Rule] = [2]string{found.Mode, string(found.Verdict)}
			}
		}
		return got
	}
	require.Equal(t, map[string][2]string{
		"impossible-value": {"enforce", "deny"}, "minimum-interval": {"enforce", "throttle"}, "score-velocity": {"enforce", "deny"},
	}, asked(), "what the catalog does not say")
	c.Fairness.Rules = map[string]catalog.Rule{
		"impossible-value": {Mode: "shadow", Verdict: "deny"}, "minimum-interval": {Mode: "off"},
		"score-velocity": {Mode: "enforce", Verdict: "flag", Points: 4}, "own-history": {Mode: "off"}, "population": {Mode: "off"}, "regular-timing": {Mode: "off"},
	}
	require.Equal(t, map[string][2]string{"impossible-value": {"shadow", "deny"}, "score-velocity": {"enforce", "flag"}}, asked())
}

// Every rule has its settings in the catalog, and every setting its rule.
func TestEveryRuleHasSettings(t *testing.T) {
	t.Parallel()
	settings := catalog.Rules()
	for _, r := range rules() {
		require.Contains(t, settings, string(r.code))
		delete(settings, string(r.code))
	}
	require.Empty(t, settings)
}

// The strongest finding that is enforced decides, and findings in shadow mode never do: taking them away changes no verdict.
func TestOnlyHardRulesDrop(t *testing.T) {
	t.Parallel()
	require.Equal(t, []fault.Code{fault.ImpossibleValue, fault.MinimumInterval, fault.ScoreVelocity}, Dropping())
}

func TestLattice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		findings := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) Finding {
			return Finding{
				Rule: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "rule"), Version: 3,
				Mode:    rapid.SampledFrom([]string{"enforce", "shadow"}).Draw(r, "mode"),
				Verdict: rapid.SampledFrom([]Verdict{Flag, Shadow, Throttle, Deny}).Draw(r, "verdict"),
			}
		}), 0, maxEvidence).Draw(r, "findings")
		want := Allow
		var enforced []Finding
		for _, f := range findings {
			if f.Mode == "enforce" {
				enforced = append(enforced, f)
				if f.Verdict.strength() > want.strength() {
					want = f.Verdict
				}
			}
		}
		e := event.Event{ID: "e", PlayerID: "p"}
		d := decide(e, slices.Clone(findings), noon())
		require.Equal(r, want, d.Verdict)
		require.Equal(r, want == Throttle || want == Deny, d.Drops())
		require.Equal(r, d.Verdict, decide(e, enforced, noon()).Verdict)
		require.ElementsMatch(r, findings, d.Evidence)
		if len(findings) > 0 {
			require.Equal(r, d.Evidence[0].Rule, d.Rule)
			require.Equal(r, fault.Code(d.Rule), d.Code)
			require.Equal(r, noon(), d.At)
		}
		reversed := slices.Clone(findings)
		slices.Reverse(reversed)
		require.Equal(r, d.Verdict, decide(e, reversed, noon()).Verdict)
	})
	one := decide(event.Event{ID: "e", PlayerID: "p"}, nil, noon())
	require.Len(t, one.ID, 32)
	require.NotEqual(t, one.ID, decide(event.Event{ID: "e", PlayerID: "q"}, nil, noon()).ID)
}
