package season_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/merkle"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// close1 takes the daily window of November 22 to its archive.
func close1(t testing.TB, db *store.DB, standings []season.Standing, chunk int) *season.Windows {
	t.Helper()
	c := &clock{}
	c.Set(t, "2022-11-22T12:00:00Z")
	w := windows(t, db, c, finals{Default: standings})
	w.Chunk = chunk
	materialise(t, w, daily("arena"), 3)
	c.Set(t, "2022-11-23T00:10:01.234Z")
	sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
	return w
}

func TestArchiveOfNobody(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w := close1(t, db, nil, 0)
		header, all := archived(t, w, "arena", "2022-11-22")
		require.Empty(t, all)
		require.Equal(t, season.Window{
			Board: "arena", ID: "2022-11-22", Cadence: season.Daily, State: season.Rewarded,
			Starts: utc(t, "2022-11-22T00:00:00Z"), Ends: utc(t, "2022-11-23T00:00:00Z"),
		}, header.Window)
		require.Equal(t, season.Statement{
			Board: "arena", Window: "2022-11-22", Cadence: season.Daily,
			StartsAt: utc(t, "2022-11-22T00:00:00Z"), EndsAt: utc(t, "2022-11-23T00:00:00Z"),
			Root: new(merkle.Tree).Root(), Sequence: 1, ClosedAt: utc(t, "2022-11-23T00:10:01.234Z"), CatalogVersion: 7,
		}, header.Statement())
		require.Zero(t, header.Kept)
		require.Nil(t, header.Mismatches)
		require.Empty(t, header.TopPlayer)
		verified(t, w, "arena", "2022-11-22")
		_, err := w.Player(t.Context(), "arena", "2022-11-22", "anybody")
		require.ErrorIs(t, err, fault.NotRanked)
	})
}

// verified checks an archive as somebody would who has nothing but its export and the public keys.
func verified(t testing.TB, w *season.Windows, board, id string) {
	t.Helper()
	header, err := w.Archive(t.Context(), board, id)
	require.NoError(t, err)
	statement, err := season.VerifySeal(sealer(t, secret).PublicKeys(), header.Seal)
	require.NoError(t, err)
	require.Equal(t, header.Statement(), statement)
	v := season.NewVerifier(statement)
	require.NoError(t, w.EachRow(t.Context(), board, id, v.Row))
	require.NoError(t, v.End())
}

// exported reads all rows of an archive.
func exported(t testing.TB, w *season.Windows, board, id string) []season.Row {
	t.Helper()
	var rows []season.Row
	require.NoError(t, w.EachRow(t.Context(), board, id, func(r season.Row) error { rows = append(rows, r); return nil }))
	return rows
}

func TestArchiveWithTies(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		want := ranked(5000)
		want[4999].Score, want[4999].TiedRank = -1<<53, 5000
		w := close1(t, db, want, 0)
		header, all := archived(t, w, "arena", "2022-11-22")
		require.Equal(t, want, all)
		require.EqualValues(t, 5000, header.Entries)
		require.EqualValues(t, 5000, header.Kept)
		require.Equal(t, want[0].Player, header.TopPlayer)
		require.Equal(t, want[0].Score, header.TopScore)
		verified(t, w, "arena", "2022-11-22")

		// The root is the one that anybody finds who reads how the rows are written.
		rows := exported(t, w, "arena", "2022-11-22")
		var tree merkle.Tree
		salts := map[string]bool{}
		for i, r := range rows {
			require.Equal(t, want[i], r.Standing)
			require.Empty(t, r.Commitment)
			salt, err := base64.RawURLEncoding.DecodeString(r.Salt)
			require.NoError(t, err)
			require.Len(t, salt, 16)
			salts[r.Salt] = true
			sum := sha256.Sum256([]byte(r.Salt + "\t" + r.Player + "\t" + r.EventID + "\t" + r.Metadata))
			tree.Add(merkle.Leaf(fmt.Appendf(nil, "%d\t%d\t%s\t%d\t%d\n",
				r.Rank, r.TiedRank, base64.RawURLEncoding.EncodeToString(sum[:]), r.Score, r.AchievedAt.UnixMilli())))
		}
		require.Equal(t, tree.Root(), header.Root)
		require.Len(t, salts, 5000, "no salt is used twice")

		for _, rank := range []int64{1, 2, 3, 4, 1000, 1001, 1024, 1025, 2048, 4096, 4097, 4999, 5000} {
			got, err := w.Player(t.Context(), "arena", "2022-11-22", want[rank-1].Player)
			require.NoError(t, err)
			require.Equal(t, want[rank-1], got)
			proof, err := w.Proof(t.Context(), "arena", "2022-11-22", want[rank-1].Player)
			require.NoError(t, err)
			require.Equal(t, rows[rank-1], proof.Row)
			require.Equal(t, header.Seal, proof.Seal)
			require.NoError(t, season.VerifyRow(header.Statement(), proof.Row, proof.Path))
		}
		for _, test := range []struct{ after, limit, from, to int }{
			{4998, 100, 4998, 5000}, {5000, 100, 0, 0}, {5001, 100, 0, 0}, {10, 0, 0, 0}, {0, 3, 0, 3},
		} {
			page, err := w.Page(t.Context(), "arena", "2022-11-22", int64(test.after), test.limit)
			require.NoError(t, err)
			require.Equal(t, want[test.from:test.to], append([]season.Standing{}, page...), test)
		}
		for _, test := range []struct{ before, limit, from, to int }{
			{5001, 100, 4900, 5000}, {9999, 2, 4998, 5000}, {3, 100, 0, 2}, {1, 10, 0, 0}, {0, 10, 0, 0}, {-5, 10, 0, 0}, {100, 0, 0, 0}, {1000, 9, 990, 999},
		} {
			page, err := w.PageBefore(t.Context(), "arena", "2022-11-22", int64(test.before), test.limit)
			require.NoError(t, err)
			require.Equal(t, want[test.from:test.to], append([]season.Standing{}, page...), test)
		}
	})
}

// TestArchiveRoots takes windows around the size of a block through chunks of many sizes.
func TestArchiveRoots(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		for i, size := range []struct{ entries, chunk int }{
			{1, 1}, {12, 1}, {12, 3}, {12, 4}, {12, 12}, {12, 13}, {12, 1000}, {1023, 1000}, {1024, 1024}, {1024, 333}, {1025, 1024}, {2048, 0}, {2049, 5000}, {3333, 500},
		} {
			board := fmt.Sprintf("board-%d", i)
			c.Set(t, "2022-11-22T12:00:00Z")
			w := windows(t, db, c, finals{Default: ranked(size.entries)})
			w.Chunk = size.chunk
			materialise(t, w, daily(board), 3)
			c.Set(t, "2022-11-23T00:10:00Z")
			sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
			_, all := archived(t, w, board, "2022-11-22")
			require.Equal(t, ranked(size.entries), all, size)
			verified(t, w, board, "2022-11-22")
			last := all[size.entries-1].Player
			proof, err := w.Proof(t.Context(), board, "2022-11-22", last)
			require.NoError(t, err, size)
			require.Equal(t, last, proof.Player)
		}
	})
}

func TestArchiveKeepsItsRootWithoutAPlayer(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w := close1(t, db, ranked(1500), 0)
		gone := exported(t, w, "arena", "2022-11-22")[1100]
		sum := sha256.Sum256([]byte(gone.Salt + "\t" + gone.Player + "\t" + gone.EventID + "\t" + gone.Metadata))
		commitment := base64.RawURLEncoding.EncodeToString(sum[:])
		for _, half := range []string{"salt = NULL", "commitment = 'x'"} {
			_, err := db.Exec(t.Context(), "UPDATE archive_entry SET "+half+" WHERE position = 1101")
			require.Error(t, err, "either one is there or the other")
		}
		_, err := db.Exec(t.Context(), "UPDATE archive_entry SET player_id = 'erased-1', event_id = '', metadata = '', salt = NULL, commitment = ? WHERE player_id = ?",
			commitment, gone.Player)
		require.NoError(t, err)
		verified(t, w, "arena", "2022-11-22")
		for _, player := range []string{"erased-1", ranked(1500)[0].Player} {
			proof, err := w.Proof(t.Context(), "arena", "2022-11-22", player)
			require.NoError(t, err)
			require.Equal(t, player == "erased-1", proof.Salt == "" && proof.Commitment == commitment)
		}
		_, err = w.Proof(t.Context(), "arena", "2022-11-22", gone.Player)
		require.ErrorIs(t, err, fault.NotRanked)
	})
}

// TestArchivesOfBefore takes a database that has an archive without a seal to the schema of today: the window is archived
// again, from its entries.
func TestArchivesOfBefore(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{Default: ranked(3)})
		materialise(t, w, daily("arena"), 3)
		for _, old := range []string{
			"DROP TABLE archive", "DROP TABLE archive_entry", "DELETE FROM schema_version WHERE version >= '0080'",
			"UPDATE board_window SET state = 'archived' WHERE window_id = '2022-11-22'",
		} {
			_, err := db.Exec(t.Context(), old)
			require.NoError(t, err)
		}
		for _, table := range []string{"0021_archive", "0022_archive_entry"} {
			text, err := os.ReadFile("../store/migrations/" + table + ".sql")
			require.NoError(t, err)
			_, err = db.Exec(t.Context(), string(text))
			require.NoError(t, err)
		}
		_, err := db.Exec(t.Context(), "INSERT INTO archive VALUES ('arena', '2022-11-22', 1, 'somebody', 1, 0, 1, 'digest')")
		require.NoError(t, err)

		_, err = db.Migrate(t.Context())
		require.NoError(t, err)
		c.Set(t, "2022-11-23T00:10:00Z")
		sweep(t, w, season.Report{Archived: 1, Rewarded: 1})
		_, all := archived(t, w, "arena", "2022-11-22")
		require.Equal(t, ranked(3), all)
		verified(t, w, "arena", "2022-11-22")
	})
}

// What was written over in the database is not proven.
func TestProofOfAForgedRow(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		w := close1(t, db, ranked(10), 0)
		_, err := db.Exec(t.Context(), "UPDATE archive_entry SET score = score + 1 WHERE position = 4")
		require.NoError(t, err)
		for _, rank := range []int{3, 4} {
			_, err = w.Proof(t.Context(), "arena", "2022-11-22", ranked(10)[rank-1].Player)
			require.ErrorIs(t, err, season.ErrRow)
		}
		_, err = db.Exec(t.Context(), "DELETE FROM archive_entry WHERE position = 4")
		require.NoError(t, err)
		_, err = w.Proof(t.Context(), "arena", "2022-11-22", ranked(10)[0].Player)
		require.ErrorContains(t, err, "is not whole")
	})
}

func TestArchiveTellsWhatWasServedOtherwise(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		two := int64(2)
		w := windows(t, db, c, finals{Default: ranked(3), mismatches: &two})
		materialise(t, w, daily("arena"), 3)
		c.Set(t, "2022-11-23T00:10:00Z")
		sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
		header, err := w.Archive(t.Context(), "arena", "2022-11-22")
		require.NoError(t, err)
		require.Equal(t, &two, header.Mismatches)
	})
}

// TestArchiveHoldsFewStandings has a reader that is far faster than the database.
func TestArchiveHoldsFewStandings(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	var read int64
	c := &clock{}
	c.Set(t, "2022-11-22T12:00:00Z")
	w := windows(t, db, c, finals{Default: ranked(2000), before: func(_ string, rank int64) error {
		if rank%100 == 0 {
			var written int64
			if err := db.Row(t.Context(), "SELECT COUNT(*) FROM archive_entry", nil, &written); err != nil {
				return err
			}
			read = max(read, rank-1-written)
		}
		return nil
	}})
	w.Chunk = 10
	materialise(t, w, daily("arena"), 3)
	c.Set(t, "2022-11-23T00:10:00Z")
	sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
	require.LessOrEqual(t, read, int64(30), "as many as were read and not yet written")
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
				w := windows(t, db, c, finals{Default: standings})
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
			_, err = w.PageBefore(t.Context(), test.board, test.window, 5, 10)
			require.ErrorIs(t, err, test.want)
			_, err = w.Player(t.Context(), test.board, test.window, "player-00000")
			require.ErrorIs(t, err, test.want)
			_, err = w.Proof(t.Context(), test.board, test.window, "player-00000")
			require.ErrorIs(t, err, test.want)
			require.ErrorIs(t, w.EachRow(t.Context(), test.board, test.window, nil), test.want)
		}
		_, err := w.Player(t.Context(), "arena", "2022-11-22", "nobody")
		require.ErrorIs(t, err, fault.NotRanked)
	})
}
