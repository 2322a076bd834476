// Package interop_test holds what is signed here against the libraries of other languages. They are installed with npm, which CI does and nobody
// else has to: without them the tests are left out, unless TEST_INTEROP=required.
package interop_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/receipt"
)

// verdict is what jose says of one token.
type verdict struct {
	Valid     bool           `json:"valid"`
	Reason    string         `json:"reason"`
	Algorithm string         `json:"algorithm"`
	KeyID     string         `json:"key_id"`
	Claims    receipt.Claims `json:"claims"`
}

// ask has jose check the tokens.
func ask(t *testing.T, public jose.JSONWebKeySet, secret []byte, tokens ...string) []verdict {
	t.Helper()
	_, missing := os.Stat("node_modules/jose")
	node, err := exec.LookPath("node")
	if missing != nil || err != nil {
		require.NotEqual(t, "required", os.Getenv("TEST_INTEROP"), "node and `npm ci` in local/interop are needed")
		t.Skip("node is not there, or `npm ci` was not run in local/interop")
	}
	question, err := json.Marshal(map[string]any{"jwks": public, "secret": string(secret), "tokens": tokens})
	require.NoError(t, err)
	run := exec.CommandContext(t.Context(), node, "receipts.mjs")
	run.Stdin = bytes.NewReader(question)
	var said bytes.Buffer
	run.Stderr = &said
	answer, err := run.Output()
	require.NoError(t, err, "%s", said.String())
	var verdicts []verdict
	require.NoError(t, json.Unmarshal(answer, &verdicts))
	require.Len(t, verdicts, len(tokens))
	return verdicts
}

func TestNodeAcceptsReceipts(t *testing.T) {
	t.Parallel()
	key := func(name string, algorithm receipt.Algorithm) receipt.Key {
		return receipt.Key{ID: name, Secret: []byte(name + strings.Repeat(" secret", 6)), Algorithm: algorithm}
	}
	signed := func(with receipt.Key, c receipt.Claims) string {
		keys, err := receipt.NewKeys(with)
		require.NoError(t, err)
		token, err := keys.Sign(c)
		require.NoError(t, err)
		return token
	}
	claims := receipt.Claims{
		PlayerID: "ada", EventID: "e1", Type: "boss_killed", XP: 250, XPBefore: 100, XPAfter: 350, LevelBefore: 2, LevelAfter: 3,
		Modifier: "double-weekend", CatalogVersion: 7, IssuedAt: 1_795_348_800,
		Grants: []receipt.Grant{{Kind: "item:gem", Item: "gem", Quantity: 2}},
		Mails:  []receipt.Mail{{ID: "mail~x", Items: []receipt.MailItem{{Item: "axe", Quantity: 1}, {Item: "gem", Quantity: 1<<53 - 1}}}},
		Notes:  []receipt.Note{{Code: fault.Mailed, Ref: "level:3:item:axe", Amount: 1}},
	}
	keys, err := receipt.NewKeys(key("new", receipt.EdDSA), key("old", receipt.HS256))
	require.NoError(t, err)
	public := keys.PublicKeys()
	genuine := []string{
		signed(key("new", receipt.EdDSA), claims), signed(key("old", receipt.EdDSA), claims), // the key in use, and one that is retired
		signed(key("new", receipt.HS256), claims),
	}
	algorithms := []string{"EdDSA", "EdDSA", "HS256"}

	parts := strings.Split(genuine[0], ".")
	swapped := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"` + public.Keys[0].KeyID + `","typ":"` + receipt.Type + `"}`))
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"` + receipt.Type + `"}`))
	refused := []string{
		signed(key("other", receipt.EdDSA), claims), signed(key("other", receipt.HS256), claims),
		genuine[0][:len(genuine[0])-4], genuine[2][:len(genuine[2])-4],
		parts[0] + "." + strings.Split(genuine[2], ".")[1][:20] + "A." + parts[2],
		swapped + "." + parts[1] + "." + parts[2],
		unsigned + "." + parts[1] + ".",
	}
	verdicts := ask(t, public, key("new", "").Secret, append(genuine, refused...)...)
	want := claims
	want.ID = receipt.ID("ada", "e1")
	for i, v := range verdicts[:len(genuine)] {
		require.True(t, v.Valid, "%d: %s", i, v.Reason)
		require.Equal(t, algorithms[i], v.Algorithm)
		require.NotEmpty(t, v.KeyID)
		require.Equal(t, want, v.Claims, "every claim, to the last digit")
	}
	for i, v := range verdicts[len(genuine):] {
		require.False(t, v.Valid, "%d", i)
		_, err := keys.Verify(refused[i])
		require.ErrorIs(t, err, fault.Invalid, "%d: refused here too", i)
	}
}
