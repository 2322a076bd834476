// Package storetest gives a test a database of its own on every backend there is: SQLite and miniredis always, and the
// servers that TEST_MYSQL_URL and TEST_REDIS_URL name (`make test` starts private ones where they are installed and sets
// both, and TEST_MYSQL_CA). With TEST_SERVERS=required a missing server is a failure.
package storetest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver named "sqlite"

	"liveops/core/store"
)

// EachSQL runs test as a parallel subtest on every SQL backend, each time on a new, migrated database.
func EachSQL(t *testing.T, test func(t *testing.T, db *store.DB)) {
	t.Helper()
	EachSQLURL(t, func(t *testing.T, rawURL string) { test(t, migrated(t, rawURL)) })
}

// EachSQLURL runs test as a parallel subtest on every SQL backend, each time with the URL of a new, empty database.
func EachSQLURL(t *testing.T, test func(t *testing.T, rawURL string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, sqliteURL(t))
	})
	if server := server(t, "TEST_MYSQL_URL"); server != "" {
		t.Run("mysql", func(t *testing.T) {
			t.Parallel()
			test(t, mysqlURL(t, server))
		})
	}
}

// EachRedis runs test as a parallel subtest on every Redis backend, each time on an empty database.
func EachRedis(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		rdb, _ := Miniredis(t)
		test(t, rdb)
	})
	if server := server(t, "TEST_REDIS_URL"); server != "" {
		t.Run("redis", func(t *testing.T) {
			t.Parallel()
			test(t, Redis(t, server))
		})
	}
}

// Each runs test as a parallel subtest on the embedded pair of backends and, where both servers are found, on the real
// pair.
func Each(t *testing.T, test func(t *testing.T, db *store.DB, rdb *redis.Client)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		rdb, _ := Miniredis(t)
		test(t, SQLite(t), rdb)
	})
	sql, cache := server(t, "TEST_MYSQL_URL"), server(t, "TEST_REDIS_URL")
	if sql != "" && cache != "" {
		t.Run("servers", func(t *testing.T) {
			t.Parallel()
			test(t, MySQL(t, sql), Redis(t, cache))
		})
	}
}

// SQLite is a new, migrated SQLite database in a file.
func SQLite(t testing.TB) *store.DB {
	t.Helper()
	return migrated(t, sqliteURL(t))
}

func sqliteURL(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "test.db") }

// MySQL is a new, migrated database on the server of a URL, dropped when the test ends.
func MySQL(t testing.TB, server string) *store.DB {
	t.Helper()
	return migrated(t, mysqlURL(t, server))
}

// mysqlURL makes an empty database on a server, dropped when the test ends.
func mysqlURL(t testing.TB, server string) string {
	t.Helper()
	admin, err := store.Open(server)
	require.NoError(t, err)
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = admin.Exec(t.Context(), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), "DROP DATABASE "+name)
		require.NoError(t, err)
		require.NoError(t, admin.Close())
	})
	u, err := url.Parse(server)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

func migrated(t testing.TB, rawURL string) *store.DB {
	t.Helper()
	db, err := store.Open(rawURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.Migrate(t.Context())
	require.NoError(t, err)
	return db
}

// Miniredis is an embedded Redis, with the means to break it.
func Miniredis(t testing.TB) (*redis.Client, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.NewMiniRedis()
	require.NoError(t, server.Start())
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() {
		_ = rdb.Close()
		server.Close()
	})
	return rdb, server
}

// databases is how many databases the test server is started with: `redis-server --databases`.
const databases = 10_000

// Redis is an empty database on the server of a URL. Database 0 counts the ones that were given out.
func Redis(t testing.TB, server string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(server)
	require.NoError(t, err)
	counter := redis.NewClient(options)
	defer counter.Close()
	n, err := counter.Incr(t.Context(), "storetest:databases").Result()
	require.NoError(t, err)
	require.Less(t, n, int64(databases), "restart the test server")
	own := *options
	own.DB = int(n)
	rdb := redis.NewClient(&own)
	t.Cleanup(func() {
		require.NoError(t, rdb.FlushDB(context.Background()).Err()) // this test's own database only
		require.NoError(t, rdb.Close())
	})
	return rdb
}

// EachURL runs test as a parallel subtest with empty URLs, which ask for embedded backends, and where both servers are found
// with the URLs of an empty database on each.
func EachURL(t *testing.T, test func(t *testing.T, db, rdb string)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, "", "")
	})
	if server(t, "TEST_MYSQL_URL") != "" && server(t, "TEST_REDIS_URL") != "" {
		t.Run("servers", func(t *testing.T) {
			t.Parallel()
			db, rdb := BestURLs(t)
			test(t, db, rdb)
		})
	}
}

// BestURLs gives the URLs of an empty database on each server where both are found, and empty ones otherwise.
func BestURLs(t testing.TB) (db, rdb string) {
	t.Helper()
	sql, cache := server(t, "TEST_MYSQL_URL"), server(t, "TEST_REDIS_URL")
	if sql == "" || cache == "" {
		return "", ""
	}
	options := Redis(t, cache).Options()
	u := url.URL{Scheme: "redis", Host: options.Addr, Path: fmt.Sprintf("/%d", options.DB)}
	if options.Password != "" {
		u.User = url.UserPassword(options.Username, options.Password)
	}
	return mysqlURL(t, sql), u.String()
}

// TLS gives the URL of the SQL server and the file of the CA that vouches for it at the host of the URL and at no other name.
// It skips the test where there is none.
func TLS(t testing.TB) (mysql, ca string) {
	t.Helper()
	mysql, ca = server(t, "TEST_MYSQL_URL"), server(t, "TEST_MYSQL_CA")
	if mysql == "" || ca == "" {
		t.Skip("no SQL server with a certificate: TEST_MYSQL_URL and TEST_MYSQL_CA are not set")
	}
	return mysql, ca
}

func server(t testing.TB, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" && os.Getenv("TEST_SERVERS") == "required" {
		require.FailNow(t, fmt.Sprintf("%s is not set and TEST_SERVERS=required: run `make test` with redis-server and mariadbd or mysqld on PATH", variable))
	}
	return value
}
