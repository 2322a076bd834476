package stack_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
	"liveops/core/store"
	"liveops/local/stack"
	"liveops/local/wire"
)

// lay puts a wire in front of a server.
func lay(t *testing.T, server string) *wire.Wire {
	t.Helper()
	w, err := wire.New(server)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

// unavailable asserts an answer that says: later.
func (s *system) unavailable(t *testing.T, method, path, body string) {
	t.Helper()
	var sent []byte
	if method == http.MethodPost {
		sent = []byte(body)
	}
	response, text := s.send(t, signing.Server, method, path, sent, nil)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, "%s %s: %s", method, path, text)
	require.NotEmpty(t, response.Header.Get("Retry-After"))
	require.Contains(t, string(text), "unavailable")
}

// TestRedisOutage cuts Redis off: requests are told to come back, nothing that was accepted is lost, and everything goes on
// when Redis is back.
func TestRedisOutage(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		var redis *wire.Wire
		if b.redis != "" {
			redis = lay(t, b.redis)
			b.redis = redis.URL
		}
		now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
		s := start(t, b, "chess", now)
		down, up := s.Redis.Close, func() { require.NoError(t, s.Redis.Restart()) }
		if redis != nil {
			down, up = redis.Cut, redis.Mend
		}
		_, statuses := s.post(t, xpEvent("before", "ada", 10, now), scoreEvent("before-2", "ada", "points", 2, now))
		require.Equal(t, []string{"accepted", "accepted"}, statuses)
		s.quiet(t)

		down()
		s.unavailable(t, http.MethodPost, "/v1/events", xpEvent("during", "ada", 10, now))
		s.unavailable(t, http.MethodPost, "/v1/receipts/verify", `{"receipt":"r"}`)
		require.EqualValues(t, 10, s.get(t, "/v1/players/ada", http.StatusOK)["xp"], "SQL answers")
		require.Equal(t, int64(2), s.entries(t, "/v1/leaderboards/points?window=all_time")[0].Score, "here too")
		// What is on the queues waits.
		s.inject(t, "events", "ada.queued", `{"event_id":"queued","type":"score_submitted","player_id":"ada","occurred_at":"2026-11-20T20:00:00Z",`+
			`"data":{"board":"points","score":2},"at":"2026-11-20T20:00:00Z","received_at":"2026-11-20T20:00:00Z","key_id":"dev-server"}`)
		response, err := http.Get(s.URL + "/readyz")
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
		require.False(t, s.Idle())

		up()
		s.quiet(t)
		_, statuses = s.post(t, xpEvent("during", "ada", 10, now), xpEvent("before", "ada", 10, now))
		require.Equal(t, []string{"accepted", "duplicate"}, statuses)
		s.quiet(t)
		require.EqualValues(t, 20, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
		// A rebuild that was cut off keeps its lease for some seconds; until then SQL answers.
		require.Equal(t, int64(4), s.entries(t, "/v1/leaderboards/points?window=all_time")[0].Score)
	})
}

// TestDatabaseOutage cuts MySQL off for many deliveries: events are still taken, wait on the queue, and count once when it is
// back. None becomes a dead letter.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	b := realBackend(t)
	if b.db == "" {
		t.Skip("SQLite is a file and cannot be cut off: needs a MySQL server")
	}
	db := lay(t, b.db)
	b.db, b.settings = db.URL, map[string]string{"BATCH_HOLD": "100ms"}
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, b, "chess", now)
	s.get(t, "/readyz", http.StatusOK)
	// The first score of a day makes the fairness stage ask how the days before it ended; from then on it needs SQL for what it finds.
	_, statuses := s.post(t, xpEvent("x", "eve", 10, now), scoreEvent("s", "eve", "points", 0, now))
	require.Equal(t, []string{"accepted", "accepted"}, statuses)
	s.quiet(t)

	db.Cut()
	events := 0
	for deliveries := 0; events < 50 || deliveries < 20; events++ {
		_, statuses := s.post(t, xpEvent(fmt.Sprintf("x%d", events), "ada", 10, now), scoreEvent(fmt.Sprintf("s%d", events), "ada", "points", 1, now))
		require.Equal(t, []string{"accepted", "accepted"}, statuses)
		waiting, err := s.Bus.Peek("progression", 0, 1)
		require.NoError(t, err)
		for _, oldest := range waiting {
			deliveries = oldest.DeliveryCount
		}
	}
	s.noneDead(t)
	s.unavailable(t, http.MethodGet, "/v1/players/ada", "")
	require.False(t, s.Idle())

	db.Mend()
	s.quiet(t)
	s.noneDead(t)
	require.EqualValues(t, events*10, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
	require.EqualValues(t, events, s.entries(t, "/v1/leaderboards/points?window=all_time")[0].Score)
}

// TestWipedRedis throws all of Redis away under a running system: ranks come back as they were.
func TestWipedRedis(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
		s := start(t, b, "chess", now)
		url := b.redis
		if s.Redis != nil {
			url = "redis://" + s.Redis.Addr()
		}
		rdb, err := store.OpenRedis(url)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, rdb.Close()) })
		var events []string
		for i := range 60 {
			events = append(events, scoreEvent(fmt.Sprintf("s%d", i), fmt.Sprintf("p%02d", i), "rating", 1500+i%4, now.Add(-time.Duration(i%5)*time.Second)))
		}
		status, _ := s.post(t, append(events, xpEvent("x", "p00", 10, now), xpEvent("cheat", "eve", 9999, now))...)
		require.Equal(t, http.StatusAccepted, status)
		s.quiet(t)
		before, player := s.pages(t, "rating", "all_time", 7), s.get(t, "/v1/players/p00", http.StatusOK)
		require.Len(t, before, 60)

		require.NoError(t, rdb.FlushDB(t.Context()).Err())
		require.Equal(t, before, s.pages(t, "rating", "all_time", 7))
		require.Equal(t, player, s.get(t, "/v1/players/p00", http.StatusOK))

		require.NoError(t, rdb.FlushDB(t.Context()).Err())
		require.NoError(t, s.Trigger(t.Context(), "archive"))
		for _, window := range []string{"all_time", "2026-11-20", "2026-W47", "s2026"} {
			require.EqualValues(t, 60, rdb.ZCard(t.Context(), "rank:{rating:"+window+"}:order").Val(), "%s is back before anybody reads it", window)
		}
		response, text := s.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(xpEvent("y", "eve", 1, now)), nil)
		require.Equal(t, http.StatusForbidden, response.StatusCode, "and so is the block: %s", text)
	})
}

// TestRestart ends a system and starts another one on the same data: what was done is still there, under the same keys.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{stack.Direct, stack.ServiceBus} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testRestart(t, backend{bus: kind})
		})
	}
}

func testRestart(t *testing.T, b backend) {
	t.Helper()
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	data := t.TempDir()
	first := startIn(t, b, "chess", data, func() time.Time { return now })
	_, statuses := first.post(t, xpEvent("x", "ada", 10, now), scoreEvent("s", "ada", "rating", 1500, now), xpEvent("u", "eve", 9999, now))
	require.Equal(t, []string{"accepted", "accepted", "accepted"}, statuses)
	first.quiet(t)
	token := first.get(t, "/v1/receipts/ada/x", http.StatusOK)["receipt"].(string)
	require.NoError(t, first.Stop())

	second := startIn(t, b, "chess", data, func() time.Time { return now.Add(time.Minute) })
	require.Equal(t, first.Secrets, second.Secrets)
	require.EqualValues(t, 10, second.get(t, "/v1/players/ada", http.StatusOK)["xp"])
	require.Equal(t, int64(1500), second.entries(t, "/v1/leaderboards/rating?window=daily")[0].Score)
	require.Equal(t, token, second.get(t, "/v1/receipts/ada/x", http.StatusOK)["receipt"])
	response, text := second.send(t, signing.Server, http.MethodPost, "/v1/receipts/verify", []byte(`{"receipt":"`+token+`"}`), nil)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, string(text), `"valid":true`)
	response, text = second.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(xpEvent("v", "eve", 1, now)), nil)
	require.Equal(t, http.StatusForbidden, response.StatusCode, "the new Redis has the block list again: %s", text)
	// The new Redis does not know the event any more. The ledger does.
	_, statuses = second.post(t, xpEvent("x", "ada", 10, now))
	require.Equal(t, []string{"accepted"}, statuses)
	second.quiet(t)
	require.EqualValues(t, 10, second.get(t, "/v1/players/ada", http.StatusOK)["xp"])
}
