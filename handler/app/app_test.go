package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/handler/azfunc"
)

func TestReadiness(t *testing.T) {
	t.Parallel()
	ready := func(c *client) (int, string) {
		status, answer := c.ask("", http.MethodGet, "/readyz", "")
		code, _ := answer["code"].(string)
		alive, healthy := c.ask("", http.MethodGet, "/healthz", "")
		require.Equal(t, http.StatusOK, alive, "no restart mends a dependency")
		require.Equal(t, map[string]any{"status": "ok", "version": "test"}, healthy)
		return status, code
	}
	t.Run("while it starts", func(t *testing.T) {
		t.Parallel()
		a := newEnvironment(t).app(t)
		c := &client{t: t, handler: a.functions().Handler(), app: a}
		status, code := ready(c)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "starting", code)
		require.NoError(t, a.start(t.Context()))
		status, _ = ready(c)
		require.Equal(t, http.StatusOK, status)
	})
	t.Run("without Redis", func(t *testing.T) {
		t.Parallel()
		e := newEnvironment(t)
		c := e.running(t)
		e.redis.SetError("LOADING gone")
		status, code := ready(c)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "redis-unavailable", code)
		e.redis.SetError("")
		status, _ = ready(c)
		require.Equal(t, http.StatusOK, status, "and back again")
	})
	t.Run("without the database", func(t *testing.T) {
		t.Parallel()
		c := newEnvironment(t).running(t)
		require.NoError(t, c.app.db.Close())
		status, code := ready(c)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "database-unavailable", code)
	})
	for name, change := range map[string]string{
		"with a pending migration":    "DELETE FROM schema_version WHERE version = (SELECT MAX(version) FROM schema_version)",
		"with a schema of nobody's":   "DROP TABLE schema_version",
		"with all migrations pending": "DELETE FROM schema_version",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newEnvironment(t).app(t)
			_, err := a.db.Exec(t.Context(), change)
			require.NoError(t, err)
			c := &client{t: t, handler: a.functions().Handler(), app: a}
			started := make(chan error, 1)
			go func() { started <- a.start(t.Context()) }()
			require.Eventually(t, func() bool { return a.obstacle.Load() != nil }, 10*time.Second, time.Millisecond)
			status, code := ready(c)
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Equal(t, "database-unavailable", code)
			_, answer := c.ask("", http.MethodGet, "/readyz", "")
			require.Contains(t, answer["detail"], "run `liveops migrate`")
			_, err = a.db.Migrate(t.Context())
			require.NoError(t, err)
			require.NoError(t, <-started, "it goes on as soon as somebody did")
			status, _ = ready(c)
			require.Equal(t, http.StatusOK, status)
		})
	}
	t.Run("with a newer schema", func(t *testing.T) {
		t.Parallel()
		const newer = "INSERT INTO schema_version (version, applied_at) VALUES (?, 0)"
		e := newEnvironment(t)
		running, back, late := e.running(t), e.app(t), e.app(t)
		_, err := late.db.Exec(t.Context(), newer, "9998_more")
		require.NoError(t, err)
		require.NoError(t, back.start(t.Context()), "a deployment is rolled back to a program that does not know what was added")
		_, err = late.db.Exec(t.Context(), newer, "9999_future.breaking")
		require.NoError(t, err)
		require.ErrorIs(t, late.start(t.Context()), store.ErrNewerSchema, "it would not know what it writes into")
		status, _ := ready(running)
		require.Equal(t, http.StatusOK, status, "one that runs goes on")
	})
}

func TestStagesWaitForTheWindows(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	a := e.app(t)
	c := &client{t: t, handler: a.functions().Handler(), app: a}
	body := acceptedBody(t, scoreText("s", "ada", "open-board", 5))
	for _, function := range []string{"fairness", "progression"} {
		require.Equal(t, http.StatusInternalServerError, c.invoke(function, body), function)
	}
	require.NoError(t, a.start(t.Context()))
	for _, function := range []string{"fairness", "progression"} {
		require.Equal(t, http.StatusOK, c.invoke(function, body), function)
	}
	status, answer := c.ask("", http.MethodGet, "/v1/leaderboards/open-board", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer["entries"], 1)
}

// A window that cannot be closed must not keep events from having their effect.
func TestAStuckWindowHoldsUpNothing(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	a := e.app(t)
	_, err := a.db.Exec(t.Context(), "INSERT INTO board_window (board, window_id, cadence, starts_at, ends_at, state, changed_at, lease_owner, lease_until, fence) VALUES ('gone', '1970-01-01', 'daily', 0, 1, 'open', 0, '', 0, 0)")
	require.NoError(t, err)
	require.NoError(t, a.start(t.Context()))
	require.Contains(t, e.log.String(), "board gone")
	c := &client{t: t, handler: a.functions().Handler(), app: a}
	status, _ := c.ask("", http.MethodGet, "/readyz", "")
	require.Equal(t, http.StatusOK, status)
}

func TestStartWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	a := newEnvironment(t).app(t)
	require.NoError(t, a.db.Close())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, a.start(ctx), "it goes on trying until the process ends")
	require.False(t, a.started.Load())
}

func TestRunNeedsThePortOfTheHost(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"", "0", "http", "65536", "-1"} {
		e := newEnvironment(t)
		e.settings[azfunc.PortVariable] = port
		err := Run(t.Context(), e.getenv, e.options())
		refused, is := errors.AsType[*azfunc.PortError](err)
		require.True(t, is, "%q: %v", port, err)
		require.Equal(t, port, refused.Value)
	}
}

// The end of the process lets what is under way finish.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	p := e.start(t)
	publishing, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e.bus.Fail(func(op, _ string) error {
		if op == "publish" {
			once.Do(func() { close(publishing) })
			<-release
		}
		return nil
	})
	answered := make(chan string, 2)
	send := func(r *http.Request) {
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- err.Error()
			return
		}
		response.Body.Close()
		answered <- response.Status
	}
	batch := invocation(t, p.url, "fairness", acceptedBody(t, xpText("a", "ada", 5)))
	go send(batch.WithContext(context.WithoutCancel(t.Context())))
	<-publishing
	event := request(t, signing.Server, http.MethodPost, p.url+"/v1/events", []byte(xpText("b", "bob", 5)))
	go send(event.WithContext(context.WithoutCancel(t.Context())))
	require.Eventually(t, func() bool { // its lease says that it is under way
		return slices.ContainsFunc(e.redis.Keys(), func(key string) bool { return strings.HasPrefix(key, "gate:{bob}:request:") })
	}, 10*time.Second, time.Millisecond)

	p.stop()
	require.Eventually(t, func() bool {
		status, _ := get(t, p.url+"/healthz")
		return status == 0
	}, 10*time.Second, time.Millisecond, "nothing new is taken")
	select {
	case err := <-p.done:
		require.Fail(t, "ended before its work was done", "%v", err)
	default:
	}
	close(release)
	got := []string{<-answered, <-answered}
	slices.Sort(got)
	require.Equal(t, []string{"200 OK", "202 Accepted"}, got)
	require.NoError(t, <-p.done)
	for _, queue := range []string{"events", "progression"} {
		counts, err := e.bus.Counts(queue)
		require.NoError(t, err)
		require.Equal(t, 1, counts.Active)
	}
}

// Who may do what: every route for every class of key, and unsigned.
func TestScopes(t *testing.T) {
	t.Parallel()
	type answers [5]int // server, client, session, admin, unsigned
	const verdict = `{"receipt":"x"}`
	game := answers{200, 200, 200, 403, 401}
	open := answers{200, 200, 200, 403, 200}
	operators := answers{403, 403, 403, 200, 401}
	trusted := answers{200, 403, 403, 200, 401}
	anybody := answers{200, 200, 200, 200, 200}
	found := func(a answers, status int) answers { // where who may ask finds nothing
		for i := range a {
			if a[i] == 200 {
				a[i] = status
			}
		}
		return a
	}
	table := []struct {
		method, pattern, target, body string
		want                          answers
	}{
		{"POST", "/v1/events", "", xpText("a", "ada", 1), found(game, 202)},
		{"POST", "/v1/events/batch", "", `{"events":[` + xpText("b", "ada", 1) + `]}`, found(game, 202)},
		{"GET", "/v1/players/{player}", "/v1/players/ada", "", found(game, 404)},
		{"GET", "/v1/players/{player}/events/{event}", "/v1/players/ada/events/a", "", game},
		{"GET", "/v1/players/{player}/inventory", "/v1/players/ada/inventory", "", game},
		{"GET", "/v1/players/{player}/ledger", "/v1/players/ada/ledger", "", game},
		{"GET", "/v1/players/{player}/mailbox", "/v1/players/ada/mailbox", "", game},
		{"POST", "/v1/players/{player}/mailbox/{mail}/claim", "/v1/players/ada/mailbox/x/claim", "", found(game, 404)},
		{"GET", "/v1/players/{player}/export", "/v1/players/stranger/export", "", found(trusted, 404)},
		{"GET", "/v1/players/{player}/erasure", "/v1/players/ada/erasure", "", trusted},
		{"POST", "/v1/players/{player}/erasure", "/v1/players/nobody/erasure", `{"reason":"x"}`, trusted},
		{"POST", "/v1/players/{player}/erasure/cancel", "/v1/players/ada/erasure/cancel", "", found(trusted, 404)},
		{"GET", "/v1/leaderboards", "", "", game},
		{"GET", "/v1/leaderboards/{board}", "/v1/leaderboards/shut-board", "", game},
		{"GET", "/v1/leaderboards/{board}", "/v1/leaderboards/open-board", "", open},
		{"GET", "/v1/leaderboards/{board}", "/v1/leaderboards/no-board", "", found(open, 404)},
		{"GET", "/v1/leaderboards/{board}/players/{player}", "/v1/leaderboards/shut-board/players/ada", "", found(game, 404)},
		{"GET", "/v1/leaderboards/{board}/players/{player}", "/v1/leaderboards/open-board/players/ada", "", found(open, 404)},
		{"GET", "/v1/leaderboards/{board}/players/{player}/around", "/v1/leaderboards/shut-board/players/ada/around", "", found(game, 404)},
		{"GET", "/v1/leaderboards/{board}/players/{player}/around", "/v1/leaderboards/open-board/players/ada/around", "", found(open, 404)},
		{"GET", "/v1/leaderboards/{board}/archives/{window}", "/v1/leaderboards/shut-board/archives/2026-11-22", "", found(game, 409)},
		{"GET", "/v1/leaderboards/{board}/archives/{window}", "/v1/leaderboards/open-board/archives/2026-11-22", "", found(open, 409)},
		{"GET", "/v1/leaderboards/{board}/players", "/v1/leaderboards/shut-board/players?id=ada", "", game},
		{"GET", "/v1/leaderboards/{board}/players", "/v1/leaderboards/open-board/players?id=ada", "", open},
		{"GET", "/v1/leaderboards/{board}/rank", "/v1/leaderboards/shut-board/rank?score=1", "", game},
		{"GET", "/v1/leaderboards/{board}/rank", "/v1/leaderboards/open-board/rank?score=1", "", open},
		{"GET", "/v1/leaderboards/{board}/archives", "/v1/leaderboards/shut-board/archives", "", game},
		{"GET", "/v1/leaderboards/{board}/archives", "/v1/leaderboards/open-board/archives", "", open},
		{"GET", "/v1/leaderboards/{board}/archives/{window}/players/{player}", "/v1/leaderboards/shut-board/archives/2026-11-22/players/ada", "", found(game, 409)},
		{"GET", "/v1/leaderboards/{board}/archives/{window}/players/{player}", "/v1/leaderboards/open-board/archives/2026-11-22/players/ada", "", found(open, 409)},
		{"GET", "/v1/leaderboards/{board}/archives/{window}/export", "/v1/leaderboards/open-board/archives/2026-11-22/export", "", answers{409, 403, 403, 409, 401}},
		{"GET", "/v1/leaderboards/{board}/hall-of-fame", "/v1/leaderboards/shut-board/hall-of-fame", "", game},
		{"GET", "/v1/leaderboards/{board}/hall-of-fame", "/v1/leaderboards/open-board/hall-of-fame", "", open},
		{"GET", "/v1/receipts/keys", "", "", anybody},
		{
			"POST", "/v1/operations/players/{player}/events/{event}/reverse", "/v1/operations/players/ada/events/x/reverse", `{"reason":"r"}`,
			found(operators, 404),
		},
		{"GET", "/v1/operations/windows", "", "", operators},
		{"GET", "/v1/operations/windows/{board}/{window}", "/v1/operations/windows/open-board/2026-11-22", "", operators},
		{"POST", "/v1/operations/windows/{board}/{window}/close", "/v1/operations/windows/open-board/nothing/close", `{"reason":"x"}`, found(operators, 404)},
		{"POST", "/v1/operations/windows/{board}/{window}/extend", "/v1/operations/windows/open-board/nothing/extend", `{"reason":"x","until":"2027-01-01T00:00:00Z"}`, found(operators, 404)},
		{"POST", "/v1/operations/windows/{board}/{window}/rebuild", "/v1/operations/windows/open-board/nothing/rebuild", `{"reason":"x"}`, found(operators, 404)},
		{"GET", "/v1/receipts/{player}/{event}", "/v1/receipts/ada/a", "", found(game, 404)},
		{"POST", "/v1/receipts/verify", "", verdict, game},
		{"POST", "/v1/keys/session", "", `{"player_id":"ada"}`, answers{200, 403, 403, 403, 401}},
		{"POST", "/v1/keys/session/revoke", "", `{"player_id":"bob"}`, answers{200, 403, 403, 200, 401}},
		{"GET", "/v1/operations/rejected", "", "", operators},
		{"GET", "/v1/operations/rejected/{id}", "/v1/operations/rejected/x", "", found(operators, 404)},
		{"POST", "/v1/operations/rejected/{id}/release", "/v1/operations/rejected/x/release", "", found(operators, 404)},
		{"POST", "/v1/operations/dead-letters/redrive", "", "", operators},
		{"GET", "/v1/operations/decisions", "", "", operators},
		{"GET", "/v1/operations/decisions/{id}", "/v1/operations/decisions/x", "", answers{404, 403, 403, 404, 401}},
		{"GET", "/v1/operations/cases", "", "", operators},
		{"POST", "/v1/operations/cases", "", `{"player_id":"ada","reason":"x"}`, operators},
		{"GET", "/v1/operations/cases/{id}", "/v1/operations/cases/x", "", found(operators, 404)},
		{"POST", "/v1/operations/cases/{id}/comment", "/v1/operations/cases/x/comment", `{"text":"x"}`, found(operators, 404)},
		{"POST", "/v1/operations/cases/{id}/clear", "/v1/operations/cases/x/clear", `{"reason":"x"}`, found(operators, 404)},
		{"POST", "/v1/operations/cases/{id}/shadow-ban", "/v1/operations/cases/x/shadow-ban", `{"reason":"x"}`, found(operators, 404)},
		{"POST", "/v1/operations/cases/{id}/ban", "/v1/operations/cases/x/ban", `{"reason":"x"}`, found(operators, 404)},
		{"POST", "/v1/operations/cases/{id}/unban", "/v1/operations/cases/x/unban", `{"reason":"x"}`, found(operators, 404)},
		{"GET", "/v1/time", "", "", anybody},
		{"GET", "/healthz", "", "", anybody},
		{"GET", "/readyz", "", "", anybody},
	}
	c := newEnvironment(t).running(t)
	covered := map[string]bool{}
	for _, test := range table {
		covered[test.method+" "+test.pattern] = true
		target := test.target
		if target == "" {
			target = test.pattern
		}
		for i, class := range append(slices.Clone(classes), "") {
			status, answer := c.ask(class, test.method, target, test.body)
			require.Equal(t, test.want[i], status, "%s %s by %q: %v", test.method, target, class, answer)
			switch status {
			case http.StatusForbidden:
				require.Equal(t, "key-out-of-scope", answer["code"])
			case http.StatusUnauthorized:
				require.Equal(t, "signature-header-missing", answer["code"])
			}
		}
	}
	for _, r := range c.app.routes() {
		require.True(t, covered[r.Method+" "+r.Pattern], "%s %s is not in the table", r.Method, r.Pattern)
	}
}

func TestReadsAreSignedOnce(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	first := request(t, signing.Server, http.MethodGet, "/v1/leaderboards", nil)
	for _, want := range []int{http.StatusOK, http.StatusUnauthorized} {
		again := first.Clone(t.Context())
		w := &recorder{header: http.Header{}}
		c.handler.ServeHTTP(w, again)
		require.Equal(t, want, w.status)
	}
}

func TestTheSkewIsConfigured(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.settings["SIGNATURE_SKEW"] = "1m"
	c := e.running(t)
	for ago, want := range map[time.Duration]int{time.Minute: http.StatusOK, 61 * time.Second: http.StatusUnauthorized} {
		r := request(t, "", http.MethodGet, "/v1/leaderboards", nil)
		require.NoError(t, signing.SignHTTP(r, key(signing.Server), nil, noon.Add(-ago), signing.NewNonce()))
		w := &recorder{header: http.Header{}}
		c.handler.ServeHTTP(w, r)
		require.Equal(t, want, w.status)
	}
}

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *recorder) WriteHeader(status int)      { r.status = status }

// The limits are told with what they refuse, too.
func TestThrottledRequestsTellTheLimits(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	var last *recorder
	for i := range 21 {
		last = &recorder{header: http.Header{}}
		c.handler.ServeHTTP(last, request(t, signing.Client, http.MethodPost, "/v1/events", []byte(xpText(fmt.Sprintf("e%d", i), "ada", 1))))
	}
	require.Equal(t, http.StatusTooManyRequests, last.status)
	require.Equal(t, "1", last.header.Get("Retry-After"))
	require.Equal(t, `"burst";q=20;w=1, "sustained";q=300;w=60`, last.header.Get("RateLimit-Policy"))
	require.Equal(t, `"burst";r=0;t=1, "sustained";r=280;t=4`, last.header.Get("RateLimit"))
}

// What an event did is told in the words of the API.
func TestWhatAnEventDid(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, xpText("a", "ada", 100))))
	status, answer := c.ask(signing.Server, http.MethodGet, "/v1/players/ada/events/a", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"player_id": "ada", "event_id": "a", "reversed_by": nil, "entries": []any{map[string]any{
		"event_id": "a", "modifier": nil, "kind": "xp", "number": 1.0, "event_type": "xp_gained", "item": "", "delta": 100.0, "balance": 100.0, "level_before": 1.0, "level_after": 2.0,
		"catalog_version": 1.0, "effective_at": "2026-11-22T12:00:00.000Z", "recorded_at": "2026-11-22T12:00:00.000Z", "notes": []any{},
	}}}, answer)
	status, answer = c.ask(signing.Server, http.MethodGet, "/v1/players/ada", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"player_id": "ada", "xp": 100.0, "level": 2.0, "items": []any{}, "updated_at": "2026-11-22T12:00:00.000Z"}, answer)
}

// Neighbours of a player in an archived window come from the archive, and leave nothing in Redis.
func TestAroundAPlayerInTheArchive(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	var bodies [][]byte
	for i := range 9 {
		bodies = append(bodies, acceptedBody(t, scoreText("s", fmt.Sprintf("p%d", i+1), "open-board", 100-i)))
	}
	require.Equal(t, http.StatusOK, c.invoke("progression", bodies...))
	around := func(player string) []string {
		t.Helper()
		status, answer := c.ask("", http.MethodGet, "/v1/leaderboards/open-board/players/"+player+"/around?window=2026-11-22&limit=3", "")
		require.Equal(t, http.StatusOK, status, "%v", answer)
		require.EqualValues(t, 9, answer["count"])
		var players []string
		for _, entry := range answer["entries"].([]any) {
			players = append(players, entry.(map[string]any)["player_id"].(string))
		}
		return players
	}
	want := map[string][]string{"p1": {"p1", "p2", "p3"}, "p5": {"p4", "p5", "p6"}, "p9": {"p7", "p8", "p9"}}
	for player, players := range want {
		require.Equal(t, players, around(player))
	}
	now = noon.Add(24 * time.Hour)
	require.Equal(t, http.StatusOK, c.invoke("archive"))
	for player, players := range want {
		require.Equal(t, players, around(player))
	}
	status, answer := c.ask("", http.MethodGet, "/v1/leaderboards/open-board/players/nobody/around?window=2026-11-22", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "not-ranked", answer["code"])
	require.False(t, slices.ContainsFunc(e.redis.Keys(), func(key string) bool { return strings.HasPrefix(key, "rank:{open-board:2026-11-22}") }))
}

// Every dependency that is down answers 503, to be tried again.
func TestDependenciesDown(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, c *client, code string, method, target, body string) {
		t.Helper()
		w := &recorder{header: http.Header{}}
		c.handler.ServeHTTP(w, request(t, signing.Server, method, target, []byte(body)))
		require.Equal(t, http.StatusServiceUnavailable, w.status, "%s %s", code, target)
		require.NotEmpty(t, w.header.Get("Retry-After"))
	}
	t.Run("broker", func(t *testing.T) {
		t.Parallel()
		e := newEnvironment(t)
		c := e.running(t)
		e.bus.Fail(func(string, string) error { return fault.BusUnavailable.Errorf("down") })
		check(t, c, "queue-unavailable", http.MethodPost, "/v1/events", xpText("a", "ada", 1))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		e := newEnvironment(t)
		c := e.running(t)
		e.redis.SetError("LOADING gone")
		check(t, c, "redis-unavailable", http.MethodPost, "/v1/events", xpText("a", "ada", 1))
		check(t, c, "redis-unavailable", http.MethodPost, "/v1/receipts/verify", `{"receipt":"r"}`)
		require.Equal(t, http.StatusInternalServerError, c.invoke("fairness", acceptedBody(t, xpText("a", "ada", 1))))
	})
	t.Run("database", func(t *testing.T) {
		t.Parallel()
		c := newEnvironment(t).running(t)
		require.NoError(t, c.app.db.Close())
		check(t, c, "database-unavailable", http.MethodGet, "/v1/players/ada", "")
		require.Equal(t, http.StatusInternalServerError, c.invoke("progression", acceptedBody(t, xpText("a", "ada", 1))))
	})
}

// While Redis is away, what SQL has is read from there, by whoever signs for it.
func TestReadsWithoutRedis(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	for i, player := range []string{"ada", "bob", "cy"} {
		score, xp := scoreText("s", player, "shut-board", 5*(i+1)), xpText("x", player, i+1)
		require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, score), acceptedBody(t, xp)))
	}
	reads := []string{
		"/v1/players/ada", "/v1/players/ada/events/x", "/v1/receipts/ada/x", "/v1/leaderboards", "/v1/leaderboards/shut-board?limit=2",
		"/v1/leaderboards/shut-board/players/bob", "/v1/leaderboards/shut-board/players/cy/around?limit=2",
	}
	before := map[string]any{}
	for _, path := range reads {
		status, answer := c.ask(signing.Server, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, path)
		before[path] = answer
	}
	e.redis.SetError("LOADING gone")
	for _, path := range reads {
		status, answer := c.ask(signing.Server, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, path)
		require.Equal(t, before[path], answer, path)
	}
	status, _ := c.ask("", http.MethodGet, "/v1/players/ada", "")
	require.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, len(reads), int(testutil.ToFloat64(c.app.trusting)))
	require.Equal(t, 3, int(testutil.ToFloat64(c.app.ranking.SQLReads)))
}

// A Redis that takes connections and says nothing costs a read a few seconds and no more.
func TestReadsWithASilentRedis(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, scoreText("s", "ada", "shut-board", 5))))
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, silent.Close()) })
	e.settings["REDIS_URL"] = "redis://" + silent.Addr().String()
	a := e.app(t)
	c = &client{t: t, handler: a.functions().Handler(), app: a}
	for _, path := range []string{"/v1/players/ada", "/v1/leaderboards/shut-board"} {
		status, answer := c.ask(signing.Server, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, "%s: %v", path, answer)
	}
}

func TestRankingsAreWaitedForBriefly(t *testing.T) {
	t.Parallel()
	a := newEnvironment(t).app(t)
	require.Equal(t, time.Second, a.ranking.Patience)
	require.Less(t, a.ranking.Patience, requestDeadline)
	require.Less(t, requestDeadline, 30*time.Second, "the lease of an idempotency key outlives its request")
}
