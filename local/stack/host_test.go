package stack_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	adapter "liveops/core/bus/servicebus"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/local/host"
	"liveops/local/servicebus"
	"liveops/local/stack"
)

// TestForwarding runs the host in its other HTTP mode. Signed requests pass as long as the host leaves them whole, which it
// does not with a chunked body.
func TestForwarding(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, backend{settings: map[string]string{
		"AzureFunctionsJobHost__customHandler__enableProxyingHttpRequest":   "false",
		"AzureFunctionsJobHost__customHandler__enableForwardingHttpRequest": "true",
	}}, "chess", now)
	_, statuses := s.post(t, scoreEvent("s", "ada", "rating", 1500, now))
	require.Equal(t, []string{"accepted"}, statuses)
	s.quiet(t)
	require.Len(t, s.entries(t, "/v1/leaderboards/rating?window=all_time&limit=5"), 1)
	response, text := s.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(xpEvent("x", "ada", 10, now)), func(r *http.Request) {
		r.ContentLength = -1
	})
	require.Equal(t, http.StatusUnsupportedMediaType, response.StatusCode, "the host lost the body and what described it: %s", text)
}

// TestStagedRoot builds the production handler, assembles the script root as `make stage` does, and starts it as a child
// process of the host. Handler and host have nothing in common but the environment and the endpoint of the queues; while that
// is out of reach, reads work and writes are told to come back.
func TestStagedRoot(t *testing.T) {
	t.Parallel()
	b := realBackend(t)
	if b.db == "" {
		t.Skip("the production handler links no stand-ins: needs MySQL and Redis servers")
	}
	repository, root := filepath.Join("..", ".."), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(root, "handler"), "./handler")
	build.Dir, build.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.CopyFS(root, host.Layout(os.DirFS(repository))))
	db, err := store.Open(b.db)
	require.NoError(t, err)
	_, err = db.Migrate(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Close())

	broker := bus.NewMemory(time.Now, bus.Queue{Name: "events", DuplicateWindow: 10 * time.Minute}, bus.Queue{Name: "progression", DuplicateWindow: 10 * time.Minute})
	endpoint := servicebus.New(broker, servicebus.Options{Key: servicebus.Key{Name: "k", Value: "a2V5"}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- endpoint.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, endpoint.Close())
		require.NoError(t, <-served)
	})
	connection := endpoint.ConnectionString(listener.Addr().String())
	queues, err := adapter.Open(adapter.Config{ConnectionString: connection})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, queues.Close(context.Background())) })

	secret := strings.Repeat("s", 32)
	settings := map[string]string{
		"DB_URL": b.db, "REDIS_URL": b.redis, "EVENTS_QUEUE": "events", "PROGRESSION_QUEUE": "progression",
		"BUS_KIND": "servicebus", "SERVICEBUS": connection,
		"CATALOG_FILE": mustAbs(t, filepath.Join(repository, "examples", "chess", "catalog.yaml")),
		"HMAC_SECRET":  secret, "RECEIPT_SECRET": strings.Repeat("r", 32), "ARCHIVE_SECRET": strings.Repeat("a", 32), "CURSOR_SECRET": strings.Repeat("c", 32), "SESSION_SECRET": strings.Repeat("p", 32), "METRICS_ADDR": "off",
	}
	var environment []string
	for name, value := range settings {
		environment = append(environment, name+"="+value)
	}
	app, err := host.Load(os.DirFS(root), func(name string) string { return settings[name] })
	require.NoError(t, err)
	running := host.New(app, host.Options{Handler: host.Command(root, environment...), Bus: queues})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	select {
	case <-running.Ready():
	case err := <-ended:
		ended <- err // the cleanup waits for it
		require.NoError(t, err)
	}
	address := "http://" + running.Addr().String()
	require.Eventually(t, func() bool {
		response, err := http.Get(address + "/readyz")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond)

	s := &system{Stack: &stack.Stack{URL: address, Bus: broker}, clock: time.Now}
	s.Secrets.Keys = []stack.Key{{ID: "server", Class: signing.Server, Secrets: []string{secret}}}
	require.Empty(t, s.entries(t, "/v1/leaderboards/rating?window=all_time"))
	_, statuses := s.post(t, xpEvent("x", "ada", 10, time.Now()), scoreEvent("s", "ada", "rating", 1500, time.Now()))
	require.Equal(t, []string{"accepted", "accepted"}, statuses)
	s.quiet(t)
	require.EqualValues(t, 10, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
	require.Len(t, s.entries(t, "/v1/leaderboards/rating?window=all_time"), 1)

	endpoint.Fail(func(servicebus.Operation) servicebus.Fault { return servicebus.Fault{Kind: servicebus.Drop} })
	endpoint.Cut()
	s.unavailable(t, http.MethodPost, "/v1/events", xpEvent("later", "ada", 10, time.Now()))
	require.EqualValues(t, 10, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
	endpoint.Fail(nil)
	_, statuses = s.post(t, xpEvent("later", "ada", 10, time.Now()), xpEvent("x", "ada", 10, time.Now()))
	require.Equal(t, []string{"accepted", "duplicate"}, statuses)
	s.quiet(t)
	require.EqualValues(t, 20, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
	s.noneDead(t)
	for path, status := range map[string]int{
		"/v1/players/ada": http.StatusUnauthorized, "/v1/leaderboards/rating": http.StatusOK, "/v1/leaderboards/nope": http.StatusNotFound,
	} {
		response, err := http.Get(address + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, status, response.StatusCode, "%s, unsigned", path)
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	return path
}
