package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/signing"
)

// play replaces the catalog's text, before or while the application runs.
func (e *environment) play(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(e.settings["CATALOG_FILE"], []byte(text), 0o600))
}

// get is a read, signed with the key of a class unless that is empty.
func (c *client) get(class signing.Class, target string) *recorder {
	c.t.Helper()
	w := &recorder{header: http.Header{}}
	c.handler.ServeHTTP(w, request(c.t, class, http.MethodGet, target, nil))
	return w
}

func TestReadsKeepToTheRateOfTheirKey(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.play(t, game+"fairness: {keys: {client: {events: 3, per: 30s}}}\n")
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, xpText("x", "ada", 1))))
	for i, path := range []string{"/v1/leaderboards", "/v1/players/ada", "/v1/leaderboards/open-board", "/v1/players/ada", "/v1/leaderboards"} {
		answer := c.get(signing.Client, path)
		require.Equal(t, `"key";q=3;w=30`, answer.header.Get("RateLimit-Policy"))
		if i < 3 {
			require.Equal(t, http.StatusOK, answer.status, path)
			continue
		}
		require.Equal(t, http.StatusTooManyRequests, answer.status, path)
		require.Equal(t, `"key";r=0;t=30`, answer.header.Get("RateLimit"))
		require.Equal(t, "10", answer.header.Get("Retry-After"))
	}
	status, answer := c.ask(signing.Client, http.MethodPost, "/v1/events", xpText("e", "ada", 1))
	require.Equal(t, http.StatusTooManyRequests, status, "events and reads count together")
	require.Equal(t, "rate-limited", answer["code"])
	answered := c.get(signing.Server, "/v1/players/ada")
	require.Equal(t, http.StatusOK, answered.status)
	require.Empty(t, answered.header.Get("RateLimit"), "a key without a limit")
	require.Equal(t, http.StatusOK, c.get("", "/v1/leaderboards/open-board").status, "nor has one who needs no key")
}

// aboutEve are all reads whose path names a player.
func aboutEve() []string {
	return []string{
		"/v1/players/eve", "/v1/players/eve/events/x", "/v1/players/eve/mailbox", "/v1/receipts/eve/x", "/v1/leaderboards/shut-board/players/eve",
		"/v1/leaderboards/open-board/players/eve", "/v1/leaderboards/shut-board/players/eve/around",
	}
}

func TestABannedPlayerIsNotReadByGameClients(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, xpText("x", "eve", 1)),
		acceptedBody(t, scoreText("s", "eve", "shut-board", 5)), acceptedBody(t, scoreText("o", "eve", "open-board", 5))))
	all := func(class signing.Class, want int) {
		t.Helper()
		for _, path := range aboutEve() {
			require.Equal(t, want, c.get(class, path).status, path)
		}
	}
	automatic := gate.Block{Reason: "impossible-value", Until: noon.Add(48 * time.Hour), DecisionID: "d1"}
	require.NoError(t, c.app.gate.Block(t.Context(), "eve", automatic))
	all(signing.Client, http.StatusOK)

	require.NoError(t, c.app.gate.Block(t.Context(), "eve", gate.Block{Reason: "sold the account", Until: noon.Add(time.Hour), Ban: true}))
	all(signing.Client, http.StatusForbidden)
	all(signing.Server, http.StatusOK)
	status, answer := c.ask(signing.Client, http.MethodGet, "/v1/players/eve", "")
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "player-blocked", answer["code"])
	require.Equal(t, "2026-11-22T13:00:00Z", answer["blocked_until"])
	require.Equal(t, "sold the account", answer["reason"])
	require.NotContains(t, answer, "decision_id")
	for _, path := range []string{"/v1/leaderboards", "/v1/leaderboards/shut-board"} {
		require.Equal(t, http.StatusOK, c.get(signing.Client, path).status, path)
	}
	require.Equal(t, http.StatusNotFound, c.get(signing.Client, "/v1/players/eve.x").status, "no player's id")

	once := request(t, signing.Client, http.MethodGet, "/v1/players/ada", nil)
	for _, want := range []int{http.StatusNotFound, http.StatusUnauthorized} {
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, once.Clone(t.Context()))
		require.Equal(t, want, w.Code, "a nonce is used once")
	}
	require.NoError(t, c.app.gate.Unblock(t.Context(), "eve", true))
	all(signing.Client, http.StatusOK)
	status, _ = c.ask(signing.Client, http.MethodPost, "/v1/events", xpText("e", "eve", 1))
	require.Equal(t, http.StatusForbidden, status, "the automatic block is still there")
}

// While Redis is away writes are refused, reads are limited by this process, and SQL says who is banned.
func TestTheGateWithoutRedis(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.play(t, game+"fairness: {keys: {client: {events: 3, per: 30s}}}\n")
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, xpText("x", "eve", 1)), acceptedBody(t, xpText("x", "ada", 1))))
	e.redis.SetError("LOADING gone")

	for _, path := range []string{"/v1/events", "/v1/receipts/verify"} {
		status, answer := c.ask(signing.Client, http.MethodPost, path, xpText("a", "ada", 1))
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "redis-unavailable", answer["code"])
	}
	require.Equal(t, 2, int(testutil.ToFloat64(c.app.refusing)))

	require.Equal(t, http.StatusOK, c.get(signing.Client, "/v1/players/eve").status)
	order := fairness.Order{Actor: "ops", Key: "1", Kind: fairness.ActionOpen, Text: "sold the account"}
	opened, err := c.app.cases.Open(t.Context(), "eve", order)
	require.NoError(t, err)
	order.Kind = fairness.ActionBan
	_, err = c.app.cases.Act(t.Context(), opened.CaseID, order)
	require.ErrorIs(t, err, fault.RedisUnavailable, "the gate could not be told")
	require.Equal(t, http.StatusOK, c.get(signing.Client, "/v1/players/ada").status)
	status, answer := c.ask(signing.Client, http.MethodGet, "/v1/players/eve", "")
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "sold the account", answer["reason"])

	over := c.get(signing.Client, "/v1/players/ada")
	require.Equal(t, http.StatusTooManyRequests, over.status)
	require.Equal(t, "10", over.header.Get("Retry-After"))
	require.Equal(t, `"key";r=0;t=30`, over.header.Get("RateLimit"))
	require.Equal(t, http.StatusOK, c.get(signing.Server, "/v1/players/eve").status)
	require.Equal(t, 4, int(testutil.ToFloat64(c.app.limiting.WithLabelValues("admitted"))))
	require.Equal(t, 1, int(testutil.ToFloat64(c.app.limiting.WithLabelValues("throttled"))))
	require.Equal(t, 5, int(testutil.ToFloat64(c.app.trusting)))
}

// second is a later version of the game, with another board.
const second = `
version: 2
name: test
events:
  xp_gained: {fields: {amount: {min: 1, max: 100}, source: {enum: [match]}}}
xp: {table: [0, 100]}
boards:
  open-board: {operator: sum, order: desc, zone: UTC, windows: [daily], public: true}
  shut-board: {operator: sum, order: desc, zone: UTC, windows: [daily]}
  late-board: {operator: sum, order: desc, zone: UTC, windows: [daily, all_time]}
`

func TestTheCatalogIsReloaded(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	file := e.settings["CATALOG_FILE"]
	version := 1
	reload := func(loaded, refused int) {
		t.Helper()
		counts := func() [2]int {
			return [2]int{int(testutil.ToFloat64(c.app.reloads.WithLabelValues("loaded"))), int(testutil.ToFloat64(c.app.reloads.WithLabelValues("refused")))}
		}
		before := counts()
		c.app.reloadCatalog(t.Context())
		version += loaded
		require.Equal(t, [2]int{before[0] + loaded, before[1] + refused}, counts())
		require.Equal(t, version, c.app.catalog.Load().Version)
	}
	reload(0, 0)

	e.play(t, "version: 2\nname: test\nxp: {table: [0]}\nboards: {b: {operator: most, windows: [hourly]}}\n")
	reload(0, 1)
	for _, problem := range []string{"boards.b.operator", "boards.b.windows[0]", "the running one stays"} {
		require.Contains(t, e.log.String(), problem)
	}
	reload(0, 0) // it is refused once
	e.play(t, game)
	reload(0, 0)
	e.play(t, game+"# another text\n")
	reload(0, 1)
	require.Contains(t, e.log.String(), "version 1 is not above the running one, 1")
	require.NoError(t, os.Remove(file))
	reload(0, 1)
	require.NoError(t, os.Symlink(file+".first", file)) // as a mounted ConfigMap has it
	reload(0, 1)
	require.NoError(t, os.WriteFile(file+".first", []byte(game), 0o600))
	reload(0, 0)

	status, _ := c.ask(signing.Server, http.MethodGet, "/v1/leaderboards/late-board", "")
	require.Equal(t, http.StatusNotFound, status)
	require.NoError(t, os.WriteFile(file+".second", []byte(second), 0o600))
	require.NoError(t, os.Symlink(file+".second", file+".next"))
	require.NoError(t, os.Rename(file+".next", file))
	reload(1, 0)
	reload(0, 0)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, scoreText("s", "ada", "late-board", 5))))
	status, answer := c.ask(signing.Server, http.MethodGet, "/v1/leaderboards/late-board/players/ada", "")
	require.Equal(t, http.StatusOK, status, "%v", answer)

	e.play(t, game) // an older version
	reload(0, 1)
	require.Equal(t, 2, gauge(t, c.app, "catalog_version"))
}

func gauge(t *testing.T, a *App, name string) int {
	t.Helper()
	families, err := a.gathered.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	require.Fail(t, "no such metric", name)
	return 0
}

// A catalog whose windows cannot be made waits for the next look, and is not counted as refused.
func TestACatalogWaitsForItsWindows(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	e.play(t, second)
	canceled, stop := context.WithCancel(t.Context())
	stop()
	c.app.reloadCatalog(canceled)
	require.Equal(t, 1, c.app.catalog.Load().Version)
	require.Zero(t, int(testutil.ToFloat64(c.app.reloads.WithLabelValues("refused"))))
	c.app.reloadCatalog(t.Context())
	require.Equal(t, 2, c.app.catalog.Load().Version)
}

// Requests that run meanwhile are served by one version or the other.
func TestTheCatalogIsReloadedUnderLoad(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	var all sync.WaitGroup
	problems := make(chan error, 100)
	for range 4 {
		all.Go(func() {
			for range 10 {
				for _, class := range []signing.Class{signing.Client, signing.Server} {
					if status := c.get(class, "/v1/leaderboards").status; status != http.StatusOK {
						problems <- errors.New(http.StatusText(status))
					}
				}
			}
		})
	}
	e.play(t, second)
	c.app.reloadCatalog(t.Context())
	all.Wait()
	close(problems)
	require.NoError(t, <-problems)
	require.Equal(t, 2, c.app.catalog.Load().Version)
}
