package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/local/stack"
)

// TestSessions makes a player's key, plays with it, and ends it.
func TestSessions(t *testing.T) {
	t.Parallel()
	s := startWith(t, stack.Direct, nil, time.Now)
	secret := filepath.Join(t.TempDir(), "ann.secret")
	made := s.command(t, "", "sessions", "key", "ann", "--for", "5m", "--session", "s-1", "--into", secret)
	require.Zero(t, made.code, made.errs)
	require.Regexp(t, `^ses\.ann\.s-1\.\d+\.0\n$`, made.out)
	info, err := os.Stat(secret)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	replay := func(player string) outcome {
		e := gain("e-"+player, time.Now())
		e.PlayerID = player
		return command(t, line(t, e), "replay", "-", "--url", s.URL, "--key-id", strings.TrimSpace(made.out), "--secret-file", secret)
	}
	require.Zero(t, replay("ann").code)
	other := replay("bob")
	require.Equal(t, exitRefused, other.code, other.errs)
	require.Equal(t, "1", count(t, other, "rejected, key-out-of-scope"))

	revoked := s.operate(t, "sessions", "revoke", "ann", "stolen", "--order", "first")
	require.Zero(t, revoked.code, revoked.errs)
	require.Regexp(t, `^ann  generation 1 began \S+Z\n$`, revoked.out)
	require.Equal(t, revoked, s.operate(t, "sessions", "revoke", "ann", "stolen", "--order", "first"))
	replay("ann").requireError(t, exitFailed, "session-revoked")

	s.command(t, "", "sessions", "key", "ann", "--for", "5s", "--into", secret).requireError(t, exitUsage, "--for must be 1m to 24h")
	s.command(t, "", "sessions", "key", "a.b", "--into", secret).requireError(t, exitFailed, "request-invalid")
}
