package signing_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/signing"
)

// vectors is testdata/vectors.json. It was computed outside of this package; nothing here writes it.
type vectors struct {
	Skew    int64           `json:"skew_seconds"`
	Keys    json.RawMessage `json:"keys"`
	Masters []string        `json:"session_masters"`
	Derived []derived       `json:"sessions"`
	Vectors []vector        `json:"vectors"`
}

// derived says which key of a session comes out of a master secret.
type derived struct {
	Master     string `json:"master"`
	Player     string `json:"player"`
	Session    string `json:"session"`
	Expires    int64  `json:"expires"`
	Generation int64  `json:"generation"`
	KeyID      string `json:"key_id"`
	Secret     string `json:"secret"`
}

type vector struct {
	Name      string      `json:"name"`
	Now       int64       `json:"now"`
	Method    string      `json:"method"`
	Target    string      `json:"target"`
	Headers   [][2]string `json:"headers"`
	Body      string      `json:"body"`
	Canonical string      `json:"canonical"`
	Code      fault.Code  `json:"code"`
}

func readVectors(t testing.TB) (vectors, *signing.Keyring) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var v vectors
	require.NoError(t, json.Unmarshal(text, &v))
	keys, err := signing.ParseKeys(v.Keys)
	require.NoError(t, err)
	var masters []signing.Secret
	for _, master := range v.Masters {
		masters = append(masters, signing.Secret(master))
	}
	ring, err := signing.NewKeyring(keys, masters...)
	require.NoError(t, err)
	return v, ring
}

// wire is the request as a server reads it from the connection.
func (v vector) wire(t testing.TB) (*http.Request, []byte) {
	t.Helper()
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: example.test\r\nContent-Length: %d\r\n", v.Method, v.Target, len(v.Body))
	for _, header := range v.Headers {
		fmt.Fprintf(&text, "%s: %s\r\n", header[0], header[1])
	}
	text.WriteString("\r\n" + v.Body)
	r, err := http.ReadRequest(bufio.NewReader(&text))
	require.NoError(t, err)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r, body
}

func TestVectors(t *testing.T) {
	t.Parallel()
	all, ring := readVectors(t)
	require.GreaterOrEqual(t, len(all.Vectors), 20)
	for _, v := range all.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			verifier := signing.Verifier{
				Keys: func() *signing.Keyring { return ring },
				Skew: time.Duration(all.Skew) * time.Second,
				Now:  func() time.Time { return time.Unix(v.Now, 0) },
			}
			request, err := signing.FromHTTP(v.wire(t))
			if err == nil {
				if v.Canonical != "" {
					canonical, err := request.Canonical()
					require.NoError(t, err)
					require.Equal(t, v.Canonical, canonical)
				}
				var key signing.Key
				key, err = verifier.Verify(request)
				require.Equal(t, err == nil, key.ID == request.KeyID && key.ID != "")
			}
			if v.Code == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, v.Code, fault.CodeOf(err), "%v", err)
			if v.Code == fault.TimestampOutside {
				var refused *fault.Error
				require.ErrorAs(t, err, &refused)
				require.Equal(t, v.Now, refused.Extra["server_time"])
			}
		})
	}
}

func TestDerivedKeys(t *testing.T) {
	t.Parallel()
	all, ring := readVectors(t)
	require.GreaterOrEqual(t, len(all.Derived), 8)
	for _, d := range all.Derived {
		one, err := signing.NewKeyring([]signing.Key{studio()}, signing.Secret(d.Master))
		require.NoError(t, err)
		id := signing.SessionID{Player: d.Player, Session: d.Session, Expires: time.Unix(d.Expires, 0).UTC(), Generation: d.Generation}
		key, err := one.SessionKey(id)
		require.NoError(t, err)
		require.Equal(t, signing.Key{
			ID: d.KeyID, Class: signing.Session, State: signing.Active, Secrets: []signing.Secret{signing.Secret(d.Secret)},
			Player: d.Player, Expires: id.Expires, Generation: d.Generation,
		}, key)
		found, known := ring.Find(d.KeyID)
		require.True(t, known)
		require.Len(t, found.Secrets, 2)
		require.Contains(t, found.Secrets, signing.Secret(d.Secret))
	}
}

func TestVectorsReachEveryRefusal(t *testing.T) {
	t.Parallel()
	all, _ := readVectors(t)
	seen := map[fault.Code]bool{}
	for _, v := range all.Vectors {
		seen[v.Code] = true
	}
	for _, code := range []fault.Code{
		"", fault.HeaderMissing, fault.HeaderMalformed, fault.IdempotencyInvalid, fault.MalformedRequest,
		fault.KeyUnknown, fault.KeyRevoked, fault.TimestampOutside, fault.SignatureMismatch, fault.SessionExpired,
	} {
		require.True(t, seen[code], "no vector for %q", code)
	}
}

// TestDocs holds the worked example of the documentation to the first vector and to the code.
func TestDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/signing.md")
	require.NoError(t, err)
	all, ring := readVectors(t)
	v := all.Vectors[0]
	request, err := signing.FromHTTP(v.wire(t))
	require.NoError(t, err)
	key, known := ring.Find(request.KeyID)
	require.True(t, known)
	signature, err := signing.Sign(key, request)
	require.NoError(t, err)
	canonical, err := request.Canonical()
	require.NoError(t, err)

	require.Equal(t, request.Signature, signature)
	require.Contains(t, string(page), "\n"+canonical+"\n")
	require.Contains(t, string(page), signature)
	require.Contains(t, string(page), v.Body)
	for _, header := range v.Headers {
		require.Contains(t, string(page), header[0]+": "+header[1])
	}
	for _, code := range []fault.Code{
		fault.HeaderMissing, fault.HeaderMalformed, fault.IdempotencyInvalid, fault.MalformedRequest,
		fault.KeyUnknown, fault.KeyRevoked, fault.TimestampOutside, fault.SignatureMismatch, fault.NonceReplayed, fault.SessionExpired, fault.SessionRevoked, fault.OutOfScope,
	} {
		require.Contains(t, string(page), "`"+string(code)+"`")
	}
	require.Contains(t, string(page), fmt.Sprint(len(all.Vectors))+" test vectors")
	require.NotContains(t, strings.ToLower(string(page)), "todo")
}
