package signing_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/fault"
	"liveops/core/signing"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func secret(c string) signing.Secret { return signing.Secret(strings.Repeat(c, 32)) }

func studio() signing.Key {
	return signing.Key{ID: "studio", Class: signing.Server, Secrets: []signing.Secret{secret("s"), secret("t")}}
}

func verifier(t testing.TB, keys ...signing.Key) *signing.Verifier {
	t.Helper()
	ring, err := signing.NewKeyring(keys)
	require.NoError(t, err)
	return &signing.Verifier{Keys: func() *signing.Keyring { return ring }, Now: func() time.Time { return noon }}
}

func signed(t require.TestingT, key signing.Key, r signing.Request) signing.Request {
	r.KeyID = key.ID
	if r.Timestamp == "" {
		r.Timestamp = strconv.FormatInt(noon.Unix(), 10)
	}
	if r.Nonce == "" {
		r.Nonce = "0123456789abcdef"
	}
	var err error
	r.Signature, err = signing.Sign(key, r)
	require.NoError(t, err)
	return r
}

func TestSignHTTP(t *testing.T) {
	t.Parallel()
	body := []byte(`{"events":[]}`)
	var got error
	var key signing.Key
	v := verifier(t, studio())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		request, err := signing.FromHTTP(r, body)
		if err == nil {
			key, err = v.Verify(request)
		}
		got = err
	}))
	defer server.Close()
	for _, target := range []string{"", "/", "/v1/players/龍?name=é", "/v1/players/a%2Fb?b=2&a=1+1&a=%7E", "/v1/x?"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+target, bytes.NewReader(body))
		require.NoError(t, err)
		r.Header.Set(signing.HeaderIdempotency, "order-1")
		require.NoError(t, signing.SignHTTP(r, studio(), body, noon, signing.NewNonce()))
		answer, err := server.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.NoError(t, got, target)
		require.Equal(t, "studio", key.ID)
		require.Equal(t, signing.Server, key.Class)
	}
}

func TestSignHTTPReplacesAnOldSignature(t *testing.T) {
	t.Parallel()
	v := verifier(t, studio())
	r := httptest.NewRequest(http.MethodGet, "/v1/players/p", nil)
	require.NoError(t, signing.SignHTTP(r, studio(), nil, noon.Add(-time.Hour), signing.NewNonce()))
	require.NoError(t, signing.SignHTTP(r, studio(), nil, noon, signing.NewNonce()))
	request, err := signing.FromHTTP(r, nil)
	require.NoError(t, err)
	_, err = v.Verify(request)
	require.NoError(t, err)
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "/v1/players/p", nil)
	retired := studio()
	retired.State = signing.VerifyOnly
	require.ErrorContains(t, signing.SignHTTP(r, retired, nil, noon, signing.NewNonce()), "verify-only")
	require.ErrorContains(t, signing.SignHTTP(r, signing.Key{ID: "k"}, nil, noon, signing.NewNonce()), "no secret")
	require.ErrorIs(t, signing.SignHTTP(r, studio(), nil, noon, "short"), fault.HeaderMalformed)
	r.URL.RawQuery = "a=%zz"
	require.ErrorIs(t, signing.SignHTTP(r, studio(), nil, noon, signing.NewNonce()), fault.MalformedRequest)
	_, err := signing.Sign(studio(), signing.Request{KeyID: "other"})
	require.ErrorContains(t, err, `names key "other"`)
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before, after := studio(), studio()
	before.Secrets = []signing.Secret{secret("a")}
	after.Secrets = []signing.Secret{secret("b"), secret("a")}
	var ring atomic.Pointer[signing.Keyring]
	v := signing.Verifier{Keys: ring.Load, Now: func() time.Time { return noon }}
	swap := func(key signing.Key) {
		r, err := signing.NewKeyring([]signing.Key{key})
		require.NoError(t, err)
		ring.Store(r)
	}
	old, renewed := signed(t, before, signing.Request{Method: "GET", Path: "/"}), signed(t, after, signing.Request{Method: "GET", Path: "/"})

	_, err := v.Verify(old)
	require.ErrorIs(t, err, fault.KeyUnknown, "no keyring yet")
	swap(before)
	_, err = v.Verify(old)
	require.NoError(t, err)
	_, err = v.Verify(renewed)
	require.ErrorIs(t, err, fault.SignatureMismatch)
	swap(after)
	for _, r := range []signing.Request{old, renewed} {
		_, err = v.Verify(r)
		require.NoError(t, err)
	}
	after.State, after.Secrets = signing.Revoked, nil
	swap(after)
	_, err = v.Verify(renewed)
	require.ErrorIs(t, err, fault.KeyRevoked)
}

// TestStandInSecret: whoever guesses what an unknown id is compared with gains nothing.
func TestStandInSecret(t *testing.T) {
	t.Parallel()
	v := verifier(t, studio())
	guess := signing.Key{ID: "nobody", Secrets: []signing.Secret{make(signing.Secret, 32)}}
	_, err := v.Verify(signed(t, guess, signing.Request{Method: "GET", Path: "/"}))
	require.ErrorIs(t, err, fault.KeyUnknown)
}

// TestASignatureHasOneSpelling: what decodes to the right bytes but is not how they are written does not pass.
func TestASignatureHasOneSpelling(t *testing.T) {
	t.Parallel()
	v := verifier(t, studio())
	r := signed(t, studio(), signing.Request{Method: "GET", Path: "/"})
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(r.Signature) - 1
	stray := r.Signature[:last] + string(alphabet[strings.IndexByte(alphabet, r.Signature[last])|1])
	for _, spelling := range []string{stray, r.Signature[:10] + "\n" + r.Signature[10:], r.Signature + "\r", r.Signature + "="} {
		require.NotEqual(t, spelling, r.Signature)
		other := r
		other.Signature = spelling
		_, err := v.Verify(other)
		require.ErrorIs(t, err, fault.HeaderMalformed, "%q", spelling)
	}
}

func TestSkewDefaults(t *testing.T) {
	t.Parallel()
	v := verifier(t, studio())
	for offset, ok := range map[time.Duration]bool{-301: false, -300: true, 300: true, 301: false} {
		r := signed(t, studio(), signing.Request{Method: "GET", Path: "/", Timestamp: strconv.FormatInt(noon.Unix()+int64(offset), 10)})
		_, err := v.Verify(r)
		require.Equal(t, ok, err == nil, "%d s: %v", offset, err)
	}
	v.Skew = time.Second
	_, err := v.Verify(signed(t, studio(), signing.Request{Method: "GET", Path: "/", Timestamp: strconv.FormatInt(noon.Unix()-2, 10)}))
	require.ErrorIs(t, err, fault.TimestampOutside)
	v.Now, v.Skew = nil, 0
	_, err = v.Verify(signed(t, studio(), signing.Request{Method: "GET", Path: "/", Timestamp: strconv.FormatInt(time.Now().Unix(), 10)}))
	require.NoError(t, err)
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	base := signing.Request{Method: "POST", Path: "/v1/events", RawQuery: "a=1&b=2", Body: []byte("x")}
	same := base
	same.RawQuery, same.Nonce, same.Timestamp, same.IdempotencyKey, same.KeyID, same.Signature = "b=2&a=%31", "n", "1", "i", "k", "s"
	require.Equal(t, signing.Fingerprint(base), signing.Fingerprint(same))
	seen := map[[32]byte]bool{signing.Fingerprint(base): true}
	for _, change := range []func(*signing.Request){
		func(r *signing.Request) { r.Method = "PUT" },
		func(r *signing.Request) { r.Path = "/v1/event" },
		func(r *signing.Request) { r.RawQuery = "a=1" },
		func(r *signing.Request) { r.RawQuery = "a=%zz" },
		func(r *signing.Request) { r.Body = []byte("y") },
		func(r *signing.Request) { r.Body = nil },
		func(r *signing.Request) { r.RawQuery, r.Body = "", []byte("a=1&b=2\nx") },
	} {
		r := base
		change(&r)
		f := signing.Fingerprint(r)
		require.False(t, seen[f], "%+v", r)
		seen[f] = true
	}
}

func TestCanonicalQueryAgreesWithURLValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := url.Values{}
		for i := range rapid.IntRange(0, 6).Draw(t, "pairs") {
			values.Add(rapid.String().Draw(t, "name"+strconv.Itoa(i)), rapid.String().Draw(t, "value"+strconv.Itoa(i)))
		}
		canonical, err := signing.CanonicalQuery(values.Encode())
		require.NoError(t, err)
		again, err := signing.CanonicalQuery(canonical)
		require.NoError(t, err)
		require.Equal(t, canonical, again)
		require.NotContains(t, canonical, "+")
		decoded, err := url.ParseQuery(canonical)
		require.NoError(t, err)
		require.Len(t, decoded, len(values))
		for name, list := range values {
			require.ElementsMatch(t, list, decoded[name])
		}
	})
}

// TestSignedStaysSigned: what was signed verifies, and no single byte of it can be changed.
func TestSignedStaysSigned(t *testing.T) {
	t.Parallel()
	v := verifier(t, studio())
	rapid.Check(t, func(t *rapid.T) {
		key := studio()
		if rapid.Bool().Draw(t, "second secret") {
			key.Secrets = key.Secrets[1:]
		}
		r := signed(t, key, signing.Request{
			Method:         rapid.SampledFrom([]string{"GET", "POST", "DELETE"}).Draw(t, "method"),
			Path:           rapid.StringMatching(`/[!-~]{0,40}`).Draw(t, "path"),
			RawQuery:       rapid.StringMatching(`([a-z~.]{1,3}=[A-Za-z0-9+%]{0,1}(&[a-z]=[0-9]{0,9}){0,3})?`).Filter(decodable).Draw(t, "query"),
			Nonce:          rapid.StringMatching(`[A-Za-z0-9_-]{16,64}`).Draw(t, "nonce"),
			Timestamp:      strconv.FormatInt(noon.Unix()+rapid.Int64Range(-300, 300).Draw(t, "offset"), 10),
			IdempotencyKey: rapid.StringMatching(`[a-z0-9]{0,60}`).Draw(t, "idempotency key"),
			Body:           rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body"),
		})
		_, err := v.Verify(r)
		require.NoError(t, err)

		query, body := r.RawQuery, string(r.Body)
		fields := map[string]*string{
			"method": &r.Method, "path": &r.Path, "query": &query, "nonce": &r.Nonce,
			"timestamp": &r.Timestamp, "idempotency key": &r.IdempotencyKey, "signature": &r.Signature, "body": &body,
		}
		field := rapid.SampledFrom([]string{"method", "path", "query", "nonce", "timestamp", "idempotency key", "signature", "body"}).Draw(t, "field")
		text := []byte(*fields[field])
		if len(text) == 0 {
			t.Skip("nothing to change")
		}
		text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		*fields[field] = string(text)
		if field == "query" && sameQuery(query, r.RawQuery) {
			t.Skip("another spelling of the same query")
		}
		r.RawQuery, r.Body = query, []byte(body)
		_, err = v.Verify(r)
		require.Error(t, err, "%s changed", field)
	})
}

func decodable(query string) bool {
	_, err := signing.CanonicalQuery(query)
	return err == nil
}

func sameQuery(a, b string) bool {
	x, errX := signing.CanonicalQuery(a)
	y, errY := signing.CanonicalQuery(b)
	return errX == nil && errY == nil && x == y
}

func FuzzVerify(f *testing.F) {
	all, _ := readVectors(f)
	for _, v := range all.Vectors {
		if request, err := signing.FromHTTP(v.wire(f)); err == nil {
			f.Add(request.Method, request.Path, request.RawQuery, request.KeyID, request.Timestamp, request.Nonce,
				request.IdempotencyKey, request.Signature, request.Body)
		}
	}
	// The secrets of this verifier are in no seed, so whatever verifies was forged.
	v := verifier(f, signing.Key{ID: "studio", Class: signing.Server, Secrets: []signing.Secret{[]byte(signing.NewNonce() + signing.NewNonce())}})
	f.Fuzz(func(t *testing.T, method, path, query, key, timestamp, nonce, idempotency, signature string, body []byte) {
		r := signing.Request{
			Method: method, Path: path, RawQuery: query, KeyID: key, Timestamp: timestamp, Nonce: nonce,
			IdempotencyKey: idempotency, Signature: signature, Body: body,
		}
		_, refused := v.Verify(r)
		require.Contains(t, []fault.Kind{fault.Malformed, fault.Unauthenticated}, fault.KindOf(refused), "%v", refused)
		signing.Fingerprint(r)
		if fault.CodeOf(refused) == fault.SignatureMismatch {
			canonical, err := r.Canonical()
			require.NoError(t, err)
			require.Equal(t, 7, strings.Count(canonical, "\n"), "a member smuggled a line")
		}
	})
}

func FuzzCanonicalQuery(f *testing.F) {
	for _, seed := range []string{"", "a=1&a=2", "a+b=%20", "%zz", "a;b", "=&=", "é=ü", "a-b=1&a=2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		canonical, err := signing.CanonicalQuery(query)
		if err != nil {
			require.ErrorIs(t, err, fault.MalformedRequest)
			return
		}
		again, err := signing.CanonicalQuery(canonical)
		require.NoError(t, err)
		require.Equal(t, canonical, again)
		require.NotContains(t, canonical, "\n")
		want, err := url.ParseQuery(query)
		require.NoError(t, err)
		got, err := url.ParseQuery(canonical)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for name, list := range want {
			require.ElementsMatch(t, list, got[name])
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for name, size := range map[string]int{"300B": 300, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			v := verifier(b, studio())
			r := signed(b, studio(), signing.Request{Method: "POST", Path: "/v1/events", RawQuery: "a=1&b=2", IdempotencyKey: "order-1", Body: bytes.Repeat([]byte("x"), size)})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
