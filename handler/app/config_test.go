package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

// minimal is the least that production needs.
func minimal() map[string]string {
	return map[string]string{
		"DB_URL": "mysql://liveops:hush-db@db:3306/liveops", "REDIS_URL": "rediss://:hush-redis@cache:6380",
		"SERVICEBUS":   "Endpoint=sb://x/;SharedAccessKeyName=k;SharedAccessKey=hush-bus",
		"CATALOG_FILE": "catalog.yaml", "HMAC_SECRET": secret("hmac"), "RECEIPT_SECRET": secret("receipt"), "ARCHIVE_SECRET": secret("archive"), "CURSOR_SECRET": secret("cursor"), "SESSION_SECRET": secret("session"),
	}
}

func read(settings map[string]string) (Config, error) {
	return ReadConfig(func(name string) string { return settings[name] })
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	c, err := read(minimal())
	require.NoError(t, err)
	require.Equal(t, []string{"servicebus", "events", "progression", ":9464"}, []string{c.BusKind, c.EventsQueue, c.ProgressionQueue, c.MetricsAddr})
	require.Equal(t, []time.Duration{5 * time.Minute, 30 * time.Second}, []time.Duration{c.Skew, c.Hold})
	require.Equal(t, slog.LevelInfo, c.LogLevel)
	require.Nil(t, c.DBTLS)
	require.Equal(t, 32, c.DBMaxConns)
	require.Len(t, c.Keys, 1)
	require.Equal(t, "server", c.Keys[0].ID)
	require.Equal(t, signing.Server, c.Keys[0].Class)
	require.Equal(t, signing.Secret(secret("hmac")), c.Keys[0].Secrets[0])
	require.Len(t, c.ReceiptKeys, 1)
	require.Equal(t, secret("cursor"), string(c.CursorSecret))
}

func TestConfigSettings(t *testing.T) {
	t.Parallel()
	settings := minimal()
	delete(settings, "SERVICEBUS")
	maps.Copy(settings, map[string]string{
		"SERVICEBUS__fullyQualifiedNamespace": "x.servicebus.windows.net", "EVENTS_QUEUE": "e", "PROGRESSION_QUEUE": "p",
		"METRICS_ADDR": "off", "SIGNATURE_SKEW": "1m", "BATCH_HOLD": "0s", "LOG_LEVEL": "DEBUG", "DB_TLS": "true", "DB_MAX_CONNS": "4",
		"HMAC_SECRET": secret("new") + "," + secret("old"), "RECEIPT_SECRET": secret("r-new") + "," + secret("r-old"),
		"HMAC_KEYS": `[{"id":"app","class":"client","secrets":["` + secret("client") + `"]}]`,
	})
	c, err := read(settings)
	require.NoError(t, err)
	require.Equal(t, []string{"", "x.servicebus.windows.net", "e", "p", "off"}, []string{c.ServiceBus, c.Namespace, c.EventsQueue, c.ProgressionQueue, c.MetricsAddr})
	settings["AZURE_SERVICEBUS_NAMESPACE"] = "y.servicebus.windows.net"
	named, err := read(settings)
	require.NoError(t, err)
	require.Equal(t, "y.servicebus.windows.net", named.Namespace, "the handler's own name comes before that of the host's trigger")
	require.Equal(t, []time.Duration{time.Minute, 0}, []time.Duration{c.Skew, c.Hold})
	require.Equal(t, slog.LevelDebug, c.LogLevel)
	require.NotNil(t, c.DBTLS)
	require.False(t, c.DBTLS.InsecureSkipVerify)
	require.Equal(t, 4, c.DBMaxConns)
	require.Len(t, c.Keys, 2)
	require.Len(t, c.Keys[0].Secrets, 2, "two are live during a rotation")
	require.Equal(t, signing.Client, c.Keys[1].Class)
	require.Len(t, c.ReceiptKeys, 2)
	require.NotEqual(t, c.ReceiptKeys[0].ID, c.ReceiptKeys[1].ID)

	// The id of a receipt key belongs to its secret, so that a rotation only reorders the list.
	settings["RECEIPT_SECRET"] = secret("r-old")
	alone, err := read(settings)
	require.NoError(t, err)
	require.Equal(t, c.ReceiptKeys[1].ID, alone.ReceiptKeys[0].ID)
}

func TestConfigProblems(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for name, test := range map[string]struct {
		change   map[string]string // "" takes a setting away
		problems []string          // each error line holds one, in order
	}{
		"nothing set": {
			map[string]string{"DB_URL": "", "REDIS_URL": "", "SERVICEBUS": "", "CATALOG_FILE": "", "HMAC_SECRET": "", "RECEIPT_SECRET": "", "ARCHIVE_SECRET": "", "CURSOR_SECRET": "", "SESSION_SECRET": ""},
			[]string{"DB_URL is not set", "REDIS_URL is not set", "CATALOG_FILE is not set", "SERVICEBUS", "HMAC_SECRET or HMAC_KEYS", "SESSION_SECRET is not set", "RECEIPT_SECRET is not set", "ARCHIVE_SECRET is not set", "CURSOR_SECRET is not set"},
		},
		"everything wrong": {
			map[string]string{
				"BUS_KIND": "kafka", "SIGNATURE_SKEW": "soon", "BATCH_HOLD": "1h", "LOG_LEVEL": "loud", "DB_TLS": "yes", "DB_MAX_CONNS": "many",
				"HMAC_SECRET": "hush-short", "RECEIPT_SECRET": "hush-short", "ARCHIVE_SECRET": "hush-short", "CURSOR_SECRET": "hush-short", "SESSION_SECRET": "hush-short",
			},
			[]string{"SIGNATURE_SKEW", "BATCH_HOLD", `DB_MAX_CONNS: "many"`, "DB_TLS: neither", "BUS_KIND", "LOG_LEVEL", "HMAC_SECRET: secret 1", "SESSION_SECRET: secret 1", "RECEIPT_SECRET: secret 1", "ARCHIVE_SECRET: secret 1", "CURSOR_SECRET has 10 bytes"},
		},
		"both ways to the broker":  {map[string]string{"SERVICEBUS__fullyQualifiedNamespace": "x"}, []string{"one of the two"}},
		"both, by the own name":    {map[string]string{"AZURE_SERVICEBUS_NAMESPACE": "x"}, []string{"one of the two"}},
		"the second secret short":  {map[string]string{"HMAC_SECRET": secret("a") + ",hush-short"}, []string{"HMAC_SECRET: secret 2 of the list has 10 bytes"}},
		"an empty one in the list": {map[string]string{"RECEIPT_SECRET": secret("a") + ","}, []string{"RECEIPT_SECRET: secret 2 of the list has 0 bytes"}},
		"a session secret twice":   {map[string]string{"SESSION_SECRET": secret("a") + "," + secret("a")}, []string{"signing keys: sessions: secret 2 is also a secret of sessions"}},
		"a session secret shared":  {map[string]string{"SESSION_SECRET": secret("hmac")}, []string{`signing keys: sessions: secret 1 is also a secret of key "server"`}},
		"an archive secret twice":  {map[string]string{"ARCHIVE_SECRET": secret("a") + "," + secret("a")}, []string{"ARCHIVE_SECRET: archive key 2 is given twice"}},
		"a receipt algorithm":      {map[string]string{"RECEIPT_ALGORITHM": "RS256"}, []string{`RECEIPT_ALGORITHM: "RS256" is neither HS256 nor EdDSA`}},
		"a receipt secret twice":   {map[string]string{"RECEIPT_SECRET": secret("a") + "," + secret("a")}, []string{"RECEIPT_SECRET: two"}},
		"keys that are no JSON":    {map[string]string{"HMAC_KEYS": secret("a")}, []string{"HMAC_KEYS: keys: not valid JSON"}},
		"a key that is wrong":      {map[string]string{"HMAC_KEYS": `[{"id":"a","class":"boss","secrets":["hush-short"]}]`}, []string{`signing keys: key "a": class`, "key \"a\""}},
		"a secret used twice":      {map[string]string{"HMAC_KEYS": `[{"id":"a","class":"client","secrets":["` + secret("hmac") + `"]}]`}, []string{`signing keys: key "a"`}},
		"skew below":               {map[string]string{"SIGNATURE_SKEW": "0s"}, []string{"SIGNATURE_SKEW"}},
		"hold below":               {map[string]string{"BATCH_HOLD": "-1s"}, []string{"BATCH_HOLD"}},
		"no connection":            {map[string]string{"DB_MAX_CONNS": "0"}, []string{"DB_MAX_CONNS"}},
		"traces to nowhere": {map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "alloy:4318", "OTEL_TRACES_SAMPLER_ARG": "101%", "OTEL_SERVICE_NAME": "The Gateway",
		}, []string{"OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_ENDPOINT", `OTEL_TRACES_SAMPLER_ARG: "101%"`}},
		"more than all traces":     {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "1.01"}, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		"no number of traces":      {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "NaN"}, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		"a CA that is not there":   {map[string]string{"DB_TLS": filepath.Join(dir, "none.pem")}, []string{"DB_TLS: neither true, false, skip-verify nor a file of CA certificates: open"}},
		"a CA that is none":        {map[string]string{"DB_TLS": file("ca.pem", "hush")}, []string{"DB_TLS: no CA certificate in "}},
		"both a value and a file":  {map[string]string{"HMAC_SECRET_FILE": file("both", secret("file"))}, []string{"HMAC_SECRET and HMAC_SECRET_FILE are both set"}},
		"both, of a required one":  {map[string]string{"DB_URL_FILE": file("db", "hush")}, []string{"DB_URL and DB_URL_FILE are both set"}},
		"a file that is not there": {map[string]string{"CURSOR_SECRET": "", "CURSOR_SECRET_FILE": filepath.Join(dir, "none")}, []string{"CURSOR_SECRET_FILE: open"}},
		"a file that is a folder":  {map[string]string{"RECEIPT_SECRET": "", "RECEIPT_SECRET_FILE": dir}, []string{"RECEIPT_SECRET_FILE: read"}},
		"an empty file":            {map[string]string{"HMAC_SECRET": "", "HMAC_SECRET_FILE": file("empty", " \n")}, []string{"HMAC_SECRET or HMAC_KEYS"}},
		"a short secret in a file": {map[string]string{"CURSOR_SECRET": "", "CURSOR_SECRET_FILE": file("short", "hush-short\n")}, []string{"CURSOR_SECRET has 10 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := minimal()
			maps.Copy(settings, test.change)
			c, err := read(settings)
			require.Error(t, err)
			require.Equal(t, Config{}, c)
			lines := strings.Split(err.Error(), "\n")
			require.Len(t, lines, len(test.problems), "%s", err)
			for i, want := range test.problems {
				require.Contains(t, lines[i], want)
			}
			require.NotContains(t, err.Error(), "hush", "no secret is quoted")
		})
	}
}

func TestConfigFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain, mounted := minimal(), map[string]string{}
	for name, value := range plain {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(value+"\n"), 0o600))
		mounted[name+"_FILE"] = path
	}
	want, err := read(plain)
	require.NoError(t, err)
	got, err := read(mounted)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestConfigHidesSecrets(t *testing.T) {
	t.Parallel()
	c, err := read(minimal())
	require.NoError(t, err)
	var log strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("config", slog.Any("config", c), slog.Any("pointer", &c))
	}
	text, err := json.Marshal(c)
	require.NoError(t, err)
	shown := log.String() + string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, c) + fmt.Sprintf(verb, &c) + fmt.Sprintf(verb, []Config{c}) + fmt.Sprintf(verb, struct{ C Config }{c})
	}
	for _, hidden := range []string{"hush", "68757368", "[104 117 115 104", "0x68, 0x75"} { // text, hex, numbers
		require.NotContains(t, shown, hidden)
	}
	require.Contains(t, shown, "servicebus", "what is no secret shows")
}

// A program that cannot start says which settings are at fault, and only what may be said.
func TestRunNamesTheSetting(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ setting, value, want string }{
		"nothing":      {"HMAC_KEYS", "", "configuration:\nHMAC_SECRET or HMAC_KEYS"},
		"no database":  {"DB_URL", "oracle:hush", "DB_URL: "},
		"no redis":     {"REDIS_URL", "memcached://:hush@x", "REDIS_URL: "},
		"no catalog":   {"CATALOG_FILE", "/nowhere/catalog.yaml", "CATALOG_FILE: "},
		"no broker":    {"BUS_KIND", "servicebus", "SERVICEBUS"},
		"metrics busy": {"METRICS_ADDR", "no-such-host.invalid:1", "METRICS_ADDR: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			e.settings[test.setting] = test.value
			_, port, _ := strings.Cut(freeAddress(t), ":")
			e.settings["FUNCTIONS_CUSTOMHANDLER_PORT"] = port
			err := Run(t.Context(), e.getenv, e.options())
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "hush")
		})
	}
	t.Run("memory without a broker", func(t *testing.T) {
		t.Parallel()
		e := newEnvironment(t)
		config, err := ReadConfig(e.getenv)
		require.NoError(t, err)
		options := e.options()
		options.Bus = nil
		_, err = New(config, options)
		require.ErrorContains(t, err, "BUS_KIND=memory")
	})
}

// A mounted secret changes in place. A change that cannot be used is not.
func TestKeysAreReloaded(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	path := filepath.Join(t.TempDir(), "keys.json")
	mount := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	mount(e.settings["HMAC_KEYS"])
	delete(e.settings, "HMAC_KEYS")
	e.settings["HMAC_KEYS_FILE"] = path
	c := e.running(t)
	works := func(class signing.Class) bool {
		status, _ := c.ask(class, http.MethodGet, "/v1/leaderboards", "")
		return status == http.StatusOK
	}
	require.True(t, works(signing.Server))
	require.True(t, works(signing.Client))

	mount(`[{"id":"server","class":"server","secrets":["` + secret("server") + `"]}]`)
	require.True(t, works(signing.Client), "not yet")
	c.app.reloadKeys(e.getenv)
	require.True(t, works(signing.Server))
	require.False(t, works(signing.Client))
	require.NotContains(t, e.log.String(), "reload")

	for _, bad := range []string{"", "{", "[]", `[{"id":"server","class":"server","secrets":["hush-short"]}]`} {
		mount(bad)
		c.app.reloadKeys(e.getenv)
		require.True(t, works(signing.Server), "the running ones stay: %q", bad)
	}
	require.NoError(t, os.Remove(path))
	c.app.reloadKeys(e.getenv)
	require.True(t, works(signing.Server))
	require.Equal(t, 5, strings.Count(e.log.String(), "the running ones stay"))
	require.Equal(t, 5, int(testutil.ToFloat64(c.app.keysRefused.WithLabelValues(keysOfRequests))))
	require.NotContains(t, e.log.String(), "hush")
}
