package pipeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/leaderboard"
	"liveops/core/pipeline"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// BenchmarkClose measures how long a window of SEASON_ENTRIES entries, or a million, takes from its end into the archive on a real
// server: reading the standings in order, hashing, sealing and writing them. Beside it, in the same run, the same rows are written into an
// identical table and nothing else is done, in transactions of as many rows. "of-insert" is the time of the one over the time of the
// other. The heap is sampled all the while, for a window of a tenth too: it does not grow with the window. What follows, forgetting
// the entries, is told apart.
func BenchmarkClose(b *testing.B) {
	server := os.Getenv("TEST_MYSQL_URL")
	if server == "" {
		b.Skip("needs a real server: TEST_MYSQL_URL")
	}
	entries := 1_000_000
	if text := os.Getenv("SEASON_ENTRIES"); text != "" {
		var err error
		entries, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	for _, n := range []int{entries / 10, entries} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) { benchmarkClose(b, storetest.MySQL(b, server), n) })
	}
}

func benchmarkClose(b *testing.B, db *store.DB, n int) {
	_, err := db.Exec(b.Context(), "CREATE TABLE bare LIKE archive_entry")
	require.NoError(b, err)
	var closing, forgetting, raw time.Duration
	var heap uint64
	for b.Loop() {
		b.StopTimer()
		fillEntries(b, db, n)
		b.StartTimer()
		began := time.Now()
		s, peak := closeWindow(b, db)
		forgetting += s.forgetting
		closing += time.Since(began) - s.forgetting
		heap = max(heap, peak)
		b.StopTimer()
		raw += rawInsert(b, db, n)
		for _, table := range []string{"board_window", "archive", "archive_entry", "archive_block", "archive_chain", "bare"} {
			_, err := db.Exec(b.Context(), "TRUNCATE TABLE "+table)
			require.NoError(b, err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(n*b.N)/closing.Seconds(), "entries/s")
	b.ReportMetric(float64(n*b.N)/raw.Seconds(), "insert/s")
	b.ReportMetric(closing.Seconds()/raw.Seconds(), "of-insert")
	b.ReportMetric(float64(n*b.N)/forgetting.Seconds(), "forget/s")
	b.ReportMetric(float64(heap)/(1<<20), "heap-MiB")
	b.ReportMetric(0, "ns/op")
}

// forgetful tells how long forgetting took.
type forgetful struct {
	pipeline.Standings
	forgetting time.Duration
}

func (f *forgetful) Forget(ctx context.Context, board, window string) (bool, error) {
	began := time.Now()
	defer func() { f.forgetting += time.Since(began) }()
	return f.Standings.Forget(ctx, board, window)
}

// closeWindow takes the window w of the board best from frozen to the end, and gives the most heap that was in use.
func closeWindow(b *testing.B, db *store.DB) (*forgetful, uint64) {
	board := catalog.Board{Operator: "best", Order: "desc", Windows: []string{season.Daily}}
	game := &catalog.Catalog{Version: 1, Boards: map[string]catalog.Board{"best": board}}
	s := &forgetful{Standings: pipeline.Standings{Entries: leaderboard.Entries{Boards: game.Board}, DB: db, Log: slog.New(slog.DiscardHandler)}}
	sealer, err := season.NewSealer(season.Key{Secret: []byte(strings.Repeat("a", 32))})
	require.NoError(b, err)
	windows := &season.Windows{
		DB: db, Now: time.Now, Grace: func() time.Duration { return 0 }, Catalog: func() *catalog.Catalog { return game },
		Standings: s, Rewards: &winners{}, Sealer: sealer, Owner: "bench",
	}
	_, err = db.Exec(b.Context(), "INSERT INTO board_window (board, window_id, cadence, starts_at, ends_at, state, changed_at, lease_owner, lease_until, fence) VALUES ('best', 'w', 'daily', 0, 1, 'frozen', 0, '', 0, 0)")
	require.NoError(b, err)
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-tick.C:
			case <-stop:
				tick.Stop()
				peak <- most
				return
			}
		}
	}()
	report, err := windows.Sweep(b.Context())
	close(stop)
	require.NoError(b, err)
	require.Equal(b, 1, report.Rewarded)
	return s, <-peak
}

// rawInsert writes the rows of the archive into the table bare and gives the time that the writing took.
func rawInsert(b *testing.B, db *store.DB, n int) time.Duration {
	table := store.Table{Name: "bare", Columns: []string{
		"board", "window_id", "position", "tied_position", "player_id", "score", "achieved_at", "event_id", "metadata", "salt",
	}}
	var took time.Duration
	for from := 0; from < n; from += 1000 {
		var rows [][]any
		query := "SELECT position, tied_position, player_id, score, achieved_at, event_id, metadata, salt FROM archive_entry WHERE board = 'best' AND window_id = 'w' AND position > ? AND position <= ? ORDER BY position"
		err := db.Each(b.Context(), query, []any{from, from + 1000}, func(scan func(...any) error) error {
			var position, tied, score, achieved int64
			var player, event, metadata, salt string
			err := scan(&position, &tied, &player, &score, &achieved, &event, &metadata, &salt)
			rows = append(rows, []any{"best", "w", position, tied, player, score, achieved, event, metadata, salt})
			return err
		})
		require.NoError(b, err)
		began := time.Now()
		require.NoError(b, db.Tx(b.Context(), func(tx *store.Tx) error { return table.Insert(b.Context(), tx.Queries, rows) }))
		took += time.Since(began)
	}
	return took
}

// fillEntries makes n entries of the window w of the board best, of players in no order, many of them tied.
func fillEntries(b *testing.B, db *store.DB, n int) {
	random := rand.New(rand.NewPCG(11, 12))
	columns := []string{"board", "window_id", "player_id", "score", "total", "standing", "achieved_at", "seq", "event_id", "version", "metadata"}
	table := store.Table{Name: "entry", Columns: columns}
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	for some := range slices.Chunk(numbers, 20_000) {
		rows := make([][]any, len(some))
		for i, number := range some {
			score := random.Int64N(100_000)
			rows[i] = []any{
				"best", "w", fmt.Sprintf("player-%08d", number), score, score, -score, 1_790_000_000_000 + random.Int64N(1_000_000_000), 0,
				fmt.Sprintf("01a202d6-572e-7218-93e0-%012d", number), 1, `{"hero":"ember"}`,
			}
		}
		require.NoError(b, db.Tx(b.Context(), func(tx *store.Tx) error { return table.Insert(b.Context(), tx.Queries, rows) }))
	}
}
