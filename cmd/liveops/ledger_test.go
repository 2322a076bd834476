package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
)

// TestLedger reads what a player got, and takes some of it back.
func TestLedger(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := startStanding(t, noon)
	gain := func(id string, amount int) string {
		return line(t, event.Event{
			ID: id, Type: event.XPGained, PlayerID: "ann", OccurredAt: noon, Data: map[string]any{"amount": amount, "source": "quest"},
		})
	}
	replayed := s.command(t, gain("first", 120), "replay", "-")
	require.Zero(t, replayed.code, replayed.errs)
	s.quiet(t)

	ledger := s.command(t, "", "players", "ledger", "ann")
	require.Zero(t, ledger.code, ledger.errs)
	require.Regexp(t, `^2026-11-22T12:00:00.000Z +first +xp_gained +level:2:item:health-potion +\+3 +3 *\n2026-11-22T12:00:00.000Z +first +xp_gained +xp +\+120 +120 *\n$`, ledger.out)
	ledger = s.command(t, "", "players", "ledger", "ann", "--item", "health-potion", "--type", "xp_gained", "--limit", "1")
	require.Regexp(t, `^\S+ +first +xp_gained +level:2:item:health-potion +\+3 +3 *\n$`, ledger.out)
	s.command(t, "", "players", "ledger", "ann", "--limit", "0").requireError(t, exitUsage, "--limit")

	done := s.operate(t, "players", "reverse", "ann", "first", "granted twice")
	require.Zero(t, done.code, done.errs)
	require.Regexp(t, `^reversal~\S+  2026-11-22T12:\S+Z by dev-admin: granted twice\n`, done.out)
	require.Regexp(t, `xp +-120 +0 *\n`, done.out)
	require.Regexp(t, `level:2:item:health-potion +-3 +0 *\n`, done.out)
	require.Contains(t, done.out, "mails withdrawn: none\n")
	require.Equal(t, done.out, s.operate(t, "players", "reverse", "ann", "first", "once more").out)
	s.operate(t, "players", "reverse", "ann", "never", "why").requireError(t, exitFailed, "event-not-found")
}
