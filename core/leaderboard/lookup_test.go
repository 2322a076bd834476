package leaderboard

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// checkLookups compares what is found of players and scores with the whole order as the viewer sees it. Others are not in it.
func checkLookups(t require.TestingT, r *Ranking, q Query, want []Ranked, others []string) {
	q.Limit, q.Cursor = 1, "ignored"
	in := map[string]bool{}
	var some []Ranked
	players := slices.Concat(others, []string{"nobody", ""})
	for i, row := range want {
		in[row.Player] = true
		if i == len(want)/2 {
			found, n, err := r.Lookup(ctxOf(t), q, []string{row.Player})
			require.NoError(t, err)
			require.Equal(t, int64(len(want)), n)
			require.Equal(t, []Ranked{row}, found)
		}
		if i%2 == 0 {
			some = append(some, row)
			players = append(players, row.Player, row.Player)
		}
	}
	slices.Reverse(players)
	players = slices.DeleteFunc(players, func(player string) bool { // what another look asked for
		return in[player] && !slices.ContainsFunc(some, func(row Ranked) bool { return row.Player == player })
	})
	found, n, err := r.Lookup(ctxOf(t), q, players)
	require.NoError(t, err)
	require.Equal(t, int64(len(want)), n)
	require.Equal(t, some, found)

	scores := []int64{0, event.MaxInteger, -event.MaxInteger}
	for i, row := range want {
		if i == 0 || row.TiedRank == row.Rank {
			scores = append(scores, row.Score+int64(i%2)) // one that somebody has, or next to it
		}
	}
	slices.Sort(scores)
	for _, score := range slices.Compact(scores) {
		score = bounded(score)
		at := Ranked{Rank: 1, TiedRank: 1, Score: score}
		for _, row := range want {
			if row.Score == score {
				at.Rank++
			} else if (row.Score > score) == (boards[q.Board].Order == "desc") {
				at.Rank++
				at.TiedRank++
			}
		}
		got, n, err := r.RankOf(ctxOf(t), q, score)
		require.NoError(t, err)
		require.Equal(t, int64(len(want)), n)
		require.Equal(t, at, got)
	}
}

func TestLookupOfMany(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		for name, r := range map[string]*Ranking{"redis": newRanking(t, db, rdb), "sql": newRanking(t, db, gone(t))} {
			q := Query{Board: "kept", Window: name}
			scores := tied("kept", name, 300)
			for i := range scores {
				scores[i].Metadata = hero(fmt.Sprint(i))
			}
			rows := mergeScores(t, db, scores...)
			want := ranked("kept", rows)
			var players []string
			var some []Ranked
			for i := range MaxLookup {
				some = append(some, want[3*i])
				players = append(players, want[3*i].Player)
			}
			slices.Sort(players)
			found, n, err := r.Lookup(t.Context(), q, players)
			require.NoError(t, err)
			require.Equal(t, int64(300), n)
			require.Equal(t, some, found)
			_, _, err = r.Lookup(t.Context(), q, append(players, "one"))
			require.ErrorIs(t, err, fault.RequestInvalid)
			found, n, err = r.Lookup(t.Context(), q, nil)
			require.NoError(t, err)
			require.Empty(t, found)
			require.Equal(t, int64(300), n)

			beyond, _, err := r.RankOf(t.Context(), q, event.MaxInteger+7)
			require.NoError(t, err)
			require.Equal(t, Ranked{Rank: 1, TiedRank: 1, Score: event.MaxInteger}, beyond)
		}
	})
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rank, count int64
		want        float64
	}{
		{1, 1, 100},
		{1, 7, 100},
		{100, 100, 1},
		{50, 100, 51},
		{2, 3, 66.66},
		{3, 3, 33.33},
		{2, 1_000_000, 99.99},
		{1, 1e14, 100},
		{2, 1e14, 99.99},
		{1e14, 1e14, 0},
		{1, 0, 0},
		{0, 5, 0},
		{6, 5, 0},
		{-1, -1, 0},
	} {
		require.InDelta(t, c.want, Percentile(c.rank, c.count), 1e-9, "%d of %d", c.rank, c.count)
	}
}
