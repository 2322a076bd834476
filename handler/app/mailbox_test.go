package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/progression"
	"liveops/core/season"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// mailGame is game with something to bring, and mails that wait for two minutes.
const mailGame = game + `
items: {gem: {stack: 10}}
rewards: {claim: 2m, levels: {2: {items: {gem: 1}}}}
`

// mailed is a running application in which ada and eve have a mail of a day of open-board each, and the id of both.
func mailed(t *testing.T, e *environment) (c *client, id string) {
	t.Helper()
	e.play(t, mailGame)
	c = e.running(t)
	for i, day := range []string{"2026-11-20", "2026-11-21"} {
		won := catalog.Tier{Percent: 100, XP: int64(60 * (i + 1)), Items: map[string]int64{"gem": 10}, Claim: true}
		header := season.Header{Window: season.Window{Board: "open-board", ID: day, Cadence: season.Daily, State: season.Archived}}
		require.NoError(t, c.app.rewards.Grant(t.Context(), header, []season.Win{
			{Standing: season.Standing{Rank: 1, TiedRank: 1, Player: "ada"}, Tier: won},
			{Standing: season.Standing{Rank: 2, TiedRank: 1, Player: "eve"}, Tier: won},
		}))
	}
	return c, progression.RewardID("open-board", "2026-11-21")
}

func claimPath(player, id string) string {
	return "/v1/players/" + player + "/mailbox/" + id + "/claim"
}

// post sends a request without a body under an idempotency key.
func (c *client) post(class signing.Class, target, idempotency string) *httptest.ResponseRecorder {
	c.t.Helper()
	r := request(c.t, "", http.MethodPost, target, nil)
	r.Header.Set("Idempotency-Key", idempotency)
	if idempotency == "" {
		r.Header.Del("Idempotency-Key")
	}
	require.NoError(c.t, signing.SignHTTP(r, key(class), nil, noon, signing.NewNonce()))
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

func said(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	answer := map[string]any{}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), "%s", w.Body)
	return answer
}

func TestAMailboxIsReadAndEmptied(t *testing.T) {
	t.Parallel()
	c, id := mailed(t, newEnvironment(t))
	status, list := c.ask(signing.Client, http.MethodGet, "/v1/players/ada/mailbox", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ada", list["player_id"])
	require.Empty(t, list["next"])
	require.Len(t, list["mails"], 2)
	var shown map[string]any
	for _, m := range list["mails"].([]any) {
		if m := m.(map[string]any); m["mail_id"] == id {
			shown = m
		}
	}
	require.Equal(t, map[string]any{
		"mail_id": id, "state": "waiting", "sent_at": "2026-11-22T12:00:00.000Z", "expires_at": "2026-11-22T12:02:00.000Z", "claimed_at": nil,
		"source": "window", "board": "open-board", "window": "2026-11-21", "rank": 1.0, "tied_rank": 1.0, "xp": 120.0,
		"withdrawn_at": nil, "event_id": nil, "ref": nil,
		"items": []any{map[string]any{"item": "gem", "quantity": 10.0}},
	}, shown)
	status, answer := c.ask(signing.Client, http.MethodGet, "/v1/players/ada", "")
	require.Equal(t, http.StatusNotFound, status, "%v", answer)

	first := c.post(signing.Client, claimPath("ada", id), "k1")
	require.Equal(t, http.StatusOK, first.Code, "%s", first.Body)
	claimed := said(t, first)
	receipt := claimed["receipt"].(string)
	require.Equal(t, map[string]any{
		"player_id": "ada", "mail_id": id, "state": "claimed", "claimed_at": "2026-11-22T12:00:00.000Z", "xp": 120.0,
		"grants":  []any{map[string]any{"kind": "item:gem", "item": "gem", "quantity": 10.0}},
		"notes":   []any{map[string]any{"code": "stack-full", "ref": "level:2:item:gem", "amount": 1.0}},
		"receipt": receipt,
	}, claimed)

	// Under the same key the gate repeats the answer; under another one, of another sender, it is worked out again.
	repeat := c.post(signing.Client, claimPath("ada", id), "k1")
	require.Equal(t, "true", repeat.Header().Get("Idempotent-Replayed"))
	require.Equal(t, "application/json", repeat.Header().Get("Content-Type"))
	again := c.post(signing.Server, claimPath("ada", id), "k2")
	require.Empty(t, again.Header().Get("Idempotent-Replayed"))
	for _, w := range []*httptest.ResponseRecorder{repeat, again} {
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, first.Body.String(), w.Body.String())
	}

	// Whatever is read by the id of an event is read by the mail's.
	status, answer = c.ask(signing.Client, http.MethodGet, "/v1/players/ada", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []any{120.0, 2.0}, []any{answer["xp"], answer["level"]})
	status, answer = c.ask(signing.Client, http.MethodGet, "/v1/receipts/ada/"+id, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, receipt, answer["receipt"])
	status, answer = c.ask(signing.Client, http.MethodGet, "/v1/players/ada/events/"+id, "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer["entries"], 2)
	require.Equal(t, "reward_granted", answer["entries"].([]any)[0].(map[string]any)["event_type"])
	status, answer = c.ask(signing.Client, http.MethodPost, "/v1/receipts/verify", `{"receipt":"`+receipt+`"}`)
	require.Equal(t, http.StatusOK, status)
	claims := answer["claims"].(map[string]any)
	require.Equal(t, []any{true, "reward_granted", "open-board", "2026-11-21", 1.0, id},
		[]any{answer["valid"], claims["type"], claims["board"], claims["window"], claims["rank"], claims["event_id"]})

	for query, n := range map[string]int{"": 2, "?state=waiting": 1, "?state=claimed": 1, "?state=expired": 0} {
		status, list = c.ask(signing.Server, http.MethodGet, "/v1/players/ada/mailbox"+query, "")
		require.Equal(t, http.StatusOK, status)
		require.Len(t, list["mails"], n, query)
	}
	status, list = c.ask(signing.Server, http.MethodGet, "/v1/players/ada/mailbox?state=claimed", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "2026-11-22T12:00:00.000Z", list["mails"].([]any)[0].(map[string]any)["claimed_at"])
	status, list = c.ask(signing.Server, http.MethodGet, "/v1/players/nobody/mailbox", "")
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, list["mails"])

	status, page := c.ask(signing.Server, http.MethodGet, "/v1/players/ada/mailbox?limit=1", "")
	require.Equal(t, http.StatusOK, status)
	status, rest := c.ask(signing.Server, http.MethodGet, "/v1/players/ada/mailbox?limit=1&cursor="+page["next"].(string), "")
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, rest["next"])
	status, list = c.ask(signing.Server, http.MethodGet, "/v1/players/ada/mailbox", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, list["mails"], append(page["mails"].([]any), rest["mails"].([]any)...))
}

func TestAMailboxRefuses(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := atomic.Pointer[time.Time]{}
	now.Store(&noon)
	e.clock = func() time.Time { return *now.Load() }
	c, id := mailed(t, e)
	refused := func(w *httptest.ResponseRecorder, status int, code fault.Code) {
		t.Helper()
		require.Equal(t, status, w.Code, "%s", w.Body)
		require.Equal(t, string(code), said(t, w)["code"])
	}
	for query, code := range map[string]fault.Code{
		"state=open": fault.MalformedRequest, "limit=0": fault.MalformedRequest, "limit=101": fault.MalformedRequest, "cursor=x": fault.MalformedCursor,
	} {
		status, answer := c.ask(signing.Client, http.MethodGet, "/v1/players/ada/mailbox?"+query, "")
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Equal(t, string(code), answer["code"])
	}
	refused(c.post(signing.Client, claimPath("ada", id), ""), 400, fault.IdempotencyMissing)
	for _, nobody := range []string{"x", id + "x", "%FF", strings.ToUpper(id)} {
		refused(c.post(signing.Client, claimPath("ada", nobody), "k-"+strings.Trim(nobody, "%")), 404, fault.MailNotFound)
	}
	refused(c.post(signing.Client, claimPath("bob", id), "k"), 404, fault.MailNotFound)
	refused(c.post(signing.Client, claimPath("a.b", id), "k"), 404, fault.PlayerNotFound)

	// Blocked, by the rules or by an operator, whoever asks for him. What was refused is done when the block is over.
	require.NoError(t, c.app.gate.Block(t.Context(), "eve", gate.Block{Reason: "impossible-value", Until: noon.Add(time.Minute)}))
	refused(c.post(signing.Client, claimPath("eve", id), "k"), 403, fault.PlayerBlocked)
	require.NoError(t, c.app.gate.Block(t.Context(), "eve", gate.Block{Reason: "sold", Until: noon.Add(time.Minute), Ban: true}))
	refused(c.post(signing.Server, claimPath("eve", id), "k"), 403, fault.PlayerBlocked)
	soon := noon.Add(time.Minute)
	now.Store(&soon)
	require.Equal(t, http.StatusOK, c.post(signing.Client, claimPath("eve", id), "k").Code)

	late := noon.Add(2 * time.Minute)
	now.Store(&late)
	refused(c.post(signing.Client, claimPath("ada", id), "late"), 410, fault.MailExpired)
	status, list := c.ask(signing.Client, http.MethodGet, "/v1/players/ada/mailbox?state=expired", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, list["mails"], 2)
	require.Equal(t, http.StatusOK, c.post(signing.Client, claimPath("eve", id), "later").Code, "claimed is claimed")
	other := progression.RewardID("open-board", "2026-11-20")
	refused(c.post(signing.Client, claimPath("eve", other), "later"), 422, fault.IdempotencyReused)
	status, answer := c.ask(signing.Client, http.MethodGet, "/v1/players/ada", "")
	require.Equal(t, http.StatusNotFound, status, "%v", answer)
}

// A reward comes from here only. Whoever knows its id can neither send it nor use it up.
func TestARewardIsNotSent(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c, id := mailed(t, e)
	for _, class := range []signing.Class{signing.Server, signing.Client} {
		for _, text := range []string{
			fmt.Sprintf(`{"event_id":"mine","type":"reward_granted","player_id":"ada","occurred_at":%q,"data":{"xp":120}}`, noon.Format(time.RFC3339)),
			fmt.Sprintf(`{"event_id":%q,"type":"reward_granted","player_id":"ada","occurred_at":%q,"data":{"xp":120}}`, id, noon.Format(time.RFC3339)),
			xpText(id, "ada", 1),
		} {
			status, answer := c.ask(class, http.MethodPost, "/v1/events", text)
			require.Equal(t, http.StatusUnprocessableEntity, status, "%v", answer)
			require.Equal(t, "event-invalid", answer["code"])
		}
	}
	forged, err := progression.Reward{XP: 120}.Event("mine", "ada", noon).Encode()
	require.NoError(t, err)
	for _, stage := range []string{"fairness", "progression"} {
		require.Equal(t, http.StatusOK, c.invoke(stage, forged))
		status, answer := c.ask(signing.Admin, http.MethodGet, "/v1/operations/rejected?stage="+stage, "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "message-invalid", answer["rejected"].([]any)[0].(map[string]any)["code"])
	}
	entries, err := c.app.ledger.Entries(t.Context(), "ada", "mine")
	require.NoError(t, err)
	require.Empty(t, entries)
	require.False(t, event.ValidID(id))
	require.Equal(t, http.StatusOK, c.post(signing.Client, claimPath("ada", id), "k").Code)
}

// Many requests for one mail, some under the same key: one effect, and one answer for all that get one.
func TestManyRequestsClaimOneMail(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, sql, cache string) {
		e := newEnvironment(t)
		if sql != "" {
			e.settings["DB_URL"], e.settings["REDIS_URL"] = sql, cache
			db, err := store.Open(sql)
			require.NoError(t, err)
			_, err = db.Migrate(t.Context())
			require.NoError(t, err)
			require.NoError(t, db.Close())
		}
		c, id := mailed(t, e)
		answers := make([]*httptest.ResponseRecorder, 10)
		var asking sync.WaitGroup
		for i := range answers {
			asking.Go(func() { answers[i] = c.post(signing.Client, claimPath("ada", id), fmt.Sprint("k", i/2)) })
		}
		asking.Wait()
		var body string
		for _, w := range answers {
			if w.Code == http.StatusConflict {
				require.Equal(t, "idempotency-in-flight", said(t, w)["code"])
				continue
			}
			require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
			if body == "" {
				body = w.Body.String()
			}
			require.Equal(t, body, w.Body.String())
		}
		require.NotEmpty(t, body)
		state, err := c.app.ledger.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.Equal(t, []any{int64(120), []progression.Holding{{Item: "gem", Quantity: 10}}}, []any{state.XP, state.Items})
	})
}

func TestAClaimWhileADependencyIsDown(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c, id := mailed(t, e)
	e.redis.SetError("LOADING gone")
	w := c.post(signing.Client, claimPath("ada", id), "k")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "redis-unavailable", said(t, w)["code"])
	status, _ := c.ask(signing.Client, http.MethodGet, "/v1/players/ada/mailbox", "")
	require.Equal(t, http.StatusOK, status, "SQL answers reads")
	e.redis.SetError("")

	// The program dies between the commit and the answer: whoever asks again is answered from the record.
	before, err := c.app.rewards.Claim(t.Context(), "ada", id)
	require.NoError(t, err)
	w = c.post(signing.Client, claimPath("ada", id), "k")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, before.Receipt, said(t, w)["receipt"])

	require.NoError(t, c.app.db.Close())
	w = c.post(signing.Client, claimPath("eve", id), "k")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "database-unavailable", said(t, w)["code"])
	require.Equal(t, http.StatusServiceUnavailable, c.post(signing.Client, claimPath("eve", id), "k").Code, "a fault is not kept, nor is the lease")
}

func TestClaimsKeepToTheRateOfTheirKey(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c, id := mailed(t, e)
	e.play(t, strings.Replace(mailGame, "version: 1", "version: 2", 1)+"fairness: {keys: {client: {events: 1, per: 30s}}}\n")
	c.app.reloadCatalog(t.Context())
	require.Equal(t, http.StatusOK, c.post(signing.Client, claimPath("ada", id), "k1").Code)
	w := c.post(signing.Client, claimPath("eve", id), "k2")
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, `"key";r=0;t=30`, w.Header().Get("RateLimit"))
	entries, err := c.app.ledger.Entries(t.Context(), "eve", id)
	require.NoError(t, err)
	require.Empty(t, entries)
}
