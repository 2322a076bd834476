package leaderboard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// serving makes a Ranking that knows some windows.
func serving(t require.TestingT, db *store.DB, rdb redis.UniversalClient, windows ...Window) *Ranking {
	r := newRanking(t, db, rdb)
	r.Served = func(context.Context) ([]Window, error) { return windows, nil }
	return r
}

// visibleTo leaves out the rows that a viewer does not see.
func visibleTo(viewer string, rows []Row, hidden map[string]bool) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(row Row) bool { return hidden[row.Player] && row.Player != viewer })
}

// checkView compares every read of a window, as a viewer sees it, with the naive order.
func checkView(t require.TestingT, r *Ranking, q Query, rows []Row, hidden map[string]bool) {
	want := ranked(q.Board, visibleTo(q.Viewer, rows, hidden))
	got := allPages(t, r, q)
	require.Len(t, got, len(want))
	if len(want) > 0 {
		require.Equal(t, want, got)
	}
	for i, row := range want {
		checkAroundFor(t, r, q, want, i)
		one, err := r.Player(ctxOf(t), q, row.Player)
		require.NoError(t, err)
		require.Equal(t, row, one)
	}
	for player := range hidden {
		if player != q.Viewer && hidden[player] {
			_, err := r.Around(ctxOf(t), q, player)
			require.ErrorIs(t, err, fault.NotRanked)
		}
	}
	n, err := r.Count(ctxOf(t), q.Board, q.Window)
	require.NoError(t, err)
	require.Equal(t, int64(len(visibleTo("", rows, hidden))), n)
	checkLookups(t, r, q, want, slices.Sorted(maps.Keys(hidden)))
}

// TestVisibilityModel hides, shows, scores, projects late or twice, loses and rebuilds in any order, by two processes, and compares
// what viewers read with the naive order.
func TestVisibilityModel(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		round, nowhere := 0, gone(t)
		rapid.Check(t, func(t *rapid.T) {
			round++
			_, err := db.Exec(ctxOf(t), "DELETE FROM visibility")
			require.NoError(t, err)
			window := fmt.Sprint("w", round)
			names := rapid.Permutation(slices.Sorted(maps.Keys(boards))).Draw(t, "boards")[:2]
			windows := []Window{{names[0], window}, {names[1], window}, {names[1], window + "-empty"}, {names[0], window}}
			processes := []*Ranking{serving(t, db, rdb, windows...), serving(t, db, rdb, windows...)}
			cut, without := serving(t, db, nowhere, windows...), newRanking(t, db, nowhere)
			players := []string{"a", "A", "_", "a-", "b", "B0"}
			played, hidden := map[string]map[string][]Score{names[0]: {}, names[1]: {}}, map[string]bool{}
			var late []Row
			events := 0
			for range rapid.IntRange(1, 25).Draw(t, "steps") {
				r := rapid.SampledFrom(processes).Draw(t, "process")
				player := rapid.SampledFrom(players).Draw(t, "player")
				switch rapid.IntRange(0, 9).Draw(t, "step") {
				case 0, 1, 2:
					var batch []Score
					for range rapid.IntRange(1, 6).Draw(t, "scores") {
						events++
						s := Score{
							Board: rapid.SampledFrom(names).Draw(t, "board"), Window: window, EventID: fmt.Sprint("e", events), Fresh: true,
							Player: rapid.SampledFrom(players).Draw(t, "scorer"), Score: rapid.Int64Range(-1, 1).Draw(t, "score"),
							At: at(rapid.Int64Range(0, 1).Draw(t, "at")), Metadata: hero(fmt.Sprint(events)),
						}
						batch = append(batch, s)
						played[s.Board][s.Player] = append(played[s.Board][s.Player], s)
					}
					late = append(late, mergeScores(t, db, batch...)...)
					if rapid.Bool().Draw(t, "at once") {
						require.NoError(t, r.Project(ctxOf(t), late[len(late)-1:]))
					}
				case 3:
					require.NoError(t, r.Hide(ctxOf(t), player))
					hidden[player] = true
				case 4:
					require.NoError(t, r.Show(ctxOf(t), player))
					hidden[player] = false
				case 5: // or begin to and be cut
					if hidden[player] = !hidden[player]; hidden[player] {
						err = cut.Hide(ctxOf(t), player)
					} else {
						err = cut.Show(ctxOf(t), player)
					}
					if err != nil { // he has an entry
						require.ErrorIs(t, err, fault.RedisUnavailable)
					}
				case 6:
					require.NoError(t, r.Rebuild(ctxOf(t), names[0], window))
				case 7:
					require.NoError(t, r.Drop(ctxOf(t), names[1], window))
				case 8:
					require.NoError(t, r.Project(ctxOf(t), rapid.Permutation(late).Draw(t, "late")))
				case 9:
					w, err := r.window(rapid.SampledFrom(names).Draw(t, "refilled"), window)
					require.NoError(t, err)
					require.NoError(t, r.refill(ctxOf(t), w))
				}
				for _, board := range names {
					checkProjection(t, r, board, window)
				}
				if rapid.IntRange(0, 3).Draw(t, "look") > 0 {
					continue
				}
				q := Query{
					Board: rapid.SampledFrom(names).Draw(t, "read"), Window: window, Limit: rapid.IntRange(1, 4).Draw(t, "limit"),
					Viewer: rapid.SampledFrom(append(players, "", "nobody")).Draw(t, "viewer"),
				}
				var rows []Row
				for _, scores := range played[q.Board] {
					rows = append(rows, naive(q.Board, scores))
				}
				checkView(t, without, q, rows, hidden)
				require.Len(t, allRows(t, db, q.Board, window), len(visibleTo("", rows, hidden)))
				require.NoError(t, r.Resume(ctxOf(t)))
				require.NoError(t, r.Project(ctxOf(t), rapid.Permutation(late).Draw(t, "deliveries")))
				checkView(t, r, q, rows, hidden)
				checkAgreement(t, r, q.Board, window, allRows(t, db, q.Board, window))
				listed, err := r.Hidden(ctxOf(t))
				require.NoError(t, err)
				maps.DeleteFunc(hidden, func(_ string, is bool) bool { return !is })
				require.Equal(t, slices.Sorted(maps.Keys(hidden)), listed)
			}
		})
	})
}

// TestHideDuringAProjection has a player hidden, and shown, while a projection of his that knows nothing of it is on its way, and
// a projection of his run while he is being hidden, and shown.
func TestHideDuringAProjection(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := serving(t, db, rdb, Window{"sum", "w"})
		events := 0
		score := func(n int) []Row { // n events of the player in one transaction
			var scores []Score
			for range n {
				events++
				scores = append(scores, Score{Board: "sum", Window: "w", Player: "p", Score: 1, At: at(int64(events)), EventID: fmt.Sprint(events), Fresh: true})
			}
			return mergeScores(t, db, scores...)
		}
		// during runs do between the look into SQL of what is being done and its write to Redis.
		during := func(do func()) *Ranking {
			hooked := redis.NewClient(rdb.Options())
			t.Cleanup(func() { _ = hooked.Close() })
			var once sync.Once
			hooked.AddHook(onPipeline(func(int) { once.Do(do) }))
			return serving(t, db, hooked, Window{"sum", "w"})
		}
		check := func(hidden bool) {
			t.Helper()
			q := Query{Board: "sum", Window: "w", Limit: 5}
			rows := mergeScores(t, db, Score{Board: "sum", Window: "w", Player: "p", EventID: "any", At: at(1)}, Score{Board: "sum", Window: "w", Player: "other", EventID: "any", At: at(1)})
			for _, q.Viewer = range []string{"", "p", "other"} {
				checkView(t, r, q, rows, map[string]bool{"p": hidden})
			}
		}
		require.NoError(t, r.Project(t.Context(), mergeScores(t, db, Score{Board: "sum", Window: "w", Player: "other", At: at(1), EventID: "e", Fresh: true})))
		require.NoError(t, r.Rebuild(t.Context(), "sum", "w"))

		for range 2 {
			require.NoError(t, during(func() { require.NoError(t, r.Hide(t.Context(), "p")) }).Project(t.Context(), score(3)))
			check(true)
			require.NoError(t, during(func() { require.NoError(t, r.Show(t.Context(), "p")) }).Project(t.Context(), score(2)))
			check(false)
			require.NoError(t, during(func() { require.NoError(t, r.Project(t.Context(), score(4))) }).Hide(t.Context(), "p"))
			check(true)
			require.NoError(t, during(func() { require.NoError(t, r.Project(t.Context(), score(1))) }).Show(t.Context(), "p"))
			check(false)
			late := score(2) // committed, and not projected before he is hidden and shown
			require.NoError(t, r.Hide(t.Context(), "p"))
			check(true)
			require.NoError(t, r.Project(t.Context(), late))
			check(true)
			require.NoError(t, r.Show(t.Context(), "p"))
			require.NoError(t, r.Project(t.Context(), late))
			check(false)
			require.NoError(t, during(func() { require.NoError(t, r.Show(t.Context(), "p")) }).Hide(t.Context(), "p"))
			check(false)
			require.NoError(t, r.Hide(t.Context(), "p"))
			require.NoError(t, during(func() { require.NoError(t, r.Hide(t.Context(), "p")) }).Show(t.Context(), "p"))
			check(true)
			require.NoError(t, r.Show(t.Context(), "p"))
		}
	})
}

// TestHideAmongWriters hides and shows players whom others write to all the while, and looks from another process after each.
func TestHideAmongWriters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		windows := []Window{{"latest", "w"}, {"sum", "w"}}
		rankings := []*Ranking{serving(t, db, rdb, windows...), serving(t, db, rdb, windows...)}
		mergeScores(t, db, append(tied("latest", "w", 300), tied("sum", "w", 300)...)...)
		for _, w := range windows {
			require.NoError(t, rankings[0].Rebuild(t.Context(), w.Board, w.ID))
		}
		const writers, hiders, rounds = 3, 3, 8
		write := func(w, i int) error {
			var scores []Score
			for p := range hiders {
				for _, board := range windows {
					scores = append(scores, Score{
						Board: board.Board, Window: "w", Player: fmt.Sprintf("h%d-%d", p, w), Score: int64(i % 7), At: at(int64(i)), EventID: fmt.Sprint("e", i), Fresh: true,
					})
				}
			}
			return rankings[w%2].Project(t.Context(), mergeScores(t, db, scores...))
		}
		for w := range writers {
			require.NoError(t, write(w, 0))
		}
		turn := func(h, i int) error {
			player := fmt.Sprintf("h%d-%d", h, i%writers)
			acts, sees := rankings[(h+i)%2], rankings[(h+i+1)%2]
			if err := acts.Hide(t.Context(), player); err != nil {
				return err
			}
			for _, w := range windows {
				q := Query{Board: w.Board, Window: w.ID}
				if _, err := sees.Player(t.Context(), q, player); !errors.Is(err, fault.NotRanked) {
					return fmt.Errorf("%s is hidden and gives %w", player, err)
				}
				q.Viewer = player
				if _, err := sees.Player(t.Context(), q, player); err != nil {
					return err
				}
			}
			if i >= rounds-writers { // the last turn of each of his players
				return nil
			}
			if err := acts.Show(t.Context(), player); err != nil {
				return err
			}
			_, err := sees.Player(t.Context(), Query{Board: "sum", Window: "w"}, player)
			return err
		}
		var busy, hiding sync.WaitGroup
		var done atomic.Bool
		fail := make(chan error, 100)
		for w := range writers {
			busy.Go(func() {
				for i := 1; !done.Load(); i++ {
					fail <- write(w, i)
				}
			})
		}
		busy.Go(func() {
			for !done.Load() {
				fail <- rankings[0].Rebuild(t.Context(), "latest", "w")
			}
		})
		for h := range hiders {
			hiding.Go(func() {
				for i := range rounds {
					fail <- turn(h, i)
				}
			})
		}
		go func() {
			hiding.Wait()
			done.Store(true)
			busy.Wait()
			close(fail)
		}()
		for err := range fail {
			if !errors.Is(err, fault.Rebuilding) { // a read may find itself outrun by rebuilds
				require.NoError(t, err)
			}
		}
		hidden, err := rankings[0].Hidden(t.Context())
		require.NoError(t, err)
		require.Len(t, hidden, hiders*writers)
		for _, w := range windows {
			want := ranked(w.Board, allRows(t, db, w.Board, w.ID))
			require.Len(t, want, 300)
			require.Equal(t, want, paged(t, rankings[1], w.Board, w.ID, 400))
			_, drifts, err := rankings[0].Compare(t.Context(), windows, hidden)
			require.NoError(t, err)
			require.Empty(t, drifts)
		}
	})
}

// refuse makes the exchanges of scripts fail: before Redis does anything, or after it did and before its answer is seen.
type refuse struct{ before, after error }

func (refuse) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (refuse) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c refuse) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if c.before != nil {
			return c.before
		}
		return errors.Join(next(ctx, cmds), c.after)
	}
}

// TestHideIsCut stops Hide and Show after each of their steps. SQL says at once what was committed, and whatever mends it, Redis
// says the same afterwards.
func TestHideIsCut(t *testing.T) {
	t.Parallel()
	stopped := errors.New("stopped")
	steps := map[string]func(t *testing.T, r *Ranking, rdb *redis.Client) *Ranking{
		"before it looks for windows": func(t *testing.T, r *Ranking, rdb *redis.Client) *Ranking {
			stopping := serving(t, r.DB, rdb)
			stopping.Served = func(context.Context) ([]Window, error) { return nil, stopped }
			return stopping
		},
		"before Redis": func(t *testing.T, r *Ranking, rdb *redis.Client) *Ranking {
			rdb.AddHook(refuse{before: stopped})
			return serving(t, r.DB, rdb, Window{"best", "w"})
		},
		"after Redis": func(t *testing.T, r *Ranking, rdb *redis.Client) *Ranking {
			rdb.AddHook(refuse{after: stopped})
			return serving(t, r.DB, rdb, Window{"best", "w"})
		},
	}
	mends := map[string]func(ctx context.Context, r *Ranking, hide bool) error{
		"a repeat": func(ctx context.Context, r *Ranking, hide bool) error {
			return setHidden(ctx, r, "p", hide)
		},
		"resuming":  func(ctx context.Context, r *Ranking, _ bool) error { return r.Resume(ctx) },
		"a rebuild": func(ctx context.Context, r *Ranking, _ bool) error { return r.Rebuild(ctx, "best", "w") },
		"the event again": func(ctx context.Context, r *Ranking, _ bool) error {
			rows, err := r.Entries.read(ctx, r.DB.Queries, []place{{"best", "w", "p"}})
			if err != nil {
				return err
			}
			return r.Project(ctx, slices.Collect(maps.Values(rows)))
		},
		"a comparison": func(ctx context.Context, r *Ranking, _ bool) error {
			r.Settle = time.Millisecond
			_, drifts, err := r.Compare(ctx, []Window{{"best", "w"}}, []string{"p"})
			for _, d := range drifts {
				err = errors.Join(err, r.Rebuild(ctx, d.Board, d.Window))
			}
			return err
		},
	}
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r, without := serving(t, db, rdb, Window{"best", "w"}), newRanking(t, db, gone(t))
		rows := mergeScores(t, db, tied("best", "w", 8)...)
		rows = append(rows, mergeScores(t, db, Score{Board: "best", Window: "w", Player: "p", Score: 0, At: at(1_650_000_000_001), EventID: "e", Fresh: true})...)
		require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
		q := Query{Board: "best", Window: "w", Limit: 3}
		for step, stop := range steps {
			for mend, with := range mends {
				for _, hide := range []bool{true, false} {
					own := redis.NewClient(rdb.Options())
					err := setHidden(t.Context(), stop(t, r, own), "p", hide)
					require.NoError(t, own.Close())
					require.ErrorIs(t, err, stopped, step)
					hidden := map[string]bool{"p": hide}
					checkView(t, without, q, rows, hidden)
					require.NoError(t, with(t.Context(), r, hide), "%s, %s", step, mend)
					for _, q.Viewer = range []string{"", "p"} {
						checkView(t, r, q, rows, hidden)
					}
					require.NoError(t, setHidden(t.Context(), r, "p", hide))
				}
			}
		}
	})
}

func setHidden(ctx context.Context, r *Ranking, player string, hide bool) error {
	if hide {
		return r.Hide(ctx, player)
	}
	return r.Show(ctx, player)
}

// TestHideWhatAnotherCatalogRanks hides a player where the catalog lacks a board that another process still serves.
func TestHideWhatAnotherCatalogRanks(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		windows := []Window{{"best", "w"}, {"sum", "w"}}
		other, r := serving(t, db, rdb, windows...), serving(t, db, rdb, windows...)
		r.Entries.Boards = func(name string) (catalog.Board, bool) { return boards[name], name == "best" }
		for _, w := range windows {
			mergeScores(t, db, Score{Board: w.Board, Window: w.ID, Player: "p", Score: 1, At: at(1), EventID: "e", Fresh: true})
			require.NoError(t, other.Rebuild(t.Context(), w.Board, w.ID))
		}
		require.NoError(t, r.Hide(t.Context(), "p"))
		for _, w := range windows {
			_, err := other.Player(t.Context(), Query{Board: w.Board, Window: w.ID}, "p")
			require.ErrorIs(t, err, fault.NotRanked, w.Board)
		}
	})
}

// TestHidePlayersWithoutEntries hides somebody who has no entry yet, and shows somebody who was never hidden.
func TestHidePlayersWithoutEntries(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := serving(t, db, rdb, Window{"best", "w"})
		require.NoError(t, r.Show(t.Context(), "p"))
		hidden, err := r.Hidden(t.Context())
		require.NoError(t, err)
		require.Empty(t, hidden)
		for range 2 {
			require.NoError(t, r.Hide(t.Context(), "p"))
			require.NoError(t, r.Hide(t.Context(), "another"))
		}
		hidden, err = r.Hidden(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"another", "p"}, hidden)
		rows := mergeScores(t, db, Score{Board: "best", Window: "w", Player: "p", Score: 1, At: at(1), EventID: "e", Fresh: true})
		require.NoError(t, r.Project(t.Context(), rows))
		q := Query{Board: "best", Window: "w", Limit: 1}
		for _, q.Viewer = range []string{"", "p", "another"} {
			checkView(t, r, q, rows, map[string]bool{"p": true, "another": true})
		}
		n, err := entries.Count(t.Context(), db.Queries, "best", "w")
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// TestHideExtremeScores shows hidden players the scores that a double holds just about.
func TestHideExtremeScores(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		for board := range boards {
			r := serving(t, db, rdb, Window{board, "w"})
			var scores []Score
			for i, v := range []int64{1<<53 - 1, 1<<53 - 2, 0, 2 - 1<<53, 1 - 1<<53} {
				for _, twin := range []string{"a", "b"} {
					scores = append(scores, Score{Board: board, Window: "w", Player: fmt.Sprint(twin, i), Score: v, At: at(latestAt), EventID: "e", Fresh: true})
				}
			}
			rows := mergeScores(t, db, scores...)
			require.NoError(t, r.Project(t.Context(), rows))
			hidden := map[string]bool{}
			for _, s := range scores {
				if hidden[s.Player] = s.Player[0] == 'a'; hidden[s.Player] {
					require.NoError(t, r.Hide(t.Context(), s.Player))
				}
			}
			for _, s := range scores {
				checkView(t, r, Query{Board: board, Window: "w", Viewer: s.Player, Limit: 2}, rows, hidden)
			}
			for _, s := range scores {
				require.NoError(t, r.Show(t.Context(), s.Player))
			}
			checkView(t, r, Query{Board: board, Window: "w", Limit: 3}, rows, nil)
		}
	})
}

// TestCompareHiddenPlayers finds a hidden player whom Redis would show, and one whom it hides for no reason.
func TestCompareHiddenPlayers(t *testing.T) {
	t.Parallel()
	const order, players = "rank:{best:w}:order", "rank:{best:w}:players"
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := serving(t, db, rdb, Window{"best", "w"})
		r.Settle = time.Millisecond
		rows := mergeScores(t, db, tied("best", "w", 12)...)
		require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
		row := rows[7]
		place := member(row.AchievedAt, row.Player)
		standing := float64(standing("desc", row.Score))
		for hide, tamper := range map[bool][]func() error{
			true: {
				func() error { return rdb.ZAdd(t.Context(), order, redis.Z{Score: standing, Member: place}).Err() },
				func() error { return rdb.HSet(t.Context(), players, row.Player, "2:"+place).Err() },
				func() error { return rdb.HSet(t.Context(), players, row.Player, "2:"+place+":7").Err() },
			},
			false: {
				func() error {
					return rdb.ZAddArgs(t.Context(), order, redis.ZAddArgs{Members: []redis.Z{{Score: math.Inf(1), Member: place}}}).Err()
				},
				func() error { return rdb.HSet(t.Context(), players, row.Player, "3:"+place+":0").Err() },
			},
		} {
			for i, lie := range tamper {
				require.NoError(t, setHidden(t.Context(), r, row.Player, hide))
				entries, drifts := compared(t, r, rows)
				require.Equal(t, 12, entries)
				require.Empty(t, drifts)
				require.NoError(t, lie())
				_, drifts = compared(t, r, rows)
				require.Equal(t, []Drift{{"best", "w", row.Player}}, drifts, "%t %d", hide, i)
				require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
				checkView(t, r, Query{Board: "best", Window: "w", Viewer: row.Player, Limit: 5}, rows, map[string]bool{row.Player: hide})
			}
		}
	})
}

func TestHideInTrouble(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	rdb, server := storetest.Miniredis(t)
	r := serving(t, db, rdb, Window{"best", "w"})
	mergeScores(t, db, Score{Board: "best", Window: "w", Player: "p", Score: 1, At: at(1), EventID: "e", Fresh: true})
	server.SetError("LOADING")
	require.ErrorIs(t, r.Hide(t.Context(), "p"), fault.RedisUnavailable)
	require.ErrorIs(t, r.Resume(t.Context()), fault.RedisUnavailable)
	require.ErrorIs(t, r.Show(t.Context(), "p"), fault.RedisUnavailable)
	require.NoError(t, db.Close())
	require.ErrorIs(t, r.Hide(t.Context(), "p"), fault.DatabaseUnavailable)
	require.ErrorIs(t, r.Show(t.Context(), "p"), fault.DatabaseUnavailable)
	require.ErrorIs(t, r.Resume(t.Context()), fault.DatabaseUnavailable)
	_, err := r.Hidden(t.Context())
	require.ErrorIs(t, err, fault.DatabaseUnavailable)
	require.ErrorIs(t, r.Project(t.Context(), []Row{{Board: "best", Window: "w", Player: "p", Version: 1}}), fault.DatabaseUnavailable)
}

// TestHideCostsNothingTwice repeats what is done, which asks Redis nothing, and reads as viewers do, which is one round trip.
func TestHideCostsNothingTwice(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := serving(t, db, rdb, Window{"best", "w"})
		rows := mergeScores(t, db, tied("best", "w", 9)...)
		require.NoError(t, r.Rebuild(t.Context(), "best", "w"))
		require.NoError(t, r.Hide(t.Context(), rows[4].Player))
		q := Query{Board: "best", Window: "w", Limit: 4, Viewer: rows[4].Player}
		page, err := r.Around(t.Context(), q, rows[4].Player)
		require.NoError(t, err)
		q.Cursor = page.Next

		count := &trips{}
		rdb.AddHook(count)
		require.NoError(t, r.Hide(t.Context(), rows[4].Player))
		require.NoError(t, r.Show(t.Context(), rows[5].Player))
		require.NoError(t, r.Resume(t.Context()))
		require.Zero(t, count.n.Load())
		for i, viewer := range []string{rows[4].Player, rows[5].Player, "nobody", ""} {
			q.Viewer = viewer
			_, err := r.Page(t.Context(), q)
			require.NoError(t, err)
			_, err = r.Player(t.Context(), q, rows[3].Player)
			require.NoError(t, err)
			require.Equal(t, int64(2*i+2), count.n.Load())
		}
	})
}
