package cheat_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/local/cheat"
)

const game = `
version: 1
name: rounds
events:
  xp_gained: {every: 5s, fields: {amount: {min: 1, max: 1000}, source: {enum: [round]}}}
xp: {table: [0, 100]}
boards:
  points: {windows: [all_time], min: 0, max: 20000}
`

func rounds(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Parse([]byte(game))
	require.NoError(t, err)
	return c
}

var crowd = cheat.Crowd{Seed: 3, Players: 120, Days: 4, From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Board: "points"}

func of(events []event.Event, player string) (own []event.Event) {
	for _, e := range events {
		if e.PlayerID == player {
			own = append(own, e)
		}
	}
	return own
}

func scores(events []event.Event) (list []float64) {
	for _, e := range events {
		if score, ok := e.Data["score"].(float64); ok {
			list = append(list, score)
		}
	}
	return list
}

func TestCrowdPlaysFair(t *testing.T) {
	t.Parallel()
	game, events := rounds(t), crowd.Play()
	require.Equal(t, events, crowd.Play())
	require.Greater(t, len(events), 120*4*10)
	require.True(t, slices.IsSortedFunc(events, func(a, b event.Event) int { return a.OccurredAt.Compare(b.OccurredAt) }))
	seen := map[string]bool{}
	last := map[string]time.Time{}
	for _, e := range events {
		require.NoError(t, game.Check(e))
		require.False(t, seen[e.Identity()])
		seen[e.Identity()] = true
		if e.Type == event.XPGained {
			amount, _ := e.Int("amount")
			require.LessOrEqual(t, amount, int64(1000))
			require.GreaterOrEqual(t, amount, int64(1))
			if before, played := last[e.PlayerID]; played {
				require.GreaterOrEqual(t, e.OccurredAt.Sub(before), time.Second)
			}
			last[e.PlayerID] = e.OccurredAt
		}
	}
	require.InDelta(t, 120, len(last), 5, "nearly everybody plays")
}

func TestEveryKindIsWhatItSays(t *testing.T) {
	t.Parallel()
	game, clean := rounds(t), crowd.Play()
	before := slices.Clone(clean)
	events, labels, err := cheat.Inject(clean, cheat.Options{Seed: 5, Share: .2, Game: game})
	require.NoError(t, err)
	require.Equal(t, before, clean, "what is given stays as it is")
	require.Len(t, labels, 24)
	require.True(t, slices.IsSortedFunc(events, func(a, b event.Event) int { return a.OccurredAt.Compare(b.OccurredAt) }))

	all := slices.Sorted(slices.Values(scores(clean)))
	median := all[len(all)/2]
	kinds, seen := map[string]int{}, map[string]bool{}
	for _, e := range events {
		require.NoError(t, game.Check(e), "the gate lets it through")
		require.False(t, seen[e.Identity()], e.Identity())
		seen[e.Identity()] = true
		require.False(t, e.OccurredAt.After(clean[len(clean)-1].OccurredAt))
	}
	for i := range crowd.Players {
		player := fmt.Sprintf("player-%04d", i)
		honest, cheated := of(clean, player), of(events, player)
		switch cheat.Kind(labels[player]) {
		case "":
			require.Equal(t, honest, cheated)
			continue
		case cheat.Speed:
			require.Len(t, cheated, len(honest))
			var slow, fast []float64
			for i := range honest[1:] {
				slow = append(slow, honest[i+1].OccurredAt.Sub(honest[i].OccurredAt).Seconds())
				fast = append(fast, cheated[i+1].OccurredAt.Sub(cheated[i].OccurredAt).Seconds())
			}
			slices.Sort(slow)
			slices.Sort(fast)
			require.InDelta(t, slow[len(slow)/2]/5, fast[len(fast)/2], .01)
		case cheat.Injection:
			for _, score := range scores(cheated) {
				require.InDelta(t, 10*median, score, median*1.01)
			}
		case cheat.Impossible:
			out := 0
			for _, e := range cheated {
				amount, _ := e.Int("amount")
				score, _ := e.Int("score")
				if amount > 1000 || score > 20_000 {
					out++
				}
			}
			require.InDelta(t, float64(len(cheated))/5, float64(out), 1)
		case cheat.Macro:
			require.Len(t, cheated, 150)
			var sum, squares float64
			for i := range cheated[1:] {
				gap := cheated[i+1].OccurredAt.Sub(cheated[i].OccurredAt).Seconds()
				require.Greater(t, gap, 5.0, "a machine keeps to the intervals")
				sum, squares = sum+gap, squares+gap*gap
				require.Equal(t, cheated[0].Type, cheated[i].Type)
			}
			mean := sum / 149
			require.InDelta(t, .01, math.Sqrt(squares/149-mean*mean)/mean, .003)
		case cheat.Ramp:
			climb := scores(cheated)
			require.InDelta(t, median, climb[0], median*.06)
			require.InDelta(t, 8*median, climb[len(climb)-1], 8*median*.06)
			require.Less(t, climb[len(climb)/2], 8*median/2)
		case cheat.Dirty:
			injected := 0
			for i, score := range scores(cheated) {
				if score > 8*median {
					injected++
				} else {
					require.InDelta(t, scores(honest)[i], score, 0)
				}
			}
			require.Equal(t, len(scores(honest))/10, injected)
		}
		kinds[labels[player]]++
	}
	for _, kind := range cheat.Kinds() {
		require.Equal(t, 4, kinds[string(kind)], "%s", kind)
	}
	again, names, err := cheat.Inject(clean, cheat.Options{Seed: 5, Share: .2, Game: game})
	require.NoError(t, err)
	require.Equal(t, events, again)
	require.Equal(t, labels, names)
	_, others, err := cheat.Inject(clean, cheat.Options{Seed: 6, Share: .2, Game: game})
	require.NoError(t, err)
	require.NotEqual(t, labels, others)
}

func TestOneCheatsAtLeast(t *testing.T) {
	t.Parallel()
	_, labels, err := cheat.Inject(crowd.Play(), cheat.Options{Share: .0001, Game: rounds(t)})
	require.NoError(t, err)
	require.Len(t, labels, 1)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	game, clean := rounds(t), crowd.Play()
	for _, share := range []float64{0, -1, 1.1} {
		_, _, err := cheat.Inject(clean, cheat.Options{Share: share, Game: game})
		require.ErrorContains(t, err, "share")
	}
	_, _, err := cheat.Inject(nil, cheat.Options{Share: .1, Game: game})
	require.ErrorContains(t, err, "no events")
	_, _, err = cheat.Inject(clean[:1], cheat.Options{Share: .1, Game: game})
	require.ErrorContains(t, err, "nobody plays enough")
	_, _, err = cheat.Inject([]event.Event{clean[9], clean[0]}, cheat.Options{Share: .1, Game: game})
	require.ErrorContains(t, err, "event 2 happened before")
}

func TestLabels(t *testing.T) {
	t.Parallel()
	labels := cheat.Labels{"b": "speed", "a": "macro"}
	var text bytes.Buffer
	require.NoError(t, labels.Write(&text))
	require.Equal(t, "player_id,label\na,macro\nb,speed\n", text.String())
	read, err := cheat.ReadLabels(&text)
	require.NoError(t, err)
	require.Equal(t, labels, read)
	read, err = cheat.ReadLabels(strings.NewReader("player_id,label\na,clean\nb,\nc,\"wall hack\"\n"))
	require.NoError(t, err)
	require.Equal(t, cheat.Labels{"c": "wall hack"}, read)
	for text, want := range map[string]string{
		"":                                "first line must be",
		"player,label\n":                  "first line must be",
		"player_id,label\na.b,speed\n":    `line 2: "a.b" is no player id`,
		"player_id,label\na,x\na,clean\n": "line 3: player a has a label already",
		"player_id,label\na\n":            "wrong number of fields",
	} {
		_, err := cheat.ReadLabels(strings.NewReader(text))
		require.ErrorContains(t, err, want, "%q", text)
	}
}
