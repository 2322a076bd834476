package fairness

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// game is a catalog with a limit of every kind.
func game() *catalog.Catalog {
	return &catalog.Catalog{
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

func TestImpossibleValue(t *testing.T) {
	t.Parallel()
	type broken struct {
		measure         string
		limit, observed int64
		text            string
	}
	for name, test := range map[string]struct {
		kind string
		data map[string]any
		want []broken
	}{
		"at the lower bound":    {event.XPGained, map[string]any{"amount": 1.0, "source": "match"}, nil},
		"below the lower bound": {event.XPGained, map[string]any{"amount": 0.0, "source": "match"}, []broken{{"/data/amount", 1, 0, ""}}},
		"at the upper bound":    {event.XPGained, map[string]any{"amount": 500.0, "source": "quest"}, nil},
		"above the upper bound": {event.XPGained, map[string]any{"amount": 501.0, "source": "quest"}, []broken{{"/data/amount", 500, 501, ""}}},
		"not one of the words":  {event.XPGained, map[string]any{"amount": 5.0, "source": "Match"}, []broken{{"/data/source", 0, 0, "Match"}}},
		"two at once, in order": {event.XPGained, map[string]any{"amount": 501.0, "source": ""}, []broken{{"/data/amount", 500, 501, ""}, {"/data/source", 0, 0, ""}}},
		"absent":                {event.XPGained, map[string]any{}, nil},
		"another form":          {event.XPGained, map[string]any{"amount": "501", "source": 7.0}, nil},
		"board at its bound":    {event.ScoreSubmitted, map[string]any{"board": "arena", "score": 1000.0}, nil},
		"board over its bound":  {event.ScoreSubmitted, map[string]any{"board": "arena", "score": 1001.0}, []broken{{"/data/score", 1000, 1001, ""}}},
		"field below its bound": {event.ScoreSubmitted, map[string]any{"board": "free", "score": -11.0}, []broken{{"/data/score", -10, -11, ""}}},
		"board without bounds":  {event.ScoreSubmitted, map[string]any{"board": "free", "score": 9e15}, nil},
		"unknown board":         {event.ScoreSubmitted, map[string]any{"board": "none", "score": 1001.0}, nil},
		"unknown type":          {"none", map[string]any{"amount": 501.0}, nil},
		"no bounds":             {"chat", map[string]any{"loud": true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []broken
			for _, l := range impossibleValue(happened("p", "e", test.kind, noon(), test.data), game()) {
				require.Equal(t, byKnown, l.by)
				got = append(got, broken{l.measure, l.limit, l.observed, l.text})
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestMinimumIntervalAsksOnlyWhereThereIsOne(t *testing.T) {
	t.Parallel()
	require.Equal(t, []limit{{by: byGap, of: event.XPGained, measure: "interval_ms", limit: 2000}}, minimumInterval(xp("e", noon(), 1), game()))
	require.Empty(t, minimumInterval(score("e", noon(), "arena", 1), game()))
	require.Empty(t, minimumInterval(happened("p", "e", "none", noon(), nil), game()))
}

func TestScoreVelocityAsksForEveryWindowThatIsLimited(t *testing.T) {
	t.Parallel()
	require.Equal(t, []limit{
		{by: byPoints, of: "arena", points: 7, window: 10 * time.Second, measure: "points", limit: 100},
		{by: byPoints, of: "arena", points: 7, window: time.Minute, measure: "points", limit: 300},
		{by: byPoints, of: "arena", points: 7, window: time.Hour, measure: "points", limit: 2000},
	}, scoreVelocity(score("e", noon(), "arena", 7), game()))
	require.Equal(t, []limit{{by: byPoints, of: "slow", window: time.Hour, measure: "points", limit: 10}},
		scoreVelocity(score("e", noon(), "slow", -7), game()), "a loss makes no room")
	require.Empty(t, scoreVelocity(score("e", noon(), "free", 7), game()))
	require.Empty(t, scoreVelocity(score("e", noon(), "none", 7), game()))
	require.Empty(t, scoreVelocity(xp("e", noon(), 7), game()))
}

func TestModesAndVerdictsComeFromTheCatalog(t *testing.T) {
	t.Parallel()
	c := game()
	asked := func() map[string][2]string {
		got := map[string][2]string{}
		for _, e := range []event.Accepted{xp("e", noon(), 501), score("f", noon(), "arena", 1)} {
			_, findings := ask(e, c)
			for _, f := range findings {
				require.Equal(t, 1, f.Version)
				got[f.Rule] = [2]string{f.Mode, string(f.Verdict)}
			}
		}
		return got
	}
	require.Equal(t, map[string][2]string{
		"impossible-value": {"enforce", "deny"}, "minimum-interval": {"enforce", "throttle"}, "score-velocity": {"enforce", "deny"},
	}, asked(), "what the catalog does not say")
	c.Fairness.Rules = map[string]catalog.Rule{
		"impossible-value": {Mode: "shadow"}, "minimum-interval": {Mode: "off"}, "score-velocity": {Mode: "enforce", Verdict: "flag"},
	}
	require.Equal(t, map[string][2]string{"impossible-value": {"shadow", "deny"}, "score-velocity": {"enforce", "flag"}}, asked())
}

func TestStrongestEnforcedWins(t *testing.T) {
	t.Parallel()
	finding := func(rule fault.Code, mode string, v Verdict) Finding {
		return Finding{Rule: string(rule), Version: 3, Mode: mode, Verdict: v}
	}
	for name, test := range map[string]struct {
		findings []Finding
		verdict  Verdict
		rule     fault.Code
		mode     string
	}{
		"nothing":              {nil, Allow, "", ""},
		"one":                  {[]Finding{finding("a", "enforce", Throttle)}, Throttle, "a", "enforce"},
		"flag":                 {[]Finding{finding("a", "enforce", Flag)}, Flag, "a", "enforce"},
		"strongest":            {[]Finding{finding("a", "enforce", Throttle), finding("b", "enforce", Deny), finding("c", "enforce", Flag)}, Deny, "b", "enforce"},
		"first of equals":      {[]Finding{finding("a", "enforce", Deny), finding("b", "enforce", Deny)}, Deny, "a", "enforce"},
		"shadow acts not":      {[]Finding{finding("a", "shadow", Deny)}, Allow, "a", "shadow"},
		"enforced over shadow": {[]Finding{finding("a", "shadow", Deny), finding("b", "enforce", Flag)}, Flag, "b", "enforce"},
		"stronger shadow":      {[]Finding{finding("a", "shadow", Throttle), finding("b", "shadow", Deny)}, Allow, "b", "shadow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decide(event.Event{ID: "e", PlayerID: "p"}, test.findings, noon())
			require.Equal(t, test.verdict, d.Verdict)
			require.Equal(t, test.verdict == Throttle || test.verdict == Deny, d.Drops())
			require.Equal(t, string(test.rule), d.Rule)
			require.Equal(t, test.rule, d.Code)
			require.Equal(t, test.mode, d.Mode)
			require.Len(t, d.Evidence, len(test.findings))
			require.Len(t, d.ID, 32)
			require.Equal(t, noon(), d.At)
		})
	}
	one := decide(event.Event{ID: "e", PlayerID: "p"}, nil, noon())
	require.Equal(t, one.ID, decide(event.Event{ID: "e", PlayerID: "p"}, nil, noon().Add(1)).ID)
	require.NotEqual(t, one.ID, decide(event.Event{ID: "e", PlayerID: "q"}, nil, noon()).ID)
}
