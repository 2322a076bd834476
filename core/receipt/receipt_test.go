package receipt_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/receipt"
)

var (
	current = receipt.Key{ID: "k2", Secret: []byte("the secret of the key in use, long enough")}
	former  = receipt.Key{ID: "k1", Secret: []byte("the secret of a key that was retired, too")}
)

func claims() receipt.Claims {
	return receipt.Claims{
		PlayerID: "alice", EventID: "0193a1", Type: "boss_killed",
		XP: 250, XPBefore: 100, XPAfter: 350, LevelBefore: 2, LevelAfter: 3,
		Grants: []receipt.Grant{
			{Kind: "item:gem", Item: "gem", Quantity: 2},
			{Kind: "level:3:item:axe", Item: "axe", Quantity: 1},
		},
		Notes:          []receipt.Note{{Code: fault.StackFull, Ref: "item:gem", Amount: 1}},
		CatalogVersion: 7,
		IssuedAt:       1795348800,
	}
}

func keysOf(t testing.TB, active receipt.Key, retired ...receipt.Key) *receipt.Keys {
	t.Helper()
	keys, err := receipt.NewKeys(active, retired...)
	require.NoError(t, err)
	return keys
}

func signed(t testing.TB, keys *receipt.Keys, c receipt.Claims) string {
	t.Helper()
	token, err := keys.Sign(c)
	require.NoError(t, err)
	return token
}

// forge is a compact JWS made without any library: the independent half of these tests.
func forge(header, payload string, secret []byte) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

const (
	vectorHeader  = `{"alg":"HS256","kid":"k2","typ":"liveops-receipt+jwt"}`
	vectorPayload = `{"id":"rcp_SIS1CXgvnnQYgFyuRHffy6Ff","player_id":"alice","event_id":"0193a1","type":"boss_killed",` +
		`"xp":250,"xp_before":100,"xp_after":350,"level_before":2,"level_after":3,` +
		`"grants":[{"kind":"item:gem","item":"gem","quantity":2},{"kind":"level:3:item:axe","item":"axe","quantity":1}],` +
		`"notes":[{"code":"stack-full","ref":"item:gem","amount":1}],"catalog_version":7,"iat":1795348800}`
	vector = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsyIiwidHlwIjoibGl2ZW9wcy1yZWNlaXB0K2p3dCJ9.eyJpZCI6InJjcF9TSVMxQ1hndm5uUVlnRnl1UkhmZnk2RmY" +
		"iLCJwbGF5ZXJfaWQiOiJhbGljZSIsImV2ZW50X2lkIjoiMDE5M2ExIiwidHlwZSI6ImJvc3Nfa2lsbGVkIiwieHAiOjI1MCwieHBfYmVmb3JlIjoxMDAsInh" +
		"wX2FmdGVyIjozNTAsImxldmVsX2JlZm9yZSI6MiwibGV2ZWxfYWZ0ZXIiOjMsImdyYW50cyI6W3sia2luZCI6Iml0ZW06Z2VtIiwiaXRlbSI6ImdlbSIsInF" +
		"1YW50aXR5IjoyfSx7ImtpbmQiOiJsZXZlbDozOml0ZW06YXhlIiwiaXRlbSI6ImF4ZSIsInF1YW50aXR5IjoxfV0sIm5vdGVzIjpbeyJjb2RlIjoic3RhY2s" +
		"tZnVsbCIsInJlZiI6Iml0ZW06Z2VtIiwiYW1vdW50IjoxfV0sImNhdGFsb2dfdmVyc2lvbiI6NywiaWF0IjoxNzk1MzQ4ODAwfQ.GeWtfq-Q9w1uxejMEtMI" +
		"ffh7E8Oa13HzZxDoGCho1TQ"
)

func TestVector(t *testing.T) {
	t.Parallel()
	token := signed(t, keysOf(t, current), claims())
	require.Equal(t, vector, token)
	require.Equal(t, forge(vectorHeader, vectorPayload, current.Secret), token)
}

// The place that a reward is for stands in its receipt only: all others, such as the vector, keep their bytes.
func TestTheReceiptOfAReward(t *testing.T) {
	t.Parallel()
	c := claims()
	c.EventID, c.Type, c.Board, c.Window, c.Rank = "reward~e", "reward_granted", "points", "2026-W48", 3
	payload := strings.NewReplacer(
		receipt.ID("alice", "0193a1"), receipt.ID("alice", "reward~e"), "0193a1", "reward~e",
		`"type":"boss_killed",`, `"type":"reward_granted","board":"points","window":"2026-W48","rank":3,`,
	).Replace(vectorPayload)
	require.Equal(t, forge(vectorHeader, payload, current.Secret), signed(t, keysOf(t, current), c))
}

func TestVerifyGivesWhatWasSigned(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, current)
	for name, c := range map[string]receipt.Claims{
		"full":    claims(),
		"reward":  {PlayerID: "p", EventID: "reward~e", Type: "reward_granted", Board: "points", Window: "2026-W48", Rank: 3, Grants: []receipt.Grant{}},
		"minimal": {PlayerID: "p", EventID: "e", Grants: []receipt.Grant{}},
		"extremes": {
			PlayerID: "p", EventID: "e", Type: "<é&\u2028>", XP: math.MinInt64, XPAfter: math.MaxInt64, Grants: []receipt.Grant{},
			IssuedAt: math.MaxInt64,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := keys.Verify(signed(t, keys, c))
			require.NoError(t, err)
			c.ID = receipt.ID(c.PlayerID, c.EventID)
			require.Equal(t, c, got)
		})
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	require.Equal(t, "rcp_SIS1CXgvnnQYgFyuRHffy6Ff", receipt.ID("alice", "0193a1"))
	seen := map[string]bool{}
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}, {"ab", ""}, {"", "ab"}, {"A", "b"}} {
		id := receipt.ID(pair[0], pair[1])
		require.False(t, seen[id], pair)
		require.LessOrEqual(t, len(id), 64)
		seen[id] = true
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, current, former)
	token := signed(t, keys, claims())
	parts := strings.Split(token, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	richer := encode(strings.Replace(vectorPayload, `"quantity":2`, `"quantity":9`, 1))
	other := current
	other.Secret = []byte("somebody else's secret, also long enough")
	last := string(parts[2][len(parts[2])-1] + 1) // same 32 bytes, other spare bits

	for name, test := range map[string]struct {
		token string
		want  fault.Code
	}{
		"empty":                        {"", fault.ReceiptMalformed},
		"no token":                     {"hello", fault.ReceiptMalformed},
		"two parts":                    {parts[0] + "." + parts[1], fault.ReceiptMalformed},
		"four parts":                   {token + ".x", fault.ReceiptMalformed},
		"three empty parts":            {"..", fault.ReceiptMalformed},
		"space before":                 {" " + token, fault.ReceiptMalformed},
		"line end after":               {token + "\n", fault.ReceiptMalformed},
		"line end inside":              {parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + parts[2], fault.ReceiptMalformed},
		"padded":                       {token + "=", fault.ReceiptMalformed},
		"other spelling of same bytes": {token[:len(token)-1] + last, fault.ReceiptMalformed},
		"header not JSON":              {encode("nope") + "." + parts[1] + "." + parts[2], fault.ReceiptMalformed},
		"header an array":              {encode("[]") + "." + parts[1] + "." + parts[2], fault.ReceiptMalformed},
		"alg twice":                    {forge(`{"alg":"HS256","alg":"none","kid":"k2"}`, vectorPayload, current.Secret), fault.ReceiptMalformed},
		"JSON serialisation": {
			fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, parts[1], parts[0], parts[2]), fault.ReceiptMalformed,
		},
		"too large": {token + strings.Repeat("A", receipt.MaxToken), fault.ReceiptTooLarge},

		"alg none, no signature": {encode(`{"alg":"none","typ":"liveops-receipt+jwt","kid":"k2"}`) + "." + parts[1] + ".", fault.ReceiptAlgorithm},
		"alg none, signed":       {forge(`{"alg":"none","kid":"k2","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptAlgorithm},
		"alg None":               {encode(`{"alg":"None","kid":"k2"}`) + "." + parts[1] + ".", fault.ReceiptAlgorithm},
		"alg missing":            {forge(`{"kid":"k2","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptAlgorithm},
		"alg hs256":              {forge(`{"alg":"hs256","kid":"k2","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptAlgorithm},
		"alg HS512":              {forge(`{"alg":"HS512","kid":"k2","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptAlgorithm},
		"alg RS256":              {forge(`{"alg":"RS256","kid":"k2","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptAlgorithm},

		"kid unknown":    {forge(`{"alg":"HS256","kid":"k3","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptKeyUnknown},
		"kid missing":    {forge(`{"alg":"HS256","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptKeyUnknown},
		"brings a key":   {forge(`{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"kid":"k3","typ":"liveops-receipt+jwt"}`, vectorPayload, []byte{0, 0, 0}), fault.ReceiptMalformed},
		"payload edited": {parts[0] + "." + richer + "." + parts[2], fault.ReceiptForged},
		"kid swapped":    {forge(`{"alg":"HS256","kid":"k1","typ":"liveops-receipt+jwt"}`, vectorPayload, current.Secret), fault.ReceiptForged},
		"signature of another": {
			parts[0] + "." + parts[1] + "." + strings.Split(signed(t, keys, receipt.Claims{PlayerID: "bob"}), ".")[2], fault.ReceiptForged,
		},
		"no signature":    {parts[0] + "." + parts[1] + ".", fault.ReceiptForged},
		"short signature": {parts[0] + "." + parts[1] + "." + parts[2][:4], fault.ReceiptForged},
		"other secret":    {signed(t, keysOf(t, other), claims()), fault.ReceiptForged},
		"empty secret":    {forge(vectorHeader, vectorPayload, nil), fault.ReceiptForged},

		// Signed with our key, but no receipt: a key must not make one out of another kind of token.
		"other typ":        {forge(`{"alg":"HS256","kid":"k2","typ":"JWT"}`, vectorPayload, current.Secret), fault.ReceiptMalformed},
		"no typ":           {forge(`{"alg":"HS256","kid":"k2"}`, vectorPayload, current.Secret), fault.ReceiptMalformed},
		"payload not JSON": {forge(vectorHeader, "hello", current.Secret), fault.ReceiptMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := keys.Verify(test.token)
			require.Equal(t, test.want, fault.CodeOf(err), "%v", err)
			require.ErrorIs(t, err, fault.Invalid)
			require.Equal(t, receipt.Claims{}, got)
		})
	}
}

func TestEveryChangedCharacterIsNoticed(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, current)
	token := signed(t, keys, claims())
	for i := range token {
		for _, c := range []byte{'A', 'B', '_', '.', '=', '\n', 0} {
			if changed := []byte(token); changed[i] != c {
				changed[i] = c
				_, err := keys.Verify(string(changed))
				require.ErrorIs(t, err, fault.Invalid, "character %d as %q", i, c)
			}
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before, during, after := keysOf(t, former), keysOf(t, current, former), keysOf(t, current)
	old, recent := signed(t, before, claims()), signed(t, during, claims())
	require.NotEqual(t, old, recent)
	for _, token := range []string{old, recent} {
		got, err := during.Verify(token)
		require.NoError(t, err)
		require.Equal(t, "alice", got.PlayerID)
	}
	_, err := before.Verify(recent)
	require.ErrorIs(t, err, fault.ReceiptKeyUnknown)
	_, err = after.Verify(old)
	require.ErrorIs(t, err, fault.ReceiptKeyUnknown)
	_, err = after.Verify(recent)
	require.NoError(t, err)
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	short := receipt.Key{ID: "short", Secret: []byte("thirty-one characters are short")}
	require.Len(t, short.Secret, 31)
	for name, test := range map[string]struct {
		active  receipt.Key
		retired []receipt.Key
		says    string
	}{
		"no secret":      {receipt.Key{ID: "k"}, nil, `the secret of receipt key "k" has 0 bytes, at least 32 are needed`},
		"short secret":   {short, nil, `"short" has 31 bytes`},
		"short retired":  {current, []receipt.Key{short}, `"short" has 31 bytes`},
		"no id":          {receipt.Key{Secret: current.Secret}, nil, "id has 0 characters"},
		"long id":        {receipt.Key{ID: strings.Repeat("k", 65), Secret: current.Secret}, nil, "id has 65 characters"},
		"same id":        {current, []receipt.Key{{ID: "k2", Secret: former.Secret}}, `two receipt keys have the id "k2"`},
		"retired id two": {current, []receipt.Key{former, former}, `two receipt keys have the id "k1"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := receipt.NewKeys(test.active, test.retired...)
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), string(short.Secret))
		})
	}
}

func TestKeysDoNotHoldOnToTheCallersBytes(t *testing.T) {
	t.Parallel()
	own := receipt.Key{ID: current.ID, Secret: bytes.Clone(current.Secret)}
	keys := keysOf(t, own)
	clear(own.Secret)
	require.Equal(t, vector, signed(t, keys, claims()))
	_, err := keys.Verify(vector)
	require.NoError(t, err)
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("start", slog.Any("key", current), slog.Any("keys", []receipt.Key{current}))
	asJSON, err := json.Marshal(current)
	require.NoError(t, err)
	config := struct{ Keys []receipt.Key }{[]receipt.Key{current}}
	for _, text := range []string{log.String(), string(asJSON), fmt.Sprintf("%v %+v %#v %s", config, config, config, current)} {
		require.Contains(t, text, "k2")
		for _, secret := range []string{string(current.Secret), base64.StdEncoding.EncodeToString(current.Secret), "116 104 101 32 115"} {
			require.NotContains(t, text, secret)
		}
	}
}

func TestTooManyGrantsAreAbridged(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, current)
	c := claims()
	for i := range 1000 {
		c.Grants = append(c.Grants, receipt.Grant{Kind: fmt.Sprintf("level:%d:item:gem", i), Item: "gem", Quantity: 1})
	}
	token := signed(t, keys, c)
	require.LessOrEqual(t, len(token), receipt.MaxToken)
	got, err := keys.Verify(token)
	require.NoError(t, err)
	require.True(t, got.Abridged)
	require.Empty(t, got.Grants)
	require.Empty(t, got.Notes)
	require.Equal(t, int64(350), got.XPAfter)
	require.Len(t, c.Grants, 1002)

	c.Grants = c.Grants[:100]
	got, err = keys.Verify(signed(t, keys, c))
	require.NoError(t, err)
	require.False(t, got.Abridged)
	require.Len(t, got.Grants, 100)
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, current, former)
	var wg sync.WaitGroup
	tokens := make([]string, 8)
	for i := range tokens {
		wg.Go(func() {
			for range 50 {
				tokens[i], _ = keys.Sign(claims())
				_, _ = keys.Verify(tokens[i])
			}
		})
	}
	wg.Wait()
	for _, token := range tokens {
		require.Equal(t, vector, token)
	}
}

// Nothing but the very bytes that were issued is accepted.
func FuzzVerify(f *testing.F) {
	keys := keysOf(f, current, former)
	f.Add(vector)
	f.Add(strings.Replace(vector, ".", "..", 1))
	f.Add(vector + "\n")
	f.Add("..")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + ".e30.")
	f.Add(forge(`{"alg":"HS256","kid":"k2","crit":["b64"],"b64":false}`, "{}", former.Secret))
	f.Fuzz(func(t *testing.T, token string) {
		_, err := keys.Verify(token)
		if token == vector {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, fault.Invalid)
	})
}

func BenchmarkSign(b *testing.B) {
	keys := keysOf(b, current)
	c := claims()
	b.ReportAllocs()
	for b.Loop() {
		_, err := keys.Sign(c)
		require.NoError(b, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	keys := keysOf(b, current)
	b.ReportAllocs()
	for b.Loop() {
		_, err := keys.Verify(vector)
		require.NoError(b, err)
	}
}
