package stack_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

const good = `{"event_id":"bad-1","type":"xp_gained","player_id":"eve","occurred_at":"2026-11-20T19:59:00Z","data":{"amount":10,"source":"match"}}`

// edit replaces a part of the good event.
func edit(old, replacement string) string { return strings.Replace(good, old, replacement, 1) }

func batchOf(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func without(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Del(name) }
}

// body replaces what is sent after it was signed.
func body(text []byte) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	}
}

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.Bytes()
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, backend{}, "chess", now)
	later := func(d time.Duration) func(*http.Request) {
		return func(r *http.Request) {
			text := []byte(nil)
			if r.Body != nil {
				text, _ = io.ReadAll(r.Body)
				body(text)(r)
			}
			if err := signing.SignHTTP(r, s.Secrets.Key(signing.Server), text, s.clock().Add(d), signing.NewNonce()); err != nil {
				panic(err)
			}
		}
	}
	deep := strings.Repeat(`[`, 11) + strings.Repeat(`]`, 11)
	many := make([]string, 201)
	for i := range many {
		many[i] = fmt.Sprintf(`{"event_id":"m%d","type":"xp_gained","player_id":"eve","occurred_at":"2026-11-20T19:59:00Z","data":{"amount":1,"source":"match"}}`, i)
	}

	cases := []struct {
		name   string
		class  signing.Class // server when empty
		method string        // POST when empty
		path   string        // /v1/events when empty
		body   string
		change func(*http.Request)
		status int
		code   string
	}{
		// Signature.
		{name: "no signature", body: good, change: without("X-Liveops-Signature"), status: 401, code: "signature-header-missing"},
		{name: "no key", body: good, change: without("X-Liveops-Key"), status: 401, code: "signature-header-missing"},
		{name: "no timestamp", body: good, change: without("X-Liveops-Timestamp"), status: 401, code: "signature-header-missing"},
		{name: "no nonce", body: good, change: without("X-Liveops-Nonce"), status: 401, code: "signature-header-missing"},
		{name: "signature of no version", body: good, change: header("X-Liveops-Signature", "abc"), status: 401, code: "signature-header-malformed"},
		{name: "signature not base64url", body: good, change: header("X-Liveops-Signature", "v1=!!!!"), status: 401, code: "signature-header-malformed"},
		{name: "signature too short", body: good, change: header("X-Liveops-Signature", "v1=AAAA"), status: 401, code: "signature-header-malformed"},
		{name: "signature of something else", body: good, change: header("X-Liveops-Signature", "v1="+strings.Repeat("A", 43)), status: 401, code: "signature-mismatch"},
		{name: "key unknown", body: good, change: header("X-Liveops-Key", "nobody"), status: 401, code: "key-unknown"},
		{name: "key of another class", body: good, change: header("X-Liveops-Key", "dev-admin"), status: 401, code: "signature-mismatch"},
		{name: "key id with a space", body: good, change: header("X-Liveops-Key", "dev server"), status: 401, code: "signature-header-malformed"},
		{name: "nonce too short", body: good, change: header("X-Liveops-Nonce", "short"), status: 401, code: "signature-header-malformed"},
		{name: "nonce with a slash", body: good, change: header("X-Liveops-Nonce", "aaaaaaaaaaaaaaaaaaaa/"), status: 401, code: "signature-header-malformed"},
		{name: "another nonce", body: good, change: header("X-Liveops-Nonce", strings.Repeat("n", 20)), status: 401, code: "signature-mismatch"},
		{name: "another body", body: good, change: body([]byte(edit("10", "11"))), status: 401, code: "signature-mismatch"},
		{name: "another query", body: good, change: func(r *http.Request) { r.URL.RawQuery = "a=1" }, status: 401, code: "signature-mismatch"},
		{name: "another path", body: good, change: func(r *http.Request) { r.URL.Path = "/v1/events/batch" }, status: 401, code: "signature-mismatch"},
		{name: "another idempotency key", body: good, change: header("Idempotency-Key", "other"), status: 401, code: "signature-mismatch"},
		{name: "two signature headers", body: good, change: func(r *http.Request) { r.Header.Add("X-Liveops-Signature", "v1=AAAA") }, status: 401, code: "signature-header-malformed"},

		// Clock.
		{name: "timestamp too old", body: good, change: later(-301 * time.Second), status: 401, code: "timestamp-out-of-window"},
		{name: "timestamp too new", body: good, change: later(310 * time.Second), status: 401, code: "timestamp-out-of-window"},
		{name: "timestamp no number", body: good, change: header("X-Liveops-Timestamp", "yesterday"), status: 401, code: "signature-header-malformed"},
		{name: "timestamp in ms", body: good, change: header("X-Liveops-Timestamp", "1795032000000"), status: 401, code: "signature-header-malformed"},

		// Key class.
		{name: "events with an admin key", class: signing.Admin, body: good, status: 403, code: "key-out-of-scope"},
		{name: "player with an admin key", class: signing.Admin, method: "GET", path: "/v1/players/eve", status: 403, code: "key-out-of-scope"},
		{name: "operations with a server key", method: "GET", path: "/v1/operations/rejected", status: 403, code: "key-out-of-scope"},
		{name: "operations with a client key", class: signing.Client, method: "GET", path: "/v1/operations/rejected", status: 403, code: "key-out-of-scope"},

		// Idempotency.
		{name: "no idempotency key", body: good, change: func(r *http.Request) { r.Header.Del("Idempotency-Key"); later(0)(r) }, status: 400, code: "idempotency-key-missing"},
		{name: "idempotency key too long", body: good, change: header("Idempotency-Key", strings.Repeat("k", 256)), status: 400, code: "idempotency-key-invalid"},
		{name: "idempotency key not ASCII", body: good, change: header("Idempotency-Key", "schlüssel"), status: 400, code: "idempotency-key-invalid"},

		// Size.
		{name: "body too large", body: `{"pad":"` + strings.Repeat("x", 512<<10) + `"}`, status: 413, code: "body-too-large"},
		{name: "chunked body too large", body: `{"pad":"` + strings.Repeat("x", 600<<10) + `"}`, change: func(r *http.Request) { r.ContentLength = -1 }, status: 413, code: "body-too-large"},
		{name: "event too large", body: edit(`"match"`, `"`+strings.Repeat("x", 33<<10)+`"`), status: 413, code: "event-too-large"},
		{name: "too many events", path: "/v1/events/batch", body: batchOf(many...), status: 413, code: "too-many-events"},
		{name: "no event", path: "/v1/events/batch", body: `{"events":[]}`, status: 422, code: "event-invalid"},

		// Depth.
		{name: "too deep", body: edit(`"match"`, deep), status: 422, code: "too-deep"},
		{name: "brackets without end", body: strings.Repeat("[", 5000), status: 422, code: "too-deep"},

		// Encoding.
		{name: "empty body", body: "", status: 400, code: "malformed-json"},
		{name: "no JSON", body: "hello", status: 400, code: "malformed-json"},
		{name: "half an event", body: good[:40], status: 400, code: "malformed-json"},
		{name: "two events in one body", body: good + good, status: 400, code: "malformed-json"},
		{name: "not UTF-8", body: edit("match", "\xff\xfe"), status: 400, code: "malformed-json"},
		{name: "duplicate member", body: edit(`"amount":10`, `"amount":10,"amount":9999`), status: 400, code: "duplicate-key"},
		{name: "duplicate envelope member", body: edit(`"type"`, `"player_id":"eva","type"`), status: 400, code: "duplicate-key"},
		{name: "gzip", body: string(zipped(good)), change: header("Content-Encoding", "gzip"), status: 415, code: "unsupported-content-encoding"},
		{name: "gzip unannounced", body: string(zipped(good)), status: 400, code: "malformed-json"},
		{name: "text/plain", body: good, change: header("Content-Type", "text/plain"), status: 415, code: "unsupported-media-type"},
		{name: "no content type", body: good, change: without("Content-Type"), status: 415, code: "unsupported-media-type"},
		{name: "latin1", body: good, change: header("Content-Type", "application/json; charset=latin1"), status: 415, code: "unsupported-media-type"},

		// The envelope.
		{name: "an array", body: "[" + good + "]", status: 422, code: "event-invalid"},
		{name: "null", body: "null", status: 422, code: "event-invalid"},
		{name: "unknown field", body: edit(`"type"`, `"admin":true,"type"`), status: 422, code: "event-invalid"},
		{name: "unknown batch field", path: "/v1/events/batch", body: `{"events":[` + good + `],"force":true}`, status: 422, code: "event-invalid"},
		{name: "no event id", body: edit(`"event_id":"bad-1",`, ``), status: 422, code: "event-invalid"},
		{name: "event id with a dot", body: edit("bad-1", "bad.1"), status: 422, code: "event-invalid"},
		{name: "event id too long", body: edit("bad-1", strings.Repeat("i", 65)), status: 422, code: "event-invalid"},
		{name: "event id a number", body: edit(`"bad-1"`, `17`), status: 422, code: "event-invalid"},
		{name: "no player", body: edit(`"player_id":"eve",`, ``), status: 422, code: "event-invalid"},
		{name: "player with a brace", body: edit("eve", "{eve}"), status: 422, code: "event-invalid"},
		{name: "player too long", body: edit("eve", strings.Repeat("p", 64)), status: 422, code: "event-invalid"},
		{name: "no time", body: edit(`"occurred_at":"2026-11-20T19:59:00Z",`, ``), status: 422, code: "event-invalid"},
		{name: "time not RFC 3339", body: edit("2026-11-20T19:59:00Z", "20.11.2026"), status: 422, code: "event-invalid"},
		{name: "time in the future", body: edit("2026-11-20T19:59:00Z", "2026-11-20T21:00:00Z"), status: 422, code: "occurred-at-in-future"},
		{name: "no data", body: edit(`,"data":{"amount":10,"source":"match"}`, ``), status: 422, code: "event-invalid"},

		// The type and its fields.
		{name: "unknown type", body: edit("xp_gained", "xp_printed"), status: 422, code: "event-invalid"},
		{name: "unknown data field", body: edit(`"amount"`, `"bonus":1,"amount"`), status: 422, code: "event-invalid"},
		{name: "amount missing", body: edit(`"amount":10,`, ``), status: 422, code: "event-invalid"},
		{name: "amount a string", body: edit(`10`, `"10"`), status: 422, code: "event-invalid"},
		{name: "amount a fraction", body: edit(`10`, `10.5`), status: 422, code: "event-invalid"},
		{name: "amount zero", body: edit(`10`, `0`), status: 422, code: "event-invalid"},
		{name: "amount negative", body: edit(`10`, `-10`), status: 422, code: "event-invalid"},
		{name: "amount beyond 2^53", body: edit(`10`, `9007199254740993`), status: 422, code: "event-invalid"},
		{name: "unknown board", body: edit(`xp_gained`, `score_submitted`)[:0] + strings.Replace(edit(`xp_gained`, `score_submitted`), `{"amount":10,"source":"match"}`, `{"board":"nope","score":1}`, 1), status: 422, code: "event-invalid"},
		{name: "unknown boss", body: strings.Replace(edit(`xp_gained`, `boss_killed`), `{"amount":10,"source":"match"}`, `{"boss":"nope"}`, 1), status: 422, code: "event-invalid"},
		{name: "a batch of bad events", path: "/v1/events/batch", body: batchOf(edit("bad-1", "bad.1"), edit(`10`, `0`)), status: 422, code: "no-event-accepted"},

		// Routes.
		{name: "events by GET", method: "GET", status: 405, code: "method-not-allowed"},
		{name: "events by PUT", method: "PUT", body: good, status: 405, code: "method-not-allowed"},
		{name: "player by POST", path: "/v1/players/eve", body: "{}", status: 405, code: "method-not-allowed"},
		{name: "nothing here", path: "/v1/events/nothing", body: good, status: 404, code: "route-not-found"},
		{name: "trailing slash", path: "/v1/events/", body: good, status: 404, code: "route-not-found"},
		{name: "no such player", method: "GET", path: "/v1/players/nobody", status: 404, code: "player-not-found"},
		{name: "no such board", method: "GET", path: "/v1/leaderboards/nope", status: 404, code: "board-not-found"},
		{name: "no such window", method: "GET", path: "/v1/leaderboards/rating?window=2011-01-01", status: 404, code: "window-not-found"},
		{name: "not ranked", method: "GET", path: "/v1/leaderboards/rating/players/nobody", status: 404, code: "not-ranked"},
		{name: "limit too high", method: "GET", path: "/v1/leaderboards/rating?limit=1001", status: 400, code: "malformed-request"},
		{name: "limit too high for a client", class: signing.Client, method: "GET", path: "/v1/leaderboards/rating?limit=101", status: 400, code: "malformed-request"},
		{name: "forged cursor", method: "GET", path: "/v1/leaderboards/rating?cursor=AAAA", status: 400, code: "malformed-cursor"},
		{name: "no such receipt", method: "GET", path: "/v1/receipts/eve/bad-1", status: 404, code: "receipt-not-found"},
		{name: "no such rejected event", class: signing.Admin, method: "GET", path: "/v1/operations/rejected/nope", status: 404, code: "rejected-not-found"},
	}
	require.GreaterOrEqual(t, len(cases), 60)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			class, method, path := c.class, c.method, c.path
			if class == "" {
				class = signing.Server
			}
			if method == "" {
				method = http.MethodPost
			}
			if path == "" {
				path = "/v1/events"
			}
			var sent []byte
			if method != http.MethodGet {
				sent = []byte(c.body)
			}
			response, text := s.send(t, class, method, path, sent, c.change)
			require.Equal(t, c.status, response.StatusCode, "%s", text)
			require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
			var problem struct {
				Type, Title, Code string
				Status            int
				RequestID         string `json:"request_id"`
			}
			require.NoError(t, json.Unmarshal(text, &problem), "%s", text)
			require.Equal(t, c.code, problem.Code, "%s", text)
			require.Equal(t, c.status, problem.Status)
			require.NotEmpty(t, problem.Title)
			require.Equal(t, response.Header.Get("X-Request-Id"), problem.RequestID)
		})
	}
	s.quiet(t)
	for _, table := range []string{"player", "ledger", "item", "receipt", "entry", "rejected"} {
		require.Zero(t, s.rows(t, table), "a bad request left rows in %s", table)
	}
}
