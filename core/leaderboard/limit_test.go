package leaderboard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// checkProjection says that whatever was projected so far is held before the floor or trimmed behind it, and counted.
func checkProjection(t require.TestingT, r *Ranking, board, id string) {
	w, err := r.window(board, id)
	require.NoError(t, err)
	// One moment, for a rebuild or a refill may be under way.
	var order *redis.ZSliceCmd
	var hash *redis.MapStringStringCmd
	_, err = r.Redis.TxPipelined(ctxOf(t), func(p redis.Pipeliner) error {
		order, hash = p.ZRangeWithScores(ctxOf(t), w.keys()[0], 0, -1), p.HGetAll(ctxOf(t), w.keys()[1])
		return nil
	})
	require.NoError(t, err)
	held, trimmed := map[string]bool{}, 0
	floor, limited := hash.Val()[":floor"]
	for player, row := range hash.Val() {
		if player == "" || strings.HasPrefix(player, ":") {
			continue
		}
		if version, rest, has := strings.Cut(row, ":"); has {
			held[rest[:timeWidth]+player] = true
		} else {
			require.Equal(t, row, version)
			trimmed++
		}
	}
	require.Len(t, order.Val(), len(held))
	var end *point
	if limited {
		parts := strings.SplitN(floor, ":", 3)
		require.Equal(t, strconv.Itoa(trimmed), parts[0])
		require.Positive(t, trimmed)
		end, err = parseFloor(parts[1], parts[2])
		require.NoError(t, err)
	} else {
		require.Zero(t, trimmed)
	}
	visible := 0
	for _, z := range order.Val() {
		place := z.Member.(string)
		require.True(t, held[place])
		if hidden := z.Score > behindAll; hidden {
			continue
		}
		visible++
		if end != nil {
			at, player, err := splitMember(place)
			require.NoError(t, err)
			require.True(t, point{int64(z.Score), at.UnixMilli(), player}.before(*end))
		}
	}
	if size := w.size; size > 0 {
		require.LessOrEqual(t, visible, size+size/4)
	}
}

// checkAgreement compares every stretch of a window with SQL.
func checkAgreement(t require.TestingT, r *Ranking, board, id string, rows []Row) {
	require.NoError(t, r.Complete(ctxOf(t), board, id))
	w, err := r.window(board, id)
	require.NoError(t, err)
	held := func() int64 {
		order := w.keys()[0]
		return r.Redis.ZCard(ctxOf(t), order).Val() - r.Redis.ZCount(ctxOf(t), order, "+inf", "+inf").Val()
	}
	for from := range rows {
		for _, to := range []int{from + 1, len(rows)} {
			was := held()
			mismatches, compared, err := r.Agree(ctxOf(t), board, id, int64(from), rows[from:to])
			require.NoError(t, err)
			require.Zero(t, mismatches)
			if is := held(); is == was { // or it was being refilled
				require.Equal(t, int64(from) < is, compared)
			}
		}
	}
}

// held gives the members that a window's ranking holds of players who are not hidden, in order, once no refill is under way.
func held(t *testing.T, r *Ranking, board, id string) []string {
	t.Helper()
	w, err := r.window(board, id)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return r.Redis.Exists(t.Context(), w.keys()[2]).Val() == 0
	}, 20*time.Second, time.Millisecond)
	n := r.Redis.ZCard(t.Context(), w.keys()[0]).Val() - r.Redis.ZCount(t.Context(), w.keys()[0], "+inf", "+inf").Val()
	members := []string{}
	if n > 0 {
		members = r.Redis.ZRange(t.Context(), w.keys()[0], 0, n-1).Val()
	}
	return members
}

// members are those of the best n rows.
func members(rows []Ranked, n int) []string {
	out := make([]string, 0, n)
	for _, row := range rows[:n] {
		out = append(out, member(row.AchievedAt, row.Player))
	}
	return out
}

// refilled refills a window and checks that it holds exactly the best rows, so many of them.
func refilled(t *testing.T, r *Ranking, board, id string, n int) {
	t.Helper()
	w, err := r.window(board, id)
	require.NoError(t, err)
	held(t, r, board, id) // one that was set going is done
	require.NoError(t, r.refill(t.Context(), w))
	checkProjection(t, r, board, id)
	require.Equal(t, members(ranked(board, allRows(t, r.DB, board, id)), n), held(t, r, board, id))
	require.False(t, r.Redis.HExists(t.Context(), w.keys()[1], ":mark").Val(), "nothing is left of the refill")
}

// moved gives some players another score, a later one, in one transaction.
func moved(t require.TestingT, db *store.DB, board, id string, score int64, when int64, rows ...Ranked) []Row {
	var scores []Score
	for i, row := range rows {
		scores = append(scores, Score{
			Board: board, Window: id, Player: row.Player, Score: score, At: at(1_700_000_000_000 + when + int64(i)),
			EventID: fmt.Sprint("moved", when), Fresh: true,
		})
	}
	return mergeScores(t, db, scores...)
}

func TestRedisHoldsTheBest(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		r.SQLReads = prometheus.NewCounter(prometheus.CounterOpts{})
		rows := mergeScores(t, db, tied("hundred", "w", 1200)...)
		want := ranked("hundred", rows)
		q := Query{Board: "hundred", Window: "w", Limit: 25}
		for name, fill := range map[string]func() error{
			"rebuilt": func() error { return r.Rebuild(t.Context(), "hundred", "w") },
			"projected": func() error {
				return errors.Join(r.Drop(t.Context(), "hundred", "w"), r.Complete(t.Context(), "hundred", "w"), r.Project(t.Context(), rows))
			},
		} {
			require.NoError(t, fill(), name)
			checkProjection(t, r, "hundred", "w")
			require.Equal(t, members(want, 125), held(t, r, "hundred", "w"), name)
			require.Equal(t, "1", rdb.HGet(t.Context(), "rank:{hundred:w}:players", want[800].Player).Val(), "a version is left of what is trimmed")
		}
		before := testutil.ToFloat64(r.SQLReads)
		for i := range 5 {
			page, err := r.Page(t.Context(), q)
			require.NoError(t, err)
			require.Equal(t, want[25*i:25*i+25], page.Rows)
			require.Equal(t, int64(1200), page.Count)
			q.Cursor = page.Next
		}
		checkAround(t, r, "hundred", "w", want, 112, 25)
		_, n, err := r.Lookup(t.Context(), q, []string{want[0].Player, want[124].Player, "nobody"})
		require.NoError(t, err)
		require.Equal(t, int64(1200), n)
		at, _, err := r.RankOf(t.Context(), q, 2)
		require.NoError(t, err)
		require.Equal(t, Ranked{Rank: 1, TiedRank: 1, Score: 2}, at)
		require.InDelta(t, before, testutil.ToFloat64(r.SQLReads), 0, "SQL is not asked before the floor")
		last := q.Cursor
		for name, beyond := range map[string]func() error{
			"page":   func() error { q.Cursor = last; _, err := r.Page(t.Context(), q); return err },
			"around": func() error { _, err := r.Around(t.Context(), q, want[113].Player); return err },
			"player": func() error { _, err := r.Player(t.Context(), q, want[125].Player); return err },
			"lookup": func() error {
				_, _, err := r.Lookup(t.Context(), q, []string{want[0].Player, want[125].Player})
				return err
			},
			"rank": func() error { _, _, err := r.RankOf(t.Context(), q, 1); return err }, // the floor lies among the scores of 1
		} {
			before := testutil.ToFloat64(r.SQLReads)
			require.NoError(t, beyond(), name)
			require.InDelta(t, before+1, testutil.ToFloat64(r.SQLReads), 0, name)
		}
		require.Equal(t, want, paged(t, r, "hundred", "w", 100))
		checkAround(t, r, "hundred", "w", want, 1199, 7)
	})
}

// TestARefillKeepsUp has the best fall behind the floor, a few at a time, and late and old rows come again.
func TestARefillKeepsUp(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		old := mergeScores(t, db, tied("hundred", "w", 700)...)
		require.NoError(t, r.Rebuild(t.Context(), "hundred", "w"))
		marker := rdb.HGet(t.Context(), "rank:{hundred:w}:players", "").Val()
		for i := range 12 {
			want := ranked("hundred", allRows(t, db, "hundred", "w"))
			require.NoError(t, r.Project(t.Context(), moved(t, db, "hundred", "w", -5, int64(1000*i), want[:20]...)))
			require.NoError(t, r.Project(t.Context(), old), "they are old")
			checkProjection(t, r, "hundred", "w")
			want = ranked("hundred", allRows(t, db, "hundred", "w"))
			page, err := r.Top(t.Context(), Query{Board: "hundred", Window: "w", Limit: 90})
			require.NoError(t, err)
			require.Equal(t, want[:90], page.Rows)
			require.Equal(t, int64(700), page.Count)
			require.Eventually(t, func() bool { return len(held(t, r, "hundred", "w")) >= 100 }, 20*time.Second, time.Millisecond)
			got := held(t, r, "hundred", "w")
			require.Equal(t, members(want, len(got)), got)
			require.Equal(t, marker, rdb.HGet(t.Context(), "rank:{hundred:w}:players", "").Val(), "complete all the while")
		}
		refilled(t, r, "hundred", "w", 125)
	})
}

// TestARefillAmongWriters has rows move across the floor, and on both sides of it, between the steps of refills.
func TestARefillAmongWriters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		scores := tied("hundred", "w", 400)
		for i := range scores {
			scores[i].Score = int64(10 * i)
		}
		mergeScores(t, db, scores...)
		require.NoError(t, r.Rebuild(t.Context(), "hundred", "w"))
		order := func() []Ranked { return ranked("hundred", allRows(t, db, "hundred", "w")) }
		w, err := r.window("hundred", "w")
		require.NoError(t, err)
		turn := int64(0)
		const untold = "committed and not told"
		for name, write := range map[string]func(want []Ranked) []Row{
			"nothing": func([]Ranked) []Row { return nil },
			"behind all": func(want []Ranked) []Row {
				return moved(t, db, "hundred", "w", -9, turn, want[110], want[140], want[300])
			},
			"before all": func(want []Ranked) []Row {
				return moved(t, db, "hundred", "w", 9000, turn, want[110], want[140], want[300])
			},
			"into what was read": func(want []Ranked) []Row {
				return moved(t, db, "hundred", "w", want[112].Score+1, turn, want[50], want[390], want[391])
			},
			"more than it may hold": func(want []Ranked) []Row { return moved(t, db, "hundred", "w", 11000, turn, want[200:340]...) },
			"a new player, there": func(want []Ranked) []Row {
				return moved(t, db, "hundred", "w", want[115].Score+1, turn, Ranked{Player: fmt.Sprint("new", turn)})
			},
			untold: func(want []Ranked) []Row { moved(t, db, "hundred", "w", -8, turn, want[112], want[150]); return nil },
		} {
			turn += 1_000_000
			// Few enough are left for a refill to begin, without one being set going.
			require.NoError(t, r.Project(t.Context(), moved(t, db, "hundred", "w", -7, turn, order()[:25]...)))
			require.NotEmpty(t, held(t, r, "hundred", "w"))
			turn += 1_000_000

			hooked := redis.NewClient(rdb.Options())
			var once sync.Once
			hooked.AddHook(onPipeline(func(int) {
				once.Do(func() {
					rows := write(order())
					require.NoError(t, r.Project(t.Context(), rows), name)
				})
			}))
			require.NoError(t, newRanking(t, db, hooked).refill(t.Context(), w), name)
			require.NoError(t, hooked.Close())
			got := held(t, r, "hundred", "w")
			checkProjection(t, r, "hundred", "w")
			require.GreaterOrEqual(t, len(got), 100, name)
			if name != untold {
				require.Equal(t, members(order(), len(got)), got, name)
			}
			require.NoError(t, r.Project(t.Context(), allRows(t, db, "hundred", "w")), name)
			want := order()
			got = held(t, r, "hundred", "w")
			require.Equal(t, members(want, len(got)), got, name)
			require.Equal(t, want, paged(t, r, "hundred", "w", 90), name)
			refilled(t, r, "hundred", "w", 125)
		}
	})
}

// TestARefillIsCut stops a refill at every exchange with Redis, has somebody else take the lease there, and Redis lose what it holds.
func TestARefillIsCut(t *testing.T) {
	t.Parallel()
	stopped := errors.New("stopped")
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		mergeScores(t, db, tied("hundred", "w", 400)...)
		w, err := r.window("hundred", "w")
		require.NoError(t, err)
		order, players, lease := w.keys()[0], w.keys()[1], w.keys()[2]
		turn := int64(0)
		for name, c := range map[string]struct {
			hook redis.Hook
			then func() error
			err  error
		}{
			"before it writes": {hook: refuse{before: stopped}, err: stopped},
			"after it wrote":   {hook: refuse{after: stopped}, err: stopped},
			"the lease": {hook: onPipeline(func(int) { rdb.Set(t.Context(), lease, "theirs", time.Hour) }), then: func() error {
				return rdb.Del(t.Context(), lease).Err()
			}},
			"everything":  {hook: onPipeline(func(int) { rdb.Del(t.Context(), order, players) })},
			"the players": {hook: onPipeline(func(int) { rdb.Del(t.Context(), players) })},
			"the floor":   {hook: onPipeline(func(int) { rdb.HDel(t.Context(), players, ":floor") })},
			"the mark":    {hook: onPipeline(func(n int) { rdb.HDel(t.Context(), players, ":mark") })},
			"a rebuild":   {hook: onPipeline(func(int) { require.NoError(t, r.Rebuild(t.Context(), "hundred", "w")) })},
		} {
			require.NoError(t, r.Rebuild(t.Context(), "hundred", "w"), name)
			turn += 1_000_000
			best := ranked("hundred", allRows(t, db, "hundred", "w"))[:25]
			require.NoError(t, r.Project(t.Context(), moved(t, db, "hundred", "w", -7, turn, best...)))
			require.Len(t, held(t, r, "hundred", "w"), 100)
			hooked := redis.NewClient(rdb.Options())
			hooked.AddHook(c.hook)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // where the hook strikes again and again
			err := newRanking(t, db, hooked).refill(ctx, w)
			cancel()
			require.NoError(t, hooked.Close())
			if c.err != nil {
				require.ErrorIs(t, err, c.err, name)
			}
			if c.then != nil {
				require.NoError(t, c.then())
			}
			want := ranked("hundred", allRows(t, db, "hundred", "w"))
			require.Equal(t, want, paged(t, r, "hundred", "w", 90), name)
			refilled(t, r, "hundred", "w", 125)
		}
	})
}

// TestTheSizeOfABoardChanges follows a catalog that gives a board another size.
func TestTheSizeOfABoardChanges(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		size := 0
		r.Entries.Boards = func(string) (catalog.Board, bool) {
			return catalog.Board{Operator: "latest", Order: "desc", Size: size}, true
		}
		rows := mergeScores(t, db, tied("hundred", "w", 1700)...)
		require.NoError(t, r.Rebuild(t.Context(), "hundred", "w"))
		for _, c := range []struct{ size, holds int }{{0, 1700}, {100, 125}, {400, 500}, {100, 125}, {0, 1700}} {
			size = c.size
			for range 4 { // each call trims some
				require.NoError(t, r.Project(t.Context(), rows[:1]))
			}
			refilled(t, r, "hundred", "w", c.holds)
			require.Equal(t, ranked("hundred", rows), paged(t, r, "hundred", "w", 300))
		}
	})
}

// TestNobodyIsLeftBehindTheFloor has the last rows that are trimmed come before the floor, or be hidden.
func TestNobodyIsLeftBehindTheFloor(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := serving(t, db, rdb, Window{"hundred", "w"})
		scores := tied("hundred", "w", 127)
		rows := mergeScores(t, db, scores...)
		require.NoError(t, r.Rebuild(t.Context(), "hundred", "w"))
		want := ranked("hundred", rows)
		require.Len(t, held(t, r, "hundred", "w"), 125)
		require.NoError(t, r.Hide(t.Context(), want[126].Player))
		checkProjection(t, r, "hundred", "w")
		require.NoError(t, r.Project(t.Context(), moved(t, db, "hundred", "w", 5, 0, want[125])))
		checkProjection(t, r, "hundred", "w")
		require.Len(t, held(t, r, "hundred", "w"), 125, "another one is trimmed")
		require.NoError(t, r.Hide(t.Context(), want[124].Player))
		checkProjection(t, r, "hundred", "w")
		require.False(t, rdb.HExists(t.Context(), "rank:{hundred:w}:players", ":floor").Val())
		require.Len(t, held(t, r, "hundred", "w"), 125)
		for _, player := range []string{want[124].Player, want[126].Player} {
			require.NoError(t, r.Show(t.Context(), player))
			checkProjection(t, r, "hundred", "w")
		}
		refilled(t, r, "hundred", "w", 125)
		require.Equal(t, ranked("hundred", allRows(t, db, "hundred", "w")), paged(t, r, "hundred", "w", 60))
	})
}

// TestCompareTrimmed finds rows that are trimmed and should not be, or the other way round.
func TestCompareTrimmed(t *testing.T) {
	t.Parallel()
	const order, players = "rank:{hundred:w}:order", "rank:{hundred:w}:players"
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		r.Settle = time.Millisecond
		rows := mergeScores(t, db, tied("hundred", "w", 200)...)
		want := ranked("hundred", rows)
		var ids []string
		for _, row := range rows {
			ids = append(ids, row.Player)
		}
		for name, c := range map[string]struct {
			of     Ranked
			tamper func(row Ranked) error
		}{
			"trimmed before the floor": {want[50], func(row Ranked) error {
				return errors.Join(rdb.ZRem(t.Context(), order, member(row.AchievedAt, row.Player)).Err(), rdb.HSet(t.Context(), players, row.Player, "1").Err())
			}},
			"another version": {want[150], func(row Ranked) error { return rdb.HSet(t.Context(), players, row.Player, "2").Err() }},
			"held behind the floor": {want[150], func(row Ranked) error {
				place := member(row.AchievedAt, row.Player)
				return errors.Join(
					rdb.ZAdd(t.Context(), order, redis.Z{Score: float64(-row.Score), Member: place}).Err(),
					rdb.HSet(t.Context(), players, row.Player, "1:"+place[:timeWidth]).Err())
			}},
			"nothing": {want[150], func(row Ranked) error { return rdb.HDel(t.Context(), players, row.Player).Err() }},
		} {
			require.NoError(t, r.Rebuild(t.Context(), "hundred", "w"))
			entries, drifts, err := r.Compare(t.Context(), []Window{{"hundred", "w"}}, ids)
			require.NoError(t, err)
			require.Equal(t, 200, entries)
			require.Empty(t, drifts)
			require.NoError(t, c.tamper(c.of))
			_, drifts, err = r.Compare(t.Context(), []Window{{"hundred", "w"}}, ids)
			require.NoError(t, err)
			require.Equal(t, []Drift{{"hundred", "w", c.of.Player}}, drifts, name)
		}
	})
}

func TestAgree(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := serving(t, db, rdb, Window{"best", "w"}, Window{"hundred", "w"})
		agree := func(board string, from int64, rows []Row) (int64, bool) {
			t.Helper()
			mismatches, compared, err := r.Agree(t.Context(), board, "w", from, rows)
			require.NoError(t, err)
			return mismatches, compared
		}
		mergeScores(t, db, tied("best", "w", 300)...)
		mergeScores(t, db, tied("hundred", "w", 300)...)
		order := allRows(t, db, "best", "w")
		_, compared := agree("best", 0, order)
		require.False(t, compared, "nothing is projected")
		require.Zero(t, rdb.Exists(t.Context(), "rank:{best:w}:order").Val(), "and it is not for Agree to do so")
		require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
		require.NoError(t, r.Rebuild(t.Context(), "hundred", "w"))

		n, compared := agree("best", 0, order)
		require.True(t, compared)
		require.Zero(t, n)
		n, _ = agree("best", 200, order[200:])
		require.Zero(t, n)
		n, _ = agree("best", 200, order[199:])
		require.EqualValues(t, 101, n, "all are elsewhere, and one is absent")
		n, compared = agree("best", 300, order[:7])
		require.True(t, compared)
		require.EqualValues(t, 7, n, "Redis has none there")
		_, compared = agree("best", 0, nil)
		require.True(t, compared)

		other := slices.Clone(order)
		other[17].Score++
		other[20].Player, other[21].Player = other[21].Player, other[20].Player
		n, _ = agree("best", 0, other)
		require.EqualValues(t, 3, n)
		require.NoError(t, r.Hide(t.Context(), order[250].Player))
		n, _ = agree("best", 0, allRows(t, db, "best", "w"))
		require.Zero(t, n)
		n, _ = agree("best", 240, order[240:])
		require.EqualValues(t, 50, n, "from the hidden one on")

		order = allRows(t, db, "hundred", "w")
		n, compared = agree("hundred", 100, order[101:201])
		require.True(t, compared)
		require.EqualValues(t, 25, n, "what Redis does not hold is not compared")
		n, compared = agree("hundred", 125, order[126:])
		require.False(t, compared)
		require.Zero(t, n)

		_, _, err := r.Agree(t.Context(), "best", "w", 0, make([]Row, MaxLimit+1))
		require.Error(t, err)
		_, _, err = r.Agree(t.Context(), "nosuch", "w", 0, nil)
		require.Error(t, err)
		_, _, err = newRanking(t, db, gone(t)).Agree(t.Context(), "best", "w", 0, order)
		require.Error(t, err)
	})
}

// TestMetadataInRedis is there where an entry has it, and read where the board keeps it.
func TestMetadataInRedis(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := serving(t, db, rdb, Window{"kept", "w"})
		score := func(player, metadata string) Score {
			return Score{Board: "kept", Window: "w", Player: player, Score: 5, At: at(1), EventID: "e", Metadata: metadata, Fresh: true}
		}
		require.NoError(t, r.Project(t.Context(), mergeScores(t, db, score("p", hero("a:b")), score("q", ""))))
		require.NoError(t, r.Complete(t.Context(), "kept", "w"))
		players := rdb.HGetAll(t.Context(), "rank:{kept:w}:players").Val()
		require.Equal(t, map[string]string{"": "3:desc:0", "p": "1:000000000001::" + hero("a:b"), "q": "1:000000000001"}, players)
		require.NoError(t, r.Hide(t.Context(), "p"))
		require.Equal(t, "2:000000000001:-5:"+hero("a:b"), rdb.HGet(t.Context(), "rank:{kept:w}:players", "p").Val())
		own, err := r.Player(t.Context(), Query{Board: "kept", Window: "w", Viewer: "p"}, "p")
		require.NoError(t, err)
		require.Equal(t, hero("a:b"), own.Metadata)

		r.Settle = time.Millisecond
		_, drifts, err := r.Compare(t.Context(), []Window{{"kept", "w"}}, []string{"p", "q"})
		require.NoError(t, err)
		require.Empty(t, drifts)
		require.NoError(t, rdb.HSet(t.Context(), "rank:{kept:w}:players", "q", "1:000000000001::{}").Err())
		_, drifts, err = r.Compare(t.Context(), []Window{{"kept", "w"}}, []string{"p", "q"})
		require.NoError(t, err)
		require.Equal(t, []Drift{{"kept", "w", "q"}}, drifts)

		require.NoError(t, r.Show(t.Context(), "p"))
		for _, r := range []*Ranking{newRanking(t, db, rdb), newRanking(t, db, gone(t))} {
			r.Entries.Boards = func(string) (catalog.Board, bool) { return boards["best"], true }
			page, err := r.Top(t.Context(), Query{Board: "kept", Window: "w", Limit: 2})
			require.NoError(t, err)
			require.Empty(t, page.Rows[0].Metadata, "the board keeps nothing any more")
			found, _, err := r.Lookup(t.Context(), Query{Board: "kept", Window: "w"}, []string{"p"})
			require.NoError(t, err)
			require.Empty(t, found[0].Metadata)
		}
	})
}
