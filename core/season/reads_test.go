package season_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func sha256Of(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// won is standings of three, led by a player.
func won(player string) []season.Standing {
	standings := ranked(3)
	standings[0].Player = player
	return standings
}

// years is a board with archives of five days and a week, and another board with one of a day.
func years(t *testing.T, db *store.DB, retention time.Duration) (*season.Windows, *clock) {
	t.Helper()
	c := &clock{}
	c.Set(t, "2022-11-21T12:00:00Z") // a Monday
	w := windows(t, db, c, finals{Of: map[string][]season.Standing{
		"arena/2022-11-21": won("ada"), "arena/2022-11-22": won("bob"), "arena/2022-11-23": won("bob"), "arena/2022-11-24": won("ada"),
		"arena/2022-11-26": won("cyd"), "arena/2022-W47": won("dan"), "tower/2022-11-21": won("eve"),
	}})
	g := game(map[string]catalog.Board{
		"arena": {Zone: "UTC", Windows: []string{season.Daily, season.Weekly}, HallOfFame: 2, Retention: catalog.Duration(retention)},
		"tower": {Zone: "UTC", Windows: []string{season.Daily}, HallOfFame: 3},
	})
	w.Catalog = func() *catalog.Catalog { return g }
	for range 7 {
		_, err := w.Materialise(t.Context(), g)
		require.NoError(t, err)
		c.Add(24 * time.Hour)
		_, err = w.Sweep(t.Context())
		require.NoError(t, err)
	}
	return w, c
}

func TestArchivesNewestFirst(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w, _ := years(t, db, 0)
		list := func(board, cadence string, before int64, limit int) (ids []string, last int64) {
			headers, err := w.Archives(t.Context(), board, cadence, before, limit)
			require.NoError(t, err)
			for _, h := range headers {
				one, err := w.Archive(t.Context(), board, h.ID)
				require.NoError(t, err)
				require.Equal(t, one, h)
				ids, last = append(ids, h.ID), h.Sequence
			}
			return ids, last
		}
		all := []string{"2022-W47", "2022-11-27", "2022-11-26", "2022-11-25", "2022-11-24", "2022-11-23", "2022-11-22", "2022-11-21"}
		got, last := list("arena", "", 0, 100)
		require.Equal(t, all, got)
		require.EqualValues(t, 1, last)
		got, _ = list("arena", season.Weekly, 0, 100)
		require.Equal(t, all[:1], got)
		var pages []string
		for before := int64(0); ; {
			page, last := list("arena", season.Daily, before, 3)
			pages = append(pages, page...)
			if len(page) < 3 {
				break
			}
			before = last
		}
		require.Equal(t, all[1:], pages)
		for _, none := range []func() ([]string, int64){
			func() ([]string, int64) { return list("arena", season.Season, 0, 10) }, func() ([]string, int64) { return list("nowhere", "", 0, 10) },
			func() ([]string, int64) { return list("arena", "", 1, 10) }, func() ([]string, int64) { return list("arena", "", 0, 0) },
		} {
			got, _ := none()
			require.Empty(t, got)
		}
	})
}

func TestHallOfFame(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w, c := years(t, db, 48*time.Hour)
		fame := func(board, cadence string, before int64, limit int) []string {
			famous, err := w.HallOfFame(t.Context(), board, cadence, before, limit)
			require.NoError(t, err)
			var lines []string
			for _, f := range famous {
				line := f.ID
				for i, s := range f.Places {
					require.EqualValues(t, i+1, s.Rank)
					line += " " + s.Player
				}
				lines = append(lines, line)
			}
			return lines
		}
		second := ranked(3)[1].Player
		days := []string{
			"2022-11-27", "2022-11-26 cyd " + second, "2022-11-25", "2022-11-24 ada " + second, "2022-11-23 bob " + second,
			"2022-11-22 bob " + second, "2022-11-21 ada " + second,
		}
		require.Equal(t, days, fame("arena", season.Daily, 0, 100))
		require.Equal(t, append([]string{"2022-W47 dan " + second}, days...), fame("arena", "", 0, 100))
		require.Equal(t, days[2:4], fame("arena", season.Daily, 6, 2))
		require.Len(t, fame("tower", season.Daily, 0, 100), 7)
		require.Empty(t, fame("nowhere", season.Daily, 0, 100))
		c.Add(1000 * 24 * time.Hour)
		_, err := w.Sweep(t.Context())
		require.NoError(t, err)
		require.Equal(t, season.Purged, state(t, w, "arena", "2022-W47"))
		require.Equal(t, days, fame("arena", season.Daily, 0, 100)[2:], "it is for ever") // the two days ahead ended too

		none := daily("tower")
		w.Catalog = func() *catalog.Catalog { return none }
		require.Equal(t, "2022-11-26", fame("arena", season.Daily, 0, 100)[3], "a board that is gone remembers nobody")
	})
}

func TestChampions(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w, _ := years(t, db, time.Hour)
		champions := func(board, cadence string, limit int) []season.Champion {
			list, err := w.Champions(t.Context(), board, cadence, limit)
			require.NoError(t, err)
			return list
		}
		want := []season.Champion{
			{Player: "ada", Wins: 2, First: utc(t, "2022-11-22T00:00:00Z"), Last: utc(t, "2022-11-25T00:00:00Z")}, // she won first
			{Player: "bob", Wins: 2, First: utc(t, "2022-11-23T00:00:00Z"), Last: utc(t, "2022-11-24T00:00:00Z")},
			{Player: "cyd", Wins: 1, First: utc(t, "2022-11-27T00:00:00Z"), Last: utc(t, "2022-11-27T00:00:00Z")},
		}
		require.Equal(t, want, champions("arena", season.Daily, 10))
		require.Equal(t, want[:1], champions("arena", season.Daily, 1))
		require.Len(t, champions("arena", "", 10), 4)
		require.Equal(t, "dan", champions("arena", season.Weekly, 10)[0].Player)
		require.Empty(t, champions("nowhere", season.Daily, 10))
	})
}

// TestPurge takes windows of many sizes beside halls of fame of many sizes past their retention, and looks before, at and after it.
func TestPurge(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		for _, size := range []struct{ entries, fame int }{{0, 3}, {2, 3}, {3, 3}, {4, 3}, {10, 0}, {1030, 3}, {2100, 1000}} {
			board := fmt.Sprintf("board-%d-%d", size.entries, size.fame)
			c := &clock{}
			c.Set(t, "2022-11-22T12:00:00Z")
			all := ranked(size.entries)
			w := windows(t, db, c, finals{Default: all})
			w.Chunk = 100
			g := daily(board)
			g.Boards[board] = catalog.Board{
				Zone: "UTC", Windows: []string{season.Daily}, HallOfFame: size.fame, Retention: catalog.Duration(720 * time.Hour),
			}
			w.Catalog = func() *catalog.Catalog { return g }
			materialise(t, w, g, 3)
			c.Set(t, "2022-11-23T00:10:00Z")
			sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
			before, err := w.Archive(t.Context(), board, "2022-11-22")
			require.NoError(t, err)
			c.Set(t, "2022-12-22T23:59:59.999Z")
			report, err := w.Sweep(t.Context()) // the days after it end too
			require.NoError(t, err)
			require.Zero(t, report.Purged)
			verified(t, w, board, "2022-11-22")
			c.Set(t, "2022-12-23T00:00:00Z")
			sweep(t, w, season.Report{Purged: 1})
			sweep(t, w, season.Report{})

			header, err := w.Archive(t.Context(), board, "2022-11-22")
			require.NoError(t, err)
			kept := min(size.entries, size.fame)
			before.Kept, before.State = int64(kept), season.Purged
			require.Equal(t, before, header, "the header stays")
			_, err = season.VerifySeal(w.Sealer.PublicKeys(), header.Seal)
			require.NoError(t, err)
			page, err := w.Page(t.Context(), board, "2022-11-22", 0, 5000)
			if kept == 0 && size.entries > 0 {
				require.ErrorIs(t, err, fault.ArchivePurged)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, all[:kept], append([]season.Standing{}, page...))
			for rank := 1; rank <= size.entries; rank += 1 + size.entries/40 {
				player := all[rank-1].Player
				got, err := w.Player(t.Context(), board, "2022-11-22", player)
				if rank > kept {
					require.ErrorIs(t, err, fault.ArchivePurged)
					require.ErrorIs(t, err, fault.Gone)
					_, err = w.Proof(t.Context(), board, "2022-11-22", player)
					require.ErrorIs(t, err, fault.ArchivePurged)
					_, err = w.Page(t.Context(), board, "2022-11-22", int64(rank-1), 1)
					require.ErrorIs(t, err, fault.ArchivePurged)
					_, err = w.PageBefore(t.Context(), board, "2022-11-22", int64(rank+1), 1)
					require.ErrorIs(t, err, fault.ArchivePurged)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, all[rank-1], got)
				proof, err := w.Proof(t.Context(), board, "2022-11-22", player)
				require.NoError(t, err)
				require.NoError(t, season.VerifyRow(header.Statement(), proof.Row, proof.Path))
			}
			page, err = w.Page(t.Context(), board, "2022-11-22", int64(size.entries), 10)
			require.NoError(t, err)
			require.Empty(t, page, "past the end there never was anything")
			_, err = w.Player(t.Context(), board, "2022-11-22", "nobody")
			if kept < size.entries {
				require.ErrorIs(t, err, fault.ArchivePurged, "who knows")
				require.ErrorIs(t, w.EachRow(t.Context(), board, "2022-11-22", nil), fault.ArchivePurged)
			} else {
				require.ErrorIs(t, err, fault.NotRanked)
				verified(t, w, board, "2022-11-22")
			}
			var rows int
			require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM archive_entry WHERE board = ? AND window_id = '2022-11-22'", []any{board}, &rows))
			require.Equal(t, kept, rows)
		}
	})
}

// An export that a purge overtakes says so, rather than that it is complete.
func TestExportBesideAPurge(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{Default: ranked(10)})
		g := daily("arena")
		g.Boards["arena"] = catalog.Board{Zone: "UTC", Windows: []string{season.Daily}, HallOfFame: 3, Retention: catalog.Duration(time.Hour)}
		w.Catalog = func() *catalog.Catalog { return g }
		materialise(t, w, g, 3)
		c.Set(t, "2022-11-23T00:10:00Z")
		sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
		c.Set(t, "2022-11-23T01:00:00Z")
		rows := 0
		err := w.EachRow(t.Context(), "arena", "2022-11-22", func(season.Row) error {
			if rows++; rows == 6 {
				sweep(t, w, season.Report{Purged: 1})
			}
			return nil
		})
		require.ErrorIs(t, err, fault.ArchivePurged)
		require.Equal(t, 6, rows)
	})
}
