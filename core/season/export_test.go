package season_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// exportedFiles is an archive of n places as files: whole, and the proof of each place.
func exportedFiles(t *testing.T, db *store.DB, n int) (keys jose.JSONWebKeySet, w *season.Windows, h season.Header, whole []byte, proofs [][]byte) {
	t.Helper()
	c := &clock{}
	c.Set(t, "2022-11-22T12:00:00Z")
	places := ranked(n)
	for i := range places {
		if i%2 == 0 {
			places[i].Metadata = fmt.Sprintf(`{"hero":"h%d","level":%d}`, i, i)
		}
	}
	w = windows(t, db, c, finals{Default: places})
	materialise(t, w, daily("arena"), 3)
	c.Set(t, "2022-11-23T00:10:00Z")
	sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
	h, err := w.Archive(t.Context(), "arena", "2022-11-22")
	require.NoError(t, err)
	var file bytes.Buffer
	require.NoError(t, w.Export(t.Context(), h, &file))
	for _, place := range places {
		proof, err := w.Proof(t.Context(), "arena", "2022-11-22", place.Player)
		require.NoError(t, err)
		text, err := proof.Encode()
		require.NoError(t, err)
		proofs = append(proofs, text)
	}
	return w.Sealer.PublicKeys(), w, h, file.Bytes(), proofs
}

func TestVerifyFile(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		keys, w, h, whole, proofs := exportedFiles(t, db, 25)
		found, err := season.VerifyFile(keys, bytes.NewReader(whole))
		require.NoError(t, err)
		require.Equal(t, season.Verified{Statement: h.Statement(), Seal: h.Seal}, found)
		for i, proof := range proofs {
			found, err := season.VerifyFile(keys, bytes.NewReader(proof))
			require.NoError(t, err)
			require.EqualValues(t, i+1, found.Row.Rank)
		}
		lines := strings.SplitAfter(string(whole), "\n")
		other := sealer(t, []byte(strings.Repeat("o", 32))).PublicKeys()
		for name, test := range map[string]struct {
			keys jose.JSONWebKeySet
			file string
			want error
		}{
			"empty":              {keys, "", season.ErrSealMalformed},
			"no seal":            {keys, lines[1], season.ErrSealMalformed},
			"another's":          {other, string(whole), season.ErrSealKeyUnknown},
			"cut":                {keys, strings.Join(lines[:20], ""), season.ErrRoot},
			"only the seal":      {keys, lines[0], season.ErrRoot},
			"a proof of nothing": {keys, strings.Replace(string(proofs[3]), `"rank":4`, `"rank":5`, 1), season.ErrRow},
			"a line too long":    {keys, lines[0] + strings.Repeat("x", 1<<17), nil},
			"proof and rows":     {keys, string(proofs[3]) + "\n" + lines[1], nil},
			"no JSON":            {keys, lines[0] + "what\n", nil},
			"an unknown member":  {keys, lines[0] + strings.Replace(lines[1], "{", `{"x":1,`, 1), nil},
			"other spelling":     {keys, lines[0] + strings.Replace(lines[1], ":", ": ", 1) + strings.Join(lines[2:], ""), nil},
			"a comma in a time":  {keys, lines[0] + strings.Replace(lines[1], ".", ",", 1) + strings.Join(lines[2:], ""), nil},
			"no time":            {keys, lines[0] + strings.Replace(lines[1], `_at":"2`, `_at":"x2`, 1), nil},
		} {
			_, err := season.VerifyFile(test.keys, strings.NewReader(test.file))
			require.Error(t, err, name)
			if test.want != nil {
				require.ErrorIs(t, err, test.want, name)
			}
		}

		var table bytes.Buffer
		require.NoError(t, w.ExportCSV(t.Context(), h, &table))
		rows, err := csv.NewReader(&table).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 26)
		require.JSONEq(t, `{"hero":"h0","level":0}`, rows[1][6])

		h.ID = "2022-11-23"
		require.ErrorIs(t, w.Export(t.Context(), h, &table), fault.NotArchived)
		require.ErrorIs(t, w.ExportCSV(t.Context(), h, &table), fault.NotArchived)
	})
}

// TestAFlippedBitIsFound flips any bit of an exported archive or of a proof.
func TestAFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	keys, _, _, whole, proofs := exportedFiles(t, storetest.SQLite(t), 12)
	files := append(proofs, whole)
	rapid.Check(t, func(r *rapid.T) {
		file := bytes.Clone(rapid.SampledFrom(files).Draw(r, "file"))
		at := rapid.IntRange(0, len(file)-1).Draw(r, "byte")
		file[at] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		_, err := season.VerifyFile(keys, bytes.NewReader(file))
		require.Error(r, err, "byte %d is %q now", at, file[at])
	})
}
