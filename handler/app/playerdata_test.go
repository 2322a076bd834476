package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

// TestPlayerData goes from an event to its export, and to a player of whom nothing is left.
func TestPlayerData(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	require.Equal(t, 200, c.invoke("progression", acceptedBody(t, xpText("first", "ada-the-first", 7))))

	export := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, request(t, signing.Server, "GET", "/v1/players/ada-the-first/export", nil))
		return w
	}
	w := export()
	require.Equal(t, 200, w.Code, w.Body)
	require.Equal(t, "application/x-ndjson", w.Header().Get("Content-Type"))
	require.Contains(t, w.Body.String(), `"event_id":"first"`)
	require.Contains(t, w.Body.String(), `"counts":`)

	const target = "/v1/players/ada-the-first/erasure"
	for body, code := range map[string]string{`{}`: "request-invalid", `{"reason":" "}`: "request-invalid", `{"reason":"x","y":1}`: "request-invalid", `{`: "malformed-json"} {
		_, answer := c.ask(signing.Server, "POST", target, body)
		require.Equal(t, code, answer["code"], body)
	}
	status, answer := c.ask(signing.Server, "POST", target, `{"reason":"`+strings.Repeat("x", 501)+`"}`)
	require.Equal(t, 422, status, answer)
	status, asked := c.ask(signing.Server, "POST", target, `{"reason":"by mail"}`)
	require.Equal(t, 200, status, asked)
	require.Equal(t, map[string]any{
		"player_id": "ada-the-first", "state": "waiting", "requested_at": "2026-11-22T12:00:00.000Z", "due_at": "2026-12-22T12:00:00.000Z", "erased_at": nil,
		"requested_by": "server", "reason": "by mail",
	}, asked)
	_, again := c.ask(signing.Admin, "POST", target, `{"reason":"again"}`)
	require.Equal(t, asked, again)
	status, _ = c.ask(signing.Server, "POST", target+"/cancel", "")
	require.Equal(t, 200, status)
	status, answer = c.ask(signing.Server, "POST", target+"/cancel", "")
	require.Equal(t, 404, status)
	require.Equal(t, "erasure-not-found", answer["code"])
	_, answer = c.ask(signing.Server, "GET", target, "")
	require.Equal(t, map[string]any{"player_id": "ada-the-first", "state": "none"}, answer)

	status, _ = c.ask(signing.Server, "POST", target, `{"reason":"sure"}`)
	require.Equal(t, 200, status)
	for hours := 720; hours < 750; hours++ {
		now = noon.Add(time.Duration(hours) * time.Hour)
		_, err := c.app.archive.Sweep(t.Context())
		require.NoError(t, err)
		now = noon // at which requests are signed
		_, answer = c.ask(signing.Server, "GET", target, "")
		require.Contains(t, []any{"erased", "none"}, answer["state"])
	}
	require.Equal(t, "none", answer["state"])
	require.Equal(t, 404, export().Code)
	status, _ = c.ask(signing.Server, "GET", "/v1/players/ada-the-first", "")
	require.Equal(t, http.StatusNotFound, status)
	status, answer = c.ask(signing.Server, "GET", "/v1/players/erased~x/export", "")
	require.Equal(t, 404, status, answer)
	for _, line := range strings.Split(e.log.String(), "\n") {
		if strings.Contains(line, "erasure") && !strings.Contains(line, "/v1/") {
			require.NotContains(t, line, "ada-the-first")
		}
	}
}
