package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func opened(t *testing.T, url string, options store.Options) *store.DB {
	t.Helper()
	db, err := options.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// retries reads database_retries_total by its cause.
func retries(t *testing.T, registry *prometheus.Registry) map[string]int {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	counts := map[string]int{}
	for _, family := range families {
		if family.GetName() != "database_retries_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			require.Len(t, metric.GetLabel(), 1)
			require.Equal(t, "cause", metric.GetLabel()[0].GetName())
			counts[metric.GetLabel()[0].GetValue()] = int(metric.GetCounter().GetValue())
		}
	}
	return counts
}

// strangerCA is the file of a CA that vouches for nobody.
func strangerCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "stranger.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return path
}

func TestTLSSettings(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"", "false"} {
		config, err := store.TLS(setting)
		require.NoError(t, err)
		require.Nil(t, config)
	}
	system, err := store.TLS("true")
	require.NoError(t, err)
	require.False(t, system.InsecureSkipVerify)
	require.Nil(t, system.RootCAs, "the system's")
	anybody, err := store.TLS("skip-verify")
	require.NoError(t, err)
	require.True(t, anybody.InsecureSkipVerify)
	own, err := store.TLS(strangerCA(t))
	require.NoError(t, err)
	require.False(t, own.InsecureSkipVerify)
	require.NotNil(t, own.RootCAs)

	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("no certificate"), 0o600))
	for setting, want := range map[string]string{
		"yes":                          "neither true, false, skip-verify nor a file of CA certificates: open yes: no such file",
		"TRUE":                         "open TRUE: no such file",
		filepath.Join(text, "missing"): "open " + text,
		filepath.Dir(text):             "read " + filepath.Dir(text),
		text:                           "no CA certificate in " + text,
	} {
		_, err := store.TLS(setting)
		require.ErrorContains(t, err, want, setting)
	}
}

func TestTLSConnections(t *testing.T) {
	t.Parallel()
	url, ca := storetest.TLS(t)
	for name, test := range map[string]struct {
		setting   string
		encrypted bool
	}{"its CA": {ca, true}, "skip-verify": {"skip-verify", true}, "off": {"false", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := store.TLS(test.setting)
			require.NoError(t, err)
			db := opened(t, url, store.Options{TLS: config})
			var variable, cipher string
			require.NoError(t, db.Row(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'", nil, &variable, &cipher))
			require.Equal(t, "Ssl_cipher", variable)
			require.Equal(t, test.encrypted, cipher != "", cipher)
		})
	}
}

func TestTLSRefusesAServerThatIsNotProven(t *testing.T) {
	t.Parallel()
	url, ca := storetest.TLS(t)
	elsewhere := strings.Replace(url, "127.0.0.1", "localhost", 1)
	require.NotEqual(t, url, elsewhere)
	for name, test := range map[string]struct{ url, setting, want string }{
		"another CA":       {url, strangerCA(t), "certificate signed by unknown authority"},
		"the system's CAs": {url, "true", "certificate signed by unknown authority"},
		"another name":     {elsewhere, ca, "certificate is not valid for any names, but wanted to match localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := store.TLS(test.setting)
			require.NoError(t, err)
			err = opened(t, test.url, store.Options{TLS: config}).Ping(t.Context())
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// background is the test's context without its end, as of a program that sets no deadlines.
func background(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

// forever is a statement that does not end by itself in any time a test has.
func forever(db *store.DB) string {
	if db.Dialect == store.SQLite {
		return "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
	}
	return "SELECT SLEEP(600)"
}

func TestAStatementWithoutADeadlineEnds(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		db := opened(t, url, store.Options{Patience: 300 * time.Millisecond})
		require.NoError(t, db.Ping(t.Context()))
		var n int
		for how, ask := range map[string]func() error{
			"row": func() error { return db.Row(background(t), forever(db), nil, &n) },
			"exec": func() error {
				_, err := db.Exec(background(t), forever(db))
				return err
			},
			"tx": func() error {
				return db.Tx(background(t), func(tx *store.Tx) error { return tx.Row(background(t), forever(db), nil, &n) })
			},
		} {
			err := ask()
			require.ErrorIs(t, err, fault.DatabaseUnavailable, how)
			require.ErrorIs(t, err, context.DeadlineExceeded, how)
		}
		require.NoError(t, db.Row(background(t), "SELECT 7", nil, &n), "and the database is none the worse")
		require.Equal(t, 7, n)
	})
}

func TestAContextsDeadlineHoldsAlone(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		db := opened(t, url, store.Options{Patience: time.Nanosecond})
		var n int
		require.ErrorIs(t, db.Row(background(t), "SELECT 7", nil, &n), context.DeadlineExceeded)
		require.ErrorIs(t, db.Ping(background(t)), fault.Unavailable)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, db.Ping(ctx))
		require.NoError(t, db.Tx(ctx, func(tx *store.Tx) error { return tx.Row(ctx, "SELECT 7", nil, &n) }))
		require.Equal(t, 7, n)
	})
}

// Only the begin of a transaction and each of its statements are bounded: how many follow is the caller's.
func TestATransactionMayOutlastPatience(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		const patience = 400 * time.Millisecond
		db := opened(t, url, store.Options{Patience: patience})
		counters(t, db, "a")
		start, last := time.Now(), false
		require.NoError(t, db.Tx(background(t), func(tx *store.Tx) error {
			for !last {
				last = time.Since(start) > 2*patience
				if err := add(background(t), tx.Queries, "a"); err != nil {
					return err
				}
			}
			return nil
		}))
		require.Positive(t, count(t, db, "a"))
	})
}

// With every connection in use (of SQLite: with a transaction under way) a further one waits, and not for ever.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		db := opened(t, url, store.Options{MaxConns: 2, Patience: 300 * time.Millisecond})
		nothing := func(*store.Tx) error { return nil }
		var first, second error
		require.NoError(t, db.Tx(background(t), func(*store.Tx) error {
			if db.Dialect == store.SQLite {
				first = errors.Join(db.Ping(background(t)), db.Ping(background(t)))
				second = db.Tx(background(t), nothing)
				return nil
			}
			first = db.Tx(background(t), func(*store.Tx) error {
				second = db.Tx(background(t), nothing)
				return nil
			})
			return nil
		}))
		require.NoError(t, first)
		require.ErrorIs(t, second, fault.DatabaseUnavailable)
		require.ErrorIs(t, second, context.DeadlineExceeded)
		require.NoError(t, db.Tx(background(t), nothing))

		ctx, cancel := context.WithCancel(background(t))
		require.NoError(t, db.Tx(background(t), func(*store.Tx) error {
			cancel()
			second = db.Tx(ctx, nothing)
			return nil
		}))
		require.ErrorIs(t, second, context.Canceled, "the caller went away, nobody ran out of time")
	})
}

func TestThePoolIsMeasured(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		registry := prometheus.NewRegistry()
		db := opened(t, url, store.Options{Registerer: registry, MaxConns: 3})
		inUse := func() (most, used int) {
			families, err := registry.Gather()
			require.NoError(t, err)
			for _, family := range families {
				switch value := int(family.GetMetric()[0].GetGauge().GetValue()); family.GetName() {
				case "go_sql_max_open_connections":
					most = value
				case "go_sql_in_use_connections":
					used = value
				}
			}
			return most, used
		}
		most, used := inUse()
		require.Positive(t, most)
		require.Zero(t, used)
		require.NoError(t, db.Tx(t.Context(), func(*store.Tx) error {
			_, used = inUse()
			return nil
		}))
		require.Equal(t, 1, used)
	})
}

func TestRetriesAreCounted(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		registry := prometheus.NewRegistry()
		db := opened(t, url, store.Options{Registerer: registry})
		fails := func(number uint16, times int) error {
			return db.Tx(t.Context(), func(*store.Tx) error {
				if times--; times >= 0 {
					return &mysql.MySQLError{Number: number}
				}
				return nil
			})
		}
		require.NoError(t, fails(1205, 0))
		require.Error(t, fails(1062, 1), "nothing that a repeat would change")
		zero := map[string]int{"deadlock": 0, "lock_wait": 0}
		if db.Dialect == store.SQLite {
			zero = map[string]int{"busy": 0}
		}
		require.Equal(t, zero, retries(t, registry), "visible before the first")
		require.NoError(t, fails(1205, 2))
		require.ErrorIs(t, fails(1213, 100), fault.Unavailable)
		counts := retries(t, registry)
		delete(counts, "busy")
		require.Equal(t, map[string]int{"lock_wait": 2, "deadlock": 7}, counts, "eight runs are seven retries")
	})
}
