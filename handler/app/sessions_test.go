package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/session"
	"liveops/core/signing"
)

// as asks with a key, at an instant, under an idempotency key unless that is empty.
func (c *client) as(k signing.Key, at time.Time, idempotency, method, target, body string) *httptest.ResponseRecorder {
	c.t.Helper()
	r := requestAt(c.t, at, "", method, target, []byte(body))
	r.Header.Del("Idempotency-Key")
	if idempotency != "" {
		r.Header.Set("Idempotency-Key", idempotency)
	}
	require.NoError(c.t, signing.SignHTTP(r, k, []byte(body), at, signing.NewNonce()))
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

// refused says that a read or an event of ada's with a key is refused with a code, or with an empty one that it is not.
func (c *client) refused(k signing.Key, at time.Time, code string) {
	c.t.Helper()
	read := c.as(k, at, "", http.MethodGet, "/v1/leaderboards", "")
	sent := c.as(k, at, signing.NewNonce(), http.MethodPost, "/v1/events", xpText(signing.NewNonce(), "ada", 1))
	if code == "" {
		require.Equal(c.t, http.StatusOK, read.Code, "%s", read.Body)
		require.Equal(c.t, http.StatusAccepted, sent.Code, "%s", sent.Body)
		return
	}
	status := http.StatusUnauthorized
	if code == string(fault.PlayerBlocked) {
		status = http.StatusForbidden
	}
	for _, w := range []*httptest.ResponseRecorder{read, sent} {
		require.Equal(c.t, code, codeOf(c.t, w))
		require.Equal(c.t, status, w.Code)
	}
}

func codeOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var problem struct {
		Code string `json:"code"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem), "%s", w.Body)
	return problem.Code
}

// mint gives the key of a session, as a client signs with it, and what was answered.
func (c *client) mint(at time.Time, idempotency, body string) (signing.Key, minted) {
	c.t.Helper()
	w := c.as(key(signing.Server), at, idempotency, http.MethodPost, "/v1/keys/session", body)
	require.Equal(c.t, http.StatusOK, w.Code, "%s", w.Body)
	require.Equal(c.t, "no-store", w.Header().Get("Cache-Control"))
	var m minted
	require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &m))
	return signing.Key{ID: m.KeyID, Class: signing.Session, Secrets: []signing.Secret{signing.Secret(m.Secret)}}, m
}

func (c *client) revoke(class signing.Class, at time.Time, idempotency, player string) map[string]any {
	c.t.Helper()
	w := c.as(key(class), at, idempotency, http.MethodPost, "/v1/keys/session/revoke", fmt.Sprintf(`{"player_id":%q,"reason":"stolen"}`, player))
	require.Equal(c.t, http.StatusOK, w.Code, "%s", w.Body)
	answer := map[string]any{}
	require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &answer))
	return answer
}

func TestASessionIsMinted(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	k, first := c.mint(noon, "a", `{"player_id":"ada","session_id":"s-1","expires_in":60}`)
	require.Equal(t, minted{
		ExpiresAt: "2026-11-22T12:01:00.000Z", KeyID: fmt.Sprintf("ses.ada.s-1.%d.0", noon.Add(time.Minute).Unix()),
		PlayerID: "ada", SessionID: "s-1", Secret: first.Secret,
	}, first)
	c.refused(k, noon, "")

	// A repeat, later, gives the same key; another body under the same key does not.
	_, again := c.mint(noon.Add(time.Second), "a", `{"player_id":"ada","session_id":"s-1","expires_in":60}`)
	require.Equal(t, first, again)
	w := c.as(key(signing.Server), noon, "a", http.MethodPost, "/v1/keys/session", `{"player_id":"ada"}`)
	require.Equal(t, "idempotency-key-reused", codeOf(t, w))
	_, byDefault := c.mint(noon, "b", `{"player_id":"ada"}`)
	require.Equal(t, "2026-11-22T13:00:00.000Z", byDefault.ExpiresAt)
	require.True(t, event.ValidID(byDefault.SessionID))
	_, again = c.mint(noon, "b", `{"player_id":"ada"}`)
	require.Equal(t, byDefault, again)

	// The secret is nowhere but in the answer.
	require.Len(t, first.Secret, 43)
	require.NotContains(t, e.redis.Dump(), first.Secret)
	require.Contains(t, e.redis.Dump(), first.KeyID)
	require.NotContains(t, e.log.String(), first.Secret)

	for body, problem := range map[string]string{
		`{"player_id":"a.b"}`: "/player_id", `{}`: "/player_id", `{"player_id":"ada","session_id":"a.b"}`: "/session_id",
		`{"player_id":"ada","expires_in":59}`: "/expires_in", `{"player_id":"ada","expires_in":86401}`: "/expires_in",
		`{"player_id":"ada","generation":1}`: "/generation", `{"player_id":"ada","expires_in":"60"}`: "/expires_in",
	} {
		w := c.as(key(signing.Server), noon, "c", http.MethodPost, "/v1/keys/session", body)
		require.Equal(t, http.StatusUnprocessableEntity, w.Code, "%s: %s", body, w.Body)
		require.Contains(t, w.Body.String(), problem)
	}
	require.Equal(t, "idempotency-key-missing", codeOf(t, c.as(key(signing.Server), noon, "", http.MethodPost, "/v1/keys/session", `{"player_id":"ada"}`)))
	require.Equal(t, "key-out-of-scope", codeOf(t, c.as(k, noon, "d", http.MethodPost, "/v1/keys/session", `{"player_id":"ada"}`)))
	require.Equal(t, "key-out-of-scope", codeOf(t, c.as(k, noon, "d", http.MethodPost, "/v1/keys/session/revoke", `{"player_id":"ada"}`)))
}

func TestASessionSpeaksForItsPlayer(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, xpText("x", "ada", 1)), acceptedBody(t, xpText("x", "bob", 2)),
		acceptedBody(t, scoreText("s", "ada", "shut-board", 5)), acceptedBody(t, scoreText("s", "bob", "shut-board", 7))))
	ada := key(signing.Session)
	for target, want := range map[string]string{
		"/v1/players/ada": "", "/v1/players/bob": "key-out-of-scope", "/v1/players/ada/events/x": "", "/v1/players/bob/events/x": "key-out-of-scope",
		"/v1/players/ada/mailbox": "", "/v1/players/bob/mailbox": "key-out-of-scope", "/v1/receipts/ada/x": "", "/v1/receipts/bob/x": "key-out-of-scope",
		"/v1/players/%61da": "", "/v1/players/ADA": "key-out-of-scope", "/v1/players/a%2Fb": "key-out-of-scope",
		"/v1/leaderboards/shut-board/players/bob": "", "/v1/leaderboards/shut-board/players/bob/around": "", "/v1/leaderboards/shut-board/players?id=bob": "",
		"/v1/leaderboards/shut-board?viewer=ada": "", "/v1/leaderboards/shut-board?viewer=bob": "key-out-of-scope",
		"/v1/leaderboards/open-board?viewer=bob": "key-out-of-scope", "/v1/leaderboards/shut-board/players/ada?viewer=bob": "key-out-of-scope",
		"/v1/leaderboards/shut-board?limit=101": "malformed-request",
	} {
		w := c.as(ada, noon, "", http.MethodGet, target, "")
		require.Equal(t, want, codeOf(t, w), "%s: %s", target, w.Body)
	}
	for target, want := range map[string]string{
		"/v1/players/ada/mailbox/m/claim": "mail-not-found", "/v1/players/bob/mailbox/m/claim": "key-out-of-scope",
	} {
		require.Equal(t, want, codeOf(t, c.as(ada, noon, "k", http.MethodPost, target, "")), target)
	}

	// His events are taken at the time they come, whatever they say.
	w := c.as(ada, noon.Add(time.Minute), "one", http.MethodPost, "/v1/events", strings.Replace(xpText("a", "ada", 1), "2026-11-22T12", "2026-11-22T10", 1))
	require.Equal(t, http.StatusAccepted, w.Code)
	queued, err := e.bus.Receive(t.Context(), "events", 10)
	require.NoError(t, err)
	require.Len(t, queued, 1)
	sent, err := event.DecodeAccepted(queued[0].Body)
	require.NoError(t, err)
	require.Equal(t, noon, sent.At)
	require.Equal(t, ada.ID, sent.KeyID)

	w = c.as(ada, noon, "two", http.MethodPost, "/v1/events", xpText("b", "bob", 1))
	require.Equal(t, http.StatusForbidden, w.Code)
	require.Equal(t, "key-out-of-scope", codeOf(t, w))
	batch := func(idempotency string, events ...string) (int, map[string]any) {
		w := c.as(ada, noon, idempotency, http.MethodPost, "/v1/events/batch", `{"events":[`+strings.Join(events, ",")+`]}`)
		answer := map[string]any{}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		return w.Code, answer
	}
	rejected := func(id string) map[string]any {
		return map[string]any{
			"event_id": id, "status": "rejected", "code": "key-out-of-scope",
			"errors": []any{map[string]any{"pointer": "/player_id", "code": "key-out-of-scope"}},
		}
	}
	status, answer := batch("three", xpText("c", "bob", 1), xpText("d", "ada", 1), xpText("e", "cy", 1), xpText("c", "ada", 1))
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, []any{
		rejected("c"), map[string]any{"event_id": "d", "status": "accepted"}, rejected("e"), map[string]any{"event_id": "c", "status": "accepted"},
	}, answer["results"])
	status, answer = batch("four", xpText("c", "bob", 1), xpText("c", "cy", 1))
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "no-event-accepted", answer["code"])
	for _, result := range answer["results"].([]any) {
		require.Subset(t, result, rejected("c"))
	}
	status, answer = batch("five", `{"player_id":"ada"}`)
	require.Equal(t, http.StatusUnprocessableEntity, status, answer)
	require.False(t, e.redis.Exists("gate:{bob}:rate"), "nobody else is charged")
}

func TestASessionExpires(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	k, _ := c.mint(now, "a", `{"player_id":"ada","expires_in":60}`)
	now = noon.Add(time.Minute - time.Millisecond)
	c.refused(k, now, "")
	now = noon.Add(time.Minute)
	c.refused(k, now, "session-expired")
	// To who has not its secret it is a key like any other.
	k.Secrets = []signing.Secret{signing.Secret(secret("guess"))}
	c.refused(k, now, "signature-mismatch")
	_, later := c.mint(now, "b", `{"player_id":"ada","expires_in":60}`)
	require.Equal(t, "2026-11-22T12:02:00.000Z", later.ExpiresAt)
}

// Whoever holds the secret of a key can make no other of it.
func TestForgedSessions(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	k, _ := c.mint(noon, "a", `{"player_id":"ada","session_id":"s"}`)
	good, ok := signing.ParseSessionID(k.ID)
	require.True(t, ok)
	for _, change := range []func(*signing.SessionID){
		func(s *signing.SessionID) { s.Player = "bob" },
		func(s *signing.SessionID) { s.Session = "t" },
		func(s *signing.SessionID) { s.Expires = s.Expires.Add(time.Hour) },
		func(s *signing.SessionID) { s.Generation++ },
	} {
		forged := good
		change(&forged)
		k.ID = forged.KeyID()
		c.refused(k, noon, "signature-mismatch")
	}
	for _, id := range []string{"ses.", "ses.ada", "ses.ada.s.01795352400.0", strings.TrimSuffix(good.KeyID(), ".0")} {
		k.ID = id
		c.refused(k, noon, "key-unknown")
	}
}

// Revoked keys are out at once, on every replica, whatever Redis loses.
func TestSessionsAreRevoked(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c, replica := e.running(t), e.running(t)
	everywhere := func(k signing.Key, code string) {
		t.Helper()
		for _, c := range []*client{c, replica} {
			c.refused(k, now, code)
		}
	}
	old, _ := c.mint(noon, "a", `{"player_id":"ada","expires_in":86400}`)
	bob, _ := c.mint(noon, "a", `{"player_id":"bob"}`)
	everywhere(old, "")

	first := c.revoke(signing.Server, noon, "r1", "ada")
	require.Equal(t, map[string]any{
		"player_id": "ada", "generation": 1.0, "revoked_at": "2026-11-22T12:00:00.000Z", "actor": "server", "reason": "stolen",
	}, first)
	everywhere(old, "session-revoked")
	renewed, m := replica.mint(noon, "b", `{"player_id":"ada"}`)
	require.True(t, strings.HasSuffix(m.KeyID, ".1"), m.KeyID)
	everywhere(renewed, "")
	require.Equal(t, http.StatusOK, c.as(bob, noon, "", http.MethodGet, "/v1/leaderboards", "").Code)

	now = noon.Add(10 * time.Minute)
	require.Equal(t, first, replica.revoke(signing.Server, now, "r1", "ada"), "a repeat ends no other generation")
	everywhere(renewed, "")

	e.redis.FlushAll()
	everywhere(old, "session-revoked")
	everywhere(renewed, "")
	require.Equal(t, http.StatusOK, c.invoke("archive"), "what comes back is kept")
	everywhere(old, "session-revoked")

	require.EqualValues(t, 2, c.revoke(signing.Admin, now, "r1", "ada")["generation"])
	everywhere(renewed, "session-revoked")

	// While Redis is away, reads ask SQL, and nothing is written.
	e.redis.SetError("LOADING gone")
	require.Equal(t, "session-revoked", codeOf(t, c.as(renewed, now, "", http.MethodGet, "/v1/leaderboards", "")))
	latest := sessionKey(secret("session"), signing.SessionID{Player: "ada", Session: "x", Expires: now.Add(time.Minute), Generation: 2})
	require.Equal(t, http.StatusOK, c.as(latest, now, "", http.MethodGet, "/v1/leaderboards", "").Code)
	require.Equal(t, "redis-unavailable", codeOf(t, c.as(latest, now, "x", http.MethodPost, "/v1/events", xpText("x", "ada", 1))))
	require.Equal(t, "redis-unavailable", codeOf(t, c.as(key(signing.Server), now, "x", http.MethodPost, "/v1/keys/session", `{"player_id":"ada"}`)))
}

// A revocation that was cut between SQL and the gate is finished by a repeat, and by the next tick.
func TestARevocationIsCut(t *testing.T) {
	t.Parallel()
	for name, finish := range map[string]func(c *client){
		"repeat": func(c *client) { c.revoke(signing.Server, noon, "r", "ada") },
		"tick":   func(c *client) { require.Equal(c.t, http.StatusOK, c.invoke("archive")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newEnvironment(t).running(t)
			k, _ := c.mint(noon, "a", `{"player_id":"ada"}`)
			c.refused(k, noon, "")
			_, err := c.app.sessions.Generations.Revoke(t.Context(), "ada", session.Order{Actor: "server", Key: "r", Reason: "stolen"})
			require.NoError(t, err)
			c.refused(k, noon, "")
			finish(c)
			c.refused(k, noon, "session-revoked")
		})
	}
}

// A banned player's session does nothing at all, and he gets no other.
func TestABannedPlayersSession(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	k, _ := c.mint(noon, "a", `{"player_id":"ada"}`)
	order := fairness.Order{Actor: "ops", Key: "1", Kind: fairness.ActionOpen, Text: "sold the account"}
	opened, err := c.app.cases.Open(t.Context(), "ada", order)
	require.NoError(t, err)
	order.Kind = fairness.ActionBan
	_, err = c.app.cases.Act(t.Context(), opened.CaseID, order)
	require.NoError(t, err)
	c.refused(k, noon, "player-blocked")
	require.Equal(t, "player-blocked", codeOf(t, c.as(k, noon, "", http.MethodGet, "/v1/leaderboards/open-board/players/bob", "")))
	require.Equal(t, "player-blocked", codeOf(t, c.as(key(signing.Server), noon, "b", http.MethodPost, "/v1/keys/session", `{"player_id":"ada"}`)))
	e.redis.SetError("LOADING gone")
	require.Equal(t, "player-blocked", codeOf(t, c.as(k, noon, "", http.MethodGet, "/v1/leaderboards", "")))
}

// SESSION_SECRET is changed while the application runs: put first, the new one derives, and the old one ends with its place in the list.
func TestSessionSecretsAreRotated(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	old, first := c.mint(noon, "a", `{"player_id":"ada"}`)
	set := func(text string) {
		e.settings["SESSION_SECRET"] = text
		c.app.reloadKeys(e.getenv)
	}
	set(secret("new") + "," + secret("session"))
	c.refused(old, noon, "")
	renewed, _ := c.mint(noon, "b", `{"player_id":"ada"}`)
	require.Equal(t, renewed.ID, sessionKey(secret("new"), idOf(t, renewed)).ID)
	require.Equal(t, sessionKey(secret("new"), idOf(t, renewed)).Secrets, renewed.Secrets)
	c.refused(renewed, noon, "")
	again, second := c.mint(noon, "a", `{"player_id":"ada"}`)
	require.Equal(t, first.KeyID, second.KeyID)
	c.refused(again, noon, "")
	set("hush-too-short")
	c.refused(old, noon, "")
	set(secret("new"))
	c.refused(old, noon, "signature-mismatch")
	c.refused(renewed, noon, "")
	c.refused(again, noon, "")
}

func idOf(t *testing.T, k signing.Key) signing.SessionID {
	t.Helper()
	s, ok := signing.ParseSessionID(k.ID)
	require.True(t, ok)
	return s
}

func TestSessionsKeepToTheirRate(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.play(t, game+"fairness: {keys: {session: {events: 2, per: 30s}}}\n")
	c := e.running(t)
	k, _ := c.mint(noon, "a", `{"player_id":"ada"}`)
	other, _ := c.mint(noon, "b", `{"player_id":"ada"}`)
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		w := c.as(k, noon, "", http.MethodGet, "/v1/leaderboards", "")
		require.Equal(t, want, w.Code, "%d: %s", i, w.Body)
		require.Equal(t, `"key";q=2;w=30`, w.Header().Get("RateLimit-Policy"))
	}
	require.Equal(t, http.StatusOK, c.as(other, noon, "", http.MethodGet, "/v1/leaderboards", "").Code)
}
