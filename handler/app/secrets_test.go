package app

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

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
