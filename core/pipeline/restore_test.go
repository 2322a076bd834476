package pipeline_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestRestoreBringsBackWhatRedisLost(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		_, err := p.progression.Apply(t.Context(), batch(t, scored("ada", "s1", 7, noon), scored("bob", "s2", 7, noon), scored("cy", "s3", 9, noon)))
		require.NoError(t, err)
		_, err = p.fairness.Judge(t.Context(), batch(t, xp("eve", "unfair", 101)))
		require.NoError(t, err)
		want := p.ranks(t, "points", "2026-11-22")
		require.Equal(t, []string{"1 cy 9", "2 ada 7", "3 bob 7"}, want)

		require.NoError(t, rdb.FlushDB(t.Context()).Err())
		require.NoError(t, p.archive.Restore.Run(t.Context()))
		for _, key := range []string{"rank:{points:2026-11-22}:order", "rank:{best:all_time}:order"} {
			require.EqualValues(t, 3, rdb.ZCard(t.Context(), key).Val(), "%s is there before anybody asks", key)
		}
		require.Equal(t, want, p.ranks(t, "points", "2026-11-22"))
		_, _, err = p.gateway.Accept(t.Context(), submission("k", false, xpText("x", "eve", 1)))
		require.ErrorIs(t, err, fault.PlayerBlocked)

		// Nothing more is done in the same epoch, and the archive's tick notices the next one.
		require.NoError(t, rdb.Del(t.Context(), "rank:{points:2026-11-22}:order").Err())
		require.NoError(t, p.archive.Restore.Run(t.Context()))
		require.Zero(t, rdb.Exists(t.Context(), "rank:{points:2026-11-22}:order").Val())
		require.NoError(t, rdb.FlushDB(t.Context()).Err())
		_, err = p.archive.Sweep(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, rdb.ZCard(t.Context(), "rank:{points:2026-11-22}:order").Val())
	})
}

// TestRestoreIsCutInTheMiddle loses the database after the epoch was found: the next run begins anew.
func TestRestoreIsCutInTheMiddle(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	db := storetest.SQLite(t)
	p := newPath(t, db, rdb)
	p.layOut(t)
	_, err := p.progression.Apply(t.Context(), batch(t, scored("ada", "s1", 7, noon)))
	require.NoError(t, err)
	server.FlushAll()
	p.ranking.DB = deadDB(t)
	require.ErrorIs(t, p.archive.Restore.Run(t.Context()), fault.DatabaseUnavailable)
	p.ranking.DB = db
	require.NoError(t, p.archive.Restore.Run(t.Context()))
	require.EqualValues(t, 1, rdb.ZCard(t.Context(), "rank:{best:all_time}:order").Val())

	server.SetError("LOADING gone")
	require.ErrorIs(t, p.archive.Restore.Run(t.Context()), fault.RedisUnavailable)
}
