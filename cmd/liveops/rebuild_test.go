package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/store"
	"liveops/core/store/storetest"
	"liveops/local/stack"
)

const arena = "../../examples/arena/catalog.yaml"

// TestRebuild breaks the rankings of a running system in ways that its reads cannot see, and in ways that they repair.
func TestRebuild(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, db, rdb string) {
		dir := t.TempDir()
		running, err := stack.Start(t.Context(), stack.Options{
			Listen: "127.0.0.1:0", Data: dir, Catalog: arena, DBURL: db, RedisURL: rdb, Version: "test", Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, running.Stop()) })
		if rdb == "" {
			rdb = "redis://" + running.Redis.Addr()
		}
		s := &system{running, filepath.Join(dir, "dev-server.secret")}
		at := time.Now().Add(-time.Minute)
		var scores string
		for i := range 12 {
			scores += line(t, event.Event{
				ID: fmt.Sprintf("e%d", i), Type: event.ScoreSubmitted, PlayerID: fmt.Sprintf("p%02d", i),
				OccurredAt: at.Add(-time.Duration(i%5) * time.Second), Data: map[string]any{"board": "trophies", "score": 100 + i%3},
			})
		}
		requireDone(t, s.command(t, scores, "replay", "-"))
		s.quiet(t)

		redis, err := store.OpenRedis(rdb)
		require.NoError(t, err)
		t.Cleanup(func() { _ = redis.Close() })
		stored := func(window string) any {
			order, err := redis.ZRangeWithScores(t.Context(), "rank:{trophies:"+window+"}:order", 0, -1).Result()
			require.NoError(t, err)
			players, err := redis.HGetAll(t.Context(), "rank:{trophies:"+window+"}:players").Result()
			require.NoError(t, err)
			require.Contains(t, players, "")
			delete(players, "") // names the epoch, and another one begins when everything is lost
			return []any{order, players}
		}
		top := func(window string) string {
			o := s.command(t, "", "top", "trophies", "--window", window)
			requireDone(t, o)
			return o.out
		}
		rebuild := func(args ...string) outcome {
			o := command(t, "", append([]string{"rebuild", "--db", running.DBURL, "--redis", rdb, "--catalog", arena}, args...)...)
			requireDone(t, o)
			return o
		}
		ranks, before := top("all_time"), stored("all_time")
		require.Contains(t, ranks, "12 ranked")
		wrong := func(window string) {
			key := "rank:{trophies:" + window + "}"
			member := redis.ZRange(t.Context(), key+":order", -1, -1).Val()[0]
			require.NoError(t, redis.ZIncrBy(t.Context(), key+":order", -1000, member).Err())
			require.NotEqual(t, ranks, top(window))
		}

		wrong("all_time")
		require.Equal(t, "trophies, all_time (open): 12 entries\n", rebuild("--board", "trophies", "--window", "all_time").out)
		require.Equal(t, ranks, top("all_time"))
		require.Equal(t, before, stored("all_time"))

		wrong("all_time")
		all := rebuild()
		require.Contains(t, all.out, "trophies, all_time (open): 12 entries\n")
		require.Contains(t, all.out, "gauntlet-time, all_time (open): 0 entries\n")
		require.NotContains(t, all.out, "s2027q1", "a season far ahead")
		require.Equal(t, before, stored("all_time"))

		require.NoError(t, redis.Del(t.Context(), redis.Keys(t.Context(), "rank:*").Val()...).Err())
		named := rebuild("--window", "all_time")
		require.Equal(t, strings.Count(named.out, "\n"), strings.Count(named.out, ", all_time (open): "))
		require.Equal(t, before, stored("all_time"))
		require.Equal(t, ranks, top("all_time"))
	})
}

func TestRebuildRefuses(t *testing.T) {
	t.Parallel()
	s := start(t)
	rdb := "redis://" + s.Redis.Addr()
	db, err := store.Open(s.DBURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.Exec(t.Context(), "INSERT INTO board_window (board, window_id, cadence, starts_at, ends_at, state, changed_at, lease_owner, lease_until, fence) VALUES ('trophies', '1999-W01', 'weekly', 0, 1, 'archived', 0, '', 0, 0)")
	require.NoError(t, err)
	empty := "sqlite:" + filepath.Join(t.TempDir(), "empty.db")
	for name, c := range map[string]struct {
		db, rdb, more string
		code          int
		want          string
	}{
		"no such board":         {s.DBURL, rdb, "--board nothing", exitFailed, `there is no board "nothing"`},
		"no such window":        {s.DBURL, rdb, "--board trophies --window 1998-W01", exitFailed, `trophies: no window "1998-W01"`},
		"no such window at all": {s.DBURL, rdb, "--window 1998-W01", exitFailed, `no window "1998-W01"`},
		"an archived window":    {s.DBURL, rdb, "--window 1999-W01", exitFailed, "window 1999-W01 is archived"},
		"not a database":        {"postgres://host/name", rdb, "", exitFailed, "neither mysql nor sqlite"},
		"not a Redis":           {s.DBURL, "http://host", "", exitFailed, "redis URL"},
		"no schema":             {empty, rdb, "", exitFailed, "liveops migrate"},
		"no database":           {"mysql://u:secret@127.0.0.1:1/x", rdb, "", exitFailed, "connection refused"},
		"no Redis":              {s.DBURL, "redis://127.0.0.1:1", "--window all_time", exitFailed, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := command(t, "", append([]string{"rebuild", "--db", c.db, "--redis", c.rdb, "--catalog", arena}, strings.Fields(c.more)...)...)
			o.requireError(t, c.code, c.want)
			require.NotContains(t, o.errs, "secret")
			require.Empty(t, o.out)
		})
	}
	for file, want := range map[string]outcome{"nowhere.yaml": {code: exitUsage, errs: "no such file"}, "rebuild.go": {code: exitFailed, errs: "rebuild.go"}} {
		command(t, "", "rebuild", "--db", s.DBURL, "--redis", rdb, "--catalog", file).requireError(t, want.code, want.errs)
	}
	command(t, "", "rebuild").requireError(t, exitUsage, "missing flags: --catalog=FILE, --db=URL, --redis=URL")
}
