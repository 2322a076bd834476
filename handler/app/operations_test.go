package app

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
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

// dead puts events, and everything else that waits in a queue, among its dead letters.
func (e *environment) dead(t *testing.T, queue string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, e.bus.Publish(t.Context(), queue, []bus.Message{{ID: "ada." + id, Body: acceptedBody(t, xpText(id, "ada", 5))}}))
	}
	letters, err := e.bus.Receive(t.Context(), queue, 100)
	require.NoError(t, err)
	for _, letter := range letters {
		require.NoError(t, e.bus.DeadLetter(t.Context(), queue, letter, "test", "it was down"))
	}
}

func TestDeadLettersAreRedriven(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	redrive := func(query string) map[string]any {
		status, answer := c.ask(signing.Admin, http.MethodPost, "/v1/operations/dead-letters/redrive"+query, "")
		require.Equal(t, http.StatusOK, status, "%v", answer)
		return answer
	}
	of := func(queue string, redriven, givenUp int, more bool) map[string]any {
		return map[string]any{"queue": queue, "redriven": float64(redriven), "given_up": float64(givenUp), "more": more}
	}
	answered := func(more bool, queues ...any) map[string]any { return map[string]any{"queues": queues, "more": more} }
	require.Equal(t, answered(false, of("events", 0, 0, false), of("progression", 0, 0, false)), redrive(""))

	e.dead(t, "events", "a", "b", "c")
	e.dead(t, "progression", "d")
	require.Equal(t, answered(true, of("events", 2, 0, true), of("progression", 1, 0, false)), redrive("?limit=2"))
	require.Equal(t, answered(false, of("progression", 0, 0, false)), redrive("?queue=progression"))
	require.Equal(t, answered(false, of("events", 1, 0, false)), redrive("?queue=events&limit=100"))
	for queue, want := range map[string]int{"events": 3, "progression": 1} {
		counts, err := e.bus.Counts(queue)
		require.NoError(t, err)
		require.Equal(t, bus.Counts{Active: want}, counts)
	}
	for query, want := range map[string]int{"stage=redrive": 4, "stage=redrive&state=released": 4, "state=open": 0} {
		status, answer := c.ask(signing.Admin, http.MethodGet, "/v1/operations/rejected?"+query, "")
		require.Equal(t, http.StatusOK, status)
		require.Len(t, answer["rejected"], want, query)
	}

	// One that has come back three times is given up.
	sent, err := e.bus.Receive(t.Context(), "progression", 1)
	require.NoError(t, err)
	require.NoError(t, e.bus.Complete(t.Context(), "progression", sent[0]))
	spent := bus.Message{ID: "spent", Body: sent[0].Body, Properties: map[string]string{"liveops-redrives": "3"}}
	require.NoError(t, e.bus.Publish(t.Context(), "progression", []bus.Message{spent}))
	e.dead(t, "progression")
	require.Equal(t, answered(false, of("progression", 0, 1, false)), redrive("?queue=progression"))
}

func TestRedriveRefuses(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	e.dead(t, "events", "a")
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?queue=others", "?queue=events/$DeadLetterQueue"} {
		status, answer := c.ask(signing.Admin, http.MethodPost, "/v1/operations/dead-letters/redrive"+query, "")
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Equal(t, "malformed-request", answer["code"])
	}
	for _, class := range []signing.Class{signing.Server, signing.Client} {
		status, answer := c.ask(class, http.MethodPost, "/v1/operations/dead-letters/redrive", "")
		require.Equal(t, http.StatusForbidden, status)
		require.Equal(t, "key-out-of-scope", answer["code"])
	}
	status, _ := c.ask(signing.Admin, http.MethodGet, "/v1/operations/dead-letters/redrive", "")
	require.Equal(t, http.StatusMethodNotAllowed, status)

	counts := func() bus.Counts {
		counts, err := e.bus.Counts("events")
		require.NoError(t, err)
		return counts
	}
	e.bus.Fail(func(op, _ string) error {
		if op == "publish" {
			return fault.BusUnavailable.Errorf("down")
		}
		return nil
	})
	status, answer := c.ask(signing.Admin, http.MethodPost, "/v1/operations/dead-letters/redrive", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "queue-unavailable", answer["code"])
	require.Equal(t, bus.Counts{Dead: 1}, counts())
	e.bus.Fail(nil)
	require.NoError(t, c.app.db.Close())
	status, answer = c.ask(signing.Admin, http.MethodPost, "/v1/operations/dead-letters/redrive", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "database-unavailable", answer["code"])
	require.Equal(t, bus.Counts{Dead: 1}, counts())
}

// To see that there is no dead letter takes time, and less than a request has.
func TestARedriveOfNothingEndsInTime(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t) // outside of the bubble, where Redis would keep time from passing
	synctest.Test(t, func(t *testing.T) {
		e.bus = bus.NewMemory(e.clock, bus.Queue{Name: "events"}, bus.Queue{Name: "progression"})
		c := e.running(t)
		c.app.redrive.Wait = 0
		begin := time.Now()
		status, answer := c.ask(signing.Admin, http.MethodPost, "/v1/operations/dead-letters/redrive", "")
		require.Equal(t, http.StatusOK, status, "%v", answer)
		require.Equal(t, false, answer["more"])
		require.Equal(t, 4*time.Second, time.Since(begin))
		require.Less(t, time.Since(begin), requestDeadline)
	})
}

// The tick of the redrive first measures what waits. Where that fails, it takes the letters all the same, and says so.
func TestATickOfTheRedriveMeasuresTheQueues(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	e.dead(t, "events", "a", "b")
	tick := func() int {
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, request(t, "", http.MethodPost, "/redrive", []byte("{}")))
		return w.Code
	}
	counts := func() bus.Counts {
		counts, err := e.bus.Counts("events")
		require.NoError(t, err)
		return counts
	}
	require.Equal(t, http.StatusOK, tick())
	require.Contains(t, e.log.String(), `"waiting":0,"dead":2,"redriven":2,"given_up":0`)
	require.Equal(t, 2, int(testutil.ToFloat64(c.app.backlog.Metrics.QueueMessages.WithLabelValues("events", "dead"))))
	require.Equal(t, bus.Counts{Active: 2}, counts())

	e.dead(t, "events", "c")
	e.bus.Fail(func(op, _ string) error {
		if op == "peek" {
			return fault.BusUnavailable.Errorf("down")
		}
		return nil
	})
	require.Equal(t, http.StatusInternalServerError, tick())
	require.Zero(t, counts().Dead)
}
