package leaderboard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// ctxOf is the context of a testing.T or rapid.T.
func ctxOf(t require.TestingT) context.Context {
	return t.(interface{ Context() context.Context }).Context()
}

var cursorKey = []byte("a cursor key of thirty-two bytes")

func newRanking(t require.TestingT, db *store.DB, rdb redis.UniversalClient) *Ranking {
	r, err := NewRanking(rdb, db, entries, cursorKey)
	require.NoError(t, err)
	return r
}

// gone is a Redis that is out of reach.
func gone(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DisableIdentity: true})
	require.NoError(t, rdb.Close())
	return rdb
}

// ranked orders rows the naive way.
func ranked(board string, rows []Row) []Ranked {
	asc := boards[board].Order == "asc"
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Row) int {
		switch {
		case a.Score != b.Score && (a.Score < b.Score) == asc:
			return -1
		case a.Score != b.Score:
			return 1
		case !a.AchievedAt.Equal(b.AchievedAt):
			return a.AchievedAt.Compare(b.AchievedAt)
		}
		return strings.Compare(a.Player, b.Player)
	})
	out := make([]Ranked, len(rows))
	for i, row := range rows {
		out[i] = Ranked{Rank: int64(i + 1), TiedRank: int64(i + 1), Player: row.Player, Score: row.Score, AchievedAt: row.AchievedAt}
		if boards[board].Entry != nil {
			out[i].Metadata = row.Metadata
		}
		if i > 0 && rows[i-1].Score == row.Score {
			out[i].TiedRank = out[i-1].TiedRank
		}
	}
	return out
}

// paged reads a window from its first page to the last one and back again.
func paged(t require.TestingT, r *Ranking, board, window string, limit int) []Ranked {
	return allPages(t, r, Query{Board: board, Window: window, Limit: limit})
}

// allPages reads what q asks for from the first page to the last one and back again.
func allPages(t require.TestingT, r *Ranking, q Query) []Ranked {
	var forth, back []Ranked
	page, err := r.Page(ctxOf(t), q)
	require.NoError(t, err)
	require.Empty(t, page.Prev)
	for {
		forth = append(forth, page.Rows...)
		if page.Next == "" {
			break
		}
		require.Len(t, page.Rows, q.Limit)
		q.Cursor = page.Next
		page, err = r.Page(ctxOf(t), q)
		require.NoError(t, err)
		require.NotEmpty(t, page.Prev)
	}
	for {
		back = append(slices.Clone(page.Rows), back...)
		if page.Prev == "" {
			break
		}
		q.Cursor = page.Prev
		page, err = r.Page(ctxOf(t), q)
		require.NoError(t, err)
	}
	require.Equal(t, forth, back)
	require.Equal(t, page.Count, int64(len(forth)))
	return forth
}

// checkAround compares a player's neighbourhood with the window's whole order.
func checkAround(t require.TestingT, r *Ranking, board, window string, want []Ranked, i, limit int) {
	checkAroundFor(t, r, Query{Board: board, Window: window, Limit: limit}, want, i)
}

func checkAroundFor(t require.TestingT, r *Ranking, q Query, want []Ranked, i int) {
	page, err := r.Around(ctxOf(t), q, want[i].Player)
	require.NoError(t, err)
	n := min(q.Limit, len(want))
	first := max(0, min(i-q.Limit/2, len(want)-n))
	require.Equal(t, want[first:first+n], page.Rows)
	require.Equal(t, int64(len(want)), page.Count)
	require.Equal(t, first > 0, page.Prev != "")
	require.Equal(t, first+n < len(want), page.Next != "")
}

// TestRankingModel plays random scores, in random batches with redeliveries, and compares every read with the naive order.
func TestRankingModel(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r, without := newRanking(t, db, rdb), newRanking(t, db, gone(t))
		windows := 0
		rapid.Check(t, func(t *rapid.T) {
			windows++
			window := fmt.Sprint("w", windows)
			board := rapid.SampledFrom(slices.Sorted(maps.Keys(boards))).Draw(t, "board")
			var played []Score
			for i := range rapid.IntRange(1, 40).Draw(t, "events") {
				played = append(played, Score{
					Board: board, Window: window, EventID: fmt.Sprint("e", i), Fresh: true,
					Player: rapid.StringMatching(`[aA_-]{1,2}[0-2]?`).Draw(t, "player"),
					Score:  rapid.SampledFrom(values).Draw(t, "score"),
					At:     at(rapid.SampledFrom([]int64{0, 1, 15, 16, 1_650_000_000_000, latestAt}).Draw(t, "at")),
					Seq:    rapid.Int64Range(0, 1).Draw(t, "seq"),

					Metadata: hero(fmt.Sprint("e", i)),
				})
			}
			byPlayer := map[string][]Score{}
			for _, s := range played {
				byPlayer[s.Player] = append(byPlayer[s.Player], s)
			}
			var rows []Row
			for _, scores := range byPlayer {
				rows = append(rows, naive(board, scores))
			}
			want := ranked(board, rows)

			var stale []Row
			order := rapid.Permutation(played).Draw(t, "order")
			size := rapid.IntRange(5, 40).Draw(t, "batch")
			for batch := range slices.Chunk(order, size) {
				current := mergeScores(t, db, batch...)
				again := slices.Clone(batch)
				for i := range again {
					again[i].Fresh = false
				}
				require.ElementsMatch(t, current, mergeScores(t, db, again...))
				stale = append(stale, current...)
				switch rapid.IntRange(0, 3).Draw(t, "project") {
				case 0: // lost until a redelivery
				case 1:
					require.NoError(t, r.Project(ctxOf(t), rapid.Permutation(stale).Draw(t, "late")))
				default:
					require.NoError(t, r.Project(ctxOf(t), current))
				}
			}
			require.NoError(t, r.Project(ctxOf(t), rapid.Permutation(stale).Draw(t, "late")))

			require.Equal(t, want, paged(t, r, board, window, rapid.IntRange(1, 8).Draw(t, "limit")))
			top, err := r.Top(ctxOf(t), Query{Board: board, Window: window, Limit: 3, Cursor: "ignored"})
			require.NoError(t, err)
			require.Equal(t, want[:min(3, len(want))], top.Rows)
			for i, row := range want {
				checkAround(t, r, board, window, want, i, rapid.IntRange(1, 7).Draw(t, "around"))
				one, err := r.Player(ctxOf(t), Query{Board: board, Window: window}, row.Player)
				require.NoError(t, err)
				require.Equal(t, row, one)
			}
			n, err := r.Count(ctxOf(t), board, window)
			require.NoError(t, err)
			require.Equal(t, int64(len(want)), n)
			_, err = r.Player(ctxOf(t), Query{Board: board, Window: window}, "nobody")
			require.ErrorIs(t, err, fault.NotRanked)
			checkLookups(t, r, Query{Board: board, Window: window}, want, nil)
			require.Equal(t, want, ranked(board, allRows(t, db, board, window)))

			require.NoError(t, r.Drop(ctxOf(t), board, window))
			require.Equal(t, want, paged(t, r, board, window, 5))

			require.Equal(t, want, paged(t, without, board, window, rapid.IntRange(1, 8).Draw(t, "limit without Redis")))
			for i := range want {
				checkAround(t, without, board, window, want, i, rapid.IntRange(1, 7).Draw(t, "around without Redis"))
			}
			_, err = without.Player(ctxOf(t), Query{Board: board, Window: window}, "nobody")
			require.ErrorIs(t, err, fault.NotRanked)
			checkLookups(t, without, Query{Board: board, Window: window}, want, nil)
		})
	})
}

// TestProjectInAnyOrder projects the versions of some rows as they came about, and shuffled with repeats.
func TestProjectInAnyOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		random := rand.New(rand.NewPCG(3, 4))
		var history []Row
		for player := range 40 {
			row := Row{}
			for i := range 1 + random.IntN(12) {
				row = row.Merge(boards["latest"], Score{
					Board: "latest", Window: "w0", Player: fmt.Sprint("p", player),
					Score: int64(random.IntN(5)), At: at(int64(i / 2)), EventID: fmt.Sprint(i),
				})
				history = append(history, row)
			}
		}
		state := func(window string) ([]redis.Z, map[string]string) {
			order, err := rdb.ZRangeWithScores(t.Context(), "rank:{latest:"+window+"}:order", 0, -1).Result()
			require.NoError(t, err)
			players, err := rdb.HGetAll(t.Context(), "rank:{latest:"+window+"}:players").Result()
			require.NoError(t, err)
			return order, players
		}
		project := func(window string, rows []Row) {
			_, err := r.Count(t.Context(), "latest", window) // an empty window is complete, so nothing is rebuilt meanwhile
			require.NoError(t, err)
			rows = slices.Clone(rows)
			for i := range rows {
				rows[i].Window = window
			}
			for len(rows) > 0 {
				n := min(len(rows), 1+random.IntN(20))
				require.NoError(t, r.Project(t.Context(), rows[:n]))
				rows = rows[n:]
			}
		}
		project("w0", history)
		wantOrder, wantPlayers := state("w0")
		require.Len(t, wantOrder, 40)
		require.Len(t, wantPlayers, 41)
		for i := range 8 {
			window := fmt.Sprint("w", i+1)
			shuffled := append(slices.Clone(history), history[:i*10]...)
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			project(window, shuffled)
			order, players := state(window)
			require.Equal(t, wantOrder, order)
			require.Equal(t, wantPlayers, players)
		}
	})
}

func TestPagesThroughDenseTies(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		const n = 2000
		for _, board := range []string{"best", "best-asc"} {
			scores := tied(board, "w", n)
			rows := mergeScores(t, db, scores...)
			require.NoError(t, r.Project(t.Context(), rows))
			want := ranked(board, rows)
			require.Less(t, want[n-1].TiedRank, int64(n))
			for _, limit := range []int{97, MaxLimit} {
				require.Equal(t, want, paged(t, r, board, "w", limit))
			}
			for _, i := range []int{0, 1, 49, n / 2, n - 51, n - 1} {
				checkAround(t, r, board, "w", want, i, 100)
			}
		}
		page, err := r.Top(t.Context(), Query{Board: "best", Window: "w", Limit: 1_000_000})
		require.NoError(t, err)
		require.Len(t, page.Rows, MaxLimit)
		page, err = r.Top(t.Context(), Query{Board: "best", Window: "w", Limit: -1})
		require.NoError(t, err)
		require.Len(t, page.Rows, 1)
	})
}

// TestPagesWhileRowsMove moves the very row a cursor was made of, and others, between two pages.
func TestPagesWhileRowsMove(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		scores := tied("latest", "w", 300)
		require.NoError(t, r.Project(t.Context(), mergeScores(t, db, scores...)))
		before := paged(t, r, "latest", "w", 50)
		stays := map[string]bool{}
		for _, row := range before {
			stays[row.Player] = true
		}
		var seen []string
		q := Query{Board: "latest", Window: "w", Limit: 7}
		for i := 0; ; i++ {
			page, err := r.Page(t.Context(), q)
			require.NoError(t, err)
			for _, row := range page.Rows {
				seen = append(seen, row.Player)
			}
			if page.Next == "" {
				break
			}
			q.Cursor = page.Next
			// The last row of the page goes to the other end or into another tie; one far ahead comes nearer.
			for _, mover := range []Ranked{page.Rows[len(page.Rows)-1], before[(i*31)%len(before)]} {
				stays[mover.Player] = false
				require.NoError(t, r.Project(t.Context(), mergeScores(t, db, Score{
					Board: "latest", Window: "w", Player: mover.Player,
					Score: int64(i%5) - 2, At: at(1_660_000_000_000 + int64(i)), EventID: fmt.Sprint("move", i), Fresh: true,
				})))
			}
		}
		var want, got []string
		for _, row := range before {
			if stays[row.Player] {
				want = append(want, row.Player)
			}
		}
		for _, player := range seen {
			if stays[player] {
				got = append(got, player)
			}
		}
		require.Greater(t, len(want), 100)
		require.Equal(t, want, got)

		// A cursor whose row is gone, as after an erasure, still marks the place it had.
		order := paged(t, r, "latest", "w", 50)
		cursor := r.cursor(window{board: "latest", id: "w"}, order[149], false)
		gone := member(order[149].AchievedAt, order[149].Player)
		require.NoError(t, rdb.ZRem(t.Context(), "rank:{latest:w}:order", gone).Err())
		require.NoError(t, rdb.HDel(t.Context(), "rank:{latest:w}:players", order[149].Player).Err())
		page, err := r.Page(t.Context(), Query{Board: "latest", Window: "w", Limit: 1, Cursor: cursor})
		require.NoError(t, err)
		require.Equal(t, order[150].Player, page.Rows[0].Player)
		require.Equal(t, int64(150), page.Rows[0].Rank)
		page, err = r.Page(t.Context(), Query{Board: "latest", Window: "w", Limit: 1, Cursor: page.Prev})
		require.NoError(t, err)
		require.Equal(t, order[148].Player, page.Rows[0].Player)
	})
}

// TestRedisLosesThings takes parts of a projection away; every read after it must be as before.
func TestRedisLosesThings(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		const order, players = "rank:{sum:w}:order", "rank:{sum:w}:players"
		rows := mergeScores(t, db, tied("sum", "w", 300)...)
		want := ranked("sum", rows)
		some := want[200]
		for name, lose := range map[string]func(ctx context.Context) error{
			"nothing was ever there": func(context.Context) error { return nil },
			"everything":             func(ctx context.Context) error { return rdb.Del(ctx, order, players).Err() },
			"the order":              func(ctx context.Context) error { return rdb.Del(ctx, order).Err() },
			"the players":            func(ctx context.Context) error { return rdb.Del(ctx, players).Err() },
			"the marker":             func(ctx context.Context) error { return rdb.HDel(ctx, players, "").Err() },
			"a row of the order": func(ctx context.Context) error {
				return rdb.ZRem(ctx, order, member(some.AchievedAt, some.Player)).Err()
			},
			"a player":        func(ctx context.Context) error { return rdb.HDel(ctx, players, some.Player).Err() },
			"its other order": func(ctx context.Context) error { return rdb.HSet(ctx, players, "", "3:asc:0").Err() },
			"all but new rows": func(ctx context.Context) error {
				_ = rdb.Del(ctx, order, players).Err()
				return r.Project(ctx, rows[:5])
			},
			"the order, then rows come": func(ctx context.Context) error {
				_ = rdb.Del(ctx, order).Err()
				return r.Project(ctx, rows[:5])
			},
			"the scripts": func(ctx context.Context) error { return rdb.ScriptFlush(ctx).Err() },
		} {
			require.NoError(t, lose(t.Context()), name)
			one, err := r.Player(t.Context(), Query{Board: "sum", Window: "w"}, some.Player)
			require.NoError(t, err, name)
			require.Equal(t, some, one, name)
			require.NoError(t, lose(t.Context()), name)
			require.Equal(t, want, paged(t, r, "sum", "w", 120), name)
			require.NoError(t, lose(t.Context()), name)
			checkAround(t, r, "sum", "w", want, 200, 11)
		}
	})
}

func TestProjectSetsARebuildGoing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		rows := mergeScores(t, db, tied("best", "w", 50)...)
		require.NoError(t, r.Project(t.Context(), rows[:1]))
		require.Eventually(t, func() bool {
			return rdb.HGet(t.Context(), "rank:{best:w}:players", "").Val() == "3:desc:0"
		}, 10*time.Second, time.Millisecond)
		require.Equal(t, int64(50), rdb.ZCard(t.Context(), "rank:{best:w}:order").Val())
	})
}

// TestAScriptCacheIsNotNeeded projects after the server forgot the scripts, as after a restart.
func TestAScriptCacheIsNotNeeded(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	db := storetest.SQLite(t)
	r := newRanking(t, db, rdb)
	for i := range 3 {
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		rows := mergeScores(t, db, Score{Board: "sum", Window: "w", Player: "p", Score: 1, At: at(int64(i)), EventID: fmt.Sprint(i), Fresh: true},
			Score{Board: "best", Window: "w", Player: "p", Score: 1, At: at(int64(i)), EventID: fmt.Sprint(i), Fresh: true})
		require.NoError(t, r.Project(t.Context(), rows))
		one, err := r.Player(t.Context(), Query{Board: "sum", Window: "w"}, "p")
		require.NoError(t, err)
		require.Equal(t, int64(i+1), one.Score)
	}
}

// TestRebuildsAndWriters rebuilds one window from two processes over and over while others write and read it.
func TestRebuildsAndWriters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		rankings := []*Ranking{newRanking(t, db, rdb), newRanking(t, db, rdb)}
		mergeScores(t, db, tied("latest", "w", 1500)...)
		const writers, rounds = 3, 25
		var writing, others sync.WaitGroup
		var done atomic.Bool
		fail := make(chan error, 100)
		for w := range writers {
			writing.Go(func() {
				random := rand.New(rand.NewPCG(5, uint64(w)))
				var late []Row
				for i := range rounds {
					var scores []Score
					for range 5 {
						scores = append(scores, Score{
							Board: "latest", Window: "w", Player: fmt.Sprintf("w%d-%d", w, random.IntN(30)),
							Score: int64(random.IntN(9)), At: at(int64(i)), EventID: fmt.Sprintf("%d-%d", i, random.Int()), Fresh: true,
						})
					}
					rows := mergeScores(t, db, scores...)
					late = append(late, rows...)
					random.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
					if i%3 == 0 {
						continue // its rows come later, with others
					}
					fail <- rankings[w%2].Project(t.Context(), late)
				}
				fail <- rankings[w%2].Project(t.Context(), late)
			})
		}
		for _, r := range rankings {
			others.Go(func() {
				for !done.Load() {
					fail <- r.Rebuild(t.Context(), "latest", "w")
				}
			})
			others.Go(func() {
				for !done.Load() {
					page, err := r.Top(t.Context(), Query{Board: "latest", Window: "w", Limit: 10})
					if err == nil && page.Count < 1500 {
						err = fmt.Errorf("read a window of %d rows", page.Count)
					}
					fail <- err
				}
			})
		}
		go func() {
			writing.Wait()
			done.Store(true)
			others.Wait()
			close(fail)
		}()
		for err := range fail {
			if !errors.Is(err, fault.Rebuilding) { // a read may find itself outrun by rebuilds
				require.NoError(t, err)
			}
		}
		want := ranked("latest", allRows(t, db, "latest", "w"))
		require.Equal(t, want, paged(t, rankings[0], "latest", "w", 400))
		require.Zero(t, rdb.Exists(t.Context(), "rank:{latest:w}:rebuild").Val())
	})
}

// TestARebuildElsewhere has another process hold the lease.
func TestARebuildElsewhere(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		rows := mergeScores(t, db, tied("best", "w", 30)...)
		w, err := r.window("best", "w")
		require.NoError(t, err)
		lease := w.keys()[2]
		require.NoError(t, rdb.Set(t.Context(), lease, "theirs", time.Hour).Err())

		r.Patience = 300 * time.Millisecond // time enough to ask, on a machine that is busy
		top, err := r.Top(t.Context(), Query{Board: "best", Window: "w", Limit: 1})
		require.NoError(t, err)
		require.Equal(t, ranked("best", rows)[:1], top.Rows, "SQL answers meanwhile")
		r.sqlReads = nil // it has enough to do
		_, err = r.Top(t.Context(), Query{Board: "best", Window: "w", Limit: 1})
		require.ErrorIs(t, err, fault.Rebuilding)
		require.ErrorIs(t, err, fault.Unavailable)
		require.Equal(t, time.Second, asFault(t, err).RetryAfter)
		r.Patience = 0
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, r.ensure(ctx, w), fault.Rebuilding)
		require.NoError(t, r.Project(t.Context(), rows[:3])) // does not wait
		require.Equal(t, int64(3), rdb.ZCard(t.Context(), w.keys()[0]).Val())

		// A rebuild that lost its lease writes nothing more and marks nothing.
		done, err := r.fill(t.Context(), w, "mine")
		require.NoError(t, err)
		require.False(t, done)
		require.Equal(t, int64(3), rdb.ZCard(t.Context(), w.keys()[0]).Val())
		require.Equal(t, "theirs", rdb.Get(t.Context(), lease).Val())

		ended, err := endScript.Run(t.Context(), rdb, w.keys(), w.form, "mine", "3").Int()
		require.NoError(t, err)
		require.Zero(t, ended, "everything seems to be there, and yet it is not for us to say so")
		require.Equal(t, "theirs", rdb.Get(t.Context(), lease).Val())

		// One whose rows were lost on the way marks nothing either.
		ended, err = endScript.Run(t.Context(), rdb, w.keys(), w.form, "theirs", "30").Int()
		require.NoError(t, err)
		require.Zero(t, ended)

		// The lease is free now: whoever waits goes ahead.
		page, err := r.Top(t.Context(), Query{Board: "best", Window: "w", Limit: 100})
		require.NoError(t, err)
		require.Equal(t, ranked("best", rows), page.Rows)

		// An operator's rebuild does not wait for a lease.
		require.NoError(t, rdb.Set(t.Context(), lease, "theirs", time.Hour).Err())
		require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
		require.Zero(t, rdb.Exists(t.Context(), lease).Val())
	})
}

// onPipeline runs a function before every pipeline, which it gives the number of.
type onPipeline func(n int)

func (onPipeline) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (onPipeline) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (do onPipeline) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	n := 0
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n++
		do(n)
		return next(ctx, cmds)
	}
}

// TestRebuildOverPages rebuilds a window of several pages, and cuts it between two of them.
func TestRebuildOverPages(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		rows := mergeScores(t, db, tied("best", "w", 2*rebuildPage+scriptRows+1)...)
		w, err := r.window("best", "w")
		require.NoError(t, err)
		order, lease := w.keys()[0], w.keys()[2]
		require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
		var want []string
		for _, row := range ranked("best", rows) {
			want = append(want, member(row.AchievedAt, row.Player))
		}
		require.Equal(t, want, rdb.ZRange(t.Context(), order, 0, -1).Val())
		require.NoError(t, r.Drop(t.Context(), "best", "w"))
		require.NoError(t, rdb.Set(t.Context(), lease, "mine", time.Hour).Err())
		others := redis.NewClient(rdb.Options()) // without the hook
		defer others.Close()
		rdb.AddHook(onPipeline(func(n int) {
			if n == 2 {
				require.NoError(t, others.Set(t.Context(), lease, "theirs", time.Hour).Err())
			}
		}))
		done, err := r.fill(t.Context(), w, "mine")
		require.NoError(t, err)
		require.False(t, done)
		require.Equal(t, int64(rebuildPage), rdb.ZCard(t.Context(), order).Val(), "nothing is written without the lease")
		require.Equal(t, "theirs", rdb.Get(t.Context(), lease).Val())
	})
}

// TestARebuildIsCut has the database go away between two pages.
func TestARebuildIsCut(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	db := storetest.SQLite(t)
	r := newRanking(t, db, rdb)
	mergeScores(t, db, tied("best", "w", 3*rebuildPage)...)
	rdb.AddHook(onPipeline(func(n int) {
		if n == 1 {
			require.NoError(t, db.Close())
		}
	}))
	require.ErrorIs(t, r.Rebuild(t.Context(), "best", "w"), fault.DatabaseUnavailable)
	require.Zero(t, rdb.Exists(t.Context(), "rank:{best:w}:rebuild").Val(), "the lease was given back")
	require.Empty(t, rdb.HGet(t.Context(), "rank:{best:w}:players", "").Val(), "and nothing marked complete")
}

// cutAt cancels a context when Redis has done so many commands, and keeps the answer to the last one to itself.
type cutAt struct {
	left   int
	cancel context.CancelFunc
}

func (*cutAt) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *cutAt) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if c.left--; c.left == 0 {
			c.cancel()
			err = ctx.Err()
			cmd.SetErr(err)
		}
		return err
	}
}

func (*cutAt) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Whoever waits for a rebuild may go away at any moment, also when Redis has begun it and he does not know: the next one need not wait for the lease.
func TestARebuildIsGivenUp(t *testing.T) {
	t.Parallel()
	for commands := 1; ; commands++ {
		rdb, _ := storetest.Miniredis(t)
		db := storetest.SQLite(t)
		mergeScores(t, db, tied("best", "w", 3)...)
		cut := &cutAt{left: commands}
		rdb.AddHook(cut)
		ctx, cancel := context.WithCancel(t.Context())
		cut.cancel = cancel
		err := newRanking(t, db, rdb).Rebuild(ctx, "best", "w")
		cancel()
		require.Zero(t, rdb.Exists(t.Context(), "rank:{best:w}:rebuild").Val(), "after %d commands", commands)
		if err == nil {
			require.Greater(t, commands, 2)
			return
		}
	}
}

func asFault(t require.TestingT, err error) *fault.Error {
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	return f
}

func TestExtremeScores(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		for board := range boards {
			var scores []Score
			for i, v := range []int64{0, 1, -1, event.MaxInteger, event.MaxInteger - 1, -event.MaxInteger, 1 - event.MaxInteger, 9007199254740881} {
				for _, twin := range []string{"a", "b"} {
					scores = append(scores, Score{Board: board, Window: "w", Player: fmt.Sprint(twin, i), Score: v, At: at(latestAt), EventID: "e", Fresh: true})
				}
			}
			rows := mergeScores(t, db, scores...)
			require.NoError(t, r.Project(t.Context(), rows))
			require.Equal(t, ranked(board, rows), paged(t, r, board, "w", 1))
			zero := rdb.ZScore(t.Context(), "rank:{"+board+":w}:order", member(at(latestAt), "a0")).Val()
			require.Equal(t, "0", fmt.Sprint(zero)) // not -0
		}
	})
}

func TestEmptyWindow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		page, err := r.Top(t.Context(), Query{Board: "best", Window: "w", Limit: 10})
		require.NoError(t, err)
		require.Equal(t, Page{}, page)
		n, err := r.Count(t.Context(), "best", "w")
		require.NoError(t, err)
		require.Zero(t, n)
		for _, player := range []string{"p", ""} {
			_, err = r.Around(t.Context(), Query{Board: "best", Window: "w", Limit: 10}, player)
			require.ErrorIs(t, err, fault.NotRanked)
			require.ErrorIs(t, err, fault.NotFound)
		}
		require.NoError(t, r.Project(t.Context(), nil))
		for name, call := range reads(r, "nosuch") {
			require.ErrorIs(t, call(t.Context()), fault.BoardNotFound, name)
		}
		require.NoError(t, r.Project(t.Context(), []Row{{Board: "nosuch", Window: "w", Player: "p", Version: 1}}))
		require.Zero(t, rdb.Exists(t.Context(), "rank:{nosuch:w}:order").Val())
	})
}

// reads are all the calls that ask for something of a board.
func reads(r *Ranking, board string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"top": func(ctx context.Context) error {
			_, err := r.Top(ctx, Query{Board: board, Window: "w", Limit: 10})
			return err
		},
		"page": func(ctx context.Context) error {
			at := r.cursors.seal(cursor{board: board, window: "w", member: member(at(1), "p")})
			_, err := r.Page(ctx, Query{Board: board, Window: "w", Limit: 10, Cursor: at})
			return err
		},
		"around": func(ctx context.Context) error {
			_, err := r.Around(ctx, Query{Board: board, Window: "w", Limit: 5}, "p")
			return err
		},
		"player": func(ctx context.Context) error {
			_, err := r.Player(ctx, Query{Board: board, Window: "w"}, "p")
			return err
		},
		"count": func(ctx context.Context) error { _, err := r.Count(ctx, board, "w"); return err },
		"lookup": func(ctx context.Context) error {
			_, _, err := r.Lookup(ctx, Query{Board: board, Window: "w"}, []string{"p", "q"})
			return err
		},
		"rank of": func(ctx context.Context) error {
			_, _, err := r.RankOf(ctx, Query{Board: board, Window: "w"}, 7)
			return err
		},
		"rebuild": func(ctx context.Context) error { return r.Rebuild(ctx, board, "w") },
	}
}

// trips counts the exchanges with Redis.
type trips struct{ n atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.n.Add(1); return next(ctx, cmd) }
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.n.Add(1); return next(ctx, cmds) }
}

func TestOneRoundTrip(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		var rows []Row
		for _, board := range []string{"best", "sum"} {
			rows = append(rows, mergeScores(t, db, Score{Board: board, Window: "w", Player: "p", Score: 1, At: at(1), EventID: "e", Fresh: true})...)
			require.NoError(t, r.Rebuild(t.Context(), board, "w"))
		}
		calls := reads(r, "best")
		delete(calls, "rebuild")
		calls["project"] = func(ctx context.Context) error { return r.Project(ctx, rows) }
		calls["agree"] = func(ctx context.Context) error { _, _, err := r.Agree(ctx, "best", "w", 0, rows[:1]); return err }
		for _, call := range calls {
			require.NoError(t, call(t.Context())) // loads the scripts
		}
		count := &trips{}
		rdb.AddHook(count)
		for name, call := range calls {
			before := count.n.Load()
			require.NoError(t, call(t.Context()), name)
			require.Equal(t, int64(1), count.n.Load()-before, name)
		}
	})
}

func TestRedisDown(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	db := storetest.SQLite(t)
	r := newRanking(t, db, rdb)
	rows := mergeScores(t, db, Score{Board: "best", Window: "w", Player: "p", Score: 1, At: at(1), EventID: "e", Fresh: true})
	server.Close()
	r.sqlReads = nil
	calls := reads(r, "best")
	calls["project"] = func(ctx context.Context) error { return r.Project(ctx, rows) }
	calls["drop"] = func(ctx context.Context) error { return r.Drop(ctx, "best", "w") }
	for name, call := range calls {
		err := call(t.Context())
		require.ErrorIs(t, err, fault.RedisUnavailable, name)
		require.ErrorIs(t, err, fault.Unavailable, name)
	}
	require.NoError(t, server.Restart())
	server.FlushAll()
	one, err := r.Player(t.Context(), Query{Board: "best", Window: "w"}, "p")
	require.NoError(t, err)
	require.Equal(t, Ranked{Rank: 1, TiedRank: 1, Player: "p", Score: 1, AchievedAt: at(1)}, one)
}

func TestSQLDown(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	up, down := storetest.SQLite(t), storetest.SQLite(t)
	require.NoError(t, down.Close())
	r := newRanking(t, up, rdb)
	rows := mergeScores(t, up, Score{Board: "best", Window: "w", Player: "p", Score: 1, At: at(1), EventID: "e", Fresh: true})
	require.NoError(t, r.Project(t.Context(), rows))
	require.NoError(t, r.ensure(t.Context(), window{board: "best", id: "w", form: "3:desc:0"}))

	broken := newRanking(t, down, rdb)
	one, err := broken.Player(t.Context(), Query{Board: "best", Window: "w"}, "p") // a complete projection needs no SQL
	require.NoError(t, err)
	require.Equal(t, int64(1), one.Rank)
	require.ErrorIs(t, broken.Rebuild(t.Context(), "best", "w"), fault.DatabaseUnavailable)
	_, err = broken.Player(t.Context(), Query{Board: "best", Window: "w"}, "p") // and is not thrown away for one that cannot be made
	require.NoError(t, err)
	require.NoError(t, broken.Drop(t.Context(), "best", "w"))
	_, err = broken.Player(t.Context(), Query{Board: "best", Window: "w"}, "p")
	require.ErrorIs(t, err, fault.DatabaseUnavailable)
	require.Zero(t, rdb.Exists(t.Context(), "rank:{best:w}:rebuild").Val(), "the lease was given back")
	_, err = r.Player(t.Context(), Query{Board: "best", Window: "w"}, "p")
	require.NoError(t, err)
}

// TestOrderOfABoardChanges rebuilds what was made for the other order.
func TestOrderOfABoardChanges(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		rows := mergeScores(t, db, tied("best", "w", 20)...)
		r := newRanking(t, db, rdb)
		require.Equal(t, ranked("best", rows), paged(t, r, "best", "w", 5))
		r.Entries.Boards = func(string) (catalog.Board, bool) { return boards["best-asc"], true }
		require.Equal(t, ranked("best-asc", rows), paged(t, r, "best", "w", 5))
	})
}

func TestNewRankingRefusesAShortKey(t *testing.T) {
	t.Parallel()
	_, err := NewRanking(nil, nil, entries, cursorKey[:31])
	require.EqualError(t, err, "the cursor key has 31 bytes, at least 32 are needed")
}

func BenchmarkProject200(b *testing.B) {
	r, rows := benchRanking(b, 20_000)
	random := rand.New(rand.NewPCG(7, 8))
	batch := make([]Row, 200)
	for i := 0; b.Loop(); i++ {
		for j := range batch {
			batch[j] = rows[random.IntN(len(rows))]
			batch[j].Version = int64(i + 2)
			batch[j].Score = int64(random.IntN(1000))
		}
		require.NoError(b, r.Project(b.Context(), batch))
	}
}

func BenchmarkTop100(b *testing.B) {
	r, _ := benchRanking(b, 20_000)
	for b.Loop() {
		page, err := r.Top(b.Context(), Query{Board: "best", Window: "w", Limit: 100})
		require.NoError(b, err)
		require.Len(b, page.Rows, 100)
	}
}

// BenchmarkPageDeep reads a page in the middle of thousands of ties; "moved" does it from a cursor whose row is elsewhere now.
func BenchmarkPageDeep(b *testing.B) {
	r, rows := benchRanking(b, 20_000)
	middle := ranked("best", rows)[len(rows)/2]
	moved := middle
	moved.Player += "-"
	for name, from := range map[string]Ranked{"stayed": middle, "moved": moved} {
		b.Run(name, func(b *testing.B) {
			at := r.cursor(window{board: "best", id: "w"}, from, false)
			for b.Loop() {
				page, err := r.Page(b.Context(), Query{Board: "best", Window: "w", Limit: 100, Cursor: at})
				require.NoError(b, err)
				require.Len(b, page.Rows, 100)
			}
		})
	}
}

// benchRanking is a window of n rows, on the server of TEST_REDIS_URL where there is one.
func benchRanking(b *testing.B, n int) (*Ranking, []Row) {
	b.Helper()
	var rdb *redis.Client
	if server := os.Getenv("TEST_REDIS_URL"); server != "" {
		rdb = storetest.Redis(b, server)
	} else {
		rdb, _ = storetest.Miniredis(b)
	}
	db := storetest.SQLite(b)
	r := newRanking(b, db, rdb)
	rows := mergeScores(b, db, tied("best", "w", n)...)
	require.NoError(b, r.Rebuild(b.Context(), "best", "w"))
	return r, rows
}
