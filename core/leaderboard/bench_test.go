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
		rows[i] = []any{"best", "w", player, score, score, place, achieved.UnixMilli(), 0, "event-" + player, "", 1}
	}
	for some := range slices.Chunk(rows, 50_000) {
		require.NoError(b, db.Tx(b.Context(), func(tx *store.Tx) error { return entryTable().Insert(b.Context(), tx.Queries, some) }))
	}
	return bare
}

// BenchmarkRanking measures windows of ten thousand, a million and RANKING_ENTRIES entries, or ten million, which take some 3 GB, on real
// servers: Project of 500 rows and of one, the first 100 rows, and 100 rows around a player. In turn with each, over the same client,
// Redis alone does the least of it, on the same sorted set: it gives as many members another score, one ZADD a row in a pipeline,
// and reads the very rows by ZRANGE WITHSCORES. "x-of-y" is the time of the one over the time of the other at the largest window, and
// "…-grows" the time there over that at the smallest. "B/entry" is what both keys of the largest window weigh when their tables
// have grown.
func BenchmarkRanking(b *testing.B) {
	sql, cache := os.Getenv("TEST_MYSQL_URL"), os.Getenv("TEST_REDIS_URL")
	if sql == "" || cache == "" {
		b.Skip("needs real servers: TEST_MYSQL_URL and TEST_REDIS_URL")
	}
	largest := 10_000_000
	if text := os.Getenv("RANKING_ENTRIES"); text != "" {
		var err error
		largest, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	options, err := redis.ParseURL(cache)
	require.NoError(b, err)
	options.DB = storetest.Redis(b, cache).Options().DB
	// A full pipeline takes Redis a while where others keep the machine busy.
	options.ReadTimeout, options.WriteTimeout = time.Minute, time.Minute
	rdb := redis.NewClient(options)
	defer rdb.Close()
	r := newRanking(b, storetest.MySQL(b, sql), rdb)
	sizes := []int{10_000, 1_000_000, largest}
	windows := make([]*benchWindow, len(sizes))
	for i, n := range sizes {
		windows[i] = fillRedis(b, r, n)
		defer func() { require.NoError(b, r.Drop(b.Context(), "best", windows[i].id)) }() // without a wait for each entry to be freed
	}
	for b.Loop() {
		for _, w := range windows {
			w.round(b, r)
		}
	}
	few, some, many := windows[0].spent, windows[1].spent, windows[2].spent
	rows := map[string]int{"batch": scriptRows, "zadd": scriptRows}
	for _, name := range []string{"batch", "zadd", "one", "zadd-one", "top", "range", "around", "range-around"} {
		b.ReportMetric(many[name].Seconds()/few[name].Seconds(), name+"-grows")
		for _, w := range windows {
			b.ReportMetric(float64(w.spent[name].Nanoseconds())/float64(b.N*max(1, rows[name])), name+"-ns-"+w.id)
		}
	}
	for name, raw := range map[string]string{"batch": "zadd", "one": "zadd-one", "top": "range", "around": "range-around"} {
		b.ReportMetric(many[name].Seconds()/many[raw].Seconds(), name+"-of-"+raw)
	}
	b.ReportMetric(float64(scriptRows*b.N)/some["batch"].Seconds(), "writes/s")
	b.ReportMetric(float64(scriptRows*b.N)/some["zadd"].Seconds(), "zadd/s")
	b.ReportMetric(windows[2].weight(b, r.Redis), "B/entry")
	b.ReportMetric(0, "ns/op")
}

// benchWindow is a window of the board best that is in Redis alone.
type benchWindow struct {
	window
	random  *rand.Rand
	version int64
	times   []int64 // when a player reached his score, in ms
	spent   map[string]time.Duration
}

const benchScores = 100_000

func benchPlayer(i int) string { return fmt.Sprintf("player-%08d", i) }

// fillRedis makes the projection of a window of n entries, without a database to take them from.
func fillRedis(b *testing.B, r *Ranking, n int) *benchWindow {
	in, err := r.window("best", strconv.Itoa(n))
	require.NoError(b, err)
	w := &benchWindow{in, rand.New(rand.NewPCG(13, 14)), 1, make([]int64, n), map[string]time.Duration{}}
	order, players := w.keys()[0], w.keys()[1]
	ready := make(chan redis.Pipeliner, 1) // the next is made while one is on its way
	go func() {
		defer close(ready)
		for from := 0; from < n; {
			p := r.Redis.Pipeline()
			for end := min(n, from+10_000); from < end; from += 1000 {
				var members []redis.Z
				var fields []any
				for i := range min(n-from, 1000) {
					row := w.reach(from + i)
					args := w.appendRow(nil, row, visibility{})
					members = append(members, redis.Z{Score: float64(-row.Score), Member: member(row.AchievedAt, row.Player)})
					fields = append(fields, row.Player, args[3])
				}
				p.ZAdd(b.Context(), order, members...)
				p.HSet(b.Context(), players, fields...)
			}
			ready <- p
		}
	}()
	for p := range ready {
		_, err := p.Exec(b.Context())
		require.NoError(b, err)
	}
	require.NoError(b, r.Redis.HSet(b.Context(), players, "", w.form).Err())
	_, compared, err := r.Agree(b.Context(), "best", w.id, 0, nil)
	require.NoError(b, err)
	require.True(b, compared, "the projection is complete")
	return w
}

// reach has a player reach some score at some time.
func (w *benchWindow) reach(player int) Row {
	w.times[player] = 1_790_000_000_000 + w.random.Int64N(1_000_000_000)
	return Row{
		Board: w.board, Window: w.id, Player: benchPlayer(player), Score: w.random.Int64N(benchScores),
		AchievedAt: at(w.times[player]), Version: w.version,
	}
}

// round writes to the window and reads from it, and adds the times.
func (w *benchWindow) round(b *testing.B, r *Ranking) {
	timed := func(name string, do func() error) {
		began := time.Now()
		err := do()
		w.spent[name] += time.Since(began)
		require.NoError(b, err)
	}
	order := w.keys()[0]
	for n, names := range map[int][2]string{scriptRows: {"batch", "zadd"}, 1: {"one", "zadd-one"}} {
		rows, bare := make([]Row, n), make([]redis.Z, n)
		for i := range n {
			w.version++ // also of a player who is in the batch already
			rows[i] = w.reach(w.random.IntN(len(w.times)))
		}
		timed(names[0], func() error { return r.Project(b.Context(), rows) })
		for i := range n {
			player := w.random.IntN(len(w.times))
			bare[i] = redis.Z{Score: float64(-w.random.Int64N(benchScores)), Member: member(at(w.times[player]), benchPlayer(player))}
		}
		timed(names[1], func() error {
			_, err := r.Redis.Pipelined(b.Context(), func(p redis.Pipeliner) error {
				for _, z := range bare {
					p.ZAdd(b.Context(), order, z)
				}
				return nil
			})
			return err
		})
	}
	q := Query{Board: w.board, Window: w.id, Limit: 100}
	timed("top", func() error { _, err := r.Top(b.Context(), q); return err })
	timed("range", func() error { return r.Redis.ZRangeWithScores(b.Context(), order, 0, 99).Err() })
	var page Page
	timed("around", func() (err error) {
		page, err = r.Around(b.Context(), q, benchPlayer(w.random.IntN(len(w.times))))
		return err
	})
	require.Len(b, page.Rows, 100)
	require.Equal(b, int64(len(w.times)), page.Count)
	first := page.Rows[0].Rank - 1
	timed("range-around", func() error { return r.Redis.ZRangeWithScores(b.Context(), order, first, first+99).Err() })
}

// weight is the bytes of an entry. A table that grows is two for a while, as long as few commands come; asking for random members
// makes Redis finish.
func (w *benchWindow) weight(b *testing.B, rdb redis.UniversalClient) float64 {
	order, players := w.keys()[0], w.keys()[1]
	for range len(w.times) / 400_000 {
		require.NoError(b, rdb.ZRandMember(b.Context(), order, -50_000).Err())
		require.NoError(b, rdb.HRandField(b.Context(), players, -50_000).Err())
	}
	bytes := rdb.MemoryUsage(b.Context(), order, 1000).Val() + rdb.MemoryUsage(b.Context(), players, 1000).Val()
	return float64(bytes) / float64(len(w.times))
}
