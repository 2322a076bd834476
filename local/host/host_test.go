package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/local/host"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if mode := os.Getenv("HOST_TEST_CHILD"); mode != "" {
		child(mode)
	}
	os.Exit(m.Run())
}

// The parts that test apps are made of.
const (
	proxied   = `"enableProxyingHttpRequest":true`
	forwarded = `"enableForwardingHttpRequest":true`
	bothWays  = `"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","route":"%s"},{"type":"http","direction":"out","name":"res"}]`
)

func hostJSON(handler, rest string) string {
	if handler != "" {
		handler = "," + handler
	}
	if rest != "" {
		rest = "," + rest
	}
	return fmt.Sprintf(`{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"handler"}%s},
		"extensionBundle":{"id":"x","version":"[4.38.0]"}%s}`, handler, rest)
}

func httpFunction(route string) string { return "{" + fmt.Sprintf(bothWays, route) + "}" }

func queueFunction(more string) string {
	return `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"msgs","queueName":"orders","connection":"SB"` + more + `}]}`
}

func timerFunction(schedule, more string) string {
	return `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"` + schedule + `"` + more + `}]}`
}

func root(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		if name != "host.json" {
			name += "/function.json"
		}
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// rig is a running host.
type rig struct {
	t       testing.TB
	host    *host.Host
	url     string
	log     *logs
	outcome chan host.Invocation
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error // once ended
}

// start runs a host on these files and waits until it is ready.
func start(t testing.TB, files map[string]string, options host.Options) *rig {
	t.Helper()
	r := launch(t, files, options)
	select {
	case <-r.host.Ready():
	case <-r.ended:
		require.NoError(t, r.err, r.log.String())
	case <-time.After(patience):
		require.Fail(t, "the host did not become ready", r.log.String())
	}
	r.url = "http://" + r.host.Addr().String()
	return r
}

func launch(t testing.TB, files map[string]string, options host.Options) *rig {
	t.Helper()
	app, err := host.Load(root(files), env())
	require.NoError(t, err)
	r := &rig{t: t, log: &logs{}, outcome: make(chan host.Invocation, 100_000), ended: make(chan struct{})}
	options.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	options.Observe = func(inv host.Invocation) { r.outcome <- inv }
	r.host = host.New(app, options)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.ended)
		r.err = r.host.Run(ctx)
	}()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) stop() error {
	r.t.Helper()
	r.cancel()
	select {
	case <-r.ended:
	case <-time.After(patience):
		require.Fail(r.t, "the host did not stop", r.log.String())
	}
	return r.err
}

// next is the next finished invocation.
func (r *rig) next() host.Invocation {
	r.t.Helper()
	select {
	case inv := <-r.outcome:
		return inv
	case <-time.After(patience):
		require.Fail(r.t, "no invocation ended", r.log.String())
		return host.Invocation{}
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (r *rig) do(method, path string, body io.Reader, headers ...string) answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, body)
	require.NoError(r.t, err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Add(headers[i], headers[i+1])
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	require.NoError(r.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return answer{response.StatusCode, response.Header, string(text)}
}

// handler is an in-process custom handler that serves with h, and is as hard to end as a process is easy to kill: it drops
// everything when its context ends.
func handler(h http.Handler) host.Handler { return host.InProcess(serving(h)) }

func serving(h http.Handler) func(ctx context.Context, getenv func(string) string) error {
	return func(ctx context.Context, getenv func(string) string) error {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:"+getenv("FUNCTIONS_CUSTOMHANDLER_PORT"))
		if err != nil {
			return err
		}
		server := &http.Server{Handler: h}
		context.AfterFunc(ctx, func() { server.Close() })
		server.Serve(listener)
		return nil
	}
}

// reply answers every invocation like this.
func reply(status int, contentType, body string) host.Handler {
	return handler(replying(status, contentType, body))
}

func replying(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// seen is an envelope as the handler got it.
type seen struct {
	request  *http.Request
	Data     map[string]json.RawMessage
	Metadata map[string]json.RawMessage
}

// recorder answers {} and passes on what it got.
func recorder(got chan<- seen) host.Handler { return handler(recording(got)) }

func recording(got chan<- seen) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		s := seen{request: r}
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		got <- s
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"Logs":["stored order 7"]}`)
	}
}

// logs collects text from many goroutines.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func publish(t testing.TB, broker *bus.Memory, bodies ...string) {
	t.Helper()
	var messages []bus.Message
	for i, body := range bodies {
		messages = append(messages, bus.Message{ID: fmt.Sprintf("m%d", i), Body: []byte(body)})
	}
	require.NoError(t, broker.Publish(t.Context(), "orders", messages))
}

// Contract §10: GET / and /admin/host/ping answer 200; §14.14: unknown routes 404.
func TestOwnEndpoints(t *testing.T) {
	t.Parallel()
	r := start(t, map[string]string{
		"host.json": hostJSON(proxied, ""),
		"get": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","route":"things","methods":["get"]},
			{"type":"http","direction":"out","name":"res"}]}`,
	}, host.Options{Handler: reply(299, "", "from the handler")})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200},
		{"GET", "/admin/host/ping", 200},
		{"POST", "/admin/host/ping", 200},
		{"GET", "/admin/host/status", 404},
		{"GET", "/api/things", 299},
		{"GET", "/API/Things", 299},
		{"POST", "/api/things", 404},
		{"GET", "/things", 404},
		{"GET", "/api/get", 404},
		{"POST", "/admin/functions/get", 400},
		{"POST", "/admin/functions/other", 404},
	} {
		require.Equal(t, c.status, r.do(c.method, c.path, nil).status, "%s %s", c.method, c.path)
	}
	require.Contains(t, r.do("GET", "/", nil).body, "up and running")
	require.NoError(t, r.stop())
}

// An app without functions starts no handler (contract §2.1).
func TestNoFunctionsNoHandler(t *testing.T) {
	t.Parallel()
	r := start(t, map[string]string{"host.json": hostJSON("", "")}, host.Options{
		Handler: host.InProcess(func(context.Context, func(string) string) error { panic("started") }),
	})
	require.Equal(t, 200, r.do("GET", "/", nil).status)
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	app, err := host.Load(root(map[string]string{"host.json": hostJSON("", ""), "q": queueFunction("")}), env())
	require.NoError(t, err)
	require.ErrorContains(t, host.New(app, host.Options{}).Run(t.Context()), "no handler")
	require.ErrorContains(t, host.New(app, host.Options{Handler: reply(200, "", "")}).Run(t.Context()), "no bus")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	options := host.Options{Handler: reply(200, "", ""), Bus: bus.NewMemory(time.Now), Listen: taken.Addr().String()}
	require.ErrorContains(t, host.New(app, options).Run(t.Context()), "address already in use")
}

// The console lines of a handler's answer are the function's own (contract §4.2: Logs at Information).
func TestAnswerLogs(t *testing.T) {
	t.Parallel()
	got := make(chan seen, 1)
	r := start(t, map[string]string{"host.json": hostJSON("", ""), "nightly": timerFunction("0 0 0 1 1 *", "")}, host.Options{Handler: recorder(got)})
	require.NoError(t, r.host.Trigger(t.Context(), "nightly"))
	inv := r.next()
	require.Contains(t, r.log.String(), `level=INFO msg="stored order 7" function=nightly invocation=`+inv.ID)
	require.ErrorContains(t, r.host.Trigger(t.Context(), "other"), "no timer function")
	require.Len(t, inv.ID, 36)
	require.Equal(t, strings.ToLower(inv.ID), inv.ID)
}
