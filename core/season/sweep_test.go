package season_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestSweepAtTheBoundaries(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{Default: ranked(5)})
		materialise(t, w, game(map[string]catalog.Board{"arena": {Zone: "UTC", Windows: []string{season.Daily, season.AllTime}}}), 4)
		for _, step := range []struct {
			at     string
			report season.Report
			state  season.State
		}{
			{"2022-11-22T12:00:00Z", season.Report{}, season.Open},
			{"2022-11-22T23:59:59.999Z", season.Report{}, season.Open},
			{"2022-11-23T00:00:00Z", season.Report{Closed: 1}, season.Closing},
			{"2022-11-23T00:00:00Z", season.Report{}, season.Closing},
			{"2022-11-23T00:09:59.999Z", season.Report{}, season.Closing},
			{"2022-11-23T00:10:00Z", season.Report{Frozen: 1, Archived: 1, Rewarded: 1}, season.Rewarded},
			{"2022-11-23T00:10:00Z", season.Report{}, season.Rewarded},
			{"2022-11-23T23:59:59.999Z", season.Report{}, season.Rewarded},
		} {
			c.Set(t, step.at)
			sweep(t, w, step.report)
			require.Equal(t, step.state, state(t, w, "arena", "2022-11-22"), step.at)
			require.Equal(t, season.Open, state(t, w, "arena", "2022-11-23"))
			require.Equal(t, season.Open, state(t, w, "arena", "all_time"))
		}
	})
}

func TestSweepStaysFrozenUntilArchived(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		broken := errors.New("no standings today")
		w := windows(t, db, c, finals{Default: ranked(5), before: func(_ string, rank int64) error {
			if rank == 4 {
				return broken
			}
			return nil
		}})
		materialise(t, w, daily("arena"), 3)
		c.Set(t, "2022-11-23T00:10:00Z")
		report, err := w.Sweep(t.Context())
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, "close window 2022-11-22 of board arena: frozen → archived: archive entries: no standings today")
		require.Equal(t, season.Report{Closed: 1, Frozen: 1, Failed: 1}, report)
		require.Equal(t, season.Frozen, state(t, w, "arena", "2022-11-22"))

		// Two entries are written, and nobody sees them.
		var written int
		require.NoError(t, db.Row(t.Context(), `SELECT COUNT(*) FROM archive_entry`, nil, &written))
		require.Equal(t, 2, written)
		_, err = w.Archive(t.Context(), "arena", "2022-11-22")
		require.ErrorIs(t, err, fault.NotArchived)
		_, err = w.Page(t.Context(), "arena", "2022-11-22", 0, 10)
		require.ErrorIs(t, err, fault.NotArchived)
		_, err = w.Player(t.Context(), "arena", "2022-11-22", ranked(5)[0].Player)
		require.ErrorIs(t, err, fault.NotArchived)

		w.Standings = finals{Default: ranked(5)}
		sweep(t, w, season.Report{Archived: 1, Rewarded: 1})
		_, all := archived(t, w, "arena", "2022-11-22")
		require.Equal(t, ranked(5), all)
	})
}

func TestSweepOneFailureDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{Default: ranked(3), before: func(board string, _ int64) error {
			if board == "a" || board == "c" {
				return fault.DatabaseUnavailable.Errorf("gone")
			}
			return nil
		}})
		materialise(t, w, daily("a", "b", "c", "d"), 12)
		c.Set(t, "2022-11-23T00:10:00Z")
		report, err := w.Sweep(t.Context())
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorContains(t, err, "of board a:")
		require.ErrorContains(t, err, "of board c:")
		require.Equal(t, season.Report{Closed: 4, Frozen: 4, Archived: 2, Rewarded: 2, Failed: 2}, counts(t, report))
		require.Equal(t, season.Rewarded, state(t, w, "b", "2022-11-22"))
		require.Equal(t, season.Rewarded, state(t, w, "d", "2022-11-22"))
	})
}

func TestSweepAfterTenDaysDown(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-12T12:00:00Z")
		w := windows(t, db, c, finals{Of: map[string][]season.Standing{"arena/2022-11-12": ranked(4), "arena/2022-W45": ranked(9)}})
		g := game(map[string]catalog.Board{"arena": {Zone: "America/New_York", Windows: []string{season.Daily, season.Weekly, season.Season}}},
			catalog.Season{ID: "s01", Starts: "2022-11-01", Ends: "2022-11-15"})
		materialise(t, w, g, 7)
		c.Set(t, "2022-11-22T12:00:00Z")
		materialise(t, w, g, 10+2)                                                     // days to the 24th, weeks 48 and 49
		sweep(t, w, season.Report{Closed: 13, Frozen: 13, Archived: 13, Rewarded: 13}) // ten days, two weeks, the season
		sweep(t, w, season.Report{})

		list, err := w.List(t.Context(), "arena", 100)
		require.NoError(t, err)
		require.Len(t, list, 19)
		for _, window := range list {
			if window.Ends.After(c.Now()) {
				require.Equal(t, season.Open, window.State, window.ID)
				continue
			}
			header, all := archived(t, w, "arena", window.ID)
			require.EqualValues(t, len(all), header.Entries)
			switch window.ID {
			case "2022-11-12":
				require.Equal(t, ranked(4), all)
			case "2022-W45":
				require.Equal(t, ranked(9), all)
			default:
				require.Empty(t, all, window.ID)
			}
		}
	})
}

func TestSweepTwiceAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		var names []string
		for i := range 12 {
			names = append(names, fmt.Sprintf("board-%02d", i))
		}
		var begun, ended atomic.Int64
		standings := finals{Default: ranked(11), before: func(_ string, rank int64) error {
			switch rank {
			case 1:
				begun.Add(1)
			case 0:
				ended.Add(1)
			}
			return nil
		}}
		materialise(t, windows(t, db, c, nil), daily(names...), 36)
		c.Set(t, "2022-11-23T12:00:00Z")
		var group sync.WaitGroup
		reports := make([]season.Report, 4)
		errs := make([]error, 4)
		for i := range reports {
			group.Go(func() {
				w := windows(t, db, c, standings)
				for quiet := false; !quiet && errs[i] == nil; {
					var r season.Report
					r, errs[i] = w.Sweep(t.Context())
					quiet = r.Closed+r.Frozen+r.Archived+r.Rewarded+r.Held == 0
					reports[i].Closed += r.Closed
					reports[i].Frozen += r.Frozen
					reports[i].Archived += r.Archived
					reports[i].Rewarded += r.Rewarded
				}
			})
		}
		group.Wait()
		var sum season.Report
		for i, r := range reports {
			require.NoError(t, errs[i])
			sum.Closed += r.Closed
			sum.Frozen += r.Frozen
			sum.Archived += r.Archived
			sum.Rewarded += r.Rewarded
		}
		require.Equal(t, season.Report{Closed: 12, Frozen: 12, Archived: 12, Rewarded: 12}, sum)
		require.EqualValues(t, 12, begun.Load()) // nobody did the work of another for nothing
		require.EqualValues(t, 12, ended.Load())
		for _, name := range names {
			_, all := archived(t, windows(t, db, c, nil), name, "2022-11-22")
			require.Equal(t, ranked(11), all)
		}
	})
}

// written waits until so many rows of archives are in the database: a sweeper that stands still in its standings may be writing all the
// same.
func written(t *testing.T, db *store.DB, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var rows int
		return db.Row(t.Context(), "SELECT COUNT(*) FROM archive_entry", nil, &rows) == nil && rows == want
	}, time.Minute, time.Millisecond)
}

func TestSweepStaleWorkerIsFencedOff(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int64{"between chunks": 4, "before its completion": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
				c := &clock{}
				c.Set(t, "2022-11-22T12:00:00Z")
				w := windows(t, db, c, finals{Default: ranked(6)})
				materialise(t, w, daily("arena"), 3)
				c.Set(t, "2022-11-23T00:10:00Z")

				stalled, goOn := make(chan struct{}), make(chan struct{})
				stale := windows(t, db, c, finals{Default: ranked(200), before: func(_ string, rank int64) error {
					if rank == at {
						close(stalled)
						<-goOn
					}
					return nil
				}})
				stale.Chunk = 3
				if at == 0 {
					stale.Chunk = 200
				}
				stale.Catalog = func() *catalog.Catalog { return &catalog.Catalog{Version: 666} }
				type result struct {
					report season.Report
					err    error
				}
				done := make(chan result)
				go func() {
					report, err := stale.Sweep(t.Context())
					done <- result{report, err}
				}()
				<-stalled
				written(t, db, map[int64]int{4: 3, 0: 200}[at])
				sweep(t, w, season.Report{Held: 1})
				c.Add(time.Minute - time.Millisecond)
				sweep(t, w, season.Report{Held: 1})
				c.Add(time.Millisecond)
				sweep(t, w, season.Report{Archived: 1, Rewarded: 1})
				before, rows := archived(t, w, "arena", "2022-11-22")
				require.Equal(t, ranked(6), rows)

				close(goOn)
				got := <-done
				require.NoError(t, got.err)
				require.Equal(t, season.Report{Closed: 1, Frozen: 1, Held: 1}, counts(t, got.report))
				after, rows := archived(t, w, "arena", "2022-11-22")
				require.Equal(t, ranked(6), rows)
				require.Equal(t, before, after)
				require.Equal(t, 7, after.CatalogVersion)
			})
		})
	}
}

func TestSweepStaleWorkerWhileTheNextIsAtWork(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		materialise(t, w, daily("arena"), 3)
		c.Set(t, "2022-11-23T00:10:00Z")
		stop := func(rank int64) (finals, chan struct{}, chan struct{}) {
			stalled, goOn := make(chan struct{}), make(chan struct{})
			return finals{Default: ranked(9), before: func(_ string, at int64) error {
				if at == rank {
					close(stalled)
					<-goOn
				}
				return nil
			}}, stalled, goOn
		}
		first, firstStalled, firstGoOn := stop(0)
		second, secondStalled, secondGoOn := stop(5)
		reports := make(chan season.Report)
		run := func(standings season.Standings) {
			report, err := windows(t, db, c, standings).Sweep(t.Context())
			if err != nil {
				report.Failed = -1
			}
			reports <- report
		}
		go run(first)
		<-firstStalled
		written(t, db, 8)
		c.Add(time.Minute)
		go run(second)
		<-secondStalled
		written(t, db, 4)
		// The first comes back when the second has written four of nine, and must neither complete nor give the lease away.
		close(firstGoOn)
		require.Equal(t, season.Report{Closed: 1, Frozen: 1, Held: 1}, counts(t, <-reports))
		require.Equal(t, season.Frozen, state(t, w, "arena", "2022-11-22"))
		sweep(t, w, season.Report{Held: 1})
		close(secondGoOn)
		require.Equal(t, season.Report{Archived: 1, Rewarded: 1}, counts(t, <-reports))
		_, all := archived(t, w, "arena", "2022-11-22")
		require.Equal(t, ranked(9), all)
	})
}

// probe keeps entries the way ingest does: in the transaction that loaded the windows with a lock.
type probe struct{}

func (probe) Forget(context.Context, string, string) (bool, error) { return false, nil }

func (probe) EachStanding(ctx context.Context, q store.Queries, board, window string, each func(season.Standing) error) (*int64, error) {
	rank := int64(0)
	return nil, q.Each(ctx, `SELECT player_id FROM probe WHERE board = ? AND window_id = ? ORDER BY player_id`, []any{board, window}, func(scan func(...any) error) error {
		rank++
		s := season.Standing{Rank: rank, TiedRank: 1, AchievedAt: time.UnixMilli(0)}
		if err := scan(&s.Player); err != nil {
			return err
		}
		return each(s)
	})
}

func TestFreezeDoesNotPassARunningIngest(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		_, err := db.Exec(t.Context(), `CREATE TABLE probe (board VARCHAR(64), window_id VARCHAR(64), player_id VARCHAR(63), PRIMARY KEY (board, window_id, player_id))`)
		require.NoError(t, err)
		c := &clock{}
		c.Set(t, "2022-11-01T12:00:00Z")
		w := windows(t, db, c, probe{})
		w.Chunk = 50
		g := daily("a", "b")
		materialise(t, w, g, 6)
		table := store.Table{Name: "probe", Columns: []string{"board", "window_id", "player_id"}}

		stop := make(chan struct{})
		var group sync.WaitGroup
		var written, tries atomic.Int64
		for worker := range 6 {
			group.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					var count int64
					err := db.Tx(t.Context(), func(tx *store.Tx) error {
						tries.Add(1)
						now := c.Now() // once: the clock moves meanwhile, and no window may come up twice
						set, err := w.Load(t.Context(), tx.Queries, true)
						if err != nil {
							return err
						}
						// The windows that are just being frozen are what matters here: write to all that are loaded, of the past too.
						var rows [][]any
						for _, board := range []string{"a", "b"} {
							for day := range 3 {
								for _, window := range set.At(board, now.AddDate(0, 0, -day)) {
									rows = append(rows, []any{board, window.ID, fmt.Sprintf("player-%d-%d", worker, n)})
								}
							}
						}
						count = int64(len(rows))
						return table.Insert(t.Context(), tx.Queries, rows)
					})
					if err != nil {
						t.Errorf("ingest: %v", err)
						return
					}
					written.Add(count)
				}
			})
		}
		// Windows close as fast as the sweep can, against a steady stream of readers.
		for range 12 {
			c.Add(24 * time.Hour)
			_, err := w.Materialise(t.Context(), g)
			require.NoError(t, err)
			report, err := w.Sweep(t.Context())
			require.NoError(t, err)
			require.Zero(t, report.Failed+report.Held)
		}
		close(stop)
		group.Wait()
		c.Add(5 * 24 * time.Hour)
		report, err := w.Sweep(t.Context())
		require.NoError(t, err)
		require.NotZero(t, report.Archived)

		var kept, entries int64
		require.NoError(t, db.Row(t.Context(), `SELECT SUM(entries) FROM archive`, nil, &kept))
		require.NoError(t, db.Row(t.Context(), `SELECT COUNT(*) FROM archive_entry`, nil, &entries))
		require.NotZero(t, written.Load())
		require.Equal(t, written.Load(), kept)
		require.Equal(t, written.Load(), entries)
		t.Logf("%d entries, %d transactions", written.Load(), tries.Load())
	})
}

func TestFreezeWaitsForTheReader(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		var committing atomic.Bool
		var early atomic.Bool
		w := windows(t, db, c, finals{Default: ranked(2), before: func(string, int64) error {
			early.Store(early.Load() || !committing.Load())
			return nil
		}})
		materialise(t, w, daily("arena"), 3)
		c.Set(t, "2022-11-23T00:00:00Z")
		sweep(t, w, season.Report{Closed: 1})
		c.Set(t, "2022-11-23T00:10:00Z")
		swept := make(chan error, 1)
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error {
			set, err := w.Load(t.Context(), tx.Queries, true)
			if err != nil {
				return err
			}
			require.Equal(t, []string{"2022-11-22"}, ids(set.At("arena", utc(t, "2022-11-22T12:00:00Z"))))
			go func() {
				_, err := w.Sweep(t.Context())
				swept <- err
			}()
			select {
			case <-swept:
				return errors.New("the sweep did not wait")
			case <-time.After(200 * time.Millisecond): // time enough to go wrong
			}
			committing.Store(true)
			return nil
		}))
		require.NoError(t, <-swept)
		require.False(t, early.Load())
		require.Equal(t, season.Rewarded, state(t, w, "arena", "2022-11-22"))
	})
}
