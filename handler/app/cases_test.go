package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

// order posts an operator's order under an idempotency key; "" sends none.
func (c *client) order(idempotency, target, body string) (int, map[string]any) {
	c.t.Helper()
	r := request(c.t, "", http.MethodPost, target, []byte(body))
	r.Header.Del("Idempotency-Key")
	if idempotency != "" {
		r.Header.Set("Idempotency-Key", idempotency)
	}
	require.NoError(c.t, signing.SignHTTP(r, key(signing.Admin), []byte(body), noon, signing.NewNonce()))
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	answer := map[string]any{}
	require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &answer), "%s", w.Body)
	return w.Code, answer
}

// read is a read by an operator that succeeds.
func (c *client) read(target string) map[string]any {
	c.t.Helper()
	status, answer := c.ask(signing.Admin, http.MethodGet, target, "")
	require.Equal(c.t, http.StatusOK, status, "%v", answer)
	return answer
}

// send says whether an event of a player is accepted.
func (c *client) send(id, player string) int {
	c.t.Helper()
	status, _ := c.ask(signing.Server, http.MethodPost, "/v1/events", xpText(id, player, 1))
	return status
}

func TestDecisionsAreShown(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	rejection := denied(t, c)
	require.Equal(t, http.StatusOK, c.invoke("fairness", acceptedBody(t, xpText("b", "sue", 102)), acceptedBody(t, xpText("c", "sue", 5))))

	list := c.read("/v1/operations/decisions")
	require.Len(t, list["decisions"], 2)
	page := c.read("/v1/operations/decisions?limit=1")
	require.Len(t, page["decisions"], 1)
	require.NotEmpty(t, page["next"])
	rest := c.read("/v1/operations/decisions?limit=1&cursor=" + page["next"].(string))
	require.Empty(t, rest["next"])
	require.Equal(t, list["decisions"], append(page["decisions"].([]any), rest["decisions"].([]any)...))
	for query, n := range map[string]int{
		"player=sue": 1, "player=ada": 0, "verdict=deny": 2, "verdict=flag": 0, "rule=impossible-value&player=eve": 1, "rule=population": 0,
		"from=2026-11-22T12:00:00Z": 2, "to=2026-11-22T12:00:00Z": 0, "from=2026-11-22T11:00:00Z&to=2026-11-22T13:00:00%2B00:00&player=eve&verdict=deny": 1,
	} {
		require.Len(t, c.read("/v1/operations/decisions?" + query)["decisions"], n, query)
	}
	for query, pointer := range map[string]string{
		"player=no+player": "/player", "verdict=maybe": "/verdict", "rule=luck": "/rule", "from=yesterday": "/from", "to=1": "/to", "limit=101": "/limit",
	} {
		status, answer := c.ask(signing.Admin, http.MethodGet, "/v1/operations/decisions?"+query, "")
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Equal(t, "malformed-request", answer["code"])
		require.Equal(t, pointer, answer["errors"].([]any)[0].(map[string]any)["pointer"])
	}
	status, answer := c.ask(signing.Admin, http.MethodGet, "/v1/operations/decisions?cursor=x", "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "malformed-cursor", answer["code"])

	// From a rejection to its decision and back; a game server may look too.
	id := c.read("/v1/operations/rejected/" + rejection)["decision_id"].(string)
	for _, class := range []signing.Class{signing.Admin, signing.Server} {
		status, shown := c.ask(class, http.MethodGet, "/v1/operations/decisions/"+id, "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, map[string]any{
			"id": id, "player_id": "eve", "event_id": "a", "verdict": "deny", "rule": "impossible-value", "rule_version": shown["rule_version"], "mode": "enforce",
			"decided_at": "2026-11-22T12:00:00.000Z", "catalog_version": 1.0, "rejected_id": rejection,
			"evidence": []any{map[string]any{
				"rule": "impossible-value", "version": shown["rule_version"], "mode": "enforce", "verdict": "deny", "points": 5.0, "measure": "/data/amount", "limit": 100.0, "observed": 101.0,
			}},
		}, shown)
	}
	status, answer = c.ask(signing.Admin, http.MethodGet, "/v1/operations/decisions/nobody", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "decision-not-found", answer["code"])
}

func TestAReleaseLetsThePlayerInAgain(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	id := denied(t, c)
	require.Equal(t, http.StatusForbidden, c.send("1", "eve"))
	status, _ := c.ask(signing.Admin, http.MethodPost, "/v1/operations/rejected/"+id+"/release", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, http.StatusAccepted, c.send("1", "eve"))
}

func TestAnOperatorDecidesACase(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("fairness", acceptedBody(t, xpText("a", "eve", 101)), acceptedBody(t, xpText("b", "eve", 102))))
	list := c.read("/v1/operations/cases?state=open&player=eve")["cases"].([]any)
	require.Len(t, list, 1)
	found := list[0].(map[string]any)
	target := "/v1/operations/cases/" + found["id"].(string)

	shown := c.read(target)
	require.EqualValues(t, 10, shown["points_now"])
	require.Len(t, shown["decisions"], 2)
	require.Len(t, shown["actions"], 1)
	require.Equal(t, "block", shown["sanctions"].([]any)[0].(map[string]any)["kind"])
	now = noon.Add(time.Minute)
	require.InDelta(t, 10, c.read(target)["points_now"], 0.01)
	require.Less(t, c.read(target)["points_now"], 10.0)

	status, ban := c.order("k1", target+"/ban", `{"reason":"cheats","for":"72h"}`)
	require.Equal(t, http.StatusOK, status, "%v", ban)
	require.Equal(t, "2026-11-25T12:01:00.000Z", ban["until"])
	require.Equal(t, []any{"admin", "ban", "cheats", found["id"]}, []any{ban["actor"], ban["action"], ban["text"], ban["case_id"]})
	now = noon.Add(5 * time.Minute)
	status, again := c.order("k1", target+"/ban", `{"reason":"cheats","for":"72h"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, ban, again)
	status, answer := c.order("k1", target+"/ban", `{"reason":"cheats","for":"73h"}`)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "idempotency-key-reused", answer["code"])
	require.Equal(t, http.StatusForbidden, c.send("1", "eve"))
	shown = c.read(target)
	require.Equal(t, []any{"closed", "admin", 0.0}, []any{shown["state"], shown["ended_by"], shown["points_now"]})
	require.Len(t, shown["actions"], 2)
	require.Len(t, shown["sanctions"], 2)

	status, _ = c.order("k2", target+"/unban", `{"reason":"does not"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, http.StatusForbidden, c.send("1", "eve"), "the block is still there")
	status, _ = c.order("k3", target+"/clear", `{"reason":"does not"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, http.StatusAccepted, c.send("1", "eve"))
	status, _ = c.order("k4", target+"/comment", `{"text":"we were wrong"}`)
	require.Equal(t, http.StatusOK, status)
	status, forever := c.order("k5", target+"/shadow-ban", `{"reason":"or not"}`)
	require.Equal(t, http.StatusOK, status)
	require.Nil(t, forever["until"])
	shown = c.read(target)
	require.Len(t, shown["actions"], 6)
	require.Equal(t, "shadow-ban", shown["sanctions"].([]any)[0].(map[string]any)["kind"])
	require.Equal(t, http.StatusAccepted, c.send("2", "eve"))
	for query, n := range map[string]int{"": 1, "?state=closed": 1, "?state=open": 0, "?state=cleared": 0, "?player=ada": 0} {
		require.Len(t, c.read("/v1/operations/cases" + query)["cases"], n, query)
	}
}

func TestACaseIsOpenedByHand(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	const target = "/v1/operations/cases"
	status, opened := c.order("k", target, `{"player_id":"eve","reason":"reported"}`)
	require.Equal(t, http.StatusOK, status, "%v", opened)
	status, again := c.order("k", target, `{"player_id":"eve","reason":"reported"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, opened, again)
	status, more := c.order("k2", target, `{"player_id":"eve","reason":"again"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, opened["case_id"], more["case_id"])
	require.Len(t, c.read(target)["cases"], 1)
	require.Len(t, c.read(target + "/" + opened["case_id"].(string))["actions"], 2)
}

func TestBadOrders(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	const cases = "/v1/operations/cases"
	_, opened := c.order("k", cases, `{"player_id":"eve","reason":"reported"}`)
	target := cases + "/" + opened["case_id"].(string)
	for _, test := range []struct {
		target, body, code, pointer string
		status                      int
	}{
		{cases, `{"player_id":"no player","reason":"x"}`, "request-invalid", "/player_id", 422},
		{cases, `{"player_id":"eve"}`, "request-invalid", "/reason", 422},
		{cases, `{"player_id":7,"reason":"x"}`, "request-invalid", "/player_id", 422},
		{target + "/ban", `{"reason":" "}`, "request-invalid", "/reason", 422},
		{target + "/ban", `{"reason":"x","for":"long"}`, "request-invalid", "/for", 422},
		{target + "/ban", `{"reason":"x","for":"-1h"}`, "request-invalid", "/for", 422},
		{target + "/ban", `{"reason":"x","for":"2000000h"}`, "request-invalid", "/for", 422},
		{target + "/ban", `{"reason":"x","until":"tomorrow"}`, "request-invalid", "/until", 422},
		{target + "/ban", `{"reason":"x","until":"2026-11-22T12:00:00Z"}`, "request-invalid", "/until", 422},
		{target + "/shadow-ban", `{"reason":"x","for":"1h","until":"2026-11-23T12:00:00Z"}`, "request-invalid", "/until", 422},
		{target + "/clear", `{"reason":"x","for":"1h"}`, "request-invalid", "/for", 422},
		{target + "/comment", `{"text":""}`, "request-invalid", "/text", 422},
		{target + "/comment", `{"text":"` + strings.Repeat("x", 1001) + `"}`, "request-invalid", "/text", 422},
		{target + "/unban", ``, "malformed-json", "", 400},
		{target + "/unban", `{"reason":"x"`, "malformed-json", "", 400},
		{cases + "/nobody/ban", `{"reason":"x"}`, "case-not-found", "", 404},
	} {
		status, answer := c.order("bad", test.target, test.body)
		require.Equal(t, test.status, status, "%s %s: %v", test.target, test.body, answer)
		require.Equal(t, test.code, answer["code"])
		if test.pointer != "" {
			require.Equal(t, test.pointer, answer["errors"].([]any)[0].(map[string]any)["pointer"])
		}
	}
	status, answer := c.order("", target+"/ban", `{"reason":"x"}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "idempotency-key-missing", answer["code"])
	shown := c.read(target)
	require.Len(t, shown["actions"], 1)
	require.Empty(t, shown["sanctions"])
	for _, query := range []string{"?state=shut", "?player=no+player", "?limit=0", "?cursor=x"} {
		status, _ := c.ask(signing.Admin, http.MethodGet, cases+query, "")
		require.Equal(t, http.StatusBadRequest, status, query)
	}
}

// While Redis or the database is away an order is 503, and its repeat is done.
func TestAnOrderWhileADependencyIsDown(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	_, opened := c.order("k", "/v1/operations/cases", `{"player_id":"eve","reason":"reported"}`)
	target := fmt.Sprint("/v1/operations/cases/", opened["case_id"], "/ban")
	e.redis.SetError("LOADING down")
	status, answer := c.order("b", target, `{"reason":"x"}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "redis-unavailable", answer["code"])
	e.redis.SetError("")
	status, _ = c.order("b", target, `{"reason":"x"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, http.StatusForbidden, c.send("1", "eve"))
	require.NoError(t, c.app.db.Close())
	status, answer = c.order("c", target, `{"reason":"x"}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "database-unavailable", answer["code"])
}

// A ban acts on the next request and on every read, a shadow-ban on what everybody else reads, both at once; when they are over, the
// next tick shows the player again.
func TestSanctionsActAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("progression",
		acceptedBody(t, scoreText("s", "eve", "open-board", 9)), acceptedBody(t, scoreText("s", "ada", "open-board", 5))))
	_, opened := c.order("k", "/v1/operations/cases", `{"player_id":"eve","reason":"reported"}`)
	target := "/v1/operations/cases/" + opened["case_id"].(string)
	const board = "/v1/leaderboards/open-board"
	ranked := func(class signing.Class, path string) (players []any) {
		t.Helper()
		status, answer := c.ask(class, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, "%v", answer)
		for _, entry := range answer["entries"].([]any) {
			players = append(players, entry.(map[string]any)["player_id"])
		}
		return players
	}
	status := func(class signing.Class, path string) int {
		t.Helper()
		status, _ := c.ask(class, http.MethodGet, path, "")
		return status
	}
	require.Equal(t, []any{"eve", "ada"}, ranked("", board))

	code, _ := c.order("k1", target+"/shadow-ban", `{"reason":"odd","for":"4m"}`)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, []any{"ada"}, ranked("", board))
	require.Equal(t, http.StatusNotFound, status(signing.Server, board+"/players/eve"))
	require.Equal(t, []any{"eve", "ada"}, ranked(signing.Client, board+"?viewer=eve"))
	require.Equal(t, http.StatusOK, status(signing.Client, "/v1/players/eve"))
	require.Equal(t, http.StatusAccepted, c.send("1", "eve"), "he is to notice nothing")
	now = noon.Add(4 * time.Minute)
	_, err := c.app.archive.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, []any{"eve", "ada"}, ranked("", board))

	code, _ = c.order("k2", target+"/ban", `{"reason":"sold the account"}`)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, http.StatusForbidden, c.send("2", "eve"))
	require.Equal(t, []any{"ada"}, ranked("", board))
	for _, path := range []string{"/v1/players/eve", board + "/players/eve", board + "/players/eve/around", "/v1/receipts/eve/s"} {
		require.Equal(t, http.StatusForbidden, status(signing.Client, path), path)
	}
	require.Equal(t, http.StatusOK, status(signing.Server, "/v1/players/eve"))
	code, _ = c.order("k3", target+"/unban", `{"reason":"he did not"}`)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, http.StatusAccepted, c.send("2", "eve"))
	require.Equal(t, http.StatusOK, status(signing.Client, "/v1/players/eve"))
	require.Equal(t, []any{"eve", "ada"}, ranked("", board))
}
