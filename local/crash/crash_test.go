package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/local/server"
)

// TestMain makes the test binary itself the pod and the handler, so that the race detector covers them.
func TestMain(m *testing.M) {
	if code, ok := (child{os.Getenv}).run(); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// servers skips a test where the machine has not got the programs of MySQL and Redis.
func servers(t *testing.T) {
	t.Helper()
	programs := server.Programs{Dirs: server.Path()}
	if programs.Find("redis-server") != "" && programs.Find("mariadbd", "mysqld") != "" {
		return
	}
	if os.Getenv("TEST_SERVERS") == "required" {
		t.Fatal("no mariadbd or mysqld, or no redis-server, on PATH")
	}
	t.Skip("no mariadbd or mysqld, or no redis-server, on PATH")
}

func TestEveryEventIsInEffectOnceWhateverDies(t *testing.T) {
	t.Parallel()
	servers(t)
	trial := &trial{last: 20 * time.Second, seed: 8, games: os.Getenv("CRASH_GAMES"), out: t.Output()}
	require.NoError(t, trial.run(t.Context()))
}
