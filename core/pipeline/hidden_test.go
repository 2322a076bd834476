package pipeline_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// archived lists the final order of a window.
func (p *path) archived(t *testing.T, board, window string) (header season.Header, order []string) {
	t.Helper()
	header, err := p.archive.Windows.Archive(t.Context(), board, window)
	require.NoError(t, err)
	page, err := p.archive.Windows.Page(t.Context(), board, window, 0, 10)
	require.NoError(t, err)
	for _, s := range page {
		order = append(order, fmt.Sprintf("%d %d %s %d", s.Rank, s.TiedRank, s.Player, s.Score))
	}
	return header, order
}

// TestHiddenPlayersInRankingsAndArchives hides players while a day is played and after it was archived.
func TestHiddenPlayersInRankingsAndArchives(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.serve(p.ranking)
		p.layOut(t)
		require.NoError(t, p.ranking.Hide(t.Context(), "cyd")) // before he has played
		apply := func(events ...event.Accepted) {
			_, err := p.progression.Apply(t.Context(), batch(t, events...))
			require.NoError(t, err)
		}
		apply(scored("ada", "a", 5, noon.Add(time.Second)), scored("bob", "b", 5, noon), scored("cyd", "c", 9, noon), scored("dan", "d", 1, noon))
		require.Equal(t, []string{"1 bob 5", "2 ada 5", "3 dan 1"}, p.ranks(t, "points", "2026-11-22"))
		require.NoError(t, p.ranking.Hide(t.Context(), "bob"))
		apply(scored("bob", "b2", 1, noon), scored("bob", "b2", 1, noon), scored("dan", "d2", 4, noon.Add(time.Minute)))
		require.Equal(t, []string{"1 ada 5", "2 dan 5"}, p.ranks(t, "points", "2026-11-22"))
		require.Equal(t, []string{"1 ada 5", "2 dan 4"}, p.ranks(t, "best", "all_time"))
		q := leaderboard.Query{Board: "points", Window: "2026-11-22", Viewer: "bob"}
		own, err := p.ranking.Player(t.Context(), q, "bob")
		require.NoError(t, err)
		require.Equal(t, leaderboard.Ranked{Rank: 1, TiedRank: 1, Player: "bob", Score: 6, AchievedAt: noon}, own)
		require.NoError(t, p.ranking.Show(t.Context(), "cyd"))
		require.Equal(t, []string{"1 cyd 9", "2 ada 5", "3 dan 5"}, p.ranks(t, "points", "2026-11-22"))

		p.at(time.Date(2026, 11, 23, 0, 10, 0, 0, time.UTC))
		_, err = p.archive.Sweep(t.Context())
		require.NoError(t, err)
		header, order := p.archived(t, "points", "2026-11-22")
		require.Equal(t, []string{"1 1 cyd 9", "2 2 ada 5", "3 2 dan 5"}, order)
		require.Equal(t, int64(3), header.Entries)

		require.NoError(t, p.ranking.Hide(t.Context(), "cyd"))
		require.NoError(t, p.ranking.Show(t.Context(), "bob"))
		_, err = p.archive.Sweep(t.Context())
		require.NoError(t, err)
		unchanged, order := p.archived(t, "points", "2026-11-22")
		require.Equal(t, header, unchanged)
		require.Equal(t, []string{"1 1 cyd 9", "2 2 ada 5", "3 2 dan 5"}, order)
		require.Equal(t, []string{"1 bob 5", "2 ada 5", "3 dan 4"}, p.ranks(t, "best", "all_time"))
		require.Empty(t, rdb.Keys(t.Context(), "rank:{points:2026-11-22}*").Val(), "nothing is projected that nobody reads")
	})
}

// TestArchiveFinishesHiding cuts a Hide and a Show between SQL and Redis. The next tick does the rest, and finds no drift.
func TestArchiveFinishesHiding(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p, _ := drifting(t, db, rdb)
		before := p.ranks(t, "best", "all_time")
		cut, err := leaderboard.NewRanking(deadRedis(t), db, p.progression.Entries, []byte(strings.Repeat("c", 32)))
		require.NoError(t, err)
		cut.Served = p.ranking.Served
		require.ErrorIs(t, cut.Hide(t.Context(), "cyd"), fault.RedisUnavailable)
		require.Equal(t, before, p.ranks(t, "best", "all_time"), "Redis does not know yet")
		require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t))
		require.Len(t, p.ranks(t, "best", "all_time"), len(before)-1)
		require.ErrorIs(t, cut.Show(t.Context(), "cyd"), fault.RedisUnavailable)
		require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t))
		require.Equal(t, before, p.ranks(t, "best", "all_time"))
	})
}
