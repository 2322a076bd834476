package simulate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/local/simulate"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// policy is a catalog with some rules as they are said.
func policy(t testing.TB, rules string) simulate.Policy {
	t.Helper()
	game, err := catalog.Parse([]byte(`{version: 1, name: game, xp: {table: [0]}, boards: {points: {windows: [all_time]}}, fairness: {block: 60s, rules: {` + rules + `}}}`))
	require.NoError(t, err)
	return simulate.Policy{Name: rules, Game: game}
}

// score is an event of a player, so many seconds after noon.
func score(player string, second int, points int) event.Accepted {
	at := noon.Add(time.Duration(second) * time.Second)
	return simulate.Accept(event.Event{
		ID: fmt.Sprintf("%s-%d", player, second), Type: event.ScoreSubmitted, PlayerID: player, OccurredAt: at,
		Data: map[string]any{"board": "points", "score": float64(points)},
	})
}

func source(events ...event.Accepted) simulate.Source {
	return func(_ context.Context, fn func(event.Accepted) error) error {
		for _, e := range events {
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// thumb is a judge who looks at the score only: what is above the limit of a rule breaks it, of regular-timing what is below.
type thumb struct {
	game    *catalog.Catalog
	now     func() time.Time
	batches *[]batch
}

type batch struct {
	at     time.Time
	events []string
}

func (j thumb) Judge(_ context.Context, events []event.Accepted) ([]fairness.Decision, error) {
	var decisions []fairness.Decision
	seen := batch{at: j.now()}
	for _, e := range events {
		seen.events = append(seen.events, e.ID)
		d := fairness.Decision{ID: "d-" + e.ID, PlayerID: e.PlayerID, EventID: e.ID, Verdict: fairness.Allow, At: j.now()}
		points, _ := e.Int("score")
		observed := float64(points)
		for _, name := range slices.Sorted(maps.Keys(j.game.Fairness.Rules)) {
			rule := j.game.Fairness.Rules[name]
			limit := rule.Limit
			if name == string(fault.ScoreVelocity) {
				limit = 1000
			}
			broken := observed >= limit
			if name == string(fault.RegularTiming) {
				broken = observed < limit
			}
			if rule.Mode == "off" || limit == 0 || !broken {
				continue
			}
			f := fairness.Finding{
				Rule: name, Mode: rule.Mode, Verdict: fairness.Verdict(rule.Verdict), Points: rule.Points, Measure: "score", Limit: limit, Observed: observed,
			}
			d.Evidence = append(d.Evidence, f)
			if f.Mode == "enforce" && (d.Verdict == fairness.Allow || f.Verdict == fairness.Deny) {
				d.Verdict, d.Rule = f.Verdict, f.Rule
			}
		}
		decisions = append(decisions, d)
	}
	if j.batches != nil {
		*j.batches = append(*j.batches, seen)
	}
	return decisions, nil
}

func byThumb(game *catalog.Catalog, now func() time.Time) simulate.Judge {
	return thumb{game: game, now: now}
}

const quiet = "regular-timing: {mode: off}, "

func TestCandidateAgainstCurrent(t *testing.T) {
	t.Parallel()
	s := simulate.Simulation{
		Current:   policy(t, quiet+"own-history: {limit: 10}, population: {limit: 200, mode: shadow}"),
		Candidate: policy(t, quiet+"own-history: {limit: 20}, population: {limit: 90}, score-velocity: {verdict: flag}"),
		Ladder:    byThumb, Examples: 2,
		Labels: map[string]string{"ann": "speed", "bob": "macro", "eve": "speed", "absent": "ramp"},
	}
	report, err := s.Run(t.Context(), source(
		score("ann", 0, 100), score("bob", 1, 15), score("cid", 2, 15), score("dan", 3, 30), score("eve", 4, 5), score("fay", 5, 6),
		score("ann", 6, 2000), score("ann", 20, 5), score("ann", 100, 50),
	))
	require.NoError(t, err)
	require.Equal(t, 9, report.Events)
	require.Equal(t, 6, report.Players)
	require.Equal(t, noon, report.From)
	require.Equal(t, noon.Add(100*time.Second), report.To)
	require.Equal(t, map[string]int{"speed": 2, "macro": 1}, report.Cheats)

	now, then := report.Current, report.Candidate
	count := func(events, players int) simulate.Count { return simulate.Count{Events: events, Players: players} }
	require.Equal(t, []simulate.Count{count(2, 2), count(5, 4), count(0, 0), count(0, 0), count(1, 1), count(1, 1), count(1, 1)},
		[]simulate.Count{now.Allowed, now.Flagged, now.Shadowed, now.Throttled, now.Denied, now.Refused, now.Blocks})
	require.Equal(t, []simulate.Count{count(5, 5), count(4, 2), count(0, 0), count(0, 0), count(0, 0), count(0, 0), count(0, 0)},
		[]simulate.Count{then.Allowed, then.Flagged, then.Shadowed, then.Throttled, then.Denied, then.Refused, then.Blocks})

	rules := map[string]simulate.Rule{}
	for _, r := range report.Rules {
		rules[r.Rule] = r
	}
	require.Len(t, rules, 6)
	own := rules["own-history"]
	require.Equal(t, []string{}, own.New)
	require.Equal(t, []string{"bob", "cid"}, own.Gone)
	require.Equal(t, 6, own.Current.Flagged)
	require.Equal(t, 4, own.Current.Players)
	require.Equal(t, 4, own.Candidate.Flagged)
	require.Len(t, own.Examples, 2)
	require.Equal(t, "gone", own.Examples[0].Change)
	require.Equal(t, "bob-1", own.Examples[0].EventID)
	require.Equal(t, "macro", own.Examples[0].Label)
	require.InDelta(t, 15, own.Examples[0].Finding.Observed, 0)

	all := rules["population"]
	require.Equal(t, []string{"ann"}, all.New)
	require.Zero(t, all.Current.Flagged)
	require.Equal(t, 1, all.Current.Noted)
	require.Equal(t, 1, all.Current.Watched)
	require.Equal(t, 2, all.Candidate.Flagged)
	require.Equal(t, []simulate.Example{{
		Change: "new", PlayerID: "ann", EventID: "ann-6", Label: "speed",
		Finding: fairness.Finding{Rule: "population", Mode: "enforce", Verdict: "flag", Points: 2, Measure: "score", Limit: 90, Observed: 2000},
	}}, all.Examples)

	velocity := rules["score-velocity"]
	require.Equal(t, 1, velocity.Current.Denied)
	require.Equal(t, 1, velocity.Candidate.Flagged)
	require.Empty(t, velocity.New)
	require.Equal(t, "same", velocity.Examples[0].Change)

	require.InDelta(t, 1./3, *own.Candidate.Score.Recall, 1e-9)
	require.InDelta(t, .5, *own.Candidate.Score.Precision, 1e-9)
	require.InDelta(t, 1./3, *own.Candidate.Score.FalsePositive, 1e-9)
	require.InDelta(t, .5, *own.Candidate.Score.Kinds["speed"], 1e-9)
	require.Zero(t, *own.Candidate.Score.Kinds["macro"])
	require.InDelta(t, 1., *all.Current.Score.Precision, 1e-9, "what is only noted is scored too")
	require.Nil(t, rules["minimum-interval"].Candidate.Score.Precision, "of nobody")
	require.InDelta(t, 2./3, *now.Score.Recall, 1e-9)
	require.NotContains(t, now.Score.Kinds, "ramp", "he did not play")
}

func TestWithoutLabelsNothingIsScored(t *testing.T) {
	t.Parallel()
	report, err := simulate.Simulation{Current: policy(t, ""), Candidate: policy(t, ""), Ladder: byThumb, Thresholds: true}.
		Run(t.Context(), source(score("ann", 0, 100)))
	require.NoError(t, err)
	require.Nil(t, report.Cheats)
	require.Nil(t, report.Current.Score)
	require.Nil(t, report.Rules[0].Candidate.Score)
	require.Nil(t, report.Curves[0].Points[0].Cheats)
}

func TestNothingHappened(t *testing.T) {
	t.Parallel()
	report, err := simulate.Simulation{
		Current: policy(t, ""), Candidate: policy(t, ""), Ladder: byThumb, Thresholds: true, Labels: map[string]string{"ann": "speed"},
	}.Run(t.Context(), source())
	require.NoError(t, err)
	require.Zero(t, report.Events)
	require.Nil(t, report.Candidate.Score.Recall)
	require.Len(t, report.Curves, 3)
}

// TestSimulatedTime holds a run to its batches, to the time it tells its judges, and to letting blocks begin when the batch is judged.
func TestSimulatedTime(t *testing.T) {
	t.Parallel()
	var batches []batch
	s := simulate.Simulation{
		Current: policy(t, quiet), Candidate: policy(t, quiet), Batch: 3,
		Ladder: func(game *catalog.Catalog, now func() time.Time) simulate.Judge {
			judge := thumb{game: game, now: now}
			if batches == nil {
				batches = []batch{}
				judge.batches = &batches
			}
			return judge
		},
	}
	report, err := s.Run(t.Context(), source(
		score("ann", 0, 5000), score("ann", 1, 1), score("bob", 2, 1), // full
		score("ann", 3, 1), score("bob", 8, 1), // 5 s
		score("bob", 9, 1),  // the next one is too late for this
		score("bob", 10, 1), // before it, and no reason to go back
		score("bob", 7, 1),
		score("ann", 59, 1), score("ann", 60, 1), score("ann", 62, 1),
	))
	require.NoError(t, err)
	second := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	require.Equal(t, []batch{
		{second(2), []string{"ann-0", "ann-1", "bob-2"}},
		{second(8), []string{"bob-8"}},
		{second(10), []string{"bob-9", "bob-10", "bob-7"}},
		{second(62), []string{"ann-62"}},
	}, batches)
	require.Equal(t, simulate.Count{Events: 3, Players: 1}, report.Current.Refused)
	require.Equal(t, simulate.Count{Events: 1, Players: 1}, report.Current.Blocks)
	require.Equal(t, report.Current, report.Candidate)
}

// TestConsequences holds a run to what decisions add up to: blocks that grow, and cases.
func TestConsequences(t *testing.T) {
	t.Parallel()
	rules := policy(t, quiet+"population: {mode: off}, own-history: {limit: 10, points: 5}")
	s := simulate.Simulation{Current: rules, Candidate: rules, Ladder: byThumb, Batch: 1}
	report, err := s.Run(t.Context(), source(
		score("ann", 0, 50), score("ann", 1, 50), // a case
		score("bob", 2, 2000), score("bob", 30, 1), score("bob", 70, 2000), // blocked for a minute, and then for three; a case
		score("bob", 200, 1), score("bob", 260, 1),
	))
	require.NoError(t, err)
	require.Equal(t, simulate.Count{Events: 2, Players: 2}, report.Candidate.Cases)
	require.Equal(t, simulate.Count{Events: 2, Players: 1}, report.Candidate.Blocks)
	require.Equal(t, simulate.Count{Events: 2, Players: 1}, report.Candidate.Refused)
}

// TestThresholds compares every point of the curves with a simulation under that very limit.
func TestThresholds(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"p0": "speed", "p5": "speed", "p9": "macro"}
	var events []event.Accepted
	for i := range 200 {
		events = append(events, score(fmt.Sprintf("p%d", i%10), i*10, 1+(i*i%97+20)*(i%10+1)/10))
	}
	s := simulate.Simulation{
		Current:   policy(t, "own-history: {limit: 40}, regular-timing: {limit: 5}, population: {mode: off}"),
		Candidate: policy(t, "own-history: {limit: 60}, regular-timing: {limit: 3, mode: shadow}, population: {limit: 50}"),
		Ladder:    byThumb, Labels: labels, Thresholds: true,
	}
	report, err := s.Run(t.Context(), source(events...))
	require.NoError(t, err)
	require.Len(t, report.Curves, 3)
	limits := map[string][2]float64{"own-history": {40, 60}, "population": {0, 50}, "regular-timing": {5, 3}}
	for _, curve := range report.Curves {
		require.InDelta(t, limits[curve.Rule][0], curve.Current, 0)
		require.InDelta(t, limits[curve.Rule][1], curve.Candidate, 0)
		require.Less(t, curve.Points[0].Limit, 40.)
		distinct := map[float64]bool{}
		for _, point := range curve.Points {
			distinct[point.Found] = true
			requirePoint(t, s, source(events...), curve.Rule, point)
		}
		require.Greater(t, len(distinct), 3, "%s", curve.Rule)
	}
}

// requirePoint holds a point of a curve to what comes out when the candidate's rule has that very limit.
func requirePoint(t *testing.T, s simulate.Simulation, events simulate.Source, name string, point simulate.Point) {
	t.Helper()
	game := *s.Candidate.Game
	game.Fairness.Rules = maps.Clone(game.Fairness.Rules)
	rule := game.Fairness.Rules[name]
	rule.Limit = point.Limit
	game.Fairness.Rules[name] = rule
	s.Candidate.Game, s.Thresholds = &game, false
	report, err := s.Run(t.Context(), events)
	require.NoError(t, err)
	i := slices.IndexFunc(report.Rules, func(r simulate.Rule) bool { return r.Rule == name })
	score := report.Rules[i].Candidate.Score
	require.InDelta(t, float64(score.Cheats+score.Clean)/float64(report.Players), point.Found, 1e-9, "%s %v", name, point.Limit)
	require.Equal(t, score.Recall, point.Cheats)
	require.Equal(t, score.FalsePositive, point.Clean)
}

var errBroken = errors.New("broken")

func TestErrors(t *testing.T) {
	t.Parallel()
	s := simulate.Simulation{Current: policy(t, ""), Candidate: policy(t, ""), Ladder: byThumb}
	_, err := s.Run(t.Context(), source(score("a", 7200, 1), score("b", 3599, 1)))
	require.ErrorContains(t, err, "event 2 (b.b-3599) is of 2026-11-22T12:59:59Z, long before the one that it follows: sort the events by time")
	_, err = s.Run(t.Context(), source(score("a", 7200, 1), score("b", 3600, 1)))
	require.NoError(t, err)
	_, err = s.Run(t.Context(), func(context.Context, func(event.Accepted) error) error { return errBroken })
	require.ErrorIs(t, err, errBroken)
	for failing := range 3 {
		made := 0
		s.Thresholds = true
		s.Ladder = func(game *catalog.Catalog, now func() time.Time) simulate.Judge {
			made++
			if made-1 == failing {
				return broken{}
			}
			return byThumb(game, now)
		}
		_, err = s.Run(t.Context(), source(score("a", 0, 1)))
		require.ErrorIs(t, err, errBroken, "judge %d", failing)
	}
	s.Ladder = func(*catalog.Catalog, func() time.Time) simulate.Judge { return silent{} }
	_, err = s.Run(t.Context(), source(score("a", 0, 1)))
	require.ErrorContains(t, err, "0 decisions on 1 events")
}

type broken struct{}

func (broken) Judge(context.Context, []event.Accepted) ([]fairness.Decision, error) {
	return nil, errBroken
}

type silent struct{}

func (silent) Judge(context.Context, []event.Accepted) ([]fairness.Decision, error) { return nil, nil }
