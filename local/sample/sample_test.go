package sample_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/local/sample"
)

var until = time.Date(2026, 11, 22, 18, 30, 0, 123_456_789, time.UTC)

func generate(t testing.TB, o sample.Options) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, sample.Generate(&out, o))
	return out.Bytes()
}

func events(t testing.TB, o sample.Options) []event.Event {
	t.Helper()
	var all []event.Event
	for line := range bytes.Lines(generate(t, o)) {
		e, err := event.Decode(bytes.TrimSuffix(line, []byte("\n")))
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

func TestSameOptionsGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	o := sample.Options{Seed: 7, Until: until}
	first := generate(t, o)
	require.Equal(t, first, generate(t, o))
	o.Seed = 8
	require.NotEqual(t, first, generate(t, o))
}

func TestCounts(t *testing.T) {
	t.Parallel()
	for _, o := range []sample.Options{
		{Seed: 1, Until: until, Players: 1, Events: 1},
		{Seed: 1, Until: until, Players: 3, Events: 100},
		{Seed: 1, Until: until, Players: 90, Events: 1234},
		{Seed: 1, Until: until, Players: 2, Events: 7_000}, // more than two days of play
	} {
		all := events(t, o)
		require.Len(t, all, o.Events)
		players := map[string]bool{}
		for _, e := range all {
			players[e.PlayerID] = true
		}
		require.LessOrEqual(t, len(players), o.Players)
		require.True(t, all[len(all)-1].OccurredAt.Before(o.Until))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	require.Error(t, sample.Generate(&bytes.Buffer{}, sample.Options{}))
	require.Error(t, sample.Generate(&bytes.Buffer{}, sample.Options{Until: until, Players: -1}))
	require.ErrorIs(t, sample.Generate(broken{}, sample.Options{Until: until}), errBroken)
}

var errBroken = errors.New("disk full")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// TestHonest holds every event to the catalog, as the gate and the fairness rules will.
func TestHonest(t *testing.T) {
	t.Parallel()
	game, err := catalog.Load("../../examples/arena/catalog.yaml")
	require.NoError(t, err)
	for _, seed := range []uint64{1, 2} {
		ids := map[string]bool{}
		last := map[string]time.Time{}
		type point struct {
			at    time.Time
			score int64
		}
		points := map[string][]point{}
		xp := map[string]int64{}
		held := map[string]int64{}
		before := time.Time{}
		for _, e := range events(t, sample.Options{Seed: seed, Until: until, Events: 5_000}) {
			require.NoError(t, game.Check(e), "%+v", e)
			require.False(t, ids[e.ID], "event ids are unique")
			ids[e.ID] = true
			require.False(t, e.OccurredAt.Before(before), "in order of time")
			before = e.OccurredAt
			require.Positive(t, e.Seq)
			require.NotEmpty(t, e.SessionID)

			kind := game.Events[e.Type]
			for name, field := range kind.Fields {
				if n, ok := e.Int(name); ok {
					require.True(t, field.Min == nil || n >= *field.Min, "%+v", e)
					require.True(t, field.Max == nil || n <= *field.Max, "%+v", e)
				}
				if s, ok := e.Text(name); ok && field.Enum != nil {
					require.Contains(t, field.Enum, s)
				}
			}
			if previous, ok := last[e.PlayerID+e.Type]; ok {
				require.GreaterOrEqual(t, e.OccurredAt.Sub(previous), time.Duration(kind.Every), "%+v", e)
			}
			last[e.PlayerID+e.Type] = e.OccurredAt

			amount, _ := e.Int("amount")
			xp[e.PlayerID] += kind.XP + amount
			switch e.Type {
			case event.BossKilled:
				name, _ := e.Text("boss")
				boss := game.Bosses[name]
				require.GreaterOrEqual(t, game.XP.Level(xp[e.PlayerID]), boss.RequiredLevel)
				xp[e.PlayerID] += boss.XP
			case event.ItemAcquired:
				name, _ := e.Text("item")
				item, _ := game.Item(name)
				quantity, _ := e.Int("quantity")
				held[e.PlayerID+name] += quantity
				require.True(t, item.Stack == 0 || held[e.PlayerID+name] <= item.Stack, "%+v", e)
			case event.ScoreSubmitted:
				name, _ := e.Text("board")
				score, _ := e.Int("score")
				board := game.Boards[name]
				require.True(t, score >= *board.Min && score <= *board.Max, "%+v", e)
				key := e.PlayerID + name
				recent := slices.DeleteFunc(points[key], func(p point) bool { return e.OccurredAt.Sub(p.at) > time.Hour })
				points[key] = append(recent, point{e.OccurredAt, score})
				for per, most := range map[time.Duration]int64{
					10 * time.Second: board.Velocity.Per10s, time.Minute: board.Velocity.Per60s, time.Hour: board.Velocity.Per1h,
				} {
					sum := int64(0)
					for _, p := range points[key] {
						if e.OccurredAt.Sub(p.at) < per {
							sum += p.score
						}
					}
					require.True(t, most == 0 || sum <= most)
				}
			}
		}
	}
}

func TestBelievable(t *testing.T) {
	t.Parallel()
	types, players, boards, bosses, items := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	best := map[string]int64{}
	all := events(t, sample.Options{Seed: 1, Until: until})
	require.Len(t, all, 5_000)
	for _, e := range all {
		types[e.Type]++
		players[e.PlayerID]++
		board, _ := e.Text("board")
		boards[board]++
		boss, _ := e.Text("boss")
		bosses[boss]++
		item, _ := e.Text("item")
		items[item]++
		if score, ok := e.Int("score"); ok && board == "arena-score" {
			best[e.PlayerID] = max(best[e.PlayerID], score)
		}
	}
	t.Log(types, players, boards, bosses, items)
	require.Len(t, types, 6)
	require.Len(t, players, 40)
	require.Len(t, boards, 4) // three, and none
	require.GreaterOrEqual(t, len(bosses), 6)
	require.GreaterOrEqual(t, len(items), 6)
	for kind, n := range types {
		require.Greater(t, n, 50, kind)
	}
	counts := slices.Sorted(maps.Values(players))
	require.Greater(t, counts[len(counts)-1], 4*counts[len(counts)/4], "some play far more than others")
	scores := slices.Sorted(maps.Values(best))
	require.Greater(t, scores[len(scores)-1]-scores[0], int64(3000), "skill shows")
	first, last := all[0].OccurredAt, all[len(all)-1].OccurredAt
	require.Greater(t, last.Sub(first), 24*time.Hour)
	require.LessOrEqual(t, until.Sub(first), 48*time.Hour+time.Millisecond)
}
