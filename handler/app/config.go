package app

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"liveops/core/receipt"
	"liveops/core/season"
	"liveops/core/signing"
	"liveops/core/store"
)

// minSecret is the least length of an HMAC secret, in bytes.
const minSecret = 32

// Config is everything the environment decides. ReadConfig is the only reader of the environment.
type Config struct {
	DBURL            string
	DBTLS            *tls.Config // nil: none
	DBMaxConns       int
	RedisURL         string
	RedisOneNode     bool   // Redis is no cluster, so that one script may take many players
	BusKind          string // memory or servicebus
	ServiceBus       string // a connection string, or empty with Namespace
	Namespace        string // fully qualified, reached by identity
	EventsQueue      string
	ProgressionQueue string
	CatalogFile      string
	MetricsAddr      string
	ServiceName      string  // the label of metrics, and the resource of traces
	TracesEndpoint   string  // base URL of an OTLP receiver; empty: traces are not kept
	TraceRatio       float64 // of the traces that begin here
	LogLevel         slog.Level
	Skew             time.Duration
	Hold             time.Duration
	Keys             []signing.Key
	ReceiptKeys      []receipt.Key
	ArchiveKeys      []season.Key     // the first seals, the others are retired
	SessionSecrets   []signing.Secret // the first derives the keys of sessions, all of them verify
	CursorSecret     []byte
}

// LogValue is what may be shown of a configuration: nothing that is, or may hold, a secret.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("bus", c.BusKind), slog.String("events_queue", c.EventsQueue), slog.String("progression_queue", c.ProgressionQueue),
		slog.String("catalog", c.CatalogFile), slog.String("metrics_addr", c.MetricsAddr), slog.String("service", c.ServiceName),
		slog.Bool("traces", c.TracesEndpoint != ""), slog.Float64("trace_ratio", c.TraceRatio), slog.String("log_level", c.LogLevel.String()),
		slog.Duration("skew", c.Skew), slog.Duration("hold", c.Hold), slog.Int("keys", len(c.Keys)),
		slog.Bool("db_tls", c.DBTLS != nil), slog.Int("db_max_conns", c.DBMaxConns),
	)
}

// Format shows what LogValue does, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, c.LogValue().String()) }

// MarshalText gives encoders what LogValue shows.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.LogValue().String()), nil }

// source reads one variable at a time and gathers what is wrong.
type source struct {
	getenv   func(string) string
	problems []error
}

func (s *source) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf(format, args...))
}

// text is the variable, or the trimmed content of the file that NAME_FILE names: a mounted secret. Setting both is a
// problem, because nobody could say which one holds.
func (s *source) text(name, otherwise string) string {
	value, file := s.getenv(name), s.getenv(name+"_FILE")
	switch {
	case value != "" && file != "":
		s.problem("%s and %s_FILE are both set: keep one", name, name)
	case file != "":
		content, err := os.ReadFile(file)
		if err != nil {
			s.problem("%s_FILE: %w", name, err)
			return ""
		}
		return strings.TrimSpace(string(content))
	case value == "":
		return otherwise
	}
	return value
}

func (s *source) required(name, hint string) string {
	before := len(s.problems)
	value := s.text(name, "")
	if value == "" && len(s.problems) == before {
		s.problem("%s is not set: %s", name, hint)
	}
	return value
}

func (s *source) duration(name string, otherwise, least, most time.Duration) time.Duration {
	text := s.text(name, otherwise.String())
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		s.problem("%s: %q is not a duration from %s to %s", name, text, least, most)
	}
	return d
}

func (s *source) number(name string, otherwise, least, most int) int {
	text := s.text(name, strconv.Itoa(otherwise))
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		s.problem("%s: %q is not a number from %d to %d", name, text, least, most)
	}
	return n
}

// secrets reads a comma-separated list of secrets: the first signs, all verify, so that two are live during a rotation.
// Their text never appears in a problem.
func (s *source) secrets(name, value string) [][]byte {
	var list [][]byte
	if value == "" {
		return nil
	}
	for i, secret := range strings.Split(value, ",") {
		if len(secret) < minSecret {
			s.problem("%s: secret %d of the list has %d bytes, at least %d are needed", name, i+1, len(secret), minSecret)
		}
		list = append(list, []byte(secret))
	}
	return list
}

// ReadConfig reads the environment. Every problem is reported at once, and no secret is.
func ReadConfig(getenv func(string) string) (Config, error) {
	s := &source{getenv: getenv}
	c := Config{
		DBURL:            s.databaseURL(),
		RedisURL:         s.required("REDIS_URL", "redis://host:6379 or rediss:// for TLS"),
		BusKind:          s.text("BUS_KIND", "servicebus"),
		ServiceBus:       s.text("SERVICEBUS", ""),
		Namespace:        s.text("AZURE_SERVICEBUS_NAMESPACE", s.text("SERVICEBUS__fullyQualifiedNamespace", "")),
		EventsQueue:      s.text("EVENTS_QUEUE", "events"),
		ProgressionQueue: s.text("PROGRESSION_QUEUE", "progression"),
		CatalogFile:      s.required("CATALOG_FILE", "the path of the game's catalog"),
		MetricsAddr:      s.text("METRICS_ADDR", ":9464"),
		Skew:             s.duration("SIGNATURE_SKEW", 5*time.Minute, time.Second, time.Hour),
		Hold:             s.duration("BATCH_HOLD", DefaultHold, 0, invocationDeadline),
		DBMaxConns:       s.number("DB_MAX_CONNS", store.DefaultMaxConns, 1, 10_000),
		ServiceName:      s.text("OTEL_SERVICE_NAME", "liveops"),
		TracesEndpoint:   s.text("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
	}
	s.traces(&c)
	c.DBTLS = s.databaseTLS()
	var err error
	if c.RedisOneNode, err = strconv.ParseBool(s.text("REDIS_ONE_NODE", "false")); err != nil {
		s.problem("REDIS_ONE_NODE: neither true nor false")
	}
	switch c.BusKind {
	case "memory":
	case "servicebus":
		if (c.ServiceBus == "") == (c.Namespace == "") {
			s.problem("SERVICEBUS (a connection string) or AZURE_SERVICEBUS_NAMESPACE must be set, one of the two")
		}
	default:
		s.problem("BUS_KIND: %q is neither servicebus nor memory", c.BusKind)
	}
	if err := c.LogLevel.UnmarshalText([]byte(s.text("LOG_LEVEL", "info"))); err != nil {
		s.problem("LOG_LEVEL: not one of debug, info, warn, error")
	}
	c.Keys, c.SessionSecrets = s.signingKeys()
	c.ReceiptKeys = s.receiptKeys()
	c.ArchiveKeys = s.archiveKeys()
	c.CursorSecret = []byte(s.required("CURSOR_SECRET", "at least 32 bytes; signs the cursors of leaderboard pages"))
	if n := len(c.CursorSecret); n > 0 && n < minSecret {
		s.problem("CURSOR_SECRET has %d bytes, at least %d are needed", n, minSecret)
	}
	if len(s.problems) > 0 {
		return Config{}, errors.Join(s.problems...)
	}
	return c, nil
}

// traces reads what OpenTelemetry's own variables say, as its specification has them.
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func (s *source) traces(c *Config) {
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`).MatchString(c.ServiceName) {
		s.problem("OTEL_SERVICE_NAME: %q is not a name of letters, digits and hyphens", c.ServiceName)
	}
	if u, err := url.Parse(c.TracesEndpoint); c.TracesEndpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		s.problem("OTEL_EXPORTER_OTLP_ENDPOINT: not the http:// or https:// URL of an OTLP receiver") // it may hold a password
	}
	text := s.text("OTEL_TRACES_SAMPLER_ARG", "1")
	var err error
	if c.TraceRatio, err = strconv.ParseFloat(text, 64); err != nil || !(c.TraceRatio >= 0 && c.TraceRatio <= 1) {
		s.problem("OTEL_TRACES_SAMPLER_ARG: %q is not a share from 0 to 1", text)
	}
}

func (s *source) databaseURL() string {
	return s.required("DB_URL", "mysql://user:password@host:3306/liveops")
}

func (s *source) databaseTLS() *tls.Config {
	config, err := store.TLS(s.text("DB_TLS", "false"))
	if err != nil {
		s.problem("DB_TLS: %w", err)
	}
	return config
}

// signingKeys joins the two ways to give keys: HMAC_SECRET is the game server's key with the id "server", HMAC_KEYS a
// JSON list of any keys. SESSION_SECRET is what the keys of sessions are derived from: the first derives, all verify.
func (s *source) signingKeys() (keys []signing.Key, sessions []signing.Secret) {
	before := len(s.problems)
	if list := s.secrets("HMAC_SECRET", s.text("HMAC_SECRET", "")); list != nil {
		key := signing.Key{ID: "server", Class: signing.Server, State: signing.Active}
		for _, secret := range list {
			key.Secrets = append(key.Secrets, signing.Secret(secret))
		}
		keys = append(keys, key)
	}
	if text := s.text("HMAC_KEYS", ""); text != "" {
		more, err := signing.ParseKeys([]byte(text))
		if err != nil {
			s.problem("HMAC_KEYS: %w", err)
		}
		keys = append(keys, more...)
	}
	if len(keys) == 0 && len(s.problems) == before {
		s.problem("HMAC_SECRET or HMAC_KEYS must be set: the keys that requests are signed with")
	}
	for _, secret := range s.secrets("SESSION_SECRET", s.required("SESSION_SECRET", "at least 32 bytes; derives the keys of players' sessions")) {
		sessions = append(sessions, secret)
	}
	if len(s.problems) == before {
		if _, err := signing.NewKeyring(keys, sessions...); err != nil {
			s.problem("signing keys: %w", err)
		}
	}
	return keys, sessions
}

// receiptKeys reads RECEIPT_SECRET: the first signs, with RECEIPT_ALGORITHM, the others are retired and still verify. A key's id is derived from
// its secret, so that a rotation is nothing but a longer list.
func (s *source) receiptKeys() []receipt.Key {
	before := len(s.problems)
	var keys []receipt.Key
	algorithm := receipt.Algorithm(s.text("RECEIPT_ALGORITHM", string(receipt.HS256)))
	if algorithm != receipt.HS256 && algorithm != receipt.EdDSA {
		s.problem("RECEIPT_ALGORITHM: %q is neither %s nor %s", algorithm, receipt.HS256, receipt.EdDSA)
	}
	for _, secret := range s.secrets("RECEIPT_SECRET", s.required("RECEIPT_SECRET", "at least 32 bytes; signs receipts")) {
		sum := sha256.Sum256(append([]byte("liveops receipt key id\n"), secret...))
		keys = append(keys, receipt.Key{ID: base64.RawURLEncoding.EncodeToString(sum[:6]), Secret: secret, Algorithm: algorithm})
	}
	if len(keys) > 1 && len(s.problems) == before {
		if _, err := receipt.NewKeys(keys[0], keys[1:]...); err != nil {
			s.problem("RECEIPT_SECRET: %w", err)
		}
	}
	return keys
}

// archiveKeys reads ARCHIVE_SECRET: the first seals, of the others the public keys are still told.
func (s *source) archiveKeys() []season.Key {
	before := len(s.problems)
	var keys []season.Key
	for _, secret := range s.secrets("ARCHIVE_SECRET", s.required("ARCHIVE_SECRET", "at least 32 bytes; seals the archives of leaderboards")) {
		keys = append(keys, season.Key{Secret: secret})
	}
	if len(keys) > 1 && len(s.problems) == before {
		if _, err := season.NewSealer(keys[0], keys[1:]...); err != nil {
			s.problem("ARCHIVE_SECRET: %w", err)
		}
	}
	return keys
}
