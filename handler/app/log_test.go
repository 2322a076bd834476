package app

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

// of gives the lines with a message.
func of(msg string, lines []map[string]any) (found []map[string]any) {
	for _, line := range lines {
		if line["msg"] == msg {
			found = append(found, line)
		}
	}
	return found
}

// Every function that is not called through HTTP writes one line an invocation, whatever becomes of it.
func TestOneLineAnInvocation(t *testing.T) {
	t.Parallel()
	fair, unfair, none := acceptedBody(t, xpText("e1", "ada", 5)), acceptedBody(t, xpText("e2", "eve", 101)), []byte("no event")
	ranked := acceptedBody(t, scoreText("e3", "ada", "open-board", 7))
	type counts map[string]float64
	zero := func(names ...string) counts {
		all := counts{}
		for _, name := range names {
			all[name] = 0
		}
		return all
	}
	functions := map[string]struct {
		bodies [][]byte
		counts counts
		broken string // the code while Redis is away; "": it does without
	}{
		"fairness":    {[][]byte{fair, unfair, none}, counts{"messages": 3, "deliveries": 0, "forwarded": 1, "dropped": 2, "blocked": 1, "cases": 0}, "redis-unavailable"},
		"progression": {[][]byte{fair, ranked, none}, counts{"messages": 3, "deliveries": 0, "applied": 2, "repeated": 0, "invalid": 1, "ranked": 1}, "redis-unavailable"},
		"archive": {nil, zero(
			"windows_added", "windows_closed", "windows_frozen", "windows_archived", "windows_rewarded", "windows_purged", "windows_failed",
			"events_purged", "mails_purged", "players_erased", "players_compared", "players_drifted", "entries_compared", "entries_drifted",
		), "redis-unavailable"},
		"redrive": {nil, zero("waiting", "dead", "redriven", "given_up"), ""},
	}
	page, err := os.ReadFile("../../docs/logs.md")
	require.NoError(t, err)
	for function, test := range functions {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			c := e.running(t)
			e.log.take(t)
			invoke := func() map[string]any {
				r := invocation(t, "", function, test.bodies...)
				r.Header.Set("Traceparent", traceparent)
				r.Header.Set("X-Azure-Functions-InvocationId", "6a3c")
				c.handler.ServeHTTP(httptest.NewRecorder(), r)
				lines := of("invocation", e.log.take(t))
				require.Len(t, lines, 1)
				line := lines[0]
				for member := range line {
					require.Contains(t, string(page), "`"+member+"`")
				}
				require.IsType(t, 0.0, line["duration_ms"])
				if test.bodies == nil { // a batch is in the traces of its messages
					require.Equal(t, traceID, line["trace_id"])
				}
				for _, varies := range []string{"time", "duration_ms", "trace_id"} {
					delete(line, varies)
				}
				return line
			}
			want := map[string]any{"level": "INFO", "msg": "invocation", "function": function, "invocation_id": "6a3c", "outcome": "ok"}
			for name, n := range test.counts {
				want[name] = n
			}
			require.Equal(t, want, invoke())
			if test.broken == "" {
				return
			}
			e.redis.Close()
			line := invoke()
			require.Equal(t, []any{"WARN", "failed", test.broken}, []any{line["level"], line["outcome"], line["code"]})
			require.Contains(t, line["error"], test.broken)
		})
	}
	folders, err := os.ReadDir("../../functions")
	require.NoError(t, err)
	for _, folder := range folders {
		text, err := os.ReadFile("../../functions/" + folder.Name() + "/function.json")
		require.NoError(t, err)
		if !strings.Contains(string(text), `"httpTrigger"`) {
			require.Contains(t, functions, folder.Name())
		}
	}
}

// Every route writes one line a request, whoever asks and whatever is down, and no line of the log names a player, or repeats what
// somebody could send a request with.
func TestOneLineARequest(t *testing.T) {
	t.Parallel()
	const nonce, once = "nonce-of-this-very-request", "idempotency-of-this-very-request"
	ada := signing.SessionID{Player: "hero-ada", Session: "session-of-ada", Expires: noon.Add(time.Hour)}
	callers := []struct {
		key    signing.Key // the zero one does not sign
		player string      // in the path
	}{
		{signing.Key{}, "hero-ada"},
		{key(signing.Server), "hero-ada"},
		{key(signing.Server), "hero-nobody"},
		{key(signing.Server), "hero.of.no.form"},
		{key(signing.Client), "hero-ada"},
		{key(signing.Admin), "hero-ada"},
		{key(signing.Admin), "hero-nobody"},
		{sessionKey(secret("session"), ada), "hero-ada"},
		{sessionKey(secret("session"), ada), "hero-eve"},
		{signing.Key{ID: ada.KeyID(), Class: signing.Session, Secrets: []signing.Secret{signing.Secret(secret("forged"))}}, "hero-ada"},
	}
	bodies := map[string]string{
		"/v1/events":                        xpText("event-four", "hero-eve", 5),
		"/v1/events/batch":                  `{"events":[` + xpText("event-five", "hero-ada", 5) + `,{}]}`,
		"/v1/receipts/verify":               `{"token":"x"}`,
		"/v1/keys/session":                  `{"player_id":"hero-ada","session_id":"session-of-ada","expires_in":60}`,
		"/v1/keys/session/revoke":           `{"player_id":"hero-eve","reason":"of hero-ada"}`,
		"/v1/operations/cases":              `{"player_id":"hero-ada","reason":"of hero-ada"}`,
		"/v1/operations/cases/{id}/comment": `{"text":"of hero-ada"}`,
	}
	page, err := os.ReadFile("../../docs/logs.md")
	require.NoError(t, err)
	for state, without := range map[string]func(*environment, *App){
		"all is well":   func(*environment, *App) {},
		"without Redis": func(e *environment, _ *App) { e.redis.Close() },
		"without SQL":   func(_ *environment, a *App) { _ = a.db.Close() },
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			e.level = slog.LevelDebug
			c := e.running(t)
			batch := [][]byte{
				acceptedBody(t, xpText("event-one", "hero-ada", 100)), acceptedBody(t, scoreText("event-two", "hero-ada", "open-board", 7)),
				acceptedBody(t, xpText("event-three", "hero-eve", 101)),
			}
			for function, word := range map[string]string{"fairness": "judged", "progression": "applied"} {
				e.log.take(t)
				require.Equal(t, http.StatusOK, c.invoke(function, batch...))
				lines := e.log.take(t)
				require.Len(t, of(word, lines), 3, "at debug a line for each event")
				require.Len(t, lines, 4)
			}
			without(e, c.app)
			statuses := map[int]bool{}
			for _, route := range c.app.routes() {
				for n, caller := range callers {
					values := map[string]string{
						"{player}": caller.player, "{event}": "event-one", "{board}": "open-board", "{window}": "2026-11-22", "{id}": "x", "{mail}": "x",
					}
					target := regexp.MustCompile(`{\w+}`).ReplaceAllStringFunc(route.Pattern, func(name string) string { return values[name] })
					var body []byte
					if route.Method == http.MethodPost {
						body = []byte(cmp.Or(bodies[route.Pattern], `{"reason":"of hero-ada"}`))
					}
					if !strings.HasPrefix(route.Pattern, "/v1/players") && body == nil {
						target += "?viewer=hero-ada&id=hero-ada,hero-eve&score=7"
					}
					r := request(t, "", route.Method, target, body)
					if body != nil {
						r.Header.Set("Idempotency-Key", once+strconv.Itoa(n))
					}
					if caller.key.ID != "" {
						require.NoError(t, signing.SignHTTP(r, caller.key, body, noon, nonce+signing.NewNonce()[:8]))
					}
					r.Header.Set("Traceparent", traceparent)
					r.Header.Set("X-Azure-Functions-InvocationId", "6a3c")
					r.Header.Set("X-Request-Id", "r-1")
					w, cut := httptest.NewRecorder(), false
					func() {
						defer func() { cut = recover() != nil }() // as net/http does with an answer that ends too early
						c.handler.ServeHTTP(w, r)
					}()
					statuses[w.Code] = true

					lines := e.log.take(t)
					if state == "all is well" {
						require.Len(t, lines, 1, "%s %s", route.Method, target)
					}
					lines = of("request", lines)
					require.Len(t, lines, 1, "%s %s", route.Method, target)
					line := lines[0]
					for member := range line {
						require.Contains(t, string(page), "`"+member+"`")
					}
					require.Equal(t, []any{route.Method, route.Pattern, float64(w.Code), "r-1", traceID, "6a3c"},
						[]any{line["method"], line["route"], line["status"], line["request_id"], line["trace_id"], line["invocation_id"]})
					require.IsType(t, 0.0, line["duration_ms"])
					require.InDelta(t, w.Body.Len(), line["bytes"], 0)
					_, coded := line["code"]
					require.Equal(t, w.Code >= 400 || cut, coded)
					level := "INFO"
					switch {
					case w.Code == http.StatusServiceUnavailable || cut:
						level = "WARN"
					case w.Code >= http.StatusInternalServerError:
						level = "ERROR"
					case route.Quiet:
						level = "DEBUG"
					}
					require.Equal(t, level, line["level"], "%v", line)
				}
			}
			if state == "all is well" {
				for _, status := range []int{200, 202, 400, 401, 403, 404, 422} {
					require.Contains(t, statuses, status)
				}
			}
			for _, said := range []string{"hero-", "hero.", "session-of-ada", nonce, once, "hush"} {
				require.NotContains(t, e.log.String(), said)
			}
		})
	}
}
