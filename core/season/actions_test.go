package season_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func order(key string) season.Order {
	return season.Order{Actor: "ops", Key: key, Reason: "the servers were down"}
}

// spans lists the windows of a series in time, as "id: starts – ends".
func spans(t testing.TB, w *season.Windows, board, cadence string) []string {
	t.Helper()
	var spans []string
	for _, window := range series(t, w, board, cadence) {
		spans = append(spans, fmt.Sprintf("%s: %s – %s", window.ID, window.Starts.Format("02T15:04:05.000"), window.Ends.Format("02T15:04:05.000")))
	}
	return spans
}

func series(t testing.TB, w *season.Windows, board, cadence string) []season.Window {
	t.Helper()
	list, err := w.List(t.Context(), board, 100_000)
	require.NoError(t, err)
	list = slices.DeleteFunc(list, func(w season.Window) bool { return w.Cadence != cadence })
	slices.SortFunc(list, func(a, b season.Window) int { return cmp.Or(a.Starts.Compare(b.Starts), a.Ends.Compare(b.Ends)) })
	return list
}

func TestCloseNow(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{Default: ranked(2)})
		materialise(t, w, daily("arena", "tower"), 6)
		c.Set(t, "2022-11-22T15:00:00.123456Z")
		done, err := w.CloseNow(t.Context(), "arena", "2022-11-22", order("k1"))
		require.NoError(t, err)
		require.Len(t, done.ID, 32)
		want := season.Action{
			ID: done.ID, Board: "arena", Window: "2022-11-22", Kind: season.ActionClose, At: utc(t, "2022-11-22T15:00:00.123Z"),
			Actor: "ops", Reason: "the servers were down",
			Details: season.ActionDetails{Ended: utc(t, "2022-11-23T00:00:00Z"), Ends: utc(t, "2022-11-22T15:00:00.124Z"), Next: "2022-11-23"},
		}
		list := func(board, window string, limit int) []season.Action {
			list, err := w.Actions(t.Context(), board, window, limit)
			require.NoError(t, err)
			return list
		}
		require.Equal(t, []season.Action{done}, list("arena", "2022-11-22", 10))
		require.EqualExportedValues(t, want, done)
		after := []string{
			"2022-11-22: 22T00:00:00.000 – 22T15:00:00.124", "2022-11-23: 22T15:00:00.124 – 24T00:00:00.000", "2022-11-24: 24T00:00:00.000 – 25T00:00:00.000",
		}
		require.Equal(t, after, spans(t, w, "arena", season.Daily))
		require.Equal(t, "2022-11-22: 22T00:00:00.000 – 23T00:00:00.000", spans(t, w, "tower", season.Daily)[0])

		// It is closing, and what comes in goes to the next one.
		sweep(t, w, season.Report{})
		c.Add(time.Millisecond)
		sweep(t, w, season.Report{Closed: 1})
		current, err := w.Current(t.Context(), "arena", season.Daily, c.Now())
		require.NoError(t, err)
		require.Equal(t, "2022-11-23", current.ID)
		set, err := w.Load(t.Context(), db.Queries, false)
		require.NoError(t, err)
		require.Equal(t, []string{"2022-11-23"}, ids(set.At("arena", c.Now())))
		require.Equal(t, []string{"2022-11-22"}, ids(set.At("arena", c.Now().Add(-time.Second))), "late, and in time")

		// The same again, when all is over: the same answer, and nothing happens.
		c.Set(t, "2022-11-22T15:10:01Z")
		sweep(t, w, season.Report{Frozen: 1, Archived: 1, Rewarded: 1})
		again, err := w.CloseNow(t.Context(), "arena", "2022-11-22", order("k1"))
		require.NoError(t, err)
		require.Equal(t, done, again)
		require.Equal(t, after, spans(t, w, "arena", season.Daily))
		header, err := w.Archive(t.Context(), "arena", "2022-11-22")
		require.NoError(t, err)
		require.Equal(t, done.Details.Ends, header.Statement().EndsAt)

		// The key names this order and no other.
		other := order("k1")
		other.Reason = "another"
		for name, err := range map[string]error{
			"reason": result(w.CloseNow(t.Context(), "arena", "2022-11-22", other)),
			"window": result(w.CloseNow(t.Context(), "arena", "2022-11-23", order("k1"))),
			"board":  result(w.CloseNow(t.Context(), "tower", "2022-11-22", order("k1"))),
			"action": result(w.Rebuild(t.Context(), "arena", "2022-11-22", order("k1"))),
			"extend": result(w.Extend(t.Context(), "arena", "2022-11-22", utc(t, "2022-11-23T05:00:00Z"), order("k1"))),
		} {
			require.ErrorIs(t, err, fault.IdempotencyReused, name)
		}
		elsewhere := order("k1")
		elsewhere.Actor = "somebody else"
		_, err = w.CloseNow(t.Context(), "tower", "2022-11-22", elsewhere)
		require.NoError(t, err)

		for i := range 3 {
			c.Add(time.Second)
			_, err = w.Rebuild(t.Context(), "arena", "2022-11-23", order(fmt.Sprint("r", i)))
			require.NoError(t, err)
		}
		require.Len(t, list("arena", "2022-11-23", 10), 3)
		newest := list("arena", "2022-11-23", 2)
		require.Len(t, newest, 2)
		require.Equal(t, c.Now().Truncate(time.Millisecond), newest[0].At)
		require.Equal(t, season.ActionRebuild, newest[0].Kind)
		require.Empty(t, list("nowhere", "2022-11-23", 10))
	})
}

func result(_ season.Action, err error) error { return err }

func TestActionsAreRefused(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-21T12:00:00Z")
		w := windows(t, db, c, finals{})
		materialise(t, w, game(map[string]catalog.Board{"arena": {Zone: "UTC", Windows: []string{season.Daily, season.Season, season.AllTime}}},
			catalog.Season{ID: "s07", Starts: "2022-11-22T12:01", Ends: "2022-12-01"}), 3+1+1)
		c.Set(t, "2022-11-22T12:00:59.999Z")
		sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
		materialise(t, w, daily("arena"), 1)
		later := utc(t, "2022-11-25T12:00:00Z")
		for _, test := range []struct {
			window string
			want   fault.Code
		}{
			{"all_time", fault.WindowEndless},
			{"s07", fault.WindowNotRunning},
			{"2022-11-23", fault.WindowNotRunning},
			{"2022-11-21", fault.WindowNotRunning},
			{"2022-11-20", fault.WindowNotFound},
			{"S07", fault.WindowNotFound},
		} {
			_, err := w.CloseNow(t.Context(), "arena", test.window, order("k"+test.window))
			require.ErrorIs(t, err, test.want, test.window)
			_, err = w.Extend(t.Context(), "arena", test.window, later, order("k"+test.window))
			require.ErrorIs(t, err, test.want, test.window)
		}
		_, err := w.Rebuild(t.Context(), "arena", "2022-11-21", order("k"))
		require.ErrorIs(t, err, fault.WindowNotRunning)
		_, err = w.Rebuild(t.Context(), "arena", "2022-11-20", order("k"))
		require.ErrorIs(t, err, fault.WindowNotFound)
		_, err = w.Rebuild(t.Context(), "arena", "all_time", order("all time is made anew"))
		require.NoError(t, err)

		c.Set(t, "2022-11-23T00:00:00Z") // it ended, and no sweep has seen it
		for name, err := range map[string]error{
			"close": result(w.CloseNow(t.Context(), "arena", "2022-11-22", order("k"))), "extend": result(w.Extend(t.Context(), "arena", "2022-11-22", later, order("k"))),
		} {
			require.ErrorIs(t, err, fault.WindowNotRunning, name)
		}
		for reason, pointer := range map[string]fault.Code{"": fault.FieldMissing, " \t": fault.FieldMissing, strings.Repeat("ü", 1001): fault.FieldRange, "a\xff": fault.FieldRange} {
			_, err = w.CloseNow(t.Context(), "arena", "s07", season.Order{Actor: "ops", Key: "k", Reason: reason})
			require.ErrorIs(t, err, fault.RequestInvalid)
			require.Equal(t, "/reason", fault.Of(err).Fields[0].Pointer)
			require.Equal(t, pointer, fault.Of(err).Fields[0].Code)
		}
		long := order("k")
		long.Reason = strings.Repeat("ü", 1000)
		_, err = w.CloseNow(t.Context(), "arena", "s07", long)
		require.NoError(t, err)
		var n int
		require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM window_action", nil, &n))
		require.Equal(t, 2, n, "what was refused has no record, and its key is free")
	})
}

func TestExtend(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		materialise(t, w, game(map[string]catalog.Board{"arena": {Zone: "UTC", Windows: []string{season.Daily, season.Season}}},
			catalog.Season{ID: "zeta", Starts: "2022-11-01", Ends: "2022-12-01"}, catalog.Season{ID: "alpha", Starts: "2022-12-05", Ends: "2022-12-20"}), 3+2)
		extend := func(window, until string) (season.Action, error) {
			return w.Extend(t.Context(), "arena", window, utc(t, until), order(window+until))
		}
		for _, test := range []struct{ window, until, detail string }{
			{"2022-11-22", "2022-11-22T11:00:00Z", "must be later than 2022-11-23T00:00:00Z"},
			{"2022-11-22", "2022-11-23T00:00:00Z", "must be later than 2022-11-23T00:00:00Z"},
			{"2022-11-22", "2022-11-23T00:00:00.0009Z", "must be later than 2022-11-23T00:00:00Z"},
			{"2022-11-22", "2022-11-24T00:00:00Z", "must be before 2022-11-24T00:00:00Z, when the next window, 2022-11-23, ends"},
			{"2022-11-22", "2022-12-24T00:00:00Z", "must be before 2022-11-24T00:00:00Z"},
			{"zeta", "2022-12-20T00:00:00Z", "must be before 2022-12-20T00:00:00Z, when the next window, alpha, ends"},
			{"zeta", "2023-12-01T00:00:00.001Z", "must be at most a year later than the end, 2023-12-01T00:00:00Z"},
		} {
			_, err := extend(test.window, test.until)
			require.ErrorIs(t, err, fault.RequestInvalid, test)
			require.Equal(t, "/until", fault.Of(err).Fields[0].Pointer)
			require.Contains(t, fault.Of(err).Fields[0].Detail, test.detail)
		}

		done, err := extend("2022-11-22", "2022-11-23T06:00:00Z")
		require.NoError(t, err)
		require.Equal(t, season.ActionDetails{Ended: utc(t, "2022-11-23T00:00:00Z"), Ends: utc(t, "2022-11-23T06:00:00Z"), Next: "2022-11-23"}, done.Details)
		require.Equal(t, []string{
			"2022-11-22: 22T00:00:00.000 – 23T06:00:00.000", "2022-11-23: 23T06:00:00.000 – 24T00:00:00.000", "2022-11-24: 24T00:00:00.000 – 25T00:00:00.000",
		}, spans(t, w, "arena", season.Daily))
		c.Set(t, "2022-11-23T05:59:59.999Z")
		sweep(t, w, season.Report{})
		c.Set(t, "2022-11-23T06:00:00Z")
		sweep(t, w, season.Report{Closed: 1})

		// Into the time between two seasons, and then into the next one.
		done, err = extend("zeta", "2022-12-05T00:00:00Z")
		require.NoError(t, err)
		require.Equal(t, season.ActionDetails{Ended: utc(t, "2022-12-01T00:00:00Z"), Ends: utc(t, "2022-12-05T00:00:00Z")}, done.Details)
		done, err = extend("zeta", "2022-12-19T00:00:00Z")
		require.NoError(t, err)
		require.Equal(t, "alpha", done.Details.Next)
		require.Equal(t, []string{"zeta: 01T00:00:00.000 – 19T00:00:00.000", "alpha: 19T00:00:00.000 – 20T00:00:00.000"}, spans(t, w, "arena", season.Season))
		_, err = w.CloseNow(t.Context(), "arena", "zeta", order("close"))
		require.NoError(t, err)
		require.Equal(t, []string{"zeta: 01T00:00:00.000 – 23T06:00:00.001", "alpha: 23T06:00:00.001 – 20T00:00:00.000"}, spans(t, w, "arena", season.Season))
	})
}

// A season that comes into the catalog after another one was extended over its beginning, or closed before it.
func TestMaterialiseBesideMovedSeasons(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		boards := map[string]catalog.Board{"arena": {Zone: "UTC", Windows: []string{season.Season}}}
		s1 := catalog.Season{ID: "s1", Starts: "2022-11-01", Ends: "2022-12-01"}
		s2 := catalog.Season{ID: "s2", Starts: "2022-12-01", Ends: "2022-12-06"}
		s3 := catalog.Season{ID: "s3", Starts: "2022-12-06", Ends: "2022-12-20"}
		s4 := catalog.Season{ID: "s4", Starts: "2022-12-20", Ends: "2022-12-31"}
		materialise(t, w, game(boards, s1), 1)
		_, err := w.Extend(t.Context(), "arena", "s1", utc(t, "2022-12-10T00:00:00Z"), order("k"))
		require.NoError(t, err)
		materialise(t, w, game(boards, s1, s2, s3), 1) // nothing is left of s2
		materialise(t, w, game(boards, s1, s2, s3), 0)
		want := []string{"s1: 01T00:00:00.000 – 10T00:00:00.000", "s3: 10T00:00:00.000 – 20T00:00:00.000"}
		require.Equal(t, want, spans(t, w, "arena", season.Season))

		c.Set(t, "2022-12-15T12:00:00Z")
		_, err = w.CloseNow(t.Context(), "arena", "s3", order("k3"))
		require.NoError(t, err)
		c.Set(t, "2022-12-25T12:00:00Z")
		moved := catalog.Season{ID: "s5", Starts: "2022-12-11", Ends: "2022-12-31"} // the catalog says so now, of time that another had
		materialise(t, w, game(boards, moved), 1)
		require.Equal(t, "s5: 15T12:00:00.001 – 31T00:00:00.000", spans(t, w, "arena", season.Season)[2])
		materialise(t, w, game(boards, s1, s2, s3, s4), 0)
	})
}

// TestExtendBesideMaterialise extends the last season there is while the next one, which would begin before the new end, comes into
// the catalog.
func TestExtendBesideMaterialise(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		s1 := catalog.Season{ID: "s1", Starts: "2022-11-01", Ends: "2022-12-01"}
		s2 := catalog.Season{ID: "s2", Starts: "2022-12-01", Ends: "2022-12-20"}
		for i := range 20 {
			board := fmt.Sprintf("board-%d", i)
			boards := map[string]catalog.Board{board: {Zone: "UTC", Windows: []string{season.Season}}}
			materialise(t, w, game(boards, s1), 1)
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() {
					if _, err := windows(t, db, c, finals{}).Materialise(t.Context(), game(boards, s1, s2)); err != nil {
						t.Errorf("materialise: %v", err)
					}
				})
			}
			group.Go(func() {
				if _, err := w.Extend(t.Context(), board, "s1", utc(t, "2022-12-10T00:00:00Z"), order(board)); err != nil {
					t.Errorf("extend: %v", err)
				}
			})
			group.Wait()
			require.Equal(t, []string{"s1: 01T00:00:00.000 – 10T00:00:00.000", "s2: 10T00:00:00.000 – 20T00:00:00.000"}, spans(t, w, board, season.Season))
		}
	})
}

// TestTimeIsCoveredOnce moves ends at random while time passes, windows are laid out and swept.
func TestTimeIsCoveredOnce(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	boards := 0
	rapid.Check(t, func(r *rapid.T) {
		boards++
		board := fmt.Sprintf("board-%d", boards)
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		w.Grace = func() time.Duration { return 10_000 * time.Hour } // what follows on closing is not looked at
		g := game(map[string]catalog.Board{board: {Zone: "Europe/Berlin", Windows: []string{season.Daily, season.Weekly, season.Season}}},
			catalog.Season{ID: "s2", Starts: "2022-11-20", Ends: "2022-11-24"}, catalog.Season{ID: "s1", Starts: "2022-11-24", Ends: "2022-11-26"},
			catalog.Season{ID: "s3", Starts: "2022-11-28", Ends: "2022-12-05"})
		_, err := db.Exec(t.Context(), "DELETE FROM board_window") // which those before would make slower and slower
		require.NoError(t, err)
		_, err = w.Materialise(t.Context(), g)
		require.NoError(t, err)
		for i := range rapid.IntRange(1, 15).Draw(r, "steps") {
			cadence := rapid.SampledFrom([]string{season.Daily, season.Weekly, season.Season}).Draw(r, "cadence")
			switch rapid.SampledFrom([]string{"pass", "close", "extend", "materialise", "sweep"}).Draw(r, "step") {
			case "pass":
				c.Add(time.Duration(rapid.Int64Range(1, int64(40*time.Hour)).Draw(r, "pass")))
			case "sweep":
				_, err := w.Sweep(t.Context())
				require.NoError(t, err)
			case "materialise":
				_, err := w.Materialise(t.Context(), g)
				require.NoError(t, err)
			case "close":
				if in, err := w.Current(t.Context(), board, cadence, c.Now()); err == nil {
					err := result(w.CloseNow(t.Context(), board, in.ID, order(fmt.Sprintf("%s/%d", board, i))))
					require.True(t, err == nil || errors.Is(err, fault.WindowNotRunning), "%v", err)
				}
			case "extend":
				if in, err := w.Current(t.Context(), board, cadence, c.Now()); err == nil {
					until := in.Ends.Add(time.Duration(rapid.Int64Range(1, int64(72*time.Hour)).Draw(r, "by")))
					err := result(w.Extend(t.Context(), board, in.ID, until, order(fmt.Sprintf("%s/%d", board, i))))
					require.True(t, err == nil || errors.Is(err, fault.RequestInvalid) || errors.Is(err, fault.WindowNotRunning), "%v", err)
				}
			}
			for _, cadence := range []string{season.Daily, season.Weekly, season.Season} {
				covered(t, series(t, w, board, cadence))
			}
		}
		_, err = w.Materialise(t.Context(), g)
		require.NoError(t, err)
		for _, cadence := range []string{season.Daily, season.Weekly} {
			list := series(t, w, board, cadence)
			covered(t, list)
			ahead := 0
			for _, window := range list {
				if window.Starts.After(c.Now()) {
					ahead++
				}
			}
			require.GreaterOrEqual(t, ahead, 2)
		}
	})
}

// covered says whether windows in time tile it, if not between seasons, and have their order by id too, if they are no seasons.
func covered(t testing.TB, list []season.Window) {
	t.Helper()
	for i, window := range list {
		require.True(t, window.Starts.Before(window.Ends), window)
		if i == 0 {
			continue
		}
		if window.Cadence == season.Season {
			require.False(t, window.Starts.Before(list[i-1].Ends), "%v %v", list[i-1], window)
			continue
		}
		require.Equal(t, list[i-1].Ends, window.Starts)
		require.Less(t, list[i-1].ID, window.ID)
	}
}

// TestTheSameOrderAtOnce gives one order many times at once, and one key to several orders.
func TestTheSameOrderAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		materialise(t, w, daily("a", "b", "c", "d"), 12)
		var group sync.WaitGroup
		same, other := make([]season.Action, 8), make([]error, 8)
		for i := range same {
			group.Go(func() {
				c.Add(time.Millisecond)
				var err error
				same[i], err = w.CloseNow(t.Context(), "a", "2022-11-22", order("same"))
				if err != nil {
					t.Errorf("the same order: %v", err)
				}
			})
			group.Go(func() {
				_, other[i] = w.CloseNow(t.Context(), []string{"b", "c"}[i%2], "2022-11-22", order("other"))
				_, err := w.Rebuild(t.Context(), "d", "2022-11-22", order("rebuild"))
				other[i] = errors.Join(other[i], err)
			})
		}
		group.Wait()
		refused := 0
		for i := range same {
			require.Equal(t, same[0], same[i])
			if other[i] != nil {
				require.ErrorIs(t, other[i], fault.IdempotencyReused)
				refused++
			}
		}
		require.Equal(t, 4, refused, "all of one of the boards")
		var n int
		require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM window_action", nil, &n))
		require.Equal(t, 3, n)
		closed := 0
		for _, board := range []string{"b", "c"} {
			if series(t, w, board, season.Daily)[0].Ends.Before(utc(t, "2022-11-23T00:00:00Z")) {
				closed++
			}
		}
		require.Equal(t, 1, closed)
	})
}

func TestActionsEndAnywhereAndGoOn(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		for looks := 0; ; looks++ {
			require.Less(t, looks, 500)
			board := fmt.Sprintf("board-%d", looks)
			materialise(t, w, daily(board), 3)
			_, cut := w.Extend(failAfter(t.Context(), looks), board, "2022-11-22", utc(t, "2022-11-23T06:00:00Z"), order(board))
			before := spans(t, w, board, season.Daily)
			done, err := w.Extend(t.Context(), board, "2022-11-22", utc(t, "2022-11-23T06:00:00Z"), order(board))
			require.NoError(t, err)
			require.Equal(t, "2022-11-23", done.Details.Next)
			after := spans(t, w, board, season.Daily)
			require.Equal(t, "2022-11-22: 22T00:00:00.000 – 23T06:00:00.000", after[0])
			covered(t, series(t, w, board, season.Daily))
			list, err := w.Actions(t.Context(), board, "2022-11-22", 10)
			require.NoError(t, err)
			require.Equal(t, []season.Action{done}, list)
			if cut == nil {
				require.Equal(t, before, after)
				require.Greater(t, looks, 10)
				return
			}
		}
	})
}

// A sweep that saw the old end of a window does not close the one whose end was moved.
func TestASweepThatSawTheOldEnd(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T23:55:00Z")
		w := windows(t, db, c, finals{})
		materialise(t, w, daily("a", "b"), 6)
		// This sweeper's clock is ten minutes ahead, so that both windows are due for it. While it closes the first, the second is
		// extended.
		ahead := windows(t, db, c, finals{})
		calls := 0
		ahead.Now = func() time.Time {
			if calls++; calls == 2 {
				_, err := w.Extend(t.Context(), "b", "2022-11-22", utc(t, "2022-11-23T06:00:00Z"), order("k"))
				require.NoError(t, err)
			}
			return c.Now().Add(10 * time.Minute)
		}
		if db.Dialect == store.SQLite {
			// Its transactions exclude each other: the first call within one is too late for another.
			ahead.Now = func() time.Time { return c.Now().Add(10 * time.Minute) }
			ahead.Grace = func() time.Duration {
				_, err := w.Extend(t.Context(), "b", "2022-11-22", utc(t, "2022-11-23T06:00:00Z"), order("k"))
				require.NoError(t, err)
				return 10 * time.Minute
			}
			sweep(t, ahead, season.Report{Closed: 1})
		} else {
			sweep(t, ahead, season.Report{Closed: 1, Held: 1})
		}
		require.Equal(t, season.Closing, state(t, w, "a", "2022-11-22"))
		require.Equal(t, season.Open, state(t, w, "b", "2022-11-22"))
	})
}

// TestCloseDoesNotPassARunningIngest closes and extends windows under a steady stream of batches, each of which counts what
// happens at an instant in the windows that it has loaded with a lock. Nothing is counted in a window that it does not lie in.
func TestCloseDoesNotPassARunningIngest(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		_, err := db.Exec(t.Context(), `CREATE TABLE counted (board VARCHAR(64), window_id VARCHAR(64), cadence VARCHAR(16), happened_at BIGINT, n VARCHAR(32), PRIMARY KEY (n, board, cadence))`)
		require.NoError(t, err)
		c := &clock{}
		c.Set(t, "2022-11-01T12:00:00Z")
		w := windows(t, db, c, finals{})
		g := game(map[string]catalog.Board{
			"a": {Zone: "UTC", Windows: []string{season.Daily, season.Weekly}}, "b": {Zone: "Asia/Tokyo", Windows: []string{season.Daily}},
		})
		_, err = w.Materialise(t.Context(), g)
		require.NoError(t, err)
		table := store.Table{Name: "counted", Columns: []string{"board", "window_id", "cadence", "happened_at", "n"}}
		stop := make(chan struct{})
		var group sync.WaitGroup
		var counted, happened atomic.Int64
		for worker := range 4 {
			group.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					var rows [][]any
					err := db.Tx(t.Context(), func(tx *store.Tx) error {
						at := c.Now()
						set, err := w.Load(t.Context(), tx.Queries, true)
						if err != nil {
							return err
						}
						rows = nil
						for _, board := range []string{"a", "b"} {
							for _, window := range set.At(board, at) {
								rows = append(rows, []any{board, window.ID, window.Cadence, at.UnixMilli(), fmt.Sprint(worker, "-", n)})
							}
						}
						return table.Insert(t.Context(), tx.Queries, rows)
					})
					if err != nil {
						t.Errorf("ingest: %v", err)
						return
					}
					happened.Add(1)
					counted.Add(int64(len(rows)))
				}
			})
		}
		for i := range 30 {
			c.Add(time.Duration(1+i%7) * time.Hour)
			for _, s := range []struct{ board, cadence string }{{"a", season.Daily}, {"b", season.Daily}, {"a", season.Weekly}} {
				in, err := w.Current(t.Context(), s.board, s.cadence, c.Now())
				require.NoError(t, err)
				key := order(fmt.Sprintf("%s/%d", s, i))
				if i%2 == 0 {
					err = result(w.CloseNow(t.Context(), s.board, in.ID, key))
				} else {
					err = result(w.Extend(t.Context(), s.board, in.ID, in.Ends.Add(time.Hour), key))
				}
				require.NoError(t, err)
			}
			_, err := w.Materialise(t.Context(), g)
			require.NoError(t, err)
			report, err := w.Sweep(t.Context())
			require.NoError(t, err)
			require.Zero(t, report.Failed)
		}
		close(stop)
		group.Wait()
		require.NotZero(t, happened.Load())
		require.Equal(t, 3*happened.Load(), counted.Load(), "time was covered all the while, and once")
		var outside int64
		require.NoError(t, db.Row(t.Context(), `SELECT COUNT(*) FROM counted c JOIN board_window w ON w.board = c.board AND w.window_id = c.window_id
			WHERE c.happened_at < w.starts_at OR c.happened_at >= w.ends_at`, nil, &outside))
		require.Zero(t, outside)
		t.Logf("%d counted", counted.Load())
	})
}

func TestCloseWaitsForTheBatch(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		materialise(t, w, daily("arena"), 3)
		closed := make(chan season.Action, 1)
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error {
			if _, err := w.Load(t.Context(), tx.Queries, true); err != nil {
				return err
			}
			go func() {
				done, err := w.CloseNow(t.Context(), "arena", "2022-11-22", order("k"))
				if err != nil {
					t.Errorf("close: %v", err)
				}
				closed <- done
			}()
			select {
			case <-closed:
				return errors.New("the close did not wait")
			case <-time.After(200 * time.Millisecond): // time enough to go wrong
			}
			c.Add(time.Second)
			return nil
		}))
		done := <-closed
		require.Equal(t, utc(t, "2022-11-22T12:00:01Z"), done.At, "the window ends after everything that is counted in it")
		require.Equal(t, done.At.Add(time.Millisecond), done.Details.Ends)
	})
}
