package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"liveops/core/bus/servicebus"
	"liveops/core/receipt"
	"liveops/core/season"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/handler/logging"
)

// leaks are what the first bytes of a secret look like when they are printed, logged or encoded.
func leaks(begin []byte) []string {
	all := []string{string(begin), base64.StdEncoding.EncodeToString(begin)[:len(begin)], base64.URLEncoding.EncodeToString(begin)[:len(begin)]}
	for _, verb := range []string{"%v", "%#v", "%x", "%X", "% x", "%o", "%b"} {
		text := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf(verb, begin), "[]byte"), "}")
		all = append(all, strings.Trim(text, "[]{"), strings.ReplaceAll(strings.Trim(text, "[]{"), " ", ","))
	}
	return all
}

// Whoever logs, prints or encodes what holds a secret, or what holds that in turn, does not show it.
func TestNoTypeShowsItsSecret(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	a := e.app(t)
	config, err := read(minimal())
	require.NoError(t, err)
	sealer, err := season.NewSealer(season.Key{Secret: []byte(secret("archive"))})
	require.NoError(t, err)
	receipts, err := receipt.NewKeys(receipt.Key{ID: "r", Secret: []byte(secret("receipt")), Algorithm: receipt.EdDSA})
	require.NoError(t, err)
	master := secret("session")
	session := sessionKey(master, signing.SessionID{Player: "ada", Session: "s", Expires: noon})

	database, err := store.Open(config.DBURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	cache, err := store.OpenRedis(config.RedisURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cache.Close()) })
	queues, err := servicebus.Open(servicebus.Config{ConnectionString: config.ServiceBus})
	require.NoError(t, err)

	hidden := [][]byte{[]byte("hush-"), session.Secrets[0][:6]}
	for _, made := range []string{"liveops archive key\n" + secret("archive"), "liveops receipt key\n" + secret("receipt")} {
		seed := sha256.Sum256([]byte(made))
		hidden = append(hidden, seed[:6])
	}
	for name, value := range map[string]any{
		"a secret": signing.Secret(secret("x")), "a key": key(signing.Server), "a session's key": session, "a keyring": a.keyring.Load(), "a verifier": a.verifier,
		"a receipt key": receipt.Key{ID: "r", Secret: []byte(secret("receipt")), Algorithm: receipt.EdDSA}, "receipt keys": receipts,
		"an archive key": season.Key{Secret: []byte(secret("archive"))}, "a sealer": sealer,
		"configuration": config, "configuration of this application": a.config, "an application": a,
		"a database": database, "redis": cache, "queues": queues, "a gate": a.gate, "a ranking": a.ranking, "windows": a.windows,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var shown bytes.Buffer
			for _, v := range []any{
				value, &value,
				[]any{value},
				[1]any{value},
				map[string]any{"v": value},
				struct{ V any }{value},
				&struct{ V any }{value},
				map[string][]any{"v": {struct{ V any }{value}}},
				fmt.Errorf("wrapped: %w", errors.New(fmt.Sprint(value))),
			} {
				for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%c", "%U", "%b", "%t"} {
					fmt.Fprintf(&shown, verb+"\n", v)
				}
				for _, log := range []*slog.Logger{
					slog.New(slog.NewTextHandler(&shown, nil)), slog.New(slog.NewJSONHandler(&shown, nil)), logging.New(&shown, slog.LevelDebug, e.clock),
				} {
					log.Info("x", slog.Any("v", v), slog.Group("g", slog.Any("v", v)))
					log.With(slog.Any("v", v)).WithGroup("g").Error(fmt.Sprint(v), slog.Any("v", []any{v}))
				}
				if text, err := json.Marshal(v); err == nil {
					shown.Write(text)
				}
				if text, err := jsonv2.Marshal(v); err == nil {
					shown.Write(text)
				}
			}
			for _, begin := range hidden {
				for _, leak := range leaks(begin) {
					require.NotContains(t, shown.String(), leak)
				}
			}
		})
	}
}

// refuser is a server that says one thing to everybody and hangs up.
func refuser(t *testing.T, answer string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Write([]byte(answer))
			_ = connection.Close()
		}
	}()
	return listener.Addr().String()
}

// Whatever fails, the log at its most detailed and what callers are told hold no secret.
func TestNoFailureTellsASecret(t *testing.T) {
	t.Parallel()
	denied := "\xff\x15\x04#28000Access denied for user 'liveops'@'host' (using password: YES)"
	denied = string([]byte{byte(len(denied)), 0, 0, 0}) + denied // as MySQL does when it takes no more connections
	guarded := miniredis.RunT(t)
	guarded.RequireAuth("another")
	for name, change := range map[string]map[string]string{
		"nobody is there":     {"DB_URL": "mysql://liveops:hush-db@" + freeAddress(t) + "/liveops", "REDIS_URL": "redis://:hush-redis@" + freeAddress(t)},
		"they refuse":         {"DB_URL": "mysql://liveops:hush-db@" + refuser(t, denied) + "/liveops", "REDIS_URL": "redis://:hush-redis@" + guarded.Addr()},
		"they speak nonsense": {"DB_URL": "mysql://liveops:hush-db@" + refuser(t, "x") + "/liveops", "REDIS_URL": "redis://:hush-redis@" + refuser(t, "x\r\n")},
		"a host is unknown":   {"DB_URL": "mysql://liveops:hush-db@nowhere.invalid:3306/liveops", "REDIS_URL": "rediss://:hush-redis@nowhere.invalid:6380"},
		"a queue is away":     {"BUS_KIND": "servicebus", "SERVICEBUS": "Endpoint=sb://" + freeAddress(t) + ";SharedAccessKeyName=k;SharedAccessKey=hush-bus;UseDevelopmentEmulator=true"},
		"TLS is not spoken":   {"DB_URL": "mysql://liveops:hush-db@" + refuser(t, denied) + "/liveops", "DB_TLS": "true", "REDIS_URL": "rediss://:hush-redis@" + guarded.Addr()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			maps.Copy(e.settings, change)
			e.settings["LOG_LEVEL"] = "debug"
			config, err := ReadConfig(e.getenv)
			require.NoError(t, err)
			options := e.options()
			options.Log = logging.New(e.log, config.LogLevel, time.Now)
			a, err := New(config, options)
			require.NoError(t, err)
			options.Log.Debug("configuration", slog.Any("config", config))
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			require.NoError(t, a.start(ctx))
			c := &client{t: t, handler: a.functions().Handler(), app: a}
			a.started.Store(true) // as if it all went away later
			var all sync.WaitGroup
			var told logs
			ask := func(class signing.Class, method, target, body string) {
				r := request(t, class, method, target, []byte(body))
				all.Go(func() {
					w := httptest.NewRecorder()
					c.handler.ServeHTTP(w, r)
					_, _ = told.Write(w.Body.Bytes())
				})
			}
			for _, target := range []string{"/readyz", "/v1/players/ada", "/v1/leaderboards/open-board"} {
				ask(signing.Server, http.MethodGet, target, "")
			}
			ask(signing.Admin, http.MethodGet, "/v1/operations/cases", "")
			for range 12 { // so often that the log leaves some out
				ask(signing.Server, http.MethodPost, "/v1/events", xpText("e", "ada", 1))
			}
			all.Wait()
			for _, function := range []string{"fairness", "progression", "archive", "redrive"} {
				c.invoke(function, acceptedBody(t, xpText("e", "ada", 1)))
			}
			a.Close()
			for _, leak := range leaks([]byte("hush-")) {
				require.NotContains(t, told.String(), leak)
				require.NotContains(t, e.log.String(), leak)
			}
			lines := e.log.take(t)
			require.Len(t, of("invocation", lines), 4)
			require.NotEmpty(t, of("configuration", lines))
			left := of("lines left out", lines)
			require.Len(t, left, 1, "the end of the application tells it")
			require.Equal(t, []any{"request", "/v1/events", 2.0}, []any{left[0]["like"], left[0]["route"], left[0]["suppressed"]})
		})
	}
}
