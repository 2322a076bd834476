package leaderboard

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/core/store/storetest"
)

// BenchmarkRebuild measures the rebuild of one window, of REBUILD_ENTRIES entries or a million, on real servers. Beside it, in
// turn, the same members and scores are written to a bare sorted set: one ZADD an entry, a thousand in a pipeline. "of-zadd" is the time of
// the one over the time of the other.
func BenchmarkRebuild(b *testing.B) {
	sql, cache := os.Getenv("TEST_MYSQL_URL"), os.Getenv("TEST_REDIS_URL")
	if sql == "" || cache == "" {
		b.Skip("needs real servers: TEST_MYSQL_URL and TEST_REDIS_URL")
	}
	entries := 1_000_000
	if text := os.Getenv("REBUILD_ENTRIES"); text != "" {
		var err error
		entries, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	db, rdb := storetest.MySQL(b, sql), storetest.Redis(b, cache)
	r := newRanking(b, db, rdb)
	bare := fillWindow(b, db, entries)
	var raw, rebuild time.Duration
	for b.Loop() {
		began := time.Now()
		for some := range slices.Chunk(bare, 1000) {
			_, err := rdb.Pipelined(b.Context(), func(p redis.Pipeliner) error {
				for _, z := range some {
					p.ZAdd(b.Context(), "bare", z)
				}
				return nil
			})
			require.NoError(b, err)
		}
		raw += time.Since(began)
		require.Equal(b, int64(entries), rdb.ZCard(b.Context(), "bare").Val())
		require.NoError(b, rdb.Del(b.Context(), "bare").Err())

		began = time.Now()
		require.NoError(b, r.Rebuild(b.Context(), "best", "w"))
		rebuild += time.Since(began)
		require.Equal(b, int64(entries), rdb.ZCard(b.Context(), "rank:{best:w}:order").Val())
		require.NoError(b, r.Drop(b.Context(), "best", "w"))
	}
	b.ReportMetric(float64(entries*b.N)/rebuild.Seconds(), "entries/s")
	b.ReportMetric(float64(entries*b.N)/raw.Seconds(), "zadd/s")
	b.ReportMetric(rebuild.Seconds()/raw.Seconds(), "of-zadd")
	b.ReportMetric(0, "ns/op")
}

// fillWindow makes n entries of the window w of the board best, and gives what a sorted set holds of them, in the order of player ids.
func fillWindow(b *testing.B, db *store.DB, n int) []redis.Z {
	random := rand.New(rand.NewPCG(11, 12))
	bare, rows := make([]redis.Z, n), make([][]any, n)
	for i := range n {
		player, achieved := fmt.Sprintf("player-%08d", i), at(1_790_000_000_000+random.Int64N(1_000_000_000))
		score := random.Int64N(100_000)
		place := standing("desc", score)
		bare[i] = redis.Z{Score: float64(place), Member: member(achieved, player)}
		rows[i] = []any{"best", "w", player, score, score, place, achieved.UnixMilli(), 0, "event-" + player, 1}
	}
	for some := range slices.Chunk(rows, 50_000) {
		require.NoError(b, db.Tx(b.Context(), func(tx *store.Tx) error { return entryTable().Insert(b.Context(), tx.Queries, some) }))
	}
	return bare
}
