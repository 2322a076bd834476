package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
)

// TestPlayers has a player's data written out, and the player forgotten, with a change of mind between.
func TestPlayers(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := startStanding(t, noon)
	score := func(player string) string {
		return line(t, event.Event{
			ID: player + "-one", Type: event.ScoreSubmitted, PlayerID: player, OccurredAt: noon,
			Data: map[string]any{"board": "arena-score", "score": 900, "hero": "golem"},
		})
	}
	replayed := s.command(t, score("ann-the-first")+score("bob"), "replay", "-")
	require.Zero(t, replayed.code, replayed.errs)
	s.quiet(t)

	written := s.operate(t, "players", "export", "ann-the-first")
	require.Zero(t, written.code, written.errs)
	require.Regexp(t, `^\{"kind":"header","data":\{"player_id":"ann-the-first",`, written.out)
	require.Contains(t, written.out, "ann-the-first-one")
	require.Regexp(t, `\n\{"kind":"end","data":\{"counts":\{.*"ledger":1.*\}\}\}\n$`, written.out)
	file := filepath.Join(t.TempDir(), "ann.ndjson")
	require.Zero(t, s.operate(t, "players", "export", "ann-the-first", "-o", file).code)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, strings.Count(written.out, "\n"), strings.Count(string(text), "\n"))
	s.operate(t, "players", "export", "nobody", "-o", file+"2").requireError(t, exitFailed, "player-not-found")
	require.NoFileExists(t, file+"2")

	require.Equal(t, "ann-the-first  none\n", s.operate(t, "players", "erasure", "ann-the-first").out)
	s.operate(t, "players", "cancel", "ann-the-first").requireError(t, exitFailed, "erasure-not-found")
	asked := s.operate(t, "players", "erase", "ann-the-first", "by mail")
	require.Regexp(t, `^ann-the-first  waiting until 2026-12-22T\S+Z, asked by dev-admin: by mail\n$`, asked.out)
	require.Equal(t, asked, s.operate(t, "players", "erasure", "ann-the-first"))
	require.Equal(t, "ann-the-first  none\n", s.operate(t, "players", "cancel", "ann-the-first").out)
	require.Zero(t, s.operate(t, "players", "erase", "ann-the-first", "sure").code)
	_, err = s.Move(t.Context(), noon.Add(31*24*time.Hour))
	require.NoError(t, err)
	require.Regexp(t, `^ann-the-first  erased  2026-12-23T\S+Z\n$`, s.operate(t, "players", "erasure", "ann-the-first").out)
	left := s.operate(t, "players", "export", "ann-the-first")
	require.Regexp(t, `\n\{"kind":"end","data":\{"counts":\{"erasure":1\}\}\}\n$`, left.out)
}
