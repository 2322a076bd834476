package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/local/stack"
)

// TestCases follows a cheat from his event to the ban and back.
func TestCases(t *testing.T) {
	t.Parallel()
	s := startWith(t, stack.Direct, nil, time.Now)
	for _, id := range []string{"one", "two"} {
		e := gain("unfair-"+id, time.Now())
		e.PlayerID, e.Data = "eve", map[string]any{"amount": float64(1 << 40), "source": "match"}
		accepted := event.Accepted{Event: e, At: e.OccurredAt, ReceivedAt: e.OccurredAt, KeyID: "dev-server"}
		body, err := accepted.Encode()
		require.NoError(t, err)
		require.NoError(t, s.Bus.Publish(t.Context(), "events", []bus.Message{{ID: accepted.Identity(), Body: body}}))
	}
	s.quiet(t)

	list := s.operate(t, "decisions", "--player", "eve", "--verdict", "deny")
	require.Zero(t, list.code, list.errs)
	require.Regexp(t, `(?m)^[0-9a-f]{32}  \S+Z  deny  impossible-value  eve  unfair-(one|two)$`, list.out)
	one := s.operate(t, "decisions", strings.Fields(list.out)[0])
	require.Regexp(t, `^deny  event unfair-\S+ of eve at \S+ by catalog \d+\nrejected: [0-9a-f]{32}\nimpossible-value \(enforce\)  deny  /data/amount  1\.0995\S+, limit \d+\n$`, one.out)

	open := s.operate(t, "cases", "--state", "open")
	require.Regexp(t, `^[0-9a-f]{32}  open  eve  \S+Z  fairness  impossible-value\n$`, open.out)
	id := strings.Fields(open.out)[0]
	ban := s.operate(t, "cases", "ban", id, "cheats", "--for", "72h", "--order", "first")
	require.Zero(t, ban.code, ban.errs)
	require.Regexp(t, "^"+id+`  \S+Z  ban  cheats\n$`, ban.out)
	require.Equal(t, ban, s.operate(t, "cases", "ban", id, "cheats", "--for", "72h", "--order", "first"))
	s.operate(t, "cases", "ban", id, "cheats", "--order", "first").requireError(t, exitFailed, "idempotency-key-reused")
	s.operate(t, "cases", "ban", id, "cheats", "--for", "ever").requireError(t, exitFailed, "to try the same order again: --order ")
	require.Zero(t, s.operate(t, "cases", "comment", id, "sure?").code)
	shown := s.operate(t, "cases", "show", id)
	require.Regexp(t, `(?s)^eve  closed  0\.0 points now, 1 blocks in a row\nin force: ban until \S+Z, by dev-admin: cheats\nin force: block until .*open .*ban until .*comment +sure\?\n\n[0-9a-f]{32} `, shown.out)
	require.Zero(t, s.operate(t, "cases", "unban", id, "no").code)
	require.Zero(t, s.operate(t, "cases", "shadow-ban", id, "or so").code)
	require.Regexp(t, `in force: shadow-ban without end, by dev-admin: or so\n`, s.operate(t, "cases", "show", id).out)
	require.Zero(t, s.operate(t, "cases", "unban", id, "no").code)
	require.Zero(t, s.operate(t, "cases", "clear", id, "no").code)
	require.NotContains(t, s.operate(t, "cases", "show", id).out, "in force")
	require.Empty(t, s.operate(t, "cases", "list", "--state", "open").out)
	require.Regexp(t, `^[0-9a-f]{32}  \S+Z  open  reported\n$`, s.operate(t, "cases", "open", "eve", "reported").out)

	s.command(t, "", "cases", "--key-id", "dev-server").requireError(t, exitFailed, "403 Forbidden: key-out-of-scope")
	command(t, "", "cases", "--state", "shut", "--secret-file", s.secret).requireError(t, exitUsage, "--state")
	command(t, "", "decisions", "--limit", "0", "--secret-file", s.secret).requireError(t, exitUsage, "--limit must be 1 to 1000")
}
