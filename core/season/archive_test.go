package season_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// close1 takes the daily window of November 22 to its archive.
func close1(t testing.TB, db *store.DB, standings []season.Standing, chunk int) *season.Windows {
	t.Helper()
	c := &clock{}
	c.Set(t, "2022-11-22T12:00:00Z")
	w := windows(db, c, finals{Default: standings})
	w.Chunk = chunk
	materialise(t, w, daily("arena"), 3)
	c.Set(t, "2022-11-23T00:10:01.234Z")
	sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1})
	return w
}

func TestArchiveOfNobody(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w := close1(t, db, nil, 0)
		header, all := archived(t, w, "arena", "2022-11-22")
		require.Empty(t, all)
		require.Equal(t, season.Header{
			Window: season.Window{
				Board: "arena", ID: "2022-11-22", Cadence: season.Daily, State: season.Archived,
				Starts: utc(t, "2022-11-22T00:00:00Z"), Ends: utc(t, "2022-11-23T00:00:00Z"),
			},
			ClosedAt: utc(t, "2022-11-23T00:10:01.234Z"), CatalogVersion: 7,
			Digest: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		}, header)
		_, err := w.Player(t.Context(), "arena", "2022-11-22", "anybody")
		require.ErrorIs(t, err, fault.NotRanked)
	})
}

func TestArchiveWithTies(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		want := ranked(5000)
		want[4999].Score = -1 << 53
		w := close1(t, db, want, 0)
		header, all := archived(t, w, "arena", "2022-11-22")
		require.Equal(t, want, all)
		require.EqualValues(t, 5000, header.Entries)
		require.Equal(t, want[0].Player, header.TopPlayer)
		require.Equal(t, want[0].Score, header.TopScore)

		digest := sha256.New()
		for _, s := range want {
			fmt.Fprintf(digest, "%d\t%d\t%s\t%d\t%d\t%s\n", s.Rank, s.TiedRank, s.Player, s.Score, s.AchievedAt.UnixMilli(), s.EventID)
		}
		require.Equal(t, hex.EncodeToString(digest.Sum(nil)), header.Digest)

		for _, rank := range []int64{1, 2, 3, 4, 1000, 1001, 4999, 5000} {
			got, err := w.Player(t.Context(), "arena", "2022-11-22", want[rank-1].Player)
			require.NoError(t, err)
			require.Equal(t, want[rank-1], got)
		}
		page, err := w.Page(t.Context(), "arena", "2022-11-22", 4998, 100)
		require.NoError(t, err)
		require.Equal(t, want[4998:], page)
		for _, after := range []int64{5000, 5001} {
			page, err = w.Page(t.Context(), "arena", "2022-11-22", after, 100)
			require.NoError(t, err)
			require.Empty(t, page)
		}
		page, err = w.Page(t.Context(), "arena", "2022-11-22", 10, 0)
		require.NoError(t, err)
		require.Empty(t, page)
	})
}

func TestArchiveChunks(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		var digest string
		for _, chunk := range []int{1, 3, 4, 12, 13, 1000} {
			board := fmt.Sprintf("chunk-%d", chunk)
			c.Set(t, "2022-11-22T12:00:00Z")
			w := windows(db, c, finals{Default: ranked(12)})
			w.Chunk = chunk
			materialise(t, w, daily(board), 3)
			c.Set(t, "2022-11-23T00:10:00Z")
			sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1})
			header, all := archived(t, w, board, "2022-11-22")
			require.Equal(t, ranked(12), all)
			if digest != "" {
				require.Equal(t, digest, header.Digest)
			}
			digest = header.Digest
		}
	})
}

func TestArchiveRefusesStandingsOutOfOrder(t *testing.T) {
	t.Parallel()
	for name, ranks := range map[string][]int64{"gap": {1, 2, 4}, "twice": {1, 2, 2}, "late start": {2, 3}, "backwards": {1, 3, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
				var standings []season.Standing
				for i, rank := range ranks {
					standings = append(standings, season.Standing{Rank: rank, TiedRank: rank, Player: fmt.Sprint("p", i), AchievedAt: utc(t, "2022-11-22T10:00:00Z")})
				}
				c := &clock{}
				c.Set(t, "2022-11-22T12:00:00Z")
				w := windows(db, c, finals{Default: standings})
				materialise(t, w, daily("arena"), 3)
				c.Set(t, "2022-11-23T00:10:00Z")
				report, err := w.Sweep(t.Context())
				require.ErrorContains(t, err, "standings are not in order")
				require.Equal(t, season.Report{Closed: 1, Frozen: 1, Failed: 1}, report)
				require.Equal(t, season.Frozen, state(t, w, "arena", "2022-11-22"))
			})
		})
	}
}

func TestArchiveReadErrors(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w := close1(t, db, ranked(3), 0)
		for _, test := range []struct {
			board, window string
			want          fault.Code
		}{
			{"arena", "2022-11-23", fault.NotArchived},
			{"arena", "2022-11-21", fault.WindowNotFound},
			{"nowhere", "2022-11-22", fault.WindowNotFound},
		} {
			_, err := w.Archive(t.Context(), test.board, test.window)
			require.ErrorIs(t, err, test.want)
			_, err = w.Page(t.Context(), test.board, test.window, 0, 10)
			require.ErrorIs(t, err, test.want)
			_, err = w.Player(t.Context(), test.board, test.window, "player-00000")
			require.ErrorIs(t, err, test.want)
		}
		_, err := w.Player(t.Context(), "arena", "2022-11-22", "nobody")
		require.ErrorIs(t, err, fault.NotRanked)
	})
}
