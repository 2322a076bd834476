package web

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"liveops/core/fault"
	"liveops/core/tracing"
	"liveops/handler/azfunc"
)

// harness is a router with its log and metrics.
type harness struct {
	http.Handler
	registry *prometheus.Registry
	mu       sync.Mutex
	log      bytes.Buffer
}

func (h *harness) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(p)
}

func newHarness(routes ...Route) *harness {
	h := &harness{registry: prometheus.NewRegistry()}
	h.Handler = Router{Routes: routes, Log: slog.New(slog.NewJSONHandler(h, nil)), Registerer: h.registry}.Handler()
	return h
}

func (h *harness) lines(t *testing.T) []map[string]any {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []map[string]any
	for s := bufio.NewScanner(strings.NewReader(h.log.String())); s.Scan(); {
		var line map[string]any
		require.NoError(t, json.Unmarshal(s.Bytes(), &line))
		lines = append(lines, line)
	}
	return lines
}

func (h *harness) do(method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// requireProblem checks the shape that every problem shares, and gives its members.
func requireProblem(t *testing.T, w *httptest.ResponseRecorder, status int, code fault.Code) map[string]any {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var p map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, string(code), p["code"])
	require.Equal(t, "/problems/"+string(code), p["type"])
	require.Equal(t, code.Title(), p["title"])
	require.InDelta(t, status, p["status"], 0)
	require.Equal(t, w.Header().Get("X-Request-Id"), p["request_id"])
	require.NotEmpty(t, p["request_id"])
	return p
}

func failing(err error) Route {
	return Route{Method: "GET", Pattern: "/v1/x", Handler: func(http.ResponseWriter, *http.Request) error { return err }}
}

func text(answer string) Handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, answer)
		return err
	}
}

func TestEveryKindHasItsStatus(t *testing.T) {
	t.Parallel()
	statuses := map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Invalid: 422, fault.Unauthenticated: 401, fault.Forbidden: 403,
		fault.NotFound: 404, fault.NotAllowed: 405, fault.Conflict: 409, fault.Gone: 410, fault.TooLarge: 413,
		fault.Unsupported: 415, fault.RateLimited: 429, fault.Unavailable: 503,
	}
	seen := map[fault.Kind]bool{}
	for _, code := range fault.Codes() {
		seen[code.Kind()] = true
		w := newHarness(failing(code.Errorf("the detail"))).do("GET", "/v1/x")
		p := requireProblem(t, w, statuses[code.Kind()], code)
		if code.Kind() == fault.Internal {
			require.NotContains(t, p, "detail")
		} else {
			require.Equal(t, "the detail", p["detail"])
		}
	}
	require.Len(t, seen, len(statuses))
	for kind, status := range statuses {
		require.Equal(t, status, Status(kind))
	}
	require.Equal(t, 500, Status(200)) // a kind that this switch does not know
}

func TestProblemShape(t *testing.T) {
	t.Parallel()
	err := fault.TimestampOutside.Wrap(errors.New("secret cause"), "the clock is off by 10 minutes")
	err.Fields = []fault.Field{{Pointer: "/data/score", Code: fault.FieldType, Detail: "must be an integer"}, {Pointer: "/seq", Code: fault.FieldRange}}
	err.Extra = map[string]any{"server_time": 1764000000, "a<b>": "<&>", "status": 200, "code": "other", "type": "x"}
	a := Problem(fmt.Errorf("verify: %w", err), "req-1")
	require.Equal(t, 401, a.Status)
	require.Equal(t, http.Header{
		"Content-Type": {"application/problem+json"}, "Www-Authenticate": {`Liveops-HMAC-SHA256 version="v1"`},
	}, a.Header)
	want := `{"type":"/problems/timestamp-out-of-window","title":"The timestamp is too far from the server's clock",` +
		`"status":401,"detail":"the clock is off by 10 minutes","code":"timestamp-out-of-window","request_id":"req-1",` +
		`"errors":[{"pointer":"/data/score","code":"field-type","detail":"must be an integer"},{"pointer":"/seq","code":"field-out-of-range"}],` +
		`"a<b>":"<&>","server_time":1764000000}`
	require.Equal(t, []byte(want), a.Body, "%s", a.Body)
}

// What cannot be encoded is left out, and the answer is still the problem's.
func TestProblemWithAnExtraMemberThatIsNoJSON(t *testing.T) {
	t.Parallel()
	err := fault.PlayerBlocked.Errorf("until tomorrow")
	err.Extra = map[string]any{"x": make(chan int)}
	require.JSONEq(t, `{"type":"/problems/player-blocked","title":"The player is blocked","status":403,"detail":"until tomorrow",
		"code":"player-blocked"}`, string(Problem(err, "").Body))
}

func TestInternalTextNeverLeaves(t *testing.T) {
	t.Parallel()
	unexpected := fault.Unexpected.Wrap(errors.New("hunter2"), "hunter2")
	unexpected.Extra = map[string]any{"x": "hunter2"}
	unexpected.Fields = []fault.Field{{Pointer: "/hunter2"}}
	for name, err := range map[string]error{
		"plain":           errors.New("dial hunter2@db"),
		"unexpected":      unexpected,
		"code not listed": fault.Code("hunter2").Errorf("hunter2"),
		"a cause":         fault.DatabaseUnavailable.Wrap(errors.New("dial hunter2@db"), "the database does not answer"),
		"wrapped":         fmt.Errorf("hunter2: %w", fault.PlayerNotFound.Errorf("no progress")),
	} {
		h := newHarness(failing(err))
		w := h.do("GET", "/v1/x")
		require.NotContains(t, w.Body.String()+fmt.Sprint(w.Header()), "hunter2", name)
		require.Contains(t, h.lines(t)[0]["error"], "hunter2", name)
		if name != "a cause" && name != "wrapped" {
			requireProblem(t, w, 500, fault.Unexpected)
			require.Equal(t, "ERROR", h.lines(t)[0]["level"])
		}
	}
}

func TestPanicIsAProblem(t *testing.T) {
	t.Parallel()
	h := newHarness(Route{Method: "GET", Pattern: "/v1/x", Handler: func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Length", "1")
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", "public")
		panic("hunter2")
	}})
	w := h.do("GET", "/v1/x")
	requireProblem(t, w, 500, fault.Unexpected)
	require.NotContains(t, w.Body.String(), "hunter2")
	require.Empty(t, w.Header().Get("Content-Length"))
	require.Empty(t, w.Header().Get("ETag"))
	line := h.lines(t)[0]
	require.Equal(t, "panic: hunter2", line["error"])
	require.Equal(t, "internal-error", line["code"])
	require.Contains(t, line["stack"], "web_test.go")
	require.Equal(t, "ERROR", line["level"])
}

// An answer that began cannot become a problem. It must not look complete either.
func TestAFailureAfterTheAnswerBeganCutsIt(t *testing.T) {
	t.Parallel()
	fails := map[string]Handler{
		"/error": func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			return errors.New("boom")
		},
		"/panic": func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic("boom")
		},
		"/abort": func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	}
	var routes []Route
	for pattern, handler := range fails {
		routes = append(routes, Route{Method: "GET", Pattern: pattern, Handler: handler})
	}
	h := newHarness(routes...)
	server := httptest.NewServer(h)
	defer server.Close()
	for pattern := range fails {
		resp, err := server.Client().Get(server.URL + pattern)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.Error(t, err, pattern)
		require.Equal(t, "half", string(body))
		resp.Body.Close()
	}
	for _, line := range h.lines(t) {
		require.InDelta(t, 200, line["status"], 0)
		require.Equal(t, "ERROR", line["level"])
		require.Contains(t, line["error"], "boom")
	}
}

func TestAClientThatLeftIsNoServerError(t *testing.T) {
	t.Parallel()
	h := newHarness(Route{Method: "GET", Pattern: "/v1/x", Handler: func(_ http.ResponseWriter, r *http.Request) error {
		return fmt.Errorf("read: %w", fault.RedisUnavailable.Wrap(r.Context().Err(), "redis does not answer"))
	}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/x", nil))
	})
	require.Zero(t, w.Body.Len())
	require.InDelta(t, 499, h.lines(t)[0]["status"], 0)
	require.NotEqual(t, "ERROR", h.lines(t)[0]["level"])
	require.Equal(t, 1, testutil.CollectAndCount(h.Handler.(*edge).requests))
	require.InDelta(t, 1, testutil.ToFloat64(h.Handler.(*edge).requests.WithLabelValues("/v1/x", "GET", "499")), 0)
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	var inside string
	h := newHarness(Route{Method: "GET", Pattern: "/v1/x", Handler: func(_ http.ResponseWriter, r *http.Request) error {
		inside = RecordOf(r.Context()).RequestID
		return nil
	}})
	for id, kept := range map[string]bool{
		"abc": true, "A.b_c-9": true, strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false, "": false, "a b": false, "a\"b": false, "ä": false, "a/b": false, "a\x00": false,
	} {
		w := h.do("GET", "/v1/x", "X-Request-Id", id)
		got := w.Header().Get("X-Request-Id")
		require.Equal(t, inside, got)
		lines := h.lines(t)
		require.Equal(t, got, lines[len(lines)-1]["request_id"])
		if kept {
			require.Equal(t, id, got)
			continue
		}
		made, err := uuid.Parse(got)
		require.NoError(t, err)
		require.Equal(t, uuid.Version(7), made.Version())
	}
}

func TestOneLinePerRequest(t *testing.T) {
	t.Parallel()
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	clock := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	var log bytes.Buffer
	var player, carried string
	router := Router{
		Log: slog.New(slog.NewJSONHandler(&log, nil)),
		Now: func() time.Time { clock = clock.Add(2500 * time.Microsecond); return clock },
		Routes: []Route{{Method: "POST", Pattern: "/v1/players/{player}/x", Handler: func(w http.ResponseWriter, r *http.Request) error {
			record := RecordOf(r.Context())
			player, carried = r.PathValue("player"), tracing.Traceparent(r.Context())
			record.KeyID = "server"
			record.Add(slog.Int("accepted", 3))
			return JSON(w, 202, map[string]any{"accepted": 3})
		}}},
	}
	api := &azfunc.Server{HTTP: router.Handler()}
	r := httptest.NewRequest("POST", "/v1/players/alice/x?code=secret", nil)
	r.Header.Set("X-Request-Id", "req-1")
	r.Header.Set("Traceparent", traceparent)
	r.Header.Add("X-Azure-Functions-InvocationId", "client")
	r.Header.Add("X-Azure-Functions-InvocationId", "host")
	w := httptest.NewRecorder()
	api.Handler().ServeHTTP(w, r)
	require.Equal(t, 202, w.Code)
	require.Equal(t, "alice", player)
	require.Equal(t, traceparent, carried)

	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	var line map[string]any
	require.NoError(t, json.Unmarshal(log.Bytes(), &line))
	delete(line, "time")
	require.Equal(t, map[string]any{
		"level": "INFO", "msg": "request", "method": "POST", "route": "/v1/players/{player}/x", "status": 202.0, "duration_ms": 2.5,
		"bytes": 14.0, "request_id": "req-1", "trace_id": "0af7651916cd43dd8448eb211c80319c", "key_id": "server",
		"invocation_id": "host", "accepted": 3.0,
	}, line)
}

func TestALineSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	for err, level := range map[error]string{
		fault.PlayerBlocked.Errorf("until tomorrow"):                                 "INFO",
		fault.RedisUnavailable.Wrap(errors.New("dial tcp"), "redis does not answer"): "WARN",
		fmt.Errorf("accept: %w", errors.New("boom")):                                 "ERROR",
	} {
		h := newHarness(failing(err))
		h.do("GET", "/v1/x", "Traceparent", "not one")
		line := h.lines(t)[0]
		require.Equal(t, level, line["level"])
		require.Equal(t, err.Error(), line["error"])
		require.Equal(t, string(fault.CodeOf(err)), line["code"])
		for _, unknown := range []string{"trace_id", "key_id", "invocation_id", "stack"} {
			require.NotContains(t, line, unknown)
		}
	}
	require.NotNil(t, RecordOf(t.Context())) // outside of a request it is nobody's
}

func TestQuietRoutesOnlyLogServerErrors(t *testing.T) {
	t.Parallel()
	var err error
	h := newHarness(Route{Method: "GET", Pattern: "/readyz", Quiet: true, Handler: func(http.ResponseWriter, *http.Request) error { return err }})
	require.Equal(t, 200, h.do("GET", "/readyz").Code)
	require.Empty(t, h.lines(t))
	err = fault.RedisUnavailable.Errorf("down")
	require.Equal(t, 503, h.do("GET", "/readyz").Code)
	require.Len(t, h.lines(t), 1)
}

func TestQuietRoutesAreHeardInDebugging(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	route := Route{Method: "GET", Pattern: "/healthz", Quiet: true, Handler: func(http.ResponseWriter, *http.Request) error { return nil }}
	router := Router{Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Routes: []Route{route}}
	router.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/healthz", nil))
	require.Contains(t, log.String(), `"level":"DEBUG","msg":"request","method":"GET","route":"/healthz","status":200`)
}

func TestRouter(t *testing.T) {
	t.Parallel()
	h := newHarness(
		Route{Method: "GET", Pattern: "/v1/boards/{board}", Handler: text("board")},
		Route{Method: "POST", Pattern: "/v1/boards/{board}", Handler: text("posted")},
		Route{Method: "POST", Pattern: "/v1/events", Handler: text("event")},
		Route{Method: "GET", Pattern: "/v1/tree/", Handler: text("tree")},
		Route{Method: "GET", Pattern: "/v1/rest/{rest...}", Handler: text("rest")},
		Route{Method: "GET", Pattern: "/{$}", Handler: text("home")},
		Route{Pattern: "/any", Handler: text("any")},
	)
	for request, want := range map[string]string{
		"GET /v1/boards/a":             "board",
		"GET /v1/boards/a%2Fb":         "board",
		"GET /v1/boards/a?x=//":        "board",
		"HEAD /v1/boards/a":            "board",
		"POST /v1/boards/a":            "posted",
		"GET /v1/tree/":                "tree",
		"GET /v1/tree/a/b":             "tree",
		"GET /v1/rest/":                "rest",
		"GET /":                        "home",
		"BREW /any":                    "any",
		"GET http://other/v1/boards/a": "board",
	} {
		method, target, _ := strings.Cut(request, " ")
		w := h.do(method, target)
		require.Equal(t, 200, w.Code, request)
		require.Equal(t, want, w.Body.String(), request)
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
	for _, request := range []string{
		"GET /v1/boards/a/", "GET /v1/boards//a", "GET //v1/boards/a", "GET //", "GET /v1/boards/./a", "GET /v1/boards/x/../a",
		"GET /v1/tree", "GET /v1/rest", "GET /v1/rest//", "GET /v1/tree//a", "GET /V1/boards/a", "GET /nowhere", "POST /v1/events/",
		"POST //v1/events", "POST /nowhere", "CONNECT /nowhere", "CONNECT /v1/boards//a",
	} {
		method, target, _ := strings.Cut(request, " ")
		w := h.do(method, "http://host"+target)
		requireProblem(t, w, 404, fault.RouteNotFound)
		require.Empty(t, w.Header().Get("Location"), request)
		require.Empty(t, w.Header().Get("Allow"), request)
	}
	for request, allow := range map[string]string{
		"DELETE /v1/boards/a":  "GET, HEAD, POST",
		"OPTIONS /v1/boards/a": "GET, HEAD, POST",
		"BREW /v1/boards/a":    "GET, HEAD, POST",
		"get /v1/boards/a":     "GET, HEAD, POST",
		"GET /v1/events":       "POST",
		"HEAD /v1/events":      "POST",
		"POST /v1/tree/a":      "GET, HEAD",
		"CONNECT /v1/events":   "POST",
	} {
		method, target, _ := strings.Cut(request, " ")
		w := h.do(method, target)
		p := requireProblem(t, w, 405, fault.MethodNotAllowed)
		require.Equal(t, allow, w.Header().Get("Allow"), request)
		require.Equal(t, "allowed here: "+allow, p["detail"])
	}
}

func TestRouterRefusesATableThatContradictsItself(t *testing.T) {
	t.Parallel()
	require.Panics(t, func() {
		newHarness(Route{Method: "GET", Pattern: "/a/{x}", Handler: text("")}, Route{Method: "GET", Pattern: "/a/{y}", Handler: text("")})
	})
	require.Panics(t, func() { newHarness(Route{Method: "GET", Pattern: "/{a}{b}", Handler: text("")}) })
}

func TestOverTheWire(t *testing.T) {
	t.Parallel()
	h := newHarness(
		Route{Method: "GET", Pattern: "/v1/x", Handler: text("hello")},
		Route{Method: "GET", Pattern: "/v1/nothing", Handler: func(http.ResponseWriter, *http.Request) error { return nil }},
	)
	server := httptest.NewServer(h)
	defer server.Close()
	for request, want := range map[string]string{
		"HEAD /v1/x HTTP/1.1":      "HTTP/1.1 200 OK",
		"HEAD /v1/y HTTP/1.1":      "HTTP/1.1 404 Not Found",
		"OPTIONS * HTTP/1.1":       "HTTP/1.1 200 OK", // net/http's own
		"GET /v1/nothing HTTP/1.1": "HTTP/1.1 200 OK",
		"BREW /v1/x HTTP/1.1":      "HTTP/1.1 405 Method Not Allowed",
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		fmt.Fprintf(conn, "%s\r\nHost: x\r\nConnection: close\r\n\r\n", request)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		conn.Close()
		require.True(t, strings.HasPrefix(string(answer), want), "%s: %s", request, answer)
		head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
		if strings.HasPrefix(request, "HEAD") {
			require.Empty(t, body)
			require.Contains(t, head, "X-Request-Id: ")
		}
	}
	for _, line := range h.lines(t) {
		require.Contains(t, []any{200.0, 404.0, 405.0}, line["status"])
	}
}

func TestMetricLabelsAreClosed(t *testing.T) {
	t.Parallel()
	h := newHarness(Route{Method: "GET", Pattern: "/v1/players/{player}", Handler: text("x")})
	for _, request := range []string{
		"GET /v1/players/alice", "GET /v1/players/bob", "HEAD /v1/players/bob", "BREW /v1/players/bob", "STEEP /v1/players/bob",
		"GET /one", "GET /two", "BREW /three", "POST /v1/players/bob",
	} {
		method, target, _ := strings.Cut(request, " ")
		h.do(method, target)
	}
	require.NoError(t, testutil.GatherAndCompare(h.registry, strings.NewReader(`
# HELP gateway_requests_total HTTP requests, by route pattern, method and status.
# TYPE gateway_requests_total counter
gateway_requests_total{method="GET",route="/v1/players/{player}",status="200"} 2
gateway_requests_total{method="HEAD",route="/v1/players/{player}",status="200"} 1
gateway_requests_total{method="OTHER",route="/v1/players/{player}",status="405"} 2
gateway_requests_total{method="POST",route="/v1/players/{player}",status="405"} 1
gateway_requests_total{method="GET",route="unmatched",status="404"} 2
gateway_requests_total{method="OTHER",route="unmatched",status="404"} 1
`), "gateway_requests_total"))
	n, err := testutil.GatherAndCount(h.registry, "gateway_request_duration_seconds")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	for _, line := range h.lines(t) {
		require.NotContains(t, fmt.Sprint(line), "alice")
		require.NotContains(t, fmt.Sprint(line), "BREW")
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"rate, not said":        {fault.RateExceeded.Errorf("x"), "1"},
		"rate, a millisecond":   {fault.RateExceeded.Errorf("x").After(time.Millisecond), "1"},
		"rate, one second":      {fault.RateExceeded.Errorf("x").After(time.Second), "1"},
		"rate, a little more":   {fault.RateExceeded.Errorf("x").After(time.Second + 1), "2"},
		"rate, an hour":         {fault.RateExceeded.Errorf("x").After(time.Hour), "3600"},
		"rate, in the past":     {fault.RateExceeded.Errorf("x").After(-time.Hour), "1"},
		"unavailable, not said": {fault.BusUnavailable.Errorf("x"), "1"},
		"unavailable, wrapped":  {fmt.Errorf("publish: %w", fault.BusUnavailable.Errorf("x").After(4500*time.Millisecond)), "5"},
		"in flight, not said":   {fault.IdempotencyInFlight.Errorf("x"), "1"},
		"another conflict":      {fault.WindowClosed.Errorf("x"), ""},
		"a conflict that says":  {fault.NotArchived.Errorf("x").After(time.Minute), "60"},
		"blocked":               {fault.PlayerBlocked.Errorf("x").After(90 * time.Second), "90"},
		"internal":              {errors.New("x"), ""},
		"internal that says so": {fault.Unexpected.Errorf("x").After(time.Minute), ""},
		"malformed":             {fault.MalformedJSON.Errorf("x"), ""},
	} {
		w := newHarness(failing(test.err)).do("GET", "/v1/x")
		require.Equal(t, test.want, w.Header().Get("Retry-After"), name)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	h := newHarness(
		Route{Method: "GET", Pattern: "/ok", Handler: func(w http.ResponseWriter, _ *http.Request) error {
			return JSON(w, 201, map[string]any{"b": "<&>\u2028ü", "a": []string(nil)})
		}},
		Route{Method: "GET", Pattern: "/bad", Handler: func(w http.ResponseWriter, _ *http.Request) error {
			return JSON(w, 201, make(chan int))
		}},
	)
	w := h.do("GET", "/ok")
	require.Equal(t, 201, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	want := []byte("{\"a\":[],\"b\":\"<&>\u2028ü\"}")
	require.Equal(t, want, w.Body.Bytes())
	requireProblem(t, h.do("GET", "/bad"), 500, fault.Unexpected)
	require.Contains(t, h.lines(t)[1]["error"], "encode the answer: ")
}

func TestBody(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte(`{"a":1}`))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	sized := func(s string) io.Reader { return strings.NewReader(s) }
	chunked := func(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }

	h := newHarness(Route{Method: "POST", Pattern: "/", Handler: func(w http.ResponseWriter, r *http.Request) error {
		body, err := Body(r, 10)
		if err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	}})
	server := httptest.NewServer(h)
	defer server.Close()
	for name, test := range map[string]struct {
		body   io.Reader
		header http.Header
		status int
		code   fault.Code
	}{
		"sized":                 {sized(`0123456789`), http.Header{"Content-Type": {"application/json"}}, 200, ""},
		"chunked":               {chunked(`0123456789`), http.Header{"Content-Type": {"application/json"}}, 200, ""},
		"empty":                 {sized(``), http.Header{"Content-Type": {"application/json"}}, 200, ""},
		"charset":               {sized(`{}`), http.Header{"Content-Type": {`Application/JSON; charset="UTF-8"`}}, 200, ""},
		"other parameter":       {sized(`{}`), http.Header{"Content-Type": {`application/json; v=1`}}, 200, ""},
		"identity":              {sized(`{}`), http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"Identity, "}}, 200, ""},
		"too long, sized":       {sized(`01234567890`), http.Header{"Content-Type": {"application/json"}}, 413, fault.BodyTooLarge},
		"too long, chunked":     {chunked(`01234567890`), http.Header{"Content-Type": {"application/json"}}, 413, fault.BodyTooLarge},
		"far too long, chunked": {chunked(strings.Repeat("x", 4<<20)), http.Header{"Content-Type": {"application/json"}}, 413, fault.BodyTooLarge},
		"no type":               {sized(`{}`), http.Header{}, 415, fault.UnsupportedMedia},
		"form":                  {sized(`{}`), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, 415, fault.UnsupportedMedia},
		"text":                  {sized(`{}`), http.Header{"Content-Type": {"text/json"}}, 415, fault.UnsupportedMedia},
		"json in name only":     {sized(`{}`), http.Header{"Content-Type": {"application/json-seq"}}, 415, fault.UnsupportedMedia},
		"charset latin1":        {sized(`{}`), http.Header{"Content-Type": {"application/json; charset=latin1"}}, 415, fault.UnsupportedMedia},
		"unreadable type":       {sized(`{}`), http.Header{"Content-Type": {"application/json; ="}}, 415, fault.UnsupportedMedia},
		"two types":             {sized(`{}`), http.Header{"Content-Type": {"application/json", "text/plain"}}, 415, fault.UnsupportedMedia},
		"gzip":                  {sized(zipped.String()), http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, 415, fault.UnsupportedCoding},
		"gzip after identity":   {sized(`{}`), http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity", "GZIP"}}, 415, fault.UnsupportedCoding},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/", test.body)
			require.NoError(t, err)
			r.Header = test.header
			resp, err := server.Client().Do(r)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, test.status, resp.StatusCode, string(body))
			if test.code != "" {
				require.Contains(t, string(body), `"code":"`+string(test.code)+`"`)
			}
		})
	}
}

func TestBodyThatEndsEarlyIsTheClientsFault(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(`{"a"`), broken{io.ErrUnexpectedEOF}))
	r.Header.Set("Content-Type", "application/json")
	_, err := Body(r, 10)
	require.ErrorIs(t, err, fault.MalformedRequest)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	// A limit set further out is a limit too.
	r = httptest.NewRequest("POST", "/", broken{&http.MaxBytesError{Limit: 5}})
	r.Header.Set("Content-Type", "application/json")
	_, err = Body(r, 10)
	require.ErrorIs(t, err, fault.BodyTooLarge)
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestInformationalAnswersAreNotTheAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(Route{Method: "GET", Pattern: "/v1/x", Handler: func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusEarlyHints)
		return fault.PlayerNotFound.Errorf("no progress")
	}})
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/v1/x")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 404, resp.StatusCode)
}

// The zero Router answers too, without log and metrics.
func TestZeroRouter(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Router{}.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	requireProblem(t, w, 404, fault.RouteNotFound)
}

func TestAnAnswerCanBeSentAgain(t *testing.T) {
	t.Parallel()
	a := Problem(fault.PlayerBlocked.Errorf("until tomorrow"), "req-1")
	first, second := httptest.NewRecorder(), httptest.NewRecorder()
	require.NoError(t, a.Send(first))
	first.Header().Add("Content-Type", "changed")
	require.NoError(t, a.Send(second))
	require.Equal(t, "application/problem+json", strings.Join(second.Header().Values("Content-Type"), ","))
	require.Equal(t, first.Body.String(), second.Body.String())
}

func TestATraceThatNobodyKeepsEndsHere(t *testing.T) {
	t.Parallel()
	const theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	spans := tracetest.NewSpanRecorder()
	for name, test := range map[string]struct {
		sampler     sdktrace.Sampler
		traceparent string
		carried     string // the trace id
		kept        bool
	}{
		"begun here, not kept":   {sdktrace.NeverSample(), "", "", false},
		"begun here, kept":       {sdktrace.AlwaysSample(), "", "", true},
		"the caller's, not kept": {sdktrace.AlwaysSample(), theirs, theirs[3:35], false},
		"the caller's, kept":     {sdktrace.NeverSample(), theirs[:53] + "01", theirs[3:35], true},
	} {
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.ParentBased(test.sampler)))
		var carried string
		router := Router{Tracer: provider.Tracer("test"), Routes: []Route{{Method: "GET", Pattern: "/v1/x", Handler: func(_ http.ResponseWriter, r *http.Request) error {
			carried = tracing.Traceparent(r.Context())
			return nil
		}}}}
		r := httptest.NewRequest("GET", "/v1/x", nil)
		if test.traceparent != "" {
			r.Header.Set("Traceparent", test.traceparent)
		}
		router.Handler().ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, test.kept, strings.HasSuffix(carried, "-01"), name)
		require.Equal(t, test.carried != "" || test.kept, carried != "", name)
		require.Contains(t, carried, test.carried, name)
	}
	require.Len(t, spans.Ended(), 2)
}
