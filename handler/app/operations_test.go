package app

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/signing"
)

// denied is an event that the fairness stage took out, and the id of its rejection.
func denied(t *testing.T, c *client) string {
	t.Helper()
	require.Equal(t, http.StatusOK, c.invoke("fairness", acceptedBody(t, xpText("a", "eve", 101))))
	status, answer := c.ask(signing.Admin, http.MethodGet, "/v1/operations/rejected?state=open&stage=fairness", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer["rejected"], 1)
	row := answer["rejected"].([]any)[0].(map[string]any)
	require.Contains(t, row, "released_at")
	require.Nil(t, row["released_at"])
	require.Contains(t, row, "released_by")
	require.Nil(t, row["released_by"])
	return row["id"].(string)
}

func TestARejectedEventIsReleased(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	id := denied(t, c)
	target := "/v1/operations/rejected/" + id
	want := map[string]any{"id": id, "queue": "progression", "released_at": "2026-11-22T12:00:00.000Z", "released_by": "admin"}
	for range 2 { // the second time it is released already
		status, answer := c.ask(signing.Admin, http.MethodPost, target+"/release", "")
		require.Equal(t, http.StatusOK, status, "%v", answer)
		require.Equal(t, want, answer)
		sent, err := e.bus.Peek("progression", 0, 10)
		require.NoError(t, err)
		require.Len(t, sent, 1)
		now = noon.Add(time.Minute)
	}

	sent, err := e.bus.Peek("progression", 0, 10)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, c.invoke("progression", sent[0].Body))
	status, answer := c.ask(signing.Server, http.MethodGet, "/v1/players/eve", "")
	require.Equal(t, http.StatusOK, status)
	require.EqualValues(t, 101, answer["xp"])

	status, answer = c.ask(signing.Admin, http.MethodGet, target, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "2026-11-22T12:00:00.000Z", answer["released_at"])
	require.Equal(t, "admin", answer["released_by"])
	for query, found := range map[string]int{
		"": 1, "?state=open": 0, "?state=released": 1, "?stage=fairness": 1, "?stage=redrive": 0, "?stage=fairness&state=open": 0,
	} {
		status, answer = c.ask(signing.Admin, http.MethodGet, "/v1/operations/rejected"+query, "")
		require.Equal(t, http.StatusOK, status)
		require.Len(t, answer["rejected"], found, query)
	}
	for _, query := range []string{"?state=closed", "?stage=gateway"} {
		status, answer = c.ask(signing.Admin, http.MethodGet, "/v1/operations/rejected"+query, "")
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Equal(t, "malformed-request", answer["code"])
	}
}

func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("fairness", []byte("no event")))
	status, answer := c.ask(signing.Admin, http.MethodGet, "/v1/operations/rejected", "")
	require.Equal(t, http.StatusOK, status)
	id := answer["rejected"].([]any)[0].(map[string]any)["id"].(string)
	status, answer = c.ask(signing.Admin, http.MethodPost, "/v1/operations/rejected/"+id+"/release", "")
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "rejected-not-releasable", answer["code"])
	status, answer = c.ask(signing.Admin, http.MethodPost, "/v1/operations/rejected/nobody/release", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "rejected-not-found", answer["code"])
	counts, err := e.bus.Counts("progression")
	require.NoError(t, err)
	require.Zero(t, counts.Active)
}

func TestReleaseWhileADependencyIsDown(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	id := denied(t, c)
	target := "/v1/operations/rejected/" + id
	e.bus.Fail(func(string, string) error { return fault.BusUnavailable.Errorf("down") })
	status, answer := c.ask(signing.Admin, http.MethodPost, target+"/release", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "queue-unavailable", answer["code"])
	e.bus.Fail(nil)
	status, answer = c.ask(signing.Admin, http.MethodGet, target, "")
	require.Equal(t, http.StatusOK, status)
	require.Nil(t, answer["released_at"], "nothing is marked")

	require.NoError(t, c.app.db.Close())
	status, answer = c.ask(signing.Admin, http.MethodPost, target+"/release", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "database-unavailable", answer["code"])
	counts, err := e.bus.Counts("progression")
	require.NoError(t, err)
	require.Zero(t, counts.Active)
}

// The request of a release needs no key and no body, but the content type of every POST.
func TestReleaseNeedsNoIdempotencyKey(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	id := denied(t, c)
	for contentType, want := range map[string]int{"application/json": http.StatusOK, "": http.StatusUnsupportedMediaType} {
		r := request(t, "", http.MethodPost, "/v1/operations/rejected/"+id+"/release", nil)
		r.Header.Del("Idempotency-Key")
		r.Header.Del("Content-Type")
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		require.NoError(t, signing.SignHTTP(r, key(signing.Admin), nil, noon, signing.NewNonce()))
		w := &recorder{header: http.Header{}}
		c.handler.ServeHTTP(w, r)
		require.Equal(t, want, w.status)
	}
}
