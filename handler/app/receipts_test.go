package app

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/receipt"
	"liveops/core/signing"
)

// receiptOf plays an event of ada's and gives its receipt.
func (c *client) receiptOf(id string) string {
	c.t.Helper()
	require.Equal(c.t, http.StatusOK, c.invoke("progression", acceptedBody(c.t, xpText(id, "ada", 10))))
	status, answer := c.ask(signing.Client, http.MethodGet, "/v1/receipts/ada/"+id, "")
	require.Equal(c.t, http.StatusOK, status, "%v", answer)
	require.Nil(c.t, answer["reversed_at"])
	return answer["receipt"].(string)
}

func (c *client) verdict(token string) map[string]any {
	c.t.Helper()
	text, err := json.Marshal(map[string]string{"receipt": token})
	require.NoError(c.t, err)
	status, answer := c.ask(signing.Client, http.MethodPost, "/v1/receipts/verify", string(text))
	require.Equal(c.t, http.StatusOK, status, "%v", answer)
	return answer
}

func (c *client) keys() jose.JSONWebKeySet {
	c.t.Helper()
	return answered[jose.JSONWebKeySet](c, "/v1/receipts/keys")
}

// A receipt is told from what was made of it, and says whether it still stands.
func TestReceiptsAreVerified(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	token := c.receiptOf("a")
	answer := c.verdict(token)
	require.Equal(t, []any{true, true, false, nil}, []any{answer["valid"], answer["on_record"], answer["reversed"], answer["reversed_at"]})
	require.Equal(t, map[string]any{"valid": false, "reason": "receipt-malformed"}, c.verdict(token[:len(token)-1]+"="))
	require.Equal(t, map[string]any{"valid": false, "reason": "receipt-signature-mismatch"}, c.verdict(flipped(token)))

	forged, err := c.app.receipts.Load().Sign(receipt.Claims{PlayerID: "ada", EventID: "never"})
	require.NoError(t, err)
	answer = c.verdict(forged)
	require.Equal(t, []any{true, false, nil}, []any{answer["valid"], answer["on_record"], answer["reversed"]}, "signed by the same key, for another database")
}

// flipped is a token with another first character in its payload.
func flipped(token string) string {
	text := []byte(token)
	for i, c := range text {
		if c == '.' {
			text[i+6] ^= 1
			return string(text)
		}
	}
	return ""
}

// Keys are changed while the system runs: what was signed before still verifies and keeps its bytes, the retired key signs nothing, and one that is
// taken off the list verifies nothing any more.
func TestReceiptKeysAreChanged(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	file := filepath.Join(t.TempDir(), "receipt")
	set := func(list string) { require.NoError(t, os.WriteFile(file, []byte(list), 0o600)) }
	set(secret("first"))
	delete(e.settings, "RECEIPT_SECRET")
	e.settings["RECEIPT_SECRET_FILE"] = file
	c := e.running(t)
	getenv := func(name string) string { return e.settings[name] }
	first := c.receiptOf("a")
	require.Len(t, c.keys().Keys, 2, "a seal's and a receipt's")
	for _, key := range c.keys().Keys {
		require.True(t, key.IsPublic())
	}
	_, err := receipt.VerifyWith(c.keys(), first)
	require.ErrorIs(t, err, fault.ReceiptAlgorithm, "HS256 is nothing for others")

	set(secret("second") + "," + secret("first"))
	e.settings["RECEIPT_ALGORITHM"] = "EdDSA"
	c.app.reloadReceiptKeys(getenv)
	second := c.receiptOf("b")
	require.Equal(t, first, c.receiptOf("a"), "the same event, the same bytes")
	for _, token := range []string{first, second} {
		require.Equal(t, true, c.verdict(token)["valid"])
	}
	claims, err := receipt.VerifyWith(c.keys(), second)
	require.NoError(t, err)
	require.Equal(t, "b", claims.EventID)
	require.Len(t, c.keys().Keys, 3)

	set("too short")
	c.app.reloadReceiptKeys(getenv)
	require.Equal(t, true, c.verdict(second)["valid"], "what cannot be used changes nothing")
	require.Equal(t, 1, int(testutil.ToFloat64(c.app.keysRefused.WithLabelValues(keysOfReceipts))))

	set(secret("second"))
	c.app.reloadReceiptKeys(getenv)
	require.Equal(t, map[string]any{"valid": false, "reason": "receipt-key-unknown"}, c.verdict(first))
	require.Equal(t, true, c.verdict(second)["valid"])
	require.Equal(t, true, c.verdict(c.receiptOf("c"))["valid"])
}
