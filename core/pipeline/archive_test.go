package pipeline_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestArchiveKeepsTheRanking(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		outcome, err := p.archive.Sweep(t.Context())
		require.NoError(t, err)
		// Three days, the season to come, and all time.
		require.Equal(t, "[windows_added=5 windows_closed=0 windows_frozen=0 windows_archived=0 windows_failed=0]", pipelineOutcome(outcome).String())
		_, err = p.progression.Apply(t.Context(), batch(t,
			scored("ada", "a", 5, noon.Add(time.Second)), scored("bob", "b", 5, noon), scored("cyd", "c", 9, noon), scored("dan", "d", 1, noon)))
		require.NoError(t, err)
		want := p.ranks(t, "points", "2026-11-22")
		require.Equal(t, []string{"1 cyd 9", "2 bob 5", "3 ada 5", "4 dan 1"}, want)

		midnight := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		for _, step := range []struct {
			at    time.Duration
			state season.State
			total int
		}{{-time.Millisecond, season.Open, 0}, {0, season.Closing, 1}, {10*time.Minute - time.Millisecond, season.Closing, 1}, {10 * time.Minute, season.Archived, 3}, {11 * time.Minute, season.Archived, 3}} {
			p.at(midnight.Add(step.at))
			_, err := p.archive.Sweep(t.Context())
			require.NoError(t, err)
			w, err := p.archive.Windows.Get(t.Context(), "points", "2026-11-22")
			require.NoError(t, err)
			require.Equal(t, step.state, w.State, "%s after midnight", step.at)
			require.Equal(t, step.total, p.metrics(t)["window_closes_total"], "%s after midnight", step.at)
		}
		header, err := p.archive.Windows.Archive(t.Context(), "points", "2026-11-22")
		require.NoError(t, err)
		require.Equal(t, int64(4), header.Entries)
		require.Equal(t, 3, header.CatalogVersion)
		page, err := p.archive.Windows.Page(t.Context(), "points", "2026-11-22", 0, 10)
		require.NoError(t, err)
		var got []string
		var tied []int64
		for _, s := range page {
			got = append(got, fmt.Sprintf("%d %s %d", s.Rank, s.Player, s.Score))
			tied = append(tied, s.TiedRank)
		}
		require.Equal(t, want, got)
		require.Equal(t, []int64{1, 2, 2, 4}, tied)

		keys, err := rdb.Keys(t.Context(), "rank:{points:2026-11-22}*").Result()
		require.NoError(t, err)
		require.Empty(t, keys, "the projection is gone")
		keys, err = rdb.Keys(t.Context(), "rank:{best:all_time}*").Result()
		require.NoError(t, err)
		require.NotEmpty(t, keys, "and only that one")
	})
}

// What stands in the way of one part of a tick is told, and what can be done is done.
func TestArchiveInTrouble(t *testing.T) {
	t.Parallel()
	t.Run("no Redis", func(t *testing.T) {
		t.Parallel()
		rdb, server := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.layOut(t)
		p.at(noon.Add(24 * time.Hour))
		server.SetError("LOADING gone")
		_, err := p.archive.Sweep(t.Context())
		require.ErrorIs(t, err, fault.RedisUnavailable)
		w, err := p.archive.Windows.Get(t.Context(), "points", "2026-11-22")
		require.NoError(t, err)
		require.Equal(t, season.Archived, w.State, "the archive needs no Redis")
		require.Equal(t, 3, p.metrics(t)["window_closes_total"])
	})
	t.Run("no database", func(t *testing.T) {
		t.Parallel()
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.archive.Windows.DB = deadDB(t)
		_, err := p.archive.Sweep(t.Context())
		require.ErrorIs(t, err, fault.DatabaseUnavailable)
	})
	t.Run("one window cannot be archived", func(t *testing.T) {
		t.Parallel()
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.layOut(t)
		delete(p.game.Boards, "best") // keeps the windows of points
		_, err := p.db.Exec(t.Context(), "INSERT INTO board_window (board, window_id, cadence, starts_at, ends_at, state, changed_at, lease_owner, lease_until, fence) VALUES ('gone', '2026-11-22', 'daily', 0, 1, 'open', 0, '', 0, 0)")
		require.NoError(t, err)
		p.at(noon.Add(24 * time.Hour))
		_, err = p.archive.Sweep(t.Context())
		require.ErrorContains(t, err, "board gone")
		w, err := p.archive.Windows.Get(t.Context(), "points", "2026-11-22")
		require.NoError(t, err)
		require.Equal(t, season.Archived, w.State)
		require.Equal(t, 1, p.metrics(t)["window_close_failures_total"])
	})
}
