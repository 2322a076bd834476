package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/local/stack"
)

// TestArchives closes two days, one of them by hand, and checks what is downloaded without the system.
func TestArchives(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := startStanding(t, noon)
	score := func(player string, points int, at time.Time) string {
		return line(t, event.Event{
			ID: player + at.Format("-2006-01-02"), Type: event.ScoreSubmitted, PlayerID: player, OccurredAt: at,
			Data: map[string]any{"board": "arena-score", "score": points, "hero": "golem"},
		})
	}
	replayed := s.command(t, score("ann", 900, noon)+score("bob", 800, noon)+score("cid", 700, noon), "replay", "-")
	require.Zero(t, replayed.code, replayed.errs)
	move := func(to time.Time) {
		t.Helper()
		_, err := s.Move(t.Context(), to)
		require.NoError(t, err)
	}
	move(noon.Add(13 * time.Hour))
	replayed = s.command(t, score("dan", 600, s.Now()), "replay", "-")
	require.Zero(t, replayed.code, replayed.errs)

	open := s.operate(t, "windows", "--board", "arena-score")
	require.Regexp(t, `(?m)^arena-score  2026-11-23  open +2026-11-23T00:00:00\.000Z  2026-11-24T00:00:00\.000Z$`, open.out)
	move(s.Now().Add(time.Minute)) // the closed day has something in it
	extended := s.operate(t, "windows", "extend", "arena-score", "2026-11-23", "the servers were down", "--until", "2026-11-24T06:00:00Z", "--order", "one")
	require.Zero(t, extended.code, extended.errs)
	require.Regexp(t, `^arena-score  2026-11-23  \S+  extend  ends 2026-11-24T06:00:00\.000Z instead of 2026-11-24T00:00:00\.000Z, where 2026-11-24 begins\n$`, extended.out)
	require.Equal(t, extended, s.operate(t, "windows", "extend", "arena-score", "2026-11-23", "the servers were down", "--until", "2026-11-24T06:00:00Z", "--order", "one"))
	s.operate(t, "windows", "close", "arena-score", "2026-11-23", "other", "--order", "one").requireError(t, exitFailed, "idempotency-key-reused")
	require.Zero(t, s.operate(t, "windows", "rebuild", "arena-score", "2026-11-23", "to be sure").code)
	closed := s.operate(t, "windows", "close", "arena-score", "2026-11-23", "enough")
	require.Zero(t, closed.code, closed.errs)
	shown := s.operate(t, "windows", "show", "arena-score", "2026-11-23")
	require.Regexp(t, `^arena-score 2026-11-23  open  `, shown.out)
	for _, action := range []string{"close    ends", "rebuild ", "extend   ends"} {
		require.Contains(t, shown.out, "dev-admin  "+action)
	}
	move(s.Now().Add(time.Minute))
	require.Contains(t, s.operate(t, "windows", "show", "arena-score", "2026-11-23").out, "arena-score 2026-11-23  closing")
	move(s.Now().Add(time.Hour))

	list := command(t, "", "archives", "arena-score", "--cadence", "daily", "--url", s.URL)
	require.Regexp(t, `^3  2026-11-23  \S+  1 places  dan  600\n1  2026-11-22  \S+  3 places  ann  900\n$`, list.out)
	dir := t.TempDir()
	save := func(name string, o outcome) string {
		t.Helper()
		require.Zero(t, o.code, o.errs)
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(o.out), 0o600))
		return path
	}
	keys := save("keys.json", command(t, "", "archives", "keys", "--url", s.URL))
	first := save("22.ndjson", s.command(t, "", "archives", "export", "arena-score", "2026-11-22"))
	week := save("week.ndjson", s.command(t, "", "archives", "export", "arena-score", "2026-W47"))
	second := save("23.ndjson", s.command(t, "", "archives", "export", "arena-score", "2026-11-23"))
	proof := save("cid.json", command(t, "", "archives", "proof", "arena-score", "2026-11-22", "cid", "--url", s.URL))
	table := s.command(t, "", "archives", "export", "arena-score", "2026-11-22", "--csv")
	require.Regexp(t, `(?m)^1,1,ann,900,2026-11-22T12:00:00\.000Z,ann-2026-11-22,"\{""hero"":""golem""\}"$`, table.out)

	genuine := command(t, "", "verify", "archive", second, first, proof, week, "--keys", keys)
	require.Zero(t, genuine.code, genuine.out)
	require.Contains(t, genuine.out, "22.ndjson: genuine: arena-score 2026-11-22, 3 places, archive 1 of the board, closed 2026-11-23T")
	require.Contains(t, genuine.out, "cid.json: genuine: player cid has rank 3 with score 700 in arena-score 2026-11-22")
	require.Contains(t, genuine.out, "arena-score: archives 1 to 3 follow each other\n")

	text, err := os.ReadFile(first)
	require.NoError(t, err)
	forged := save("forged.ndjson", outcome{out: strings.Replace(string(text), `"score":900`, `"score":901`, 1)})
	refused := command(t, "", "verify", "archive", forged, second, "--keys", keys)
	require.Equal(t, exitRefused, refused.code)
	require.Contains(t, refused.out, "forged.ndjson: NOT genuine: ")
	require.Contains(t, refused.out, "23.ndjson: genuine: ")

	command(t, "", "verify", "archive", first).requireError(t, exitUsage, "missing flags: --keys")
	command(t, "", "verify", "archive", first, "--keys", first).requireError(t, exitFailed, "22.ndjson")
	command(t, "", "verify", "archive", first, "--keys", save("none.json", outcome{out: "{}"})).requireError(t, exitFailed, "holds no public keys")
	command(t, "", "archives", "proof", "arena-score", "2026-11-22", "nobody", "--url", s.URL).requireError(t, exitFailed, "not-ranked")
	command(t, "", "archives", "arena-score", "--limit", "0").requireError(t, exitUsage, "--limit must be 1 to 1000")
}

// startStanding starts a system whose clock stands still.
func startStanding(t *testing.T, at time.Time) *system {
	t.Helper()
	return startOn(t, stack.Options{Bus: stack.Direct, Clock: at})
}
