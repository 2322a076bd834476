package azfunc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
)

// The tests are named after the lines of what a conforming handler must do, as the protocol's description numbers them.

// logbook keeps log lines.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// lines are the log's lines as objects; a line with two members of one name fails the test.
func (l *logbook) lines(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []map[string]any
	for s := bufio.NewScanner(strings.NewReader(l.text.String())); s.Scan(); {
		var line map[string]any
		require.NoError(t, json.Unmarshal(s.Bytes(), &line))
		for name := range line {
			require.Equal(t, 1, strings.Count(s.Text(), `"`+name+`":`), "%s in %s", name, s.Text())
		}
		lines = append(lines, line)
	}
	return lines
}

func post(h http.Handler, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("X-Azure-Functions-InvocationId", "5f0c2b0e-6a0e-4c0c-9d57-0c9f5a4f2c11")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// requireObject is what the host needs of every answer: not empty, JSON by its header, and an object.
func requireObject(t *testing.T, status int, header http.Header, body string) map[string]any {
	t.Helper()
	require.True(t, status == 200 || status >= 400, "status %d", status)
	require.Equal(t, "application/json", header.Get("Content-Type"))
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &object))
	require.NotNil(t, object)
	return object
}

// serve runs the server on a port of its own until stop, which returns what Serve returned.
func serve(t *testing.T, s *Server) (url string, stop func() error) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return "http://" + l.Addr().String(), stop
}

type answer struct {
	status int
	header http.Header
	body   string
}

func send(t *testing.T, method, url string, body io.Reader) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// later posts in the background and gives the status, 0 for none.
func later(url, body string) <-chan int {
	status := make(chan int, 1)
	go func() {
		defer close(status)
		resp, err := http.Post(url, "application/json", strings.NewReader(body))
		if err == nil {
			resp.Body.Close()
			status <- resp.StatusCode
		}
	}()
	return status
}

func nothing(context.Context, []Message) (Outcome, error) { return nil, nil }

func TestLine01ListensOnTheHostsPort(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"", "http", "0", "-1", "65536", "80 ", ":8080"} {
		err := new(Server).Run(t.Context(), port)
		require.Equal(t, &PortError{Value: port}, err)
		require.ErrorContains(t, err, "FUNCTIONS_CUSTOMHANDLER_PORT")
	}

	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(free.Addr().String())
	require.NoError(t, err)
	_, err = Listen(t.Context(), port)
	require.ErrorContains(t, err, "listen for the Functions host")
	require.NoError(t, free.Close())

	l, err := Listen(t.Context(), port)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:"+port, l.Addr().String())
	require.NoError(t, l.Close())
}

func TestLine02AnswersTheReadinessCheckWithoutSideEffects(t *testing.T) {
	t.Parallel()
	var log logbook
	s := &Server{Log: log.logger(), HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the readiness check reached the API")
	})}
	s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
		t.Error("the readiness check reached a stage")
		return nil, nil
	})
	handler := s.Handler()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		require.Equal(t, 200, w.Code)
		require.Equal(t, map[string]any{"status": "running"}, requireObject(t, w.Code, w.Header(), w.Body.String()))
	}
	require.Empty(t, log.lines(t))
	require.Zero(t, testutil.ToFloat64(s.invocations.WithLabelValues("fairness", succeeded)))
}

func TestLine03RoutesTheExactPath(t *testing.T) {
	t.Parallel()
	calls := 0
	s := &Server{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, r.Method, " ", r.URL.EscapedPath())
	})}
	s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
		calls++
		return nil, nil
	})
	url, _ := serve(t, s)
	for _, request := range []string{
		"POST /fairness/", "POST //fairness", "POST /./fairness", "POST /Fairness", "POST /fair%6eess", "POST /", "POST /v1/events",
		"GET /fairness", "PUT /fairness", "GET /api/fairness",
	} {
		method, path, _ := strings.Cut(request, " ")
		a := send(t, method, url+path, strings.NewReader(batch(t, "x")))
		require.Equal(t, http.StatusTeapot, a.status, request)
		require.Equal(t, request, a.body)
	}
	require.Zero(t, calls)
	a := send(t, "POST", url+"/fairness", strings.NewReader(batch(t, "x")))
	require.Equal(t, 200, a.status)
	requireObject(t, a.status, a.header, a.body)
	require.Equal(t, 1, calls)

	w := post(new(Server).Handler(), "/fairness", "")
	require.Equal(t, 404, w.Code)
	requireObject(t, w.Code, w.Header(), w.Body.String())
}

func TestLine03HandlesManyRequestsInParallel(t *testing.T) {
	t.Parallel()
	const parallel = 32
	var inside sync.WaitGroup
	inside.Add(parallel)
	s := &Server{}
	s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
		inside.Done()
		inside.Wait() // nobody leaves before all are in
		return nil, nil
	})
	url, _ := serve(t, s)
	statuses := make([]<-chan int, parallel)
	for i := range statuses {
		statuses[i] = later(url+"/fairness", batch(t, "x"))
	}
	for _, status := range statuses {
		require.Equal(t, 200, <-status)
	}
}

func TestFunctionsAreAddedOnce(t *testing.T) {
	t.Parallel()
	s := &Server{}
	s.Queue("fairness", "messages", nothing)
	for _, name := range []string{"fairness", "", "a/b", "a%20b"} {
		require.Panics(t, func() { s.Queue(name, "messages", nothing) }, name)
	}
}

func TestLine04AcceptsChunkedAndSizedBodies(t *testing.T) {
	t.Parallel()
	var got []string
	s := &Server{}
	s.Queue("fairness", "messages", func(_ context.Context, batch []Message) (Outcome, error) {
		got = append(got, string(batch[0].Body))
		return nil, nil
	})
	url, _ := serve(t, s)
	text := batch(t, "sized")
	send(t, "POST", url+"/fairness", strings.NewReader(text))
	text = batch(t, "chunked")
	require.Equal(t, 200, send(t, "POST", url+"/fairness", struct{ io.Reader }{strings.NewReader(text)}).status)
	require.Equal(t, []string{"sized", "chunked"}, got)
}

func TestLine04LimitsTheBody(t *testing.T) {
	t.Parallel()
	var log logbook
	text := batch(t, strings.Repeat("x", 1000))
	s := &Server{Log: log.logger(), MaxBody: int64(len(text))}
	s.Queue("fairness", "messages", nothing)
	s.Timer("archive", func(context.Context) (Outcome, error) { return nil, nil })
	url, _ := serve(t, s)
	require.Equal(t, 200, send(t, "POST", url+"/fairness", strings.NewReader(text)).status)
	for _, path := range []string{"/fairness", "/archive"} {
		a := send(t, "POST", url+path, struct{ io.Reader }{strings.NewReader(text + " ")})
		require.Equal(t, 413, a.status)
		require.Equal(t, "failed", requireObject(t, a.status, a.header, a.body)["error"])
	}
	require.Contains(t, log.lines(t)[1]["error"], "request body too large")
}

// A sender that stops in the middle of a body must not keep the invocation open.
func TestLine04DoesNotWaitForeverForABody(t *testing.T) {
	t.Parallel()
	s := &Server{Deadline: 50 * time.Millisecond}
	s.Queue("fairness", "messages", nothing)
	url, _ := serve(t, s)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "POST /fairness HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{\"Data\"")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 500, resp.StatusCode)
}

func TestLine05FailsABatchWhoseCountsDiffer(t *testing.T) {
	t.Parallel()
	var log logbook
	s := &Server{Log: log.logger()}
	s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
		t.Error("the stage saw half a batch")
		return nil, nil
	})
	w := post(s.Handler(), "/fairness", envelope(t, "messages", [][]byte{[]byte("a")}, batchMetadata(2)))
	require.Equal(t, 500, w.Code)
	line := log.lines(t)[0]
	require.Equal(t, "the envelope holds 1 bodies and 2 message ids", line["error"])
	require.Equal(t, "failed", line["outcome"])
	require.Equal(t, "fairness", line["function"])
}

func TestAnEmptyBatchNeedsNoStage(t *testing.T) {
	t.Parallel()
	s := &Server{}
	s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
		t.Error("an empty batch reached the stage")
		return nil, nil
	})
	require.Equal(t, 200, post(s.Handler(), "/fairness", batch(t)).Code)
}

// Whatever a stage does, the host gets a JSON object under a JSON header, and success only for success.
func TestLine08EveryAnswerIsAnObject(t *testing.T) {
	t.Parallel()
	type stage = func(context.Context) (Outcome, error)
	var null map[string]int
	for name, test := range map[string]struct {
		stage   stage
		status  int
		outcome string
		code    any
	}{
		"nothing":        {func(context.Context) (Outcome, error) { return nil, nil }, 200, "ok", nil},
		"an outcome":     {func(context.Context) (Outcome, error) { return Outcome{slog.Int("applied", 3)}, nil }, 200, "ok", nil},
		"an error":       {func(context.Context) (Outcome, error) { return nil, errors.New("boom") }, 500, "failed", "internal-error"},
		"a fault":        {func(context.Context) (Outcome, error) { return nil, fault.RedisUnavailable.Errorf("down") }, 500, "failed", "redis-unavailable"},
		"an empty error": {func(context.Context) (Outcome, error) { return nil, errors.New("") }, 500, "failed", "internal-error"},
		"a panic":        {func(context.Context) (Outcome, error) { null["x"] = 1; return nil, nil }, 500, "panicked", "internal-error"},
		"a nil panic":    {func(context.Context) (Outcome, error) { panic(nil) }, 500, "panicked", "internal-error"},
		"an abort":       {func(context.Context) (Outcome, error) { panic(http.ErrAbortHandler) }, 500, "panicked", "internal-error"},
		"an exit":        {func(context.Context) (Outcome, error) { runtime.Goexit(); return nil, nil }, 500, "panicked", "internal-error"},
		"a bad attribute": {func(context.Context) (Outcome, error) {
			return Outcome{slog.Any("x", make(chan int)), slog.Any("y", bomb{})}, nil
		}, 200, "ok", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logbook
			registry := prometheus.NewRegistry()
			s := &Server{Log: log.logger(), Registerer: registry}
			s.Timer("archive", test.stage)
			s.Queue("fairness", "messages", func(ctx context.Context, _ []Message) (Outcome, error) { return test.stage(ctx) })
			url, _ := serve(t, s)
			for _, path := range []string{"/archive", "/fairness"} {
				a := send(t, "POST", url+path, strings.NewReader(batch(t, "x")))
				require.Equal(t, test.status, a.status)
				object := requireObject(t, a.status, a.header, a.body)
				if test.status == 200 {
					require.JSONEq(t, `{"Outputs":{},"Logs":[],"ReturnValue":null}`, a.body)
				} else {
					require.Equal(t, map[string]any{"error": test.outcome, "code": test.code}, object)
				}
			}
			for _, line := range log.lines(t) {
				require.Equal(t, test.outcome, line["outcome"])
				require.Equal(t, test.code, line["code"])
				if test.outcome == "panicked" && name != "an exit" {
					require.Contains(t, line["stack"], "server_test.go")
				}
			}
			require.InDelta(t, 1, testutil.ToFloat64(s.invocations.WithLabelValues("archive", test.outcome)), 0)
			require.InDelta(t, 1, testutil.ToFloat64(s.invocations.WithLabelValues("fairness", test.outcome)), 0)
			n, err := testutil.GatherAndCount(registry, "function_invocations_total", "function_duration_seconds")
			require.NoError(t, err)
			require.Equal(t, 2*4+2, n) // every combination is there from the start
		})
	}
}

type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic("boom") }

func TestLine09EveryFailureIsFiveHundredAndInTheLog(t *testing.T) {
	t.Parallel()
	for code, level := range map[fault.Code]string{
		fault.MessageInvalid: "ERROR", fault.Unexpected: "ERROR", fault.RedisUnavailable: "WARN", fault.LockLost: "WARN",
	} {
		var log logbook
		s := &Server{Log: log.logger()}
		s.Queue("progression", "messages", func(context.Context, []Message) (Outcome, error) {
			return Outcome{slog.Int("applied", 2)}, fmt.Errorf("apply the batch: %w", code.Wrap(errors.New("dial tcp: refused"), "down"))
		})
		w := post(s.Handler(), "/progression", batch(t, "x", "y"))
		require.Equal(t, 500, w.Code)
		require.NotContains(t, w.Body.String(), "refused")
		line := log.lines(t)[0]
		require.Equal(t, level, line["level"])
		require.Equal(t, string(code), line["code"])
		require.Contains(t, line["error"], "apply the batch: ")
		require.Contains(t, line["error"], "dial tcp: refused")
		require.InDelta(t, 2, line["applied"], 0)
		require.InDelta(t, 2, line["messages"], 0)
		require.InDelta(t, 2, line["deliveries"], 0)
	}
}

// Output bindings lose message ids and mangle strings, so no stage can fill them.
func TestLine10AsksForNoOutputs(t *testing.T) {
	t.Parallel()
	s := &Server{}
	s.Queue("fairness", "messages", nothing)
	w := post(s.Handler(), "/fairness", batch(t, "x"))
	object := requireObject(t, w.Code, w.Header(), w.Body.String())
	require.Equal(t, map[string]any{"Outputs": map[string]any{}, "Logs": []any{}, "ReturnValue": nil}, object)
}

func TestLine11EveryInvocationHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var log logbook
		s := &Server{Log: log.logger(), Deadline: 20 * time.Second}
		s.Queue("fairness", "messages", func(ctx context.Context, _ []Message) (Outcome, error) {
			deadline, _ := ctx.Deadline()
			require.Equal(t, start.Add(20*time.Second), deadline)
			<-ctx.Done()
			return Outcome{slog.Int("applied", 1)}, fmt.Errorf("apply: %w", ctx.Err())
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the host's connection is gone, the invocation is not
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/fairness", strings.NewReader(batch(t, "x")))
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		require.Equal(t, 500, w.Code)
		require.Equal(t, 20*time.Second, time.Since(start))
		line := log.lines(t)[0]
		require.Equal(t, "timed out", line["outcome"])
		require.Equal(t, "apply: context deadline exceeded", line["error"])
		require.InDelta(t, 1, line["applied"], 0)
	})
}

func TestLine11AnswersForAStageThatIgnoresItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var log logbook
		release := make(chan struct{})
		s := &Server{Log: log.logger(), Deadline: 20 * time.Second, Hold: time.Minute}
		s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
			<-release
			return nil, nil
		})
		w := post(s.Handler(), "/fairness", batch(t, "x"))
		require.Equal(t, 500, w.Code)
		requireObject(t, w.Code, w.Header(), w.Body.String())
		require.Equal(t, 21*time.Second, time.Since(start))
		require.Equal(t, "timed out", log.lines(t)[0]["outcome"])
		close(release)
	})
}

// A stage that succeeds in the moment after its deadline did succeed.
func TestLine11LateSuccessIsSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Deadline: time.Second}
		s.Timer("archive", func(ctx context.Context) (Outcome, error) {
			<-ctx.Done()
			return nil, nil
		})
		require.Equal(t, 200, post(s.Handler(), "/archive", "{}").Code)
	})
}

var errPanic = errors.New("a panic")

// delivered is a batch whose messages were delivered so often; nil is one of which nobody told.
func delivered(t *testing.T, deliveries []int) string {
	t.Helper()
	n := max(1, len(deliveries))
	metadata := batchMetadata(n)
	delete(metadata, "DeliveryCountArray")
	if deliveries != nil {
		metadata["DeliveryCountArray"] = deliveries
	}
	return envelope(t, "messages", make([][]byte, n), metadata)
}

func TestLine11HoldsAFailedBatch(t *testing.T) {
	t.Parallel()
	unavailable := fault.DatabaseUnavailable.Errorf("down")
	for name, test := range map[string]struct {
		hold, deadline, works time.Duration
		err                   error
		deliveries            []int
		want                  time.Duration
	}{
		"a dependency is down":            {5 * time.Second, 20 * time.Second, time.Second, unavailable, []int{9}, 6 * time.Second},
		"wrapped":                         {5 * time.Second, 20 * time.Second, 0, fmt.Errorf("apply: %w", unavailable), []int{9}, 5 * time.Second},
		"the first time":                  {30 * time.Second, 45 * time.Second, 0, unavailable, []int{1}, time.Second},
		"the most delivered counts":       {30 * time.Second, 45 * time.Second, 0, unavailable, []int{1, 4, 2}, 8 * time.Second},
		"nobody told the deliveries":      {30 * time.Second, 45 * time.Second, 0, unavailable, nil, 30 * time.Second},
		"nor do they make sense":          {30 * time.Second, 45 * time.Second, 0, unavailable, []int{-1}, 30 * time.Second},
		"a panic":                         {30 * time.Second, 45 * time.Second, 0, errPanic, []int{2}, 2 * time.Second},
		"not beyond the deadline":         {time.Minute, 20 * time.Second, 3 * time.Second, unavailable, []int{9}, 20 * time.Second},
		"nor when it has passed":          {time.Minute, time.Second, time.Second, unavailable, []int{9}, time.Second},
		"nobody knows why":                {5 * time.Second, 20 * time.Second, 0, errors.New("boom"), []int{9}, 5 * time.Second},
		"someone else was faster":         {5 * time.Second, 20 * time.Second, 0, fault.LockLost.Errorf("lost"), []int{9}, 0},
		"success":                         {5 * time.Second, 20 * time.Second, time.Second, nil, []int{9}, time.Second},
		"without a hold it fails at once": {0, 20 * time.Second, 0, unavailable, []int{9}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				s := &Server{Log: log.logger(), Deadline: test.deadline, Hold: test.hold}
				s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
					time.Sleep(test.works) // the bubble's clock
					if errors.Is(test.err, errPanic) {
						panic(errPanic)
					}
					return nil, test.err
				})
				start := time.Now()
				w := post(s.Handler(), "/fairness", delivered(t, test.deliveries))
				require.Equal(t, test.err == nil, w.Code == 200)
				require.Equal(t, test.want, time.Since(start))
				line := log.lines(t)[0]
				require.InDelta(t, test.works.Seconds()*1000, line["duration_ms"], 0)
				if held := test.want - test.works; held > 0 {
					require.InDelta(t, held.Seconds()*1000, line["hold_ms"], 0)
				} else {
					require.NotContains(t, line, "hold_ms")
				}
			})
		})
	}
}

func TestLine11DoesNotHoldATimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Hold: time.Minute}
		s.Timer("archive", func(context.Context) (Outcome, error) { return nil, fault.DatabaseUnavailable.Errorf("down") })
		start := time.Now()
		require.Equal(t, 500, post(s.Handler(), "/archive", timerEnvelope).Code)
		require.Zero(t, time.Since(start))
	})
}

const timerEnvelope = `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"0001-01-01T00:00:00",` +
	`"Next":"2025-06-01T12:00:00+00:00","LastUpdated":"0001-01-01T00:00:00"},"IsPastDue":false}},` +
	`"Metadata":{"sys":{"MethodName":"archive","UtcNow":"2025-06-01T12:00:00Z","RandGuid":"0d0c"}}}`

func TestLine11TimersRun(t *testing.T) {
	t.Parallel()
	runs := 0
	s := &Server{}
	s.Timer("archive", func(context.Context) (Outcome, error) { runs++; return nil, nil })
	for _, text := range []string{timerEnvelope, `{"Data":{"timer":{"ScheduleStatus":null,"IsPastDue":true}}}`, `{}`, ``} {
		require.Equal(t, 200, post(s.Handler(), "/archive", text).Code)
	}
	require.Equal(t, 4, runs)
}

// A kill may come at any instruction, so what is known is written before the answer is held back.
func TestLine12TheLineComesBeforeTheHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		s := &Server{Log: log.logger(), Hold: 5 * time.Second}
		s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
			return nil, fault.RedisUnavailable.Errorf("down")
		})
		handler, text := s.Handler(), batch(t, "x")
		done := make(chan struct{})
		go func() {
			defer close(done)
			post(handler, "/fairness", text)
		}()
		synctest.Wait()
		require.Len(t, log.lines(t), 1)
		<-done
		require.Len(t, log.lines(t), 1)
	})
}

func TestLine13OneLinePerInvocation(t *testing.T) {
	t.Parallel()
	var log logbook
	s := &Server{Log: log.logger()}
	s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
		return Outcome{slog.Int("allowed", 2), slog.String("level", "x"), slog.String("msg", "x"), slog.String("time", "x"), slog.String("outcome", "x")}, nil
	})
	post(s.Handler(), "/fairness", batch(t, "a", "b"), "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	lines := log.lines(t)
	require.Len(t, lines, 1)
	delete(lines[0], "time")
	require.GreaterOrEqual(t, lines[0]["duration_ms"], 0.0)
	delete(lines[0], "duration_ms")
	require.Equal(t, map[string]any{
		"level": "INFO", "msg": "invocation", "function": "fairness", "invocation_id": "5f0c2b0e-6a0e-4c0c-9d57-0c9f5a4f2c11",
		"trace_id": "0af7651916cd43dd8448eb211c80319c", "outcome": "ok", "messages": 2.0, "deliveries": 2.0, "allowed": 2.0,
		"stage_level": "x", "stage_msg": "x", "stage_time": "x", "stage_outcome": "x",
	}, lines[0])
}

func TestLine14ServesUntilToldToStop(t *testing.T) {
	t.Parallel()
	var log logbook
	started, release := make(chan struct{}), make(chan struct{})
	s := &Server{Log: log.logger(), Drain: time.Minute}
	s.Queue("fairness", "messages", func(ctx context.Context, _ []Message) (Outcome, error) {
		close(started)
		<-release
		return nil, ctx.Err()
	})
	url, stop := serve(t, s)
	status := later(url+"/fairness", batch(t, "x"))
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Eventually(t, func() bool {
		_, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		return err != nil // takes no more requests
	}, 10*time.Second, 5*time.Millisecond)
	select {
	case <-stopped:
		t.Fatal("stopped with an invocation running")
	default:
	}
	close(release)
	require.Equal(t, 200, <-status)
	require.NoError(t, <-stopped)
}

func TestLine14AShutdownEndsTheHold(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{})
	s := &Server{Deadline: 2 * time.Hour, Hold: time.Hour, Drain: time.Minute}
	s.Queue("fairness", "messages", func(context.Context, []Message) (Outcome, error) {
		close(failed)
		return nil, fault.RedisUnavailable.Errorf("down")
	})
	url, stop := serve(t, s)
	status := later(url+"/fairness", delivered(t, nil))
	<-failed
	require.NoError(t, stop())
	require.Equal(t, 500, <-status)
}

func TestLine14ADrainEnds(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	cause := make(chan error, 1)
	s := &Server{Drain: 10 * time.Millisecond}
	s.Queue("fairness", "messages", func(ctx context.Context, _ []Message) (Outcome, error) {
		close(started)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	url, stop := serve(t, s)
	status := later(url+"/fairness", batch(t, "x"))
	<-started
	require.ErrorIs(t, stop(), context.DeadlineExceeded)
	require.ErrorIs(t, <-cause, fault.ShuttingDown)
	require.Equal(t, 500, <-status)
}

func TestLine14ABrokenListenerIsAnError(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorIs(t, new(Server).Serve(t.Context(), l), net.ErrClosed)
}

func TestLine15ConnectionsOutliveTheHosts(t *testing.T) {
	t.Parallel()
	var log logbook
	server := (&Server{Log: log.logger()}).server()
	require.Greater(t, server.IdleTimeout, 2*time.Minute)
	require.Zero(t, server.ReadTimeout)
	require.Zero(t, server.WriteTimeout)
	require.Positive(t, server.ReadHeaderTimeout)
	server.ErrorLog.Print("accept error")
	require.Equal(t, "accept error", log.lines(t)[0]["msg"])
}

// The read deadline of one invocation must not outlive it: the host sends the next one over the same connection.
func TestLine15AConnectionServesManyInvocations(t *testing.T) {
	t.Parallel()
	s := &Server{Deadline: 300 * time.Millisecond}
	s.Timer("archive", func(ctx context.Context) (Outcome, error) {
		<-ctx.Done() // beyond the deadline of reading
		return nil, nil
	})
	url, _ := serve(t, s)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for range 2 {
		fmt.Fprint(conn, "POST /archive HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}")
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.False(t, resp.Close)
		requireObject(t, resp.StatusCode, resp.Header, string(body))
	}
}

func TestLine16TheLastInvocationIDCounts(t *testing.T) {
	t.Parallel()
	var seen []string
	s := &Server{HTTP: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, InvocationID(r.Context()))
	})}
	s.Queue("fairness", "messages", func(ctx context.Context, _ []Message) (Outcome, error) {
		seen = append(seen, InvocationID(ctx))
		return nil, nil
	})
	for _, values := range [][]string{{"client", "host"}, {"client, host"}, {"host"}, {}, {strings.Repeat("x", 65)}} {
		for _, path := range []string{"/fairness", "/v1/events"} {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(batch(t, "x")))
			for _, v := range values {
				r.Header.Add("X-Azure-Functions-InvocationId", v)
			}
			s.Handler().ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	require.Equal(t, []string{"host", "host", "host", "host", "host", "host", "", "", "", ""}, seen)
	require.Empty(t, InvocationID(t.Context()))
}
