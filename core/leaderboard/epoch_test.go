package leaderboard

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestAnEpochLastsAsLongAsRedisKeepsIt(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		one, other := newRanking(t, db, rdb), newRanking(t, db, rdb)
		began := time.Now().UnixMilli()
		first, err := one.Epoch(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, first, began)
		again, err := other.Epoch(t.Context())
		require.NoError(t, err)
		require.Equal(t, first, again, "every process finds the same")

		require.NoError(t, rdb.Del(t.Context(), epochKey).Err())
		second, err := one.Epoch(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, second, first)

		// An epoch that seems to come from the future, by another server's clock.
		require.NoError(t, rdb.HSet(t.Context(), epochKey, "epoch", "9007199254740000").Err())
		another(t, rdb)
		third, err := one.Epoch(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 9007199254740001, third)
	})
}

// another makes Redis look as if another server had taken over what it holds.
func another(t *testing.T, rdb *redis.Client) {
	t.Helper()
	for field := range rdb.HGetAll(t.Context(), epochKey).Val() {
		if strings.HasPrefix(field, "server:") {
			require.NoError(t, rdb.HDel(t.Context(), epochKey, field).Err())
		}
	}
}

// TestARedisThatWentBack starts from a snapshot in which a window was complete and older.
func TestARedisThatWentBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		_, err := r.Epoch(t.Context())
		require.NoError(t, err)
		old := mergeScores(t, db, tied("best", "w", 20)...)
		require.NoError(t, r.Project(t.Context(), old))
		require.NoError(t, r.Complete(t.Context(), "best", "w"))
		w, err := r.window("best", "w")
		require.NoError(t, err)
		for _, key := range w.keys()[:2] {
			require.NoError(t, rdb.Copy(t.Context(), key, key+":snapshot", rdb.Options().DB, true).Err())
		}

		changed := mergeScores(t, db, Score{Board: "best", Window: "w", Player: old[7].Player, Score: 1 << 40, At: at(1), EventID: "later", Fresh: true})
		require.NoError(t, r.Project(t.Context(), changed))
		want := paged(t, r, "best", "w", 7)
		require.Equal(t, old[7].Player, want[0].Player)
		for _, key := range w.keys()[:2] {
			require.NoError(t, rdb.Rename(t.Context(), key+":snapshot", key).Err())
		}
		another(t, rdb)
		reader := newRanking(t, db, rdb)
		_, err = reader.Epoch(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, paged(t, reader, "best", "w", 7))
		require.Equal(t, want, paged(t, r, "best", "w", 7), "one who has not heard of the new epoch takes what was made in it")
		require.NoError(t, r.Complete(t.Context(), "best", "w"))
	})
}

func TestEpochWithoutRedis(t *testing.T) {
	t.Parallel()
	r := newRanking(t, storetest.SQLite(t), gone(t))
	_, err := r.Epoch(t.Context())
	require.ErrorIs(t, err, fault.RedisUnavailable)
	require.ErrorIs(t, r.Complete(t.Context(), "best", "w"), fault.RedisUnavailable)
	require.ErrorIs(t, r.Complete(t.Context(), "nothing", "w"), fault.BoardNotFound)
}

// TestSQLTakesAFewReads has more readers than SQL has places, with Redis gone.
func TestSQLTakesAFewReads(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		r := newRanking(t, db, gone(t))
		mergeScores(t, db, tied("best", "w", 20)...)
		for range cap(r.sqlReads) {
			r.sqlReads <- struct{}{}
		}
		for name, read := range reads(r, "best") {
			require.ErrorIs(t, read(t.Context()), fault.RedisUnavailable, name)
		}
		<-r.sqlReads
		page, err := r.Top(t.Context(), Query{Board: "best", Window: "w", Limit: 3})
		require.NoError(t, err)
		require.Len(t, page.Rows, 3)
		require.Len(t, r.sqlReads, cap(r.sqlReads)-1, "the place is free again")
	})
}
