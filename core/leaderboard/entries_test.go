package leaderboard

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

var entries = Entries{Boards: findBoard}

func mergeScores(t require.TestingT, db *store.DB, scores ...Score) []Row {
	var rows []Row
	err := db.Tx(ctxOf(t), func(tx *store.Tx) error {
		var err error
		rows, err = entries.Merge(ctxOf(t), tx, scores)
		return err
	})
	require.NoError(t, err)
	return rows
}

func allRows(t require.TestingT, db *store.DB, board, window string) []Row {
	var rows []Row
	require.NoError(t, entries.Each(ctxOf(t), db.Queries, board, window, func(r Row) error {
		rows = append(rows, r)
		return nil
	}))
	return rows
}

func TestEntriesMerge(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		score := func(board, player string, score, ms int64, id string) Score {
			return Score{Board: board, Window: "w", Player: player, Score: score, At: at(ms), EventID: id, Fresh: true}
		}
		row := func(board, player string, score, ms int64, id string, version int64) Row {
			return Row{Board: board, Window: "w", Player: player, Score: score, Total: score, AchievedAt: at(ms), EventID: id, Version: version}
		}
		require.ElementsMatch(t, []Row{
			row("best", "ann", 7, 2, "e2", 2), row("best", "Ann", 1, 1, "e3", 1), row("sum", "ann", 12, 2, "e2", 2),
		}, mergeScores(t, db,
			score("best", "ann", 5, 1, "e1"), score("sum", "ann", 5, 1, "e1"), score("best", "ann", 7, 2, "e2"),
			score("sum", "ann", 7, 2, "e2"), score("best", "Ann", 1, 1, "e3")))

		require.ElementsMatch(t, []Row{
			row("best", "ann", 7, 2, "e2", 2), // worse: unchanged
			row("sum", "ann", 14, 3, "e4", 3), // on top of what is stored
		}, mergeScores(t, db, score("best", "ann", 2, 3, "e4"), score("sum", "ann", 2, 3, "e4")))

		again := score("sum", "ann", 2, 3, "e4")
		again.Fresh = false
		unranked := score("sum", "bob", 2, 3, "e4")
		unranked.Fresh = false
		require.Equal(t, []Row{row("sum", "ann", 14, 3, "e4", 3)}, mergeScores(t, db, again, unranked))
		require.Equal(t, []Row{row("sum", "ann", 15, 4, "e5", 4)}, mergeScores(t, db, again, score("sum", "ann", 1, 4, "e5")))
		require.Empty(t, mergeScores(t, db))

		n, err := entries.Count(t.Context(), db.Queries, "best", "w")
		require.NoError(t, err)
		require.Equal(t, int64(2), n)
		n, err = entries.Count(t.Context(), db.Queries, "best", "other")
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestEntriesMergeRefuses(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		for code, bad := range map[fault.Code]Score{
			fault.BoardUnknown:    {Board: "nosuch", Window: "w", Player: "p", At: at(1), EventID: "e", Fresh: true},
			fault.ImpossibleValue: {Board: "best", Window: "w", Player: "p", Score: event.MaxInteger + 1, At: at(1), EventID: "e", Fresh: true},
		} {
			err := db.Tx(t.Context(), func(tx *store.Tx) error {
				good := Score{Board: "best", Window: "w", Player: "good", At: at(1), EventID: "e", Fresh: true}
				_, err := entries.Merge(t.Context(), tx, []Score{good, bad})
				return err
			})
			require.ErrorIs(t, err, code)
			require.ErrorIs(t, err, fault.Invalid)
		}
		require.Empty(t, allRows(t, db, "best", "w"))
		require.ErrorIs(t, entries.Each(t.Context(), db.Queries, "nosuch", "w", nil), fault.BoardNotFound)
	})
}

// TestEntriesEach goes over several pages, with ties that are longer than a page.
func TestEntriesEach(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		for _, board := range []string{"best", "best-asc"} {
			scores := tied(board, "w", 2*pageSize+500)
			want := make([]Row, len(scores))
			for i, s := range scores {
				want[i] = Row{}.Merge(boards[board], s)
			}
			slices.SortFunc(want, func(a, b Row) int {
				byScore := cmp.Compare(a.Score, b.Score)
				if board == "best" {
					byScore = -byScore
				}
				return cmp.Or(byScore, a.AchievedAt.Compare(b.AchievedAt), strings.Compare(a.Player, b.Player))
			})
			require.Len(t, mergeScores(t, db, scores...), len(scores))
			mergeScores(t, db, Score{Board: board, Window: "v", Player: "x", At: at(1), EventID: "e", Fresh: true})
			require.Equal(t, want, allRows(t, db, board, "w"))

			stop := errors.New("stop")
			seen := 0
			err := entries.Each(t.Context(), db.Queries, board, "w", func(Row) error {
				seen++
				if seen == pageSize+1 {
					return stop
				}
				return nil
			})
			require.ErrorIs(t, err, stop)
			require.Equal(t, pageSize+1, seen)
		}
	})
}

// TestEntriesEachUsesTheIndex keeps a page from sorting or skipping through the window: its cost must not depend on where it is.
func TestEntriesEachUsesTheIndex(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	var plan []string
	require.NoError(t, db.Each(t.Context(), "EXPLAIN QUERY PLAN "+entryRead+
		"board = 'b' AND window_id = 'w' AND (standing, achieved_at, player_id) > (1, 1, 'a') AND "+seen+" ORDER BY standing, achieved_at, player_id LIMIT 5",
		[]any{""}, func(scan func(...any) error) error {
			var id, parent, unused int
			var detail string
			err := scan(&id, &parent, &unused, &detail)
			plan = append(plan, detail)
			return err
		}))
	require.Equal(t, "SEARCH entry USING INDEX entry_standing (board=? AND window_id=? AND (standing,achieved_at,player_id)>(?,?,?))", plan[0])
	for _, step := range plan { // a sort would be a step of its own
		require.NotContains(t, step, "TEMP B-TREE")
	}
}

// TestEntriesMergeConcurrently has transactions of different players write neighbouring rows.
func TestEntriesMergeConcurrently(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		const writers, batches, players = 4, 6, 20
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for b := range batches {
					var scores []Score
					for p := range players {
						for _, board := range []string{"sum", "best"} {
							scores = append(scores, Score{
								Board: board, Window: "w", Player: fmt.Sprintf("p%d-%d", p, w), Score: 1,
								At: at(int64(b)), EventID: fmt.Sprint(b), Fresh: true,
							})
						}
					}
					mergeScores(t, db, scores...)
				}
			})
		}
		wg.Wait()
		rows := allRows(t, db, "sum", "w")
		require.Len(t, rows, writers*players)
		for _, row := range rows {
			require.Equal(t, int64(batches), row.Score)
			require.Equal(t, int64(batches), row.Version)
		}
		require.Len(t, allRows(t, db, "best", "w"), writers*players)
	})
}

// tied makes a score each for n players, most of them equal to many others in score and a few in time as well. Player ids hold
// characters that a locale would order otherwise than their bytes.
func tied(board, window string, n int) []Score {
	random := rand.New(rand.NewPCG(1, 2))
	scores := make([]Score, n)
	for i := range scores {
		scores[i] = Score{
			Board: board, Window: window, Score: int64(random.IntN(3)) - 1, At: at(1_650_000_000_000 + int64(random.IntN(n/4+1))),
			Player:  []string{"a", "A", "_", "-", "Zz", "z-", "9"}[random.IntN(7)] + fmt.Sprint(i),
			EventID: fmt.Sprint("e", i), Fresh: true,
		}
	}
	return scores
}
