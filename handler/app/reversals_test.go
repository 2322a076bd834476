package app

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/progression"
	"liveops/core/signing"
)

const reversalGame = game + `
items: {gem: {stack: 10}}
rewards: {levels: {2: {items: {gem: 1}, claim: true}}}
`

func TestAnEventIsReversed(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.play(t, reversalGame)
	c := e.running(t)
	token := c.receiptOf("a")
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, xpText("b", "ada", 95))))
	const target = "/v1/operations/players/ada/events/b/reverse"

	for _, refused := range []struct{ idempotency, target, body, code string }{
		{"", target, `{"reason":"by mistake"}`, "idempotency-key-missing"},
		{"o0", target, `{"reason":""}`, "request-invalid"},
		{"o1", "/v1/operations/players/ada/events/z/reverse", `{"reason":"by mistake"}`, "event-not-found"},
		{"o2", "/v1/operations/players/a~a/events/z/reverse", `{"reason":"by mistake"}`, "player-not-found"},
	} {
		_, answer := c.order(refused.idempotency, refused.target, refused.body)
		require.Equal(t, refused.code, answer["code"])
	}
	status, answer := c.order("o3", target, `{"reason":"by mistake"}`)
	require.Equal(t, http.StatusOK, status, "%v", answer)
	id := progression.ReversalID("b")
	require.Equal(t, []any{"ada", "b", id, "by mistake", key(signing.Admin).ID},
		[]any{answer["player_id"], answer["event_id"], answer["reversal_id"], answer["reason"], answer["actor"]})
	require.Len(t, answer["entries"], 1)
	require.EqualValues(t, -95, answer["entries"].([]any)[0].(map[string]any)["delta"])
	require.Equal(t, []any{[]any{progression.MailID("b", "level", "level:2")}, []any{}}, []any{answer["withdrawn_mails"], answer["claimed_mails"]})
	_, again := c.order("o4", target, `{"reason":"once more"}`)
	require.Equal(t, answer, again, "what is on record")
	_, refused := c.order("o5", "/v1/operations/players/ada/events/"+id+"/reverse", `{"reason":"back"}`)
	require.Equal(t, "not-reversible", refused["code"])

	_, shown := c.ask(signing.Client, http.MethodGet, "/v1/players/ada/events/b", "")
	require.Equal(t, id, shown["reversed_by"])
	_, shown = c.ask(signing.Client, http.MethodGet, "/v1/players/ada", "")
	require.Equal(t, []any{10.0, 2.0}, []any{shown["xp"], shown["level"]}, "the level stays")
	_, shown = c.ask(signing.Client, http.MethodGet, "/v1/receipts/ada/b", "")
	require.NotNil(t, shown["reversed_at"])
	verdict := c.verdict(shown["receipt"].(string))
	require.Equal(t, []any{true, true, true}, []any{verdict["valid"], verdict["on_record"], verdict["reversed"]})
	require.Equal(t, false, c.verdict(token)["reversed"])
	verdict = c.verdict(answer["receipt"].(string))
	require.Equal(t, "b", verdict["claims"].(map[string]any)["reverses"])
}

func TestTheLedgerAndTheInventoryAreRead(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.play(t, game+"\nitems: {gem: {stack: 10}, axe: {}, skin-*: {stack: 1, slots: 5}}\n")
	c := e.running(t)
	acquire := func(id, item string) []byte {
		return acceptedBody(t, `{"event_id":"`+id+`","type":"item_acquired","player_id":"ada","occurred_at":"2026-11-22T12:00:00Z","data":{"item":"`+item+`","quantity":1}}`)
	}
	require.Equal(t, http.StatusOK, c.invoke("progression", acquire("a", "gem"), acquire("b", "skin-red"), acquire("c", "axe"), acquire("d", "skin-blue")))
	pages := func(path, list, key string) (seen []string) {
		t.Helper()
		for cursor := ""; ; {
			status, page := c.ask(signing.Client, http.MethodGet, path+"&cursor="+cursor, "")
			require.Equal(t, http.StatusOK, status, "%v", page)
			for _, row := range page[list].([]any) {
				seen = append(seen, row.(map[string]any)[key].(string))
			}
			if cursor, _ = page["next"].(string); cursor == "" {
				return seen
			}
		}
	}
	require.Equal(t, []string{"axe", "gem", "skin-blue", "skin-red"}, pages("/v1/players/ada/inventory?limit=1", "items", "item"))
	require.Equal(t, []string{"skin-blue", "skin-red"}, pages("/v1/players/ada/inventory?prefix=skin-&limit=2", "items", "item"))
	require.Empty(t, pages("/v1/players/ada/inventory?prefix=zz&limit=2", "items", "item"))
	require.Equal(t, []string{"item:skin-blue", "xp", "item:axe", "xp", "item:skin-red", "xp", "item:gem", "xp"}, pages("/v1/players/ada/ledger?limit=3", "entries", "kind"))
	require.Equal(t, []string{"c"}, pages("/v1/players/ada/ledger?item=axe&limit=3", "entries", "event_id"))
	require.Empty(t, pages("/v1/players/ada/ledger?type=xp_gained&limit=3", "entries", "event_id"))
	_, page := c.ask(signing.Client, http.MethodGet, "/v1/players/ada/inventory", "")
	require.Equal(t, []any{
		map[string]any{"item": "axe", "quantity": 1.0},
		map[string]any{"item": "gem", "quantity": 1.0, "stack": 10.0},
		map[string]any{"item": "skin-blue", "quantity": 1.0, "stack": 1.0},
		map[string]any{"item": "skin-red", "quantity": 1.0, "stack": 1.0},
	}, page["items"])
	for _, bad := range []string{"ledger?cursor=x", "ledger?cursor=0", "ledger?limit=0", "inventory?limit=101"} {
		status, answer := c.ask(signing.Client, http.MethodGet, "/v1/players/ada/"+bad, "")
		require.Equal(t, http.StatusBadRequest, status, "%s: %v", bad, answer)
	}
}
