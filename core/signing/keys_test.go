package signing_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

func TestNewKeyringReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	shared := signing.Secret("shared-by-two-keys-shared-by-two-keys")
	_, err := signing.NewKeyring([]signing.Key{
		{ID: "a", Class: signing.Server, Secrets: []signing.Secret{secret("a")[:31]}},
		{ID: "a", Class: signing.Client, Secrets: []signing.Secret{secret("b")}},
		{ID: "with space and maybe a secret", Class: signing.Admin, Secrets: []signing.Secret{secret("c")}},
		{ID: strings.Repeat("k", 65), Class: signing.Admin, Secrets: []signing.Secret{secret("d")}},
		{ID: "", Class: signing.Admin, Secrets: []signing.Secret{secret("e")}},
		{ID: "class", Class: "root", Secrets: []signing.Secret{secret("f")}},
		{ID: "state", Class: signing.Client, State: "tired", Secrets: []signing.Secret{secret("g")}},
		{ID: "none", Class: signing.Server},
		{ID: "many", Class: signing.Server, Secrets: []signing.Secret{secret("h"), secret("i"), secret("j"), secret("k"), secret("l")}},
		{ID: "one", Class: signing.Server, Secrets: []signing.Secret{shared}},
		{ID: "two", Class: signing.Admin, Secrets: []signing.Secret{shared}},
		{ID: "gone", Class: signing.Server, State: signing.Revoked},
		{ID: "ses.ada.s.1.0", Class: signing.Session, Secrets: []signing.Secret{secret("m")}},
	}, secret("n")[:31], shared)
	require.Error(t, err)
	require.Equal(t, []string{
		`key "a": secret 1 has 31 bytes, at least 32 are needed`,
		`key "a": the id is given twice`,
		`key number 3: the id must be 1 to 64 of A-Z a-z 0-9 . _ -`,
		`key number 4: the id must be 1 to 64 of A-Z a-z 0-9 . _ -`,
		`key number 5: the id must be 1 to 64 of A-Z a-z 0-9 . _ -`,
		`key "class": class "root" is none of server, client, admin`,
		`key "state": state "tired" is none of active, verify-only, revoked`,
		`key "none": it has 0 secrets, 1 to 4 are needed`,
		`key "many": it has 5 secrets, 1 to 4 are needed`,
		`key "two": secret 1 is also a secret of key "one"`,
		`key "ses.ada.s.1.0": ids of sessions begin with ses.`,
		`key "ses.ada.s.1.0": class "session" is none of server, client, admin`,
		`sessions: secret 1 has 31 bytes, at least 32 are needed`,
		`sessions: secret 2 is also a secret of key "two"`,
	}, strings.Split(err.Error(), "\n"))

	_, err = signing.NewKeyring(nil)
	require.ErrorContains(t, err, "there is no key")
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	keys, err := signing.ParseKeys([]byte(`[
		{"id":"studio","class":"server","secrets":["0123456789abcdef0123456789abcdef","ö123456789abcdef0123456789abcde"]},
		{"id":"old","class":"admin","state":"verify-only","secrets":["x"]}]`))
	require.NoError(t, err)
	require.Equal(t, []signing.Key{
		{ID: "studio", Class: signing.Server, State: signing.Active, Secrets: []signing.Secret{
			[]byte("0123456789abcdef0123456789abcdef"), []byte("ö123456789abcdef0123456789abcde"),
		}},
		{ID: "old", Class: signing.Admin, State: signing.VerifyOnly, Secrets: []signing.Secret{[]byte("x")}},
	}, keys)

	for text, want := range map[string]string{
		`[{"id":"a","secret":"hush"}]`:       "/0/secret is not a member",
		`[{"id":"a","id":"hush"}]`:           "same member twice",
		`[{"id":"a","secrets":[123456789]}]`: "/0/secrets/0 has the wrong type",
		`{"id":"hush"}`:                      "the document has the wrong type",
		`hush`:                               "not valid JSON at byte 0",
		``:                                   "not valid JSON",
		`[{"id":"hush"`:                      "not valid JSON",
	} {
		_, err := signing.ParseKeys([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "hush")
		require.NotContains(t, err.Error(), "123456789")
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	t.Parallel()
	key := signing.Key{ID: "studio", Class: signing.Server, Secrets: []signing.Secret{[]byte("hushhushhushhushhushhushhushhush")}}
	ring, err := signing.NewKeyring([]signing.Key{key}, signing.Secret("master-hushhushhushhushhushhushhush"))
	require.NoError(t, err)
	v := &signing.Verifier{Keys: func() *signing.Keyring { return ring }}
	held := struct{ ring *signing.Keyring }{ring}

	var shown strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, value := range []any{key.Secrets[0], key, &key, []signing.Key{key}, ring, *ring, held, v, map[string]any{"k": key}} {
			fmt.Fprintf(&shown, verb+"\n", value)
		}
	}
	text, err := json.Marshal(map[string]any{"key": key, "ring": ring, "secret": key.Secrets[0]})
	require.NoError(t, err)
	shown.Write(text)
	var logged bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&logged, nil), slog.NewTextHandler(&logged, nil)} {
		slog.New(handler).Info("x", slog.Any("secret", key.Secrets[0]), slog.Any("key", key), slog.Any("ring", ring), slog.Any("held", held))
	}
	shown.Write(logged.Bytes())

	for _, leak := range []string{"hush", "68757368", "104 117 115 104", "0x68, 0x75", "aHVzaG"} {
		require.NotContains(t, strings.ToLower(shown.String()), strings.ToLower(leak))
	}
	require.Contains(t, shown.String(), "[redacted]")
}
