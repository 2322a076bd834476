package leaderboard

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// compared looks at every row, as one who waits but briefly.
func compared(t *testing.T, r *Ranking, rows []Row) (int, []Drift) {
	t.Helper()
	var players []string
	for _, row := range rows {
		players = append(players, row.Player)
	}
	entries, drifts, err := r.Compare(t.Context(), []Window{{"best", "w"}, {"best", "empty"}, {"gone", "w"}, {"best-asc", "w"}}, append(players, "nobody"))
	require.NoError(t, err)
	return entries, drifts
}

func TestCompare(t *testing.T) {
	t.Parallel()
	const order, players = "rank:{best:w}:order", "rank:{best:w}:players"
	for name, c := range map[string]struct {
		tamper func(t *testing.T, rdb *redis.Client, row Row, place string)
		all    bool
	}{
		"another score": {tamper: func(t *testing.T, rdb *redis.Client, _ Row, place string) {
			require.NoError(t, rdb.ZIncrBy(t.Context(), order, 1, place).Err())
		}},
		"another time": {tamper: func(t *testing.T, rdb *redis.Client, row Row, place string) {
			moved := member(row.AchievedAt.Add(time.Millisecond), row.Player)
			score := rdb.ZScore(t.Context(), order, place).Val()
			require.NoError(t, rdb.ZRem(t.Context(), order, place).Err())
			require.NoError(t, rdb.ZAdd(t.Context(), order, redis.Z{Score: score, Member: moved}).Err())
			require.NoError(t, rdb.HSet(t.Context(), players, row.Player, "1:"+moved).Err())
		}},
		"no member": {tamper: func(t *testing.T, rdb *redis.Client, _ Row, place string) {
			require.NoError(t, rdb.ZRem(t.Context(), order, place).Err())
		}},
		"no player": {tamper: func(t *testing.T, rdb *redis.Client, row Row, _ string) {
			require.NoError(t, rdb.HDel(t.Context(), players, row.Player).Err())
		}},
		"neither": {tamper: func(t *testing.T, rdb *redis.Client, row Row, place string) {
			require.NoError(t, rdb.ZRem(t.Context(), order, place).Err())
			require.NoError(t, rdb.HDel(t.Context(), players, row.Player).Err())
		}},
		"a newer version": {tamper: func(t *testing.T, rdb *redis.Client, row Row, place string) {
			require.NoError(t, rdb.HSet(t.Context(), players, row.Player, strconv.FormatInt(row.Version+1, 10)+":"+place).Err())
		}},
		"no projection": {tamper: func(t *testing.T, rdb *redis.Client, _ Row, _ string) {
			require.NoError(t, rdb.Del(t.Context(), order, players).Err())
		}, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
				r := newRanking(t, db, rdb)
				r.Settle = time.Millisecond
				rows := mergeScores(t, db, tied("best", "w", 12)...)
				asc := mergeScores(t, db, tied("best-asc", "w", 12)...)
				require.NoError(t, r.Project(t.Context(), rows))
				require.NoError(t, r.Project(t.Context(), asc))
				require.Equal(t, ranked("best", rows), paged(t, r, "best", "w", 5))
				require.Equal(t, ranked("best-asc", asc), paged(t, r, "best-asc", "w", 5))
				entries, drifts := compared(t, r, rows)
				require.Equal(t, 24, entries)
				require.Empty(t, drifts)

				row := rows[7]
				c.tamper(t, rdb, row, member(row.AchievedAt, row.Player))
				entries, drifts = compared(t, r, rows)
				require.Equal(t, 24, entries)
				if c.all {
					require.Len(t, drifts, 12)
				} else {
					require.Equal(t, []Drift{{"best", "w", row.Player}}, drifts)
				}
				require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
				_, drifts = compared(t, r, rows)
				require.Empty(t, drifts)
				require.Equal(t, ranked("best", rows), paged(t, r, "best", "w", 5))
			})
		})
	}
}

// between runs something after the client's first exchange of the right kind, before its answer is seen.
type between struct {
	once sync.Once
	do   func()
}

func (b *between) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (b *between) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (b *between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if strings.HasPrefix(cmds[0].Name(), "eval") && err == nil {
			b.once.Do(b.do)
		}
		return err
	}
}

// TestCompareWhatIsBeingWritten looks at an entry between its commit and its projection.
func TestCompareWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		writer := newRanking(t, db, rdb)
		write := func(id string, score int64) []Row {
			return mergeScores(t, db, Score{Board: "best", Window: "w", Player: "p", Score: score, At: at(score), EventID: id, Fresh: true})
		}
		watched := func(do func()) []Drift {
			hooked := redis.NewClient(rdb.Options())
			t.Cleanup(func() { _ = hooked.Close() })
			r := newRanking(t, db, hooked)
			r.Settle = time.Millisecond
			looked := false
			hooked.AddHook(&between{do: func() { looked = true; do() }})
			entries, drifts := compared(t, r, []Row{{Player: "p"}})
			require.Equal(t, 1, entries)
			require.True(t, looked)
			return drifts
		}
		require.NoError(t, writer.Project(t.Context(), write("e1", 1)))
		require.NoError(t, writer.Rebuild(t.Context(), "best", "w"))

		late := write("e2", 2)
		require.Empty(t, watched(func() { require.NoError(t, writer.Project(t.Context(), late)) }), "projected meanwhile")
		older := write("e3", 3)
		require.Empty(t, watched(func() { write("e4", 4) }), "and changed again")
		require.Empty(t, watched(func() { require.NoError(t, writer.Project(t.Context(), older)) }), "an older row projected")
		require.Equal(t, []Drift{{"best", "w", "p"}}, watched(func() {}), "the last row is never projected")
	})
}

func TestCompareLeavesARebuildAlone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		rows := mergeScores(t, db, tied("best", "w", 5)...)
		require.NoError(t, rdb.Set(t.Context(), "rank:{best:w}:rebuild", "token", time.Minute).Err())
		entries, drifts := compared(t, r, rows)
		require.Zero(t, entries)
		require.Empty(t, drifts)
	})
}

func TestCompareInTrouble(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	rdb, server := storetest.Miniredis(t)
	r := newRanking(t, db, rdb)
	player := mergeScores(t, db, tied("best", "w", 5)...)[0].Player
	ctx, cancel := context.WithCancel(t.Context())
	rdb.AddHook(&between{do: cancel})
	_, _, err := r.Compare(ctx, []Window{{"best", "w"}}, []string{player})
	require.ErrorIs(t, err, context.Canceled)
	server.SetError("LOADING")
	_, _, err = r.Compare(t.Context(), []Window{{"best", "w"}}, []string{player})
	require.ErrorIs(t, err, fault.RedisUnavailable)
	require.NoError(t, db.Close())
	_, _, err = r.Compare(t.Context(), []Window{{"best", "w"}}, []string{player})
	require.ErrorIs(t, err, fault.DatabaseUnavailable)
}
