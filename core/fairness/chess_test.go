package fairness_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/local/oracle"
)

// chess gives the events of a month of recorded games where they are, of all of them with CHESS=all, and of made-up ones elsewhere, in
// order.
func chess(t *testing.T) []event.Accepted {
	t.Helper()
	games := oracle.MakeUp(5000, 300)
	dir := os.Getenv("LIVEOPS_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	name := "lichess_rapid_2022_11.csv.gz"
	if os.Getenv("CHESS") == "all" {
		name = "lichess_rapid_all.csv.gz"
	}
	if file, err := os.Open(filepath.Join(dir, name)); err == nil {
		defer file.Close()
		games, err = oracle.ReadGames(file)
		require.NoError(t, err)
	}
	var events []event.Accepted
	for _, e := range oracle.Events(games) {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		read, err := event.Decode(text)
		require.NoError(t, err)
		events = append(events, event.Accepted{Event: read, At: read.OccurredAt, ReceivedAt: read.OccurredAt})
	}
	return events
}

// play judges events in batches of 500.
func play(t *testing.T, events []event.Accepted, judge func(batch []event.Accepted) []fairness.Decision) []fairness.Decision {
	t.Helper()
	var decisions []fairness.Decision
	for start := 0; start < len(events); start += 500 {
		decisions = append(decisions, judge(events[start:min(start+500, len(events))])...)
	}
	return decisions
}

// People who play chess are not denied anything, next to none of them is flagged, and however their events come, in each batch, they
// get the same verdicts.
func TestPeoplePlayingChess(t *testing.T) {
	t.Parallel()
	game, err := catalog.Load(filepath.Join("..", "..", "examples", "chess", "catalog.yaml"))
	require.NoError(t, err)
	events := chess(t)
	ladder := func(memory *fairness.Memory) *fairness.Ladder {
		return &fairness.Ladder{
			States: memory, Baselines: memory, Catalog: func() *catalog.Catalog { return game },
			Now: func() time.Time { return events[len(events)-1].At },
		}
	}
	once := ladder(fairness.NewMemory())
	want := play(t, events, func(batch []event.Accepted) []fairness.Decision {
		got, err := once.Judge(t.Context(), batch)
		require.NoError(t, err)
		return got
	})

	players, flagged, verdicts := map[string]bool{}, map[string]bool{}, map[fairness.Verdict]int{}
	for _, d := range want {
		players[d.PlayerID] = true
		verdicts[d.Verdict]++
		if d.Verdict != fairness.Allow && !flagged[d.PlayerID] {
			flagged[d.PlayerID] = true
			t.Log(d.Evidence[0].Rule, d.Evidence[0].Text, "is", d.Evidence[0].Observed, "of", d.Evidence[0].Limit, "among", d.Evidence[0].Baseline)
		}
	}
	t.Log(len(events), "events of", len(players), "players:", verdicts, len(flagged), "players flagged")
	require.Zero(t, verdicts[fairness.Deny]+verdicts[fairness.Throttle])
	require.LessOrEqual(t, len(flagged)*200, len(players), "0.5 %")

	part := events[:min(len(events), 60_000)]
	random := rand.New(rand.NewPCG(5, 6))
	shared := fairness.NewMemory()
	replicas := []*fairness.Ladder{ladder(shared), ladder(shared)}
	got := play(t, part, func(batch []event.Accepted) []fairness.Decision {
		decisions := make([]fairness.Decision, len(batch))
		for delivery := range 2 {
			order := random.Perm(len(batch))
			shuffled := make([]event.Accepted, len(batch))
			for i, place := range order {
				shuffled[i] = batch[place]
			}
			found, err := replicas[random.IntN(2)].Judge(t.Context(), shuffled)
			require.NoError(t, err)
			for i, place := range order {
				if delivery > 0 && !reflect.DeepEqual(decisions[place], found[i]) {
					require.Equal(t, decisions[place], found[i])
				}
				decisions[place] = found[i]
			}
		}
		return decisions
	})
	require.True(t, reflect.DeepEqual(want[:len(part)], got))
}
