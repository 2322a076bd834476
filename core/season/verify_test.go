package season_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/merkle"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func statement(entries int64, root merkle.Hash) season.Statement {
	return season.Statement{
		Board: "arena", Window: "2022-11-22", Cadence: season.Daily, StartsAt: time.UnixMilli(1669075200000).UTC(),
		EndsAt: time.UnixMilli(1669161600000).UTC(), Entries: entries, Root: root, Sequence: 1,
		ClosedAt: time.UnixMilli(1669162200123).UTC(), CatalogVersion: 7,
	}
}

// TestSealIsWhatItIs holds the form of a seal still: whoever verifies elsewhere relies on it.
func TestSealIsWhatItIs(t *testing.T) {
	t.Parallel()
	s := sealer(t, secret)
	seal, err := s.Seal(statement(2, merkle.Leaf([]byte("x"))))
	require.NoError(t, err)
	again, err := sealer(t, secret).Seal(statement(2, merkle.Leaf([]byte("x"))))
	require.NoError(t, err)
	require.Equal(t, seal, again)

	keys, err := json.Marshal(s.PublicKeys())
	require.NoError(t, err)
	kid := s.PublicKeys().Keys[0].KeyID
	require.JSONEq(t, fmt.Sprintf(`{"keys": [{"use": "sig", "kty": "OKP", "kid": %q, "crv": "Ed25519", "alg": "EdDSA", "x": %q}]}`, kid,
		base64.RawURLEncoding.EncodeToString(s.PublicKeys().Keys[0].Key.(ed25519.PublicKey))), string(keys))
	parts := strings.Split(seal, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(t, err)
	require.JSONEq(t, fmt.Sprintf(`{"alg": "EdDSA", "typ": "liveops-archive+jwt", "kid": %q}`, kid), string(header))
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	require.JSONEq(t, fmt.Sprintf(`{"board": "arena", "window": "2022-11-22", "cadence": "daily", "starts_at": "2022-11-22T00:00:00Z",
		"ends_at": "2022-11-23T00:00:00Z", "entries": 2, "root": %q, "sequence": 1, "previous": "", "closed_at": "2022-11-23T00:10:00.123Z",
		"catalog_version": 7}`, merkle.Leaf([]byte("x"))), string(payload))

	// The published keys, as they are read from a file, are enough.
	var published jose.JSONWebKeySet
	require.NoError(t, json.Unmarshal(keys, &published))
	got, err := season.VerifySeal(published, seal)
	require.NoError(t, err)
	require.Equal(t, statement(2, merkle.Leaf([]byte("x"))), got)
}

func TestSealerRefuses(t *testing.T) {
	t.Parallel()
	_, err := season.NewSealer(season.Key{Secret: secret[:31]})
	require.ErrorContains(t, err, "31 bytes")
	_, err = season.NewSealer(season.Key{Secret: secret}, season.Key{})
	require.ErrorContains(t, err, "archive key 2 has 0 bytes")
	_, err = season.NewSealer(season.Key{Secret: secret}, season.Key{Secret: secret})
	require.ErrorContains(t, err, "twice")
	for _, text := range []string{fmt.Sprint(season.Key{Secret: secret}), fmt.Sprintf("%#v %+v", season.Key{Secret: secret}, season.Key{Secret: secret})} {
		require.NotContains(t, text, "115")
		require.NotContains(t, text, "s, ")
		require.Contains(t, text, "archive key")
	}
}

func TestSealsOfRetiredKeys(t *testing.T) {
	t.Parallel()
	old, fresh := bytes.Repeat([]byte("o"), 32), bytes.Repeat([]byte("f"), 40)
	seal, err := sealer(t, old).Seal(statement(0, new(merkle.Tree).Root()))
	require.NoError(t, err)
	rotated := sealer(t, fresh, old)
	require.Len(t, rotated.PublicKeys().Keys, 2)
	require.Equal(t, sealer(t, fresh).PublicKeys().Keys[0], rotated.PublicKeys().Keys[0])
	_, err = season.VerifySeal(rotated.PublicKeys(), seal)
	require.NoError(t, err)
	_, err = season.VerifySeal(sealer(t, fresh).PublicKeys(), seal)
	require.ErrorIs(t, err, season.ErrSealKeyUnknown)
}

func TestSealsThatProveNothing(t *testing.T) {
	t.Parallel()
	s := sealer(t, secret)
	keys := s.PublicKeys()
	seal, err := s.Seal(statement(0, new(merkle.Tree).Root()))
	require.NoError(t, err)
	parts := strings.Split(seal, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	kid := keys.Keys[0].KeyID
	signed := func(key any, algorithm jose.SignatureAlgorithm, typ, payload string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, new(jose.SignerOptions).WithType(jose.ContentType(typ)).WithHeader("kid", kid))
		require.NoError(t, err)
		object, err := signer.Sign([]byte(payload))
		require.NoError(t, err)
		token, err := object.CompactSerialize()
		require.NoError(t, err)
		return token
	}
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte("x"), 32))
	for name, test := range map[string]struct {
		seal string
		want error
	}{
		"nothing":              {"", season.ErrSealMalformed},
		"two parts":            {parts[0] + "." + parts[1], season.ErrSealMalformed},
		"four parts":           {seal + "." + parts[2], season.ErrSealMalformed},
		"padded":               {seal + "=", season.ErrSealMalformed},
		"line feed":            {seal + "\n", season.ErrSealMalformed},
		"endless":              {strings.Repeat("a", 9000), season.ErrSealMalformed},
		"no header":            {encode("{") + "." + parts[1] + "." + parts[2], season.ErrSealMalformed},
		"no signature":         {encode(`{"alg":"none","typ":"liveops-archive+jwt","kid":"`+kid+`"}`) + "." + parts[1] + ".", season.ErrSealMalformed},
		"public key as secret": {signed([]byte(keys.Keys[0].Key.(ed25519.PublicKey)), jose.HS256, season.SealType, "{}"), season.ErrSealMalformed},
		"a receipt":            {signed(stranger, jose.EdDSA, "liveops-receipt+jwt", "{}"), season.ErrSealMalformed},
		"another's":            {signed(stranger, jose.EdDSA, season.SealType, "{}"), season.ErrSealForged},
		"another statement":    {parts[0] + "." + encode(`{}`) + "." + parts[2], season.ErrSealForged},
	} {
		_, err := season.VerifySeal(keys, test.seal)
		require.ErrorIs(t, err, test.want, name)
	}
	_, err = season.VerifySeal(jose.JSONWebKeySet{}, seal)
	require.ErrorIs(t, err, season.ErrSealKeyUnknown)
	_, err = season.VerifySeal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &rsa.PublicKey{}, KeyID: kid}}}, seal)
	require.ErrorIs(t, err, season.ErrSealKeyUnknown)
	seed := keyOf(secret)
	_, err = season.VerifySeal(keys, signed(seed, jose.EdDSA, season.SealType, "[]"))
	require.ErrorIs(t, err, season.ErrSealMalformed)
}

func TestVerifyChain(t *testing.T) {
	t.Parallel()
	old := bytes.Repeat([]byte("o"), 32)
	s := sealer(t, secret, old)
	keys := s.PublicKeys()
	link := func(by *season.Sealer, change func(*season.Statement), sequence int64, previous string) string {
		st := statement(0, new(merkle.Tree).Root())
		st.Sequence = sequence
		if previous != "" {
			st.Previous = season.SealDigest(previous)
		}
		change(&st)
		seal, err := by.Seal(st)
		require.NoError(t, err)
		return seal
	}
	same := func(*season.Statement) {}
	first := link(sealer(t, old), same, 1, "")
	second := link(s, same, 2, first)
	third := link(s, same, 3, second)
	chain, err := season.VerifyChain(keys, []string{first, second, third})
	require.NoError(t, err)
	require.Len(t, chain, 3)
	require.EqualValues(t, 3, chain[2].Sequence)
	_, err = season.VerifyChain(keys, []string{second, third})
	require.NoError(t, err, "a part of it")
	chain, err = season.VerifyChain(keys, nil)
	require.NoError(t, err)
	require.Empty(t, chain)

	for name, seals := range map[string][]string{
		"a gap":             {first, third},
		"backwards":         {second, first},
		"twice":             {first, first},
		"another before":    {first, link(s, same, 2, third)},
		"another board":     {first, link(s, func(st *season.Statement) { st.Board = "tower" }, 2, first)},
		"a second first":    {first, link(s, same, 1, "")},
		"nothing before":    {link(s, same, 2, "")},
		"one before first":  {link(s, same, 1, third)},
		"first, elsewhere":  {first, link(s, func(st *season.Statement) { st.Window, st.Previous = "x", "" }, 2, "")},
		"previous is wrong": {first, second, link(s, func(st *season.Statement) { st.Previous = season.SealDigest(first) }, 3, second)},
	} {
		_, err := season.VerifyChain(keys, seals)
		require.ErrorIs(t, err, season.ErrChain, name)
	}
	_, err = season.VerifyChain(keys, []string{first, second + "="})
	require.ErrorIs(t, err, season.ErrSealMalformed)
	require.ErrorContains(t, err, "seal 2")
}

// keyOf is the key that a secret is documented to stand for.
func keyOf(secret []byte) ed25519.PrivateKey {
	sum := sha256Of("liveops archive key\n" + string(secret))
	return ed25519.NewKeyFromSeed(sum)
}

// sealedRows are standings as an archive has them, and its seal.
func sealedRows(t testing.TB, standings []season.Standing) ([]season.Row, []merkle.Hash, string) {
	t.Helper()
	var rows []season.Row
	var leaves []merkle.Hash
	for i, s := range standings {
		r := season.Row{Standing: s, Salt: base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "salt-%011d", i))}
		commitment := base64.RawURLEncoding.EncodeToString(sha256Of(r.Salt + "\t" + r.Player + "\t" + r.EventID + "\t" + r.Metadata))
		if i%5 == 4 { // this player was erased
			r.Salt, r.Commitment = "", commitment
			r.Player, r.EventID, r.Metadata = fmt.Sprint("erased-", i), "", ""
		}
		rows = append(rows, r)
		leaves = append(leaves, merkle.Leaf(fmt.Appendf(nil, "%d\t%d\t%s\t%d\t%d\n", r.Rank, r.TiedRank, commitment, r.Score, r.AchievedAt.UnixMilli())))
	}
	seal, err := sealer(t, secret).Seal(statement(int64(len(rows)), merkle.Root(leaves)))
	require.NoError(t, err)
	return rows, leaves, seal
}

// verify does what a verifying command does with an export.
func verify(keys jose.JSONWebKeySet, seal string, rows []season.Row) error {
	s, err := season.VerifySeal(keys, seal)
	if err != nil {
		return err
	}
	v := season.NewVerifier(s)
	for _, r := range rows {
		if err := v.Row(r); err != nil {
			return err
		}
	}
	return v.End()
}

// flip changes one bit of a text.
func flip(r *rapid.T, text string) string {
	if text == "" {
		return "x"
	}
	b := []byte(text)
	b[rapid.IntRange(0, len(b)-1).Draw(r, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
	return string(b)
}

// TestAnyChangeIsFound changes one thing of an exported archive, of a proof or of a seal.
func TestAnyChangeIsFound(t *testing.T) {
	t.Parallel()
	keys := sealer(t, secret).PublicKeys()
	rapid.Check(t, func(r *rapid.T) {
		rows, leaves, seal := sealedRows(t, ranked(rapid.IntRange(1, 40).Draw(r, "n")))
		require.NoError(t, verify(keys, seal, rows))
		s, err := season.VerifySeal(keys, seal)
		require.NoError(t, err)
		at := rapid.IntRange(0, len(rows)-1).Draw(r, "row")
		path := merkle.Path(leaves, at)
		require.NoError(t, season.VerifyRow(s, rows[at], path))

		row := rows[at]
		number := func(n int64) int64 { return n ^ 1<<rapid.IntRange(0, 40).Draw(r, "digit") }
		change := rapid.SampledFrom([]string{
			"seal", "path", "rank", "tied", "score", "time", "salt", "commitment", "player", "event", "metadata", "lost", "twice", "swapped", "cut",
		}).Draw(r, "change")
		switch change {
		case "seal":
			require.Error(t, verify(keys, flip(r, seal), rows))
			return
		case "path":
			if len(path) > 0 {
				i := rapid.IntRange(0, len(path)-1).Draw(r, "hash")
				path[i][rapid.IntRange(0, 31).Draw(r, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
				require.ErrorIs(t, season.VerifyRow(s, row, path), season.ErrRow)
			}
			return
		case "lost":
			require.Error(t, verify(keys, seal, append(rows[:at:at], rows[at+1:]...)))
			return
		case "twice":
			require.Error(t, verify(keys, seal, append(append(rows[:at:at], row), rows[at:]...)))
			return
		case "swapped":
			if at > 0 {
				rows[at-1], rows[at] = rows[at], rows[at-1]
				require.Error(t, verify(keys, seal, rows))
			}
			return
		case "cut":
			require.ErrorIs(t, verify(keys, seal, rows[:at]), season.ErrRoot)
			return
		case "rank":
			row.Rank = number(row.Rank)
		case "tied":
			row.TiedRank = number(row.TiedRank)
		case "score":
			row.Score = number(row.Score)
		case "time":
			row.AchievedAt = time.UnixMilli(number(row.AchievedAt.UnixMilli())).UTC()
		case "salt":
			row.Salt = flip(r, row.Salt)
		case "commitment":
			row.Commitment = flip(r, row.Commitment)
		default:
			if row.Salt == "" {
				return // whose it was is not told any more
			}
			switch change {
			case "player":
				row.Player = flip(r, row.Player)
			case "event":
				row.EventID = flip(r, row.EventID)
			case "metadata":
				row.Metadata = flip(r, row.Metadata)
			}
		}
		require.ErrorIs(t, season.VerifyRow(s, row, path), season.ErrRow)
		rows[at] = row
		require.Error(t, verify(keys, seal, rows))
	})
}

// TestVerifierNamesTheRow has archives that are sealed as they are, and cannot be right all the same.
func TestVerifierNamesTheRow(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1669100000000).UTC()
	row := func(rank, tied, score int64, player string, later int) season.Row {
		return season.Row{Salt: "s", Standing: season.Standing{Rank: rank, TiedRank: tied, Score: score, Player: player, AchievedAt: at.Add(time.Duration(later) * time.Millisecond)}}
	}
	gone := row(2, 1, 9, "a", 0)
	gone.Salt, gone.Commitment = "", "c"
	both := gone
	both.Salt = "s"
	for name, test := range map[string]struct {
		rows []season.Row
		want string
	}{
		"falling":                     {[]season.Row{row(1, 1, 9, "b", 0), row(2, 2, 7, "a", 0), row(3, 2, 7, "a", 1)}, ""},
		"rising":                      {[]season.Row{row(1, 1, -9, "b", 0), row(2, 1, -9, "c", 0), row(3, 3, 7, "a", 0)}, ""},
		"an erased player between":    {[]season.Row{row(1, 1, 9, "b", 0), gone, row(3, 1, 9, "b", 0)}, ""},
		"does not begin at the top":   {[]season.Row{row(2, 2, 9, "b", 0)}, "row 1: it has rank 2"},
		"a gap":                       {[]season.Row{row(1, 1, 9, "b", 0), row(3, 3, 7, "a", 0)}, "row 2: it has rank 3"},
		"tied with nobody":            {[]season.Row{row(1, 1, 9, "b", 0), row(2, 1, 7, "a", 0)}, "row 2: tied rank 1, though nobody before it has the score 7"},
		"the first tied with nobody":  {[]season.Row{row(1, 2, 9, "b", 0)}, "row 1: tied rank 2, though nobody before it has the score 9"},
		"not tied":                    {[]season.Row{row(1, 1, 9, "b", 0), row(2, 2, 9, "c", 0)}, "row 2: tied rank 2, though the row before has the same score and tied rank 1"},
		"up and down":                 {[]season.Row{row(1, 1, 9, "b", 0), row(2, 2, 7, "a", 0), row(3, 3, 8, "c", 0)}, "row 3: score 8 is out of order after 7"},
		"the later before":            {[]season.Row{row(1, 1, 9, "b", 5), row(2, 1, 9, "c", 4)}, "row 2: it has the score of the row before and reached it earlier"},
		"players out of order":        {[]season.Row{row(1, 1, 9, "b", 5), row(2, 1, 9, "a", 5)}, "row 2: player a is out of order after player b, who reached the same score at the same time"},
		"a player twice":              {[]season.Row{row(1, 1, 9, "b", 5), row(2, 1, 9, "b", 5)}, "row 2: player b has two"},
		"salt and commitment":         {[]season.Row{row(1, 1, 9, "b", 0), both}, "row 2: a row has either a salt or a commitment"},
		"neither salt nor commitment": {[]season.Row{{}}, "row 1: a row has either a salt or a commitment"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := season.NewVerifier(statement(int64(len(test.rows)), merkle.Hash{}))
			var err error
			for i := 0; i < len(test.rows) && err == nil; i++ {
				err = v.Row(test.rows[i])
			}
			if test.want == "" {
				require.NoError(t, err)
				require.ErrorIs(t, v.End(), season.ErrRoot)
				return
			}
			var wrong *season.RowError
			require.ErrorAs(t, err, &wrong)
			require.EqualError(t, err, test.want)
		})
	}
	v := season.NewVerifier(statement(1, merkle.Hash{}))
	require.NoError(t, v.Row(row(1, 1, 9, "b", 0)))
	require.EqualError(t, v.Row(row(2, 2, 8, "a", 0)), "row 2: the archive has only 1")
	require.ErrorContains(t, season.NewVerifier(statement(3, merkle.Hash{})).End(), "0 of 3")
	require.ErrorIs(t, season.VerifyRow(statement(1, merkle.Hash{}), both, nil), season.ErrRow)
}

// TestExportOfManySizes archives, exports and verifies, and proves some of the places, without and with a change.
func TestExportOfManySizes(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		for _, n := range []int{1, 2, 1023, 1025, 2100} {
			c := &clock{}
			c.Set(t, "2022-11-22T12:00:00Z")
			board := fmt.Sprint("board-", n)
			w := windows(t, db, c, finals{Default: ranked(n)})
			w.Chunk = 700
			materialise(t, w, daily(board), 3)
			c.Set(t, "2022-11-23T00:10:00Z")
			sweep(t, w, season.Report{Closed: 1, Frozen: 1, Archived: 1, Rewarded: 1})
			header, err := w.Archive(t.Context(), board, "2022-11-22")
			require.NoError(t, err)
			rows := exported(t, w, board, "2022-11-22")
			keys := w.Sealer.PublicKeys()
			require.NoError(t, verify(keys, header.Seal, rows))
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for range 20 {
				i := random.IntN(n)
				proof, err := w.Proof(t.Context(), board, "2022-11-22", rows[i].Player)
				require.NoError(t, err)
				text, err := json.Marshal(proof) // it travels
				require.NoError(t, err)
				var read season.Proof
				require.NoError(t, json.Unmarshal(text, &read))
				s, err := season.VerifySeal(keys, read.Seal)
				require.NoError(t, err)
				require.NoError(t, season.VerifyRow(s, read.Row, read.Path))
				read.Player += "x"
				require.ErrorIs(t, season.VerifyRow(s, read.Row, read.Path), season.ErrRow)
			}
			stop := errors.New("enough")
			require.ErrorIs(t, w.EachRow(t.Context(), board, "2022-11-22", func(season.Row) error { return stop }), stop)
		}
	})
}
