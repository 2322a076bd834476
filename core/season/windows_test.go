package season_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestMaterialise(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, nil)
		g := game(map[string]catalog.Board{
			"arena": {Zone: "UTC", Windows: []string{season.Daily, season.Weekly, season.Season, season.AllTime}},
			"tower": {Zone: "Asia/Tokyo", Windows: []string{season.Daily}},
		}, catalog.Season{ID: "s01", Starts: "2022-09-01", Ends: "2022-10-01"}, catalog.Season{ID: "s02", Starts: "2022-11-01", Ends: "2022-12-01"},
			catalog.Season{ID: "s03", Starts: "2022-12-01", Ends: "2023-01-01"})

		materialise(t, w, g, 3+3+2+1+3)
		materialise(t, w, g, 0)
		got, err := w.List(t.Context(), "arena", 100)
		require.NoError(t, err)
		require.Equal(t, []string{"all_time", "2022-W49", "s03", "2022-W48", "2022-11-24", "2022-11-23", "2022-11-22", "2022-W47", "s02"}, ids(got))
		require.Equal(t, season.Window{
			Board: "arena", ID: "2022-11-24", Cadence: season.Daily, State: season.Open,
			Starts: utc(t, "2022-11-24T00:00:00Z"), Ends: utc(t, "2022-11-25T00:00:00Z"),
		}, got[4])
		require.Equal(t, season.Window{Board: "arena", ID: "all_time", Cadence: season.AllTime, State: season.Open, Starts: utc(t, "1970-01-01T00:00:00Z")}, got[0])
		got, err = w.List(t.Context(), "tower", 1)
		require.NoError(t, err)
		require.Equal(t, []season.Window{{
			Board: "tower", ID: "2022-11-24", Cadence: season.Daily, State: season.Open,
			Starts: utc(t, "2022-11-23T15:00:00Z"), Ends: utc(t, "2022-11-24T15:00:00Z"),
		}}, got)

		c.Set(t, "2022-11-22T14:59:59.999Z")
		materialise(t, w, g, 0)
		c.Set(t, "2022-11-22T15:00:00Z") // midnight in Tokyo
		materialise(t, w, g, 1)
	})
}

func TestMaterialiseWhatWasMissed(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-01T12:00:00Z")
		w := windows(t, db, c, nil)
		boards := map[string]catalog.Board{"arena": {Zone: "UTC", Windows: []string{season.Daily, season.Weekly, season.Season}}}
		s01 := catalog.Season{ID: "s01", Starts: "2022-10-01", Ends: "2022-11-02"}
		before := catalog.Season{ID: "before", Starts: "2022-08-01", Ends: "2022-09-01"}
		materialise(t, w, game(boards, before, s01), 3+3+1)
		c.Set(t, "2022-11-30T12:00:00Z")
		// November 4 to December 2; weeks 47 to 50; s02 began and ended meanwhile.
		s02 := catalog.Season{ID: "s02", Starts: "2022-11-02", Ends: "2022-11-20"}
		materialise(t, w, game(boards, before, s01, s02), 29+4+1)

		got, err := w.List(t.Context(), "arena", 1000)
		require.NoError(t, err)
		ends := map[string]time.Time{}
		for i := len(got) - 1; i >= 0; i-- {
			window := got[i]
			if last, ok := ends[window.Cadence]; ok {
				require.Equal(t, last, window.Starts, window.ID)
			}
			ends[window.Cadence] = window.Ends
		}
		require.Equal(t, map[string]time.Time{
			season.Daily: utc(t, "2022-12-03T00:00:00Z"), season.Weekly: utc(t, "2022-12-19T00:00:00Z"), season.Season: utc(t, "2022-11-20T00:00:00Z"),
		}, ends)
	})
}

func TestMaterialiseKeepsInstants(t *testing.T) {
	t.Parallel()
	for zone, want := range map[string][]season.Window{
		// Midnight comes later: the next row takes the hours between.
		"America/New_York": {
			{ID: "2022-11-25", Starts: utc(t, "2022-11-25T00:00:00Z"), Ends: utc(t, "2022-11-26T05:00:00Z")},
			{ID: "2022-11-26", Starts: utc(t, "2022-11-26T05:00:00Z"), Ends: utc(t, "2022-11-27T05:00:00Z")},
		},
		// Midnight comes earlier: the next row is shorter.
		"Asia/Tokyo": {
			{ID: "2022-11-25", Starts: utc(t, "2022-11-25T00:00:00Z"), Ends: utc(t, "2022-11-25T15:00:00Z")},
			{ID: "2022-11-26", Starts: utc(t, "2022-11-25T15:00:00Z"), Ends: utc(t, "2022-11-26T15:00:00Z")},
		},
	} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
				c := &clock{}
				c.Set(t, "2022-11-22T12:00:00Z")
				w := windows(t, db, c, nil)
				materialise(t, w, daily("arena"), 3)
				c.Set(t, "2022-11-24T12:00:00Z")
				moved := game(map[string]catalog.Board{"arena": {Zone: zone, Windows: []string{season.Daily}}})
				materialise(t, w, moved, 2)
				materialise(t, w, moved, 0)
				got, err := w.List(t.Context(), "arena", 10)
				require.NoError(t, err)
				require.Equal(t, []string{"2022-11-26", "2022-11-25", "2022-11-24", "2022-11-23", "2022-11-22"}, ids(got))
				for i, want := range want {
					got := got[1-i]
					require.Equal(t, want, season.Window{ID: got.ID, Starts: got.Starts, Ends: got.Ends})
				}
				require.Equal(t, utc(t, "2022-11-25T00:00:00Z"), got[2].Ends)
			})
		})
	}
}

func TestMaterialiseConcurrently(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		g := daily("a", "b", "c", "d", "e", "f")
		var group sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			group.Go(func() { _, errs[i] = windows(t, db, c, nil).Materialise(t.Context(), g) })
		}
		group.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		w := windows(t, db, c, nil)
		materialise(t, w, g, 0)
		for board := range g.Boards {
			got, err := w.List(t.Context(), board, 100)
			require.NoError(t, err)
			require.Equal(t, []string{"2022-11-24", "2022-11-23", "2022-11-22"}, ids(got))
		}
	})
}

func TestMaterialiseRefusesAnUnknownZone(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, nil)
		_, err := w.Materialise(t.Context(), game(map[string]catalog.Board{"arena": {Zone: "Mars/Olympus", Windows: []string{season.Daily}}}))
		require.ErrorContains(t, err, "Mars/Olympus")
		got, err := w.List(t.Context(), "arena", 10)
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

func TestLoad(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		g := game(map[string]catalog.Board{
			"arena": {Zone: "UTC", Windows: []string{season.Daily, season.Weekly, season.Season, season.AllTime}},
			"tower": {Zone: "America/New_York", Windows: []string{season.Daily}},
		}, catalog.Season{ID: "s07", Starts: "2022-11-22T12:00", Ends: "2022-12-01"})
		materialise(t, w, g, 3+3+1+1+3)

		at := func(lock bool, board, at string) []string {
			var found []string
			require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error {
				set, err := w.Load(t.Context(), tx.Queries, lock)
				found = ids(set.At(board, utc(t, at)))
				return err
			}))
			return found
		}
		for _, lock := range []bool{false, true} {
			require.Equal(t, []string{"2022-11-22", "2022-W47", "all_time", "s07"}, at(lock, "arena", "2022-11-22T12:00:00Z"))
			require.Equal(t, []string{"2022-11-22", "2022-W47", "all_time"}, at(lock, "arena", "2022-11-22T11:59:59.999Z"))
			require.Equal(t, []string{"2022-11-23", "2022-W47", "all_time", "s07"}, at(lock, "arena", "2022-11-23T00:00:00Z"))
			require.Equal(t, []string{"all_time"}, at(lock, "arena", "2021-11-23T00:00:00Z"))
			require.Equal(t, []string{"2022-11-22"}, at(lock, "tower", "2022-11-23T04:59:59.999Z"))
			require.Empty(t, at(lock, "tower", "2022-11-22T04:59:59.999Z"))
			require.Empty(t, at(lock, "nowhere", "2022-11-22T12:00:00Z"))
		}
		set, err := w.Load(t.Context(), db.Queries, false)
		require.NoError(t, err)
		for _, window := range set.At("arena", utc(t, "2022-11-22T12:00:00Z")) {
			got, err := w.Get(t.Context(), "arena", window.ID)
			require.NoError(t, err)
			require.Equal(t, got, window)
		}

		c.Set(t, "2022-11-23T00:00:00Z")
		sweep(t, w, season.Report{Closed: 1})
		require.Equal(t, []string{"2022-11-22", "2022-W47", "all_time", "s07"}, at(true, "arena", "2022-11-22T23:00:00Z"))
		c.Set(t, "2022-11-23T00:10:00Z")
		sweep(t, w, season.Report{Frozen: 1, Archived: 1, Rewarded: 1})
		require.Equal(t, []string{"2022-W47", "all_time", "s07"}, at(true, "arena", "2022-11-22T23:00:00Z"))
		require.Equal(t, []string{"2022-11-22"}, at(true, "tower", "2022-11-22T23:00:00Z"))
	})
}

func TestServedWindowsBeganAndAreNotFinal(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, nil)
		materialise(t, w, game(map[string]catalog.Board{"arena": {Zone: "UTC", Windows: []string{season.Daily, season.AllTime}}}), 4)
		served := func(at string) []string {
			got, err := w.Served(t.Context(), utc(t, at))
			require.NoError(t, err)
			return ids(got)
		}
		require.Equal(t, []string{"2022-11-22", "all_time"}, served("2022-11-22T12:00:00Z"))
		require.Equal(t, []string{"2022-11-22", "2022-11-23", "all_time"}, served("2022-11-23T00:00:00Z"))
		for state, want := range map[season.State][]string{
			season.Closing: {"2022-11-22", "2022-11-23", "all_time"}, season.Frozen: {"2022-11-22", "2022-11-23", "all_time"},
			season.Archived: {"2022-11-23", "all_time"}, season.Rewarded: {"2022-11-23", "all_time"}, season.Purged: {"2022-11-23", "all_time"},
		} {
			_, err := db.Exec(t.Context(), "UPDATE board_window SET state = ? WHERE window_id = '2022-11-22'", string(state))
			require.NoError(t, err)
			require.Equal(t, want, served("2022-11-23T12:00:00Z"), state)
		}
	})
}

func TestReadWindows(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{})
		materialise(t, w, game(map[string]catalog.Board{"arena": {Zone: "UTC", Windows: []string{season.Daily, season.Season, season.AllTime}}},
			catalog.Season{ID: "s07", Starts: "2022-11-23", Ends: "2022-12-01"}), 3+1+1)

		for at, want := range map[string]string{
			"2022-11-22T00:00:00Z": "2022-11-22", "2022-11-22T23:59:59.999Z": "2022-11-22", "2022-11-23T00:00:00Z": "2022-11-23",
			"2022-11-24T23:59:59.999Z": "2022-11-24", "2022-11-25T00:00:00Z": "", "2022-11-21T23:59:59.999Z": "",
		} {
			got, err := w.Current(t.Context(), "arena", season.Daily, utc(t, at))
			require.Equal(t, want, got.ID, at)
			require.Equal(t, want == "", err != nil, at)
			if err != nil {
				require.ErrorIs(t, err, fault.WindowNotFound)
			}
		}
		got, err := w.Current(t.Context(), "arena", season.AllTime, c.Now())
		require.NoError(t, err)
		require.Equal(t, "all_time", got.ID)
		_, err = w.Current(t.Context(), "arena", season.Season, c.Now())
		require.ErrorIs(t, err, fault.WindowNotFound)
		_, err = w.Current(t.Context(), "arena", season.Weekly, c.Now())
		require.ErrorIs(t, err, fault.WindowNotFound)

		_, err = w.Get(t.Context(), "arena", "2022-11-21")
		require.ErrorIs(t, err, fault.WindowNotFound)
		_, err = w.Get(t.Context(), "ARENA", "2022-11-22")
		require.ErrorIs(t, err, fault.WindowNotFound)
		list, err := w.List(t.Context(), "nowhere", 10)
		require.NoError(t, err)
		require.Empty(t, list)
		left, bounded := got.Left(c.Now())
		require.Zero(t, left)
		require.False(t, bounded)
		day, err := w.Get(t.Context(), "arena", "2022-11-22")
		require.NoError(t, err)
		left, bounded = day.Left(c.Now())
		require.True(t, bounded)
		require.Equal(t, 12*time.Hour, left)
		left, _ = day.Left(c.Now().AddDate(0, 0, 1))
		require.Zero(t, left)
	})
}
