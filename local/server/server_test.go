package server_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/local/server"
)

func TestFindLooksInEveryDirectory(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(first, "mysqld"), nil, 0o600)) // not executable
	program := filepath.Join(second, "mysqld")
	require.NoError(t, os.WriteFile(program, nil, 0o700))
	require.Equal(t, program, server.Programs{Dirs: []string{first, second}}.Find("mariadbd", "mysqld"))
	require.Empty(t, server.Programs{Dirs: []string{first}}.Find("mariadbd", "mysqld"))
}

// installed gives the machine's programs when it has all of those named.
func installed(t *testing.T, names ...string) server.Programs {
	t.Helper()
	programs := server.Programs{Dirs: server.Path(), Durable: true}
	if programs.Find(names...) == "" {
		if os.Getenv("TEST_SERVERS") == "required" {
			t.Fatalf("none of %v on PATH", names)
		}
		t.Skipf("none of %v on PATH", names)
	}
	return programs
}

func TestSQLKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	sql, err := installed(t, "mariadbd", "mysqld").SQL(t.Context(), directory(t))
	require.NoError(t, err)
	t.Cleanup(sql.Kill)
	db, err := store.Open(sql.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	exec := func(query string) {
		t.Helper()
		_, err := db.Exec(t.Context(), query)
		require.NoError(t, err)
	}
	exec("CREATE DATABASE d")
	exec("CREATE TABLE d.n (n INTEGER PRIMARY KEY)")
	for n, end := range []func(){sql.Kill, func() { sql.Stop(t.Context()) }} {
		exec("INSERT INTO d.n VALUES (" + string(rune('0'+n)) + ")")
		end()
		require.Error(t, db.Ping(t.Context()))
		require.NoError(t, sql.Start(t.Context()))
		var rows int
		require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM d.n", nil, &rows))
		require.Equal(t, n+1, rows)
	}
}

func TestRedisComesBackEmpty(t *testing.T) {
	t.Parallel()
	cache, err := installed(t, "redis-server").Redis(t.Context(), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(cache.Kill)
	rdb, err := store.OpenRedis(cache.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = rdb.Close() })
	require.NoError(t, rdb.Set(t.Context(), "a", 1, 0).Err())
	cache.Kill()
	require.Error(t, rdb.Ping(t.Context()).Err())
	require.NoError(t, cache.Start(t.Context()))
	require.ErrorIs(t, rdb.Get(t.Context(), "a").Err(), redis.Nil)
}

func TestPrometheusAndAlertmanagerComeBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config string
		names  []string
		start  func(server.Programs, string, string) (*server.Server, error)
	}{
		{"{}", []string{"prometheus"}, func(p server.Programs, dir, config string) (*server.Server, error) {
			return p.Prometheus(t.Context(), dir, config)
		}},
		{"{route: {receiver: a}, receivers: [{name: a}]}", []string{"alertmanager", "prometheus-alertmanager"}, func(p server.Programs, dir, config string) (*server.Server, error) {
			return p.Alertmanager(t.Context(), dir, config)
		}},
	} {
		t.Run(c.names[0], func(t *testing.T) {
			t.Parallel()
			programs, config := installed(t, c.names...), filepath.Join(t.TempDir(), "config")
			require.NoError(t, os.WriteFile(config, []byte(c.config), 0o600))
			s, err := c.start(programs, t.TempDir(), config)
			require.NoError(t, err)
			t.Cleanup(s.Kill)
			s.Kill()
			address := strings.TrimPrefix(s.URL, "http://")
			_, err = net.Dial("tcp", address)
			require.Error(t, err)
			require.NoError(t, s.Start(t.Context()))
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			require.NoError(t, conn.Close())

			require.NoError(t, os.WriteFile(config, []byte("nothing: {}"), 0o600))
			_, err = c.start(programs, t.TempDir(), config)
			require.ErrorContains(t, err, "nothing not found")
		})
	}
}

// directory is one that the account of the SQL server can be let into.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "liveops-server-") //nolint:usetesting // others have no way into the parent of t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
