package simulate_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/local/cheat"
	"liveops/local/oracle"
	"liveops/local/replay"
	"liveops/local/simulate"
)

// dropsWithin is how many events a cheat that breaks a hard rule may play until one is dropped.
var dropsWithin = map[cheat.Kind]int{cheat.Impossible: 1, cheat.Injection: 2, cheat.Speed: 60}

// measured is what the ladder made of some play.
type measured struct {
	*simulate.Report
	firstDrop map[string]int // which of his events was dropped first, from 1, by player
}

// measure judges events by the policy of a catalog of testdata and prints what came of it.
func measure(t *testing.T, game *catalog.Catalog, events []event.Event, labels cheat.Labels) measured {
	t.Helper()
	m := measured{firstDrop: map[string]int{}}
	policy := simulate.Policy{Name: "measured", Game: game}
	made := false
	s := simulate.Simulation{
		Current: policy, Candidate: policy, Labels: labels,
		Ladder: func(game *catalog.Catalog, now func() time.Time) simulate.Judge {
			if made { // both policies are the same one
				return nobody{}
			}
			made = true
			return watched{simulate.NewLadder(game, now), map[string]int{}, m.firstDrop}
		},
	}
	var err error
	m.Report, err = s.Run(t.Context(), simulate.Events(events))
	require.NoError(t, err)

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	percent := func(share *float64) string {
		if share == nil {
			return "-"
		}
		return fmt.Sprintf("%.1f %%", 100**share)
	}
	fmt.Fprint(w, "rule\tfindings\tplayers\tprecision\trecall\tfalse positive")
	for _, kind := range cheat.Kinds() {
		fmt.Fprintf(w, "\t%s", kind)
	}
	fmt.Fprint(w, "\t\n")
	row := func(name string, events, players int, s *simulate.Score) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s", name, events, players, percent(s.Precision), percent(s.Recall), percent(s.FalsePositive))
		for _, kind := range cheat.Kinds() {
			fmt.Fprintf(w, "\t%s", percent(s.Kinds[string(kind)]))
		}
		fmt.Fprint(w, "\t\n")
	}
	for _, r := range m.Rules {
		o := r.Current
		row(r.Rule, o.Denied+o.Throttled+o.Flagged+o.Shadowed, o.Players, o.Score)
	}
	row("any", m.Events-m.Current.Allowed.Events-m.Current.Refused.Events, m.Current.Score.Cheats+m.Current.Score.Clean, m.Current.Score)
	require.NoError(t, w.Flush())
	t.Logf("%s: %d events of %d players, cheats %v\n%s", game.Name, m.Events, m.Players, m.Cheats, table.String())
	return m
}

// watched counts until the first event of a player is dropped.
type watched struct {
	ladder          simulate.Judge
	events, dropped map[string]int
}

func (w watched) Judge(ctx context.Context, events []event.Accepted) ([]fairness.Decision, error) {
	decisions, err := w.ladder.Judge(ctx, events)
	for _, d := range decisions {
		w.events[d.PlayerID]++
		if d.Drops() && w.dropped[d.PlayerID] == 0 {
			w.dropped[d.PlayerID] = w.events[d.PlayerID]
		}
	}
	return decisions, err
}

// nobody judges nothing.
type nobody struct{}

func (nobody) Judge(_ context.Context, events []event.Accepted) ([]fairness.Decision, error) {
	return make([]fairness.Decision, len(events)), nil
}

// requireFair holds a policy to leaving honest players alone.
func (m measured) requireFair(t *testing.T) {
	t.Helper()
	require.Zero(t, m.Current.Denied)
	require.Zero(t, m.Current.Throttled)
	require.LessOrEqual(t, *m.Current.Score.FalsePositive, .005)
}

// requireDropped holds a policy to dropping what some kinds of cheats do, soon.
func (m measured) requireDropped(t *testing.T, labels cheat.Labels, kinds ...cheat.Kind) {
	t.Helper()
	for player, label := range labels {
		if kind := cheat.Kind(label); slices.Contains(kinds, kind) {
			require.NotZero(t, m.firstDrop[player], "%s of %s is not dropped", kind, player)
			require.LessOrEqual(t, m.firstDrop[player], dropsWithin[kind], "%s of %s", kind, player)
		}
	}
}

// requireFound holds a policy to finding this share of some kinds of cheats at least.
func (m measured) requireFound(t *testing.T, least float64, kinds ...cheat.Kind) {
	t.Helper()
	for _, kind := range kinds {
		require.GreaterOrEqual(t, *m.Current.Score.Kinds[string(kind)], least, "%s", kind)
	}
}

func load(t *testing.T, name string) *catalog.Catalog {
	t.Helper()
	game, err := catalog.Load(filepath.Join("testdata", name))
	require.NoError(t, err)
	return game
}

func TestMeasuredOnMadeUpPlay(t *testing.T) {
	t.Parallel()
	game := load(t, "rounds.yaml")
	clean := cheat.Crowd{Seed: 1, Players: 600, Days: 5, From: noon.Truncate(24 * time.Hour), Board: "points"}.Play()
	measure(t, game, clean, cheat.Labels{}).requireFair(t)

	events, labels, err := cheat.Inject(clean, cheat.Options{Seed: 1, Share: .06, Game: game}) // 1 in 100 accounts a kind
	require.NoError(t, err)
	m := measure(t, game, events, labels)
	require.Len(t, m.Cheats, len(cheat.Kinds()))
	require.LessOrEqual(t, *m.Current.Score.FalsePositive, .005)
	m.requireDropped(t, labels, cheat.Impossible, cheat.Injection, cheat.Speed)
	m.requireFound(t, 1, cheat.Impossible, cheat.Injection, cheat.Speed, cheat.Dirty)
	m.requireFound(t, 1, cheat.Macro)
	m.requireFound(t, .8, cheat.Ramp)
}

// TestThresholdsOfTheLadder holds the one run that tells all limits to what the ladder itself does at some of them.
func TestThresholdsOfTheLadder(t *testing.T) {
	t.Parallel()
	game := load(t, "rounds.yaml")
	rules := maps.Clone(game.Fairness.Rules)
	for name, wanted := range map[string]catalog.Rule{
		"population": {Limit: 3.5, After: 50}, "regular-timing": {Limit: .3, After: 15}, "own-history": {Limit: 6, After: 10},
	} {
		rule := rules[name]
		rule.Limit, rule.After = wanted.Limit, wanted.After
		rules[name] = rule
	}
	game.Fairness.Rules = rules
	clean := cheat.Crowd{Seed: 2, Players: 150, Days: 4, From: noon.Truncate(24 * time.Hour), Board: "points"}.Play()
	events, labels, err := cheat.Inject(clean, cheat.Options{Seed: 2, Share: .1, Game: game})
	require.NoError(t, err)
	current := *game // is of no interest
	s := simulate.Simulation{
		Current: simulate.Policy{Game: &current}, Candidate: simulate.Policy{Game: game}, Labels: labels, Thresholds: true,
		Ladder: func(game *catalog.Catalog, now func() time.Time) simulate.Judge {
			if game == &current {
				return nobody{}
			}
			return simulate.NewLadder(game, now)
		},
	}
	report, err := s.Run(t.Context(), simulate.Events(events))
	require.NoError(t, err)
	require.Len(t, report.Curves, 3)
	for _, curve := range report.Curves {
		require.NotEqual(t, curve.Points[0].Found, curve.Points[len(curve.Points)-1].Found, "%s finds the same whatever its limit", curve.Rule)
		for i := 0; i < len(curve.Points); i += 20 {
			requirePoint(t, s, simulate.Events(events), curve.Rule, curve.Points[i])
		}
	}
}

func TestMeasuredOnChess(t *testing.T) {
	t.Parallel()
	path, found := oracle.Recorded("lichess_rapid_2022_11.csv.gz")
	if !found {
		t.Skip("the recorded games do not lie beside the repository (LIVEOPS_DATA)")
	}
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	games, err := oracle.ReadGames(file)
	require.NoError(t, err)
	var lines bytes.Buffer
	require.NoError(t, oracle.Write(&lines, oracle.Events(games)))
	clean, err := replay.Read(&lines)
	require.NoError(t, err)

	game := load(t, "chess.yaml")
	measure(t, game, clean, cheat.Labels{}).requireFair(t)

	events, labels, err := cheat.Inject(clean, cheat.Options{Seed: 1, Share: .01, Game: game})
	require.NoError(t, err)
	m := measure(t, game, events, labels)
	require.LessOrEqual(t, *m.Current.Score.FalsePositive, .005)
	m.requireDropped(t, labels, cheat.Impossible, cheat.Injection)
	m.requireFound(t, 1, cheat.Impossible, cheat.Injection)
	m.requireFound(t, 1, cheat.Macro)
}
