package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/core/store/storetest"
	"liveops/handler/azfunc"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const game = `
version: 1
name: test
events:
  xp_gained: {fields: {amount: {min: 1, max: 100}, source: {enum: [match]}}}
xp: {table: [0, 100]}
boards:
  open-board: {operator: sum, order: desc, zone: UTC, windows: [daily], public: true}
  aged-board: {operator: best, windows: [all_time], public: true, age: 1m, metadata: {title: Old}}
  shut-board: {operator: sum, order: desc, zone: UTC, windows: [daily]}
`

// secret is one that nobody should ever read in a log.
func secret(name string) string { return "hush-" + name + "-" + strings.Repeat("x", 32) }

// environment is a complete one, on embedded stores with a current schema.
type environment struct {
	settings map[string]string
	redis    *miniredis.Miniredis
	bus      *bus.Memory
	log      *logs
	level    slog.Level // of the log
	clock    func() time.Time
}

func newEnvironment(t *testing.T) *environment {
	t.Helper()
	dir := t.TempDir()
	url := "sqlite:" + filepath.Join(dir, "test.db")
	db, err := store.Open(url)
	require.NoError(t, err)
	_, err = db.Migrate(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Close())
	catalog := filepath.Join(dir, "catalog.yaml")
	require.NoError(t, os.WriteFile(catalog, []byte(game), 0o600))
	_, server := storetest.Miniredis(t)

	var keys []map[string]any
	for _, class := range []signing.Class{signing.Server, signing.Client, signing.Admin} {
		keys = append(keys, map[string]any{"id": string(class), "class": class, "secrets": []string{secret(string(class))}})
	}
	text, err := json.Marshal(keys)
	require.NoError(t, err)
	clock := func() time.Time { return noon }
	return &environment{
		settings: map[string]string{
			"DB_URL": url, "REDIS_URL": "redis://" + server.Addr(), "BUS_KIND": "memory", "CATALOG_FILE": catalog,
			"HMAC_KEYS": string(text), "RECEIPT_SECRET": secret("receipt"), "ARCHIVE_SECRET": secret("archive"), "CURSOR_SECRET": secret("cursor"),
			"SESSION_SECRET": secret("session"),
			"METRICS_ADDR":   "off", "BATCH_HOLD": "0s",
		},
		redis: server, log: &logs{}, clock: clock,
		bus: bus.NewMemory(clock, bus.Queue{Name: "events"}, bus.Queue{Name: "progression"}),
	}
}

var classes = []signing.Class{signing.Server, signing.Client, signing.Session, signing.Admin}

// key is the environment's key of a class; a session's is ada's.
func key(class signing.Class) signing.Key {
	if class == signing.Session {
		return sessionKey(secret("session"), signing.SessionID{Player: "ada", Session: "s", Expires: noon.Add(time.Hour)})
	}
	return signing.Key{ID: string(class), Class: class, Secrets: []signing.Secret{signing.Secret(secret(string(class)))}}
}

// sessionKey is the key of a session under a master secret.
func sessionKey(master string, s signing.SessionID) signing.Key {
	other := signing.Key{ID: "other", Class: signing.Admin, Secrets: []signing.Secret{signing.Secret(secret("other"))}}
	ring, err := signing.NewKeyring([]signing.Key{other}, signing.Secret(master))
	if err != nil {
		panic(err)
	}
	key, err := ring.SessionKey(s)
	if err != nil {
		panic(err)
	}
	return key
}

func (e *environment) getenv(name string) string { return e.settings[name] }

func (e *environment) options() Options {
	return Options{Version: "test", Bus: e.bus, Now: e.clock, Log: slog.New(slog.NewJSONHandler(e.log, &slog.HandlerOptions{Level: e.level}))}
}

// app is the application of an environment, not yet started.
func (e *environment) app(t *testing.T) *App {
	t.Helper()
	config, err := ReadConfig(e.getenv)
	require.NoError(t, err)
	a, err := New(config, e.options())
	require.NoError(t, err)
	t.Cleanup(a.Close)
	a.redrive.Wait = time.Millisecond
	return a
}

// running is the application of an environment, ready to take requests in process.
func (e *environment) running(t *testing.T) *client {
	t.Helper()
	a := e.app(t)
	require.NoError(t, a.start(t.Context()))
	return &client{t: t, handler: a.functions().Handler(), app: a}
}

// logs keeps what was logged.
type logs struct {
	mu    sync.Mutex
	text  bytes.Buffer
	taken int // bytes that take gave
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

// take gives the lines since the last call. One that is no JSON, or names a member twice, fails the test.
func (l *logs) take(t *testing.T) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range strings.Lines(l.text.String()[l.taken:]) {
		var line map[string]any
		require.NoError(t, jsonv2.Unmarshal([]byte(text), &line), text)
		lines = append(lines, line)
	}
	l.taken = l.text.Len()
	return lines
}

// client asks an application as the Functions host hands requests through.
type client struct {
	t       *testing.T
	handler http.Handler
	app     *App
}

// request makes one at noon, signed with the key of a class unless that is empty.
func request(t *testing.T, class signing.Class, method, target string, body []byte) *http.Request {
	t.Helper()
	return requestAt(t, noon, class, method, target, body)
}

func requestAt(t *testing.T, at time.Time, class signing.Class, method, target string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	require.NoError(t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", signing.NewNonce())
	}
	if class != "" {
		require.NoError(t, signing.SignHTTP(r, key(class), body, at, signing.NewNonce()))
	}
	return r
}

// ask gives the status and the body of an answer.
func (c *client) ask(class signing.Class, method, target, body string) (int, map[string]any) {
	c.t.Helper()
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, request(c.t, class, method, target, []byte(body)))
	answer := map[string]any{}
	require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &answer), "%s", w.Body)
	return w.Code, answer
}

// answered gives an unsigned answer, which must be a good one, as T reads it.
func answered[T any](c *client, target string) T {
	c.t.Helper()
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, request(c.t, "", http.MethodGet, target, nil))
	require.Equal(c.t, http.StatusOK, w.Code, "%s: %s", target, w.Body)
	var answer T
	require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &answer), "%s", w.Body)
	return answer
}

// invoke calls a queue function with messages, as the host does, and gives the status.
func (c *client) invoke(function string, bodies ...[]byte) int {
	c.t.Helper()
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, invocation(c.t, "", function, bodies...))
	return w.Code
}

func invocation(t *testing.T, address, function string, bodies ...[]byte) *http.Request {
	t.Helper()
	encoded, ids := make([]string, len(bodies)), make([]string, len(bodies))
	for i, body := range bodies {
		encoded[i], ids[i] = base64.StdEncoding.EncodeToString(body), "id-"+strconv.Itoa(i)
	}
	text := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return string(b)
	}
	envelope := text(map[string]any{
		"Data": map[string]string{"messages": text(encoded)}, "Metadata": map[string]string{"MessageIdArray": text(ids)},
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/"+function, strings.NewReader(envelope))
	require.NoError(t, err)
	return r
}

func xpText(id, player string, amount int) string {
	return fmt.Sprintf(`{"event_id":%q,"type":"xp_gained","player_id":%q,"occurred_at":%q,"data":{"amount":%d,"source":"match"}}`,
		id, player, noon.Format(time.RFC3339), amount)
}

func scoreText(id, player, board string, score int) string {
	return fmt.Sprintf(`{"event_id":%q,"type":"score_submitted","player_id":%q,"occurred_at":%q,"data":{"board":%q,"score":%d}}`,
		id, player, noon.Format(time.RFC3339), board, score)
}

// acceptedBody is the body of a queue message.
func acceptedBody(t *testing.T, text string) []byte {
	t.Helper()
	e, err := event.Decode([]byte(text))
	require.NoError(t, err)
	body, err := event.Accepted{Event: e, At: noon, ReceivedAt: noon, KeyID: "server"}.Encode()
	require.NoError(t, err)
	return body
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// process is an application that runs as its program runs it.
type process struct {
	url, metrics string
	stop         func()
	done         chan error
}

func (e *environment) start(t *testing.T) *process {
	t.Helper()
	address, metrics := freeAddress(t), freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	settings := maps.Clone(e.settings)
	settings[azfunc.PortVariable], settings["METRICS_ADDR"] = port, metrics
	ctx, stop := context.WithCancel(t.Context())
	p := &process{url: "http://" + address, metrics: "http://" + metrics, stop: stop, done: make(chan error, 1)}
	go func() { p.done <- Run(ctx, func(name string) string { return settings[name] }, e.options()) }()
	t.Cleanup(stop)
	for _, url := range []string{p.url + "/readyz", p.metrics + "/readyz"} {
		require.Eventually(t, func() bool {
			status, _ := get(t, url)
			return status == http.StatusOK
		}, 10*time.Second, 5*time.Millisecond)
	}
	return p
}

func get(t *testing.T, url string) (int, string) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}
