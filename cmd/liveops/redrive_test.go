package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/local/stack"
)

// operate runs a command against the system with the admin's key.
func (s *system) operate(t *testing.T, args ...string) outcome {
	t.Helper()
	return command(t, "", append(args, "--url", s.URL, "--secret-file", filepath.Join(filepath.Dir(s.secret), "dev-admin.secret"))...)
}

// TestRedrive has Redis fail for so long that what waits in a queue becomes dead letters, and brings all of them back.
func TestRedrive(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{stack.Direct, stack.ServiceBus} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testRedrive(t, kind)
		})
	}
}

func testRedrive(t *testing.T, kind string) {
	t.Helper()
	begin := time.Now()
	s := startWith(t, kind, map[string]string{"BATCH_HOLD": "1ms"}, func() time.Time {
		return begin.Truncate(time.Minute).Add(time.Second + time.Since(begin)) // the timer's own redrive is a minute away
	})
	const events = 125
	messages := make([]bus.Message, events)
	for i := range messages {
		e := gain(fmt.Sprint("lost-", i), begin)
		e.PlayerID, e.Data = fmt.Sprint("p", i), map[string]any{"amount": float64(25), "source": "match"}
		accepted := event.Accepted{Event: e, At: begin, ReceivedAt: begin, KeyID: "dev-server"}
		body, err := accepted.Encode()
		require.NoError(t, err)
		messages[i] = bus.Message{ID: accepted.Identity(), Body: body}
	}
	spent := map[string]string{"liveops-redrives": "3"}
	messages[0].Properties = spent
	messages = append(messages, bus.Message{ID: "odd", Body: []byte("no event"), Properties: spent})
	s.Redis.SetError("down")
	require.NoError(t, s.Bus.Publish(t.Context(), "events", messages))
	require.Eventually(t, func() bool {
		counts, err := s.Bus.Counts("events")
		return err == nil && counts == bus.Counts{Dead: events + 1}
	}, time.Minute, 5*time.Millisecond)
	s.Redis.SetError("")

	few := s.operate(t, "redrive", "--queue", "events", "--limit", "110")
	rest := s.operate(t, "redrive")
	moved, givenUp := 0, 0
	for _, o := range []outcome{few, rest} {
		var back, kept int
		line, more, _ := strings.Cut(o.out, "\n")
		_, err := fmt.Sscanf(line, "events redriven %d given up %d", &back, &kept)
		require.NoError(t, err, o.out)
		require.Equal(t, kept > 0, o.code == exitRefused)
		require.Empty(t, o.errs)
		if more == "" {
			require.Equal(t, 110, back+kept)
		}
		moved, givenUp = moved+back, givenUp+kept
	}
	require.Regexp(t, `\nprogression +redriven 0 +given up 0\n$`, rest.out)
	require.Equal(t, []int{events - 1, 2}, []int{moved, givenUp})
	s.quiet(t)
	var player struct {
		XP int64 `json:"xp"`
	}
	for i := 1; i < events; i++ {
		require.NoError(t, s.client().do(t.Context(), http.MethodGet, fmt.Sprint("/v1/players/p", i), nil, &player))
		require.EqualValues(t, 25, player.XP)
	}
	require.Error(t, s.client().do(t.Context(), http.MethodGet, "/v1/players/p0", nil, &player), "it was given up")

	released := s.operate(t, "redrive", "--rejected")
	require.Equal(t, exitRefused, released.code)
	require.Regexp(t, `^events       redriven 0  given up 0\nprogression  redriven 0  given up 0\nreleased     1\ncannot be released: [0-9a-f]{32}\n$`, released.out)
	s.quiet(t)
	require.NoError(t, s.client().do(t.Context(), http.MethodGet, "/v1/players/p0", nil, &player))
	require.EqualValues(t, 25, player.XP)

	s.operate(t, "redrive", "--queue", "others").requireError(t, exitFailed, "queue is one of events, progression")
	wrongKey := s.command(t, "", "redrive", "--key-id", "dev-server")
	wrongKey.requireError(t, exitFailed, "403 Forbidden: key-out-of-scope")
	require.Empty(t, wrongKey.out)
}
