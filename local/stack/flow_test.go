package stack_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/signing"
)

func xpEvent(id, player string, amount int, at time.Time) string {
	return fmt.Sprintf(`{"event_id":%q,"type":"xp_gained","player_id":%q,"occurred_at":%q,"data":{"amount":%d,"source":"match"}}`,
		id, player, at.UTC().Format(time.RFC3339Nano), amount)
}

func scoreEvent(id, player, board string, score int, at time.Time) string {
	return fmt.Sprintf(`{"event_id":%q,"type":"score_submitted","player_id":%q,"occurred_at":%q,"data":{"board":%q,"score":%d}}`,
		id, player, at.UTC().Format(time.RFC3339Nano), board, score)
}

// post sends events in one batch and gives the status and the results' statuses.
func (s *system) post(t *testing.T, events ...string) (int, []string) {
	t.Helper()
	response, text := s.send(t, signing.Server, http.MethodPost, "/v1/events/batch", []byte(batchOf(events...)), nil)
	var answer struct {
		Results []struct{ Status string } `json:"results"`
	}
	require.NoError(t, json.Unmarshal(text, &answer), "%s", text)
	var statuses []string
	for _, r := range answer.Results {
		statuses = append(statuses, r.Status)
	}
	return response.StatusCode, statuses
}

// TestConcurrentClients lets 200 clients send the same batches at once: each event has its effect once.
func TestConcurrentClients(t *testing.T) {
	t.Parallel()
	eachBus(t, func(t *testing.T, b backend) {
		now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
		s := start(t, b, "chess", now)
		const clients, batches, size = 200, 3, 20
		bodies := make([]string, batches)
		for i := range bodies {
			var events []string
			for j := range size {
				player := fmt.Sprintf("p%d", j%7)
				if j%2 == 0 {
					events = append(events, xpEvent(fmt.Sprintf("x-%d-%d", i, j), player, 10, now))
				} else {
					events = append(events, scoreEvent(fmt.Sprintf("s-%d-%d", i, j), player, "points", 1, now))
				}
			}
			bodies[i] = batchOf(events...)
		}
		var group sync.WaitGroup
		answers := make(chan int, clients*batches)
		for range clients {
			group.Go(func() {
				for _, body := range bodies {
					status := http.StatusServiceUnavailable
					for try := 0; try < 20 && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests); try++ {
						// a busy machine asks to come back
						answer, _ := s.send(t, signing.Server, http.MethodPost, "/v1/events/batch", []byte(body), nil)
						status = answer.StatusCode
					}
					answers <- status
				}
			})
		}
		group.Wait()
		close(answers)
		for status := range answers {
			require.Equal(t, http.StatusAccepted, status)
		}
		s.quiet(t)

		xp, _ := s.balances(t)
		var total int64
		for _, x := range xp {
			total += x
		}
		require.EqualValues(t, batches*size/2*10, total)
		var points int64
		for _, e := range s.pages(t, "points", "all_time", 100) {
			points += e.Score
		}
		require.EqualValues(t, batches*size/2, points)
		require.Zero(t, s.rows(t, "rejected"))
	})
}

// TestSeasonIsArchived takes a day, a week and a season over their ends on a clock of the test's own.
func TestSeasonIsArchived(t *testing.T) {
	t.Parallel()
	eachBus(t, func(t *testing.T, b backend) {
		var offset atomic.Int64
		begin, started := time.Date(2026, 12, 31, 22, 0, 0, 0, time.UTC), time.Now()
		s := startClock(t, b, "chess", func() time.Time { return begin.Add(time.Since(started)).Add(time.Duration(offset.Load())) })
		status, statuses := s.post(t,
			scoreEvent("a", "ada", "points", 2, begin), scoreEvent("b", "bob", "points", 2, begin.Add(-time.Second)),
			scoreEvent("c", "cyd", "points", 1, begin), scoreEvent("d", "ada", "rating", 1500, begin))
		require.Equal(t, http.StatusAccepted, status)
		require.Equal(t, []string{"accepted", "accepted", "accepted", "accepted"}, statuses)
		s.quiet(t)
		live := s.entries(t, "/v1/leaderboards/points?window=season")
		require.Len(t, live, 3)
		require.Equal(t, "bob", live[0].PlayerID, "equal scores: who got there first")
		require.Equal(t, int64(1), live[1].TiedRank)

		// The new year: the windows close, but events of the old one still count for ten minutes.
		offset.Store(int64(2*time.Hour + time.Minute))
		require.NoError(t, s.Trigger(t.Context(), "archive"))
		require.Equal(t, "closing", s.page(t, "/v1/leaderboards/points?window=s2026").Window.State)
		require.Empty(t, s.entries(t, "/v1/leaderboards/points?window=season"))
		_, statuses = s.post(t, scoreEvent("late", "cyd", "points", 2, begin.Add(time.Hour)))
		require.Equal(t, []string{"accepted"}, statuses)
		s.quiet(t)

		// After the grace nothing moves any more.
		offset.Store(int64(2*time.Hour + 11*time.Minute))
		require.NoError(t, s.Trigger(t.Context(), "archive"))
		_, statuses = s.post(t, scoreEvent("too-late", "bob", "points", 2, begin.Add(time.Hour)))
		require.Equal(t, []string{"accepted"}, statuses)
		s.quiet(t)
		for _, window := range []string{"s2026", "2026-12-31"} {
			archive := s.page(t, "/v1/leaderboards/points/archives/"+window)
			require.Equal(t, "rewarded", archive.Window.State)
			require.Len(t, archive.Archive.Root, 43)
			var order []string
			for _, e := range archive.Entries {
				order = append(order, fmt.Sprintf("%d %d %s %d", e.Rank, e.TiedRank, e.PlayerID, e.Score))
			}
			require.Equal(t, []string{"1 1 cyd 3", "2 2 bob 2", "3 2 ada 2"}, order, window)
			// The board's own address answers from the archive too, and so does a player's place.
			require.Equal(t, archive.Entries, s.entries(t, "/v1/leaderboards/points?window="+window))
			require.Equal(t, archive.Entries[1:2], s.entries(t, "/v1/leaderboards/points/players/bob?window="+window))
		}
		// The event that came too late counts where no window closed, and its ledger row says where it does not.
		all := s.entries(t, "/v1/leaderboards/points?window=all_time")
		require.Equal(t, int64(4), all[0].Score)
		require.Equal(t, "bob", all[0].PlayerID)
		entries := s.get(t, "/v1/players/bob/events/too-late", http.StatusOK)["entries"].([]any)
		require.Contains(t, fmt.Sprint(entries), string(fault.WindowClosed))
	})
}

// TestUnfairEvents follows an impossible value to the rejected store and the player to the block list.
func TestUnfairEvents(t *testing.T) {
	t.Parallel()
	eachBus(t, func(t *testing.T, b backend) {
		now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
		s := start(t, b, "chess", now)
		status, statuses := s.post(t, xpEvent("fair", "ada", 35, now), xpEvent("unfair", "eve", 36, now), xpEvent("after", "ada", 10, now))
		require.Equal(t, http.StatusAccepted, status)
		require.Equal(t, []string{"accepted", "accepted", "accepted"}, statuses)
		s.quiet(t)
		xp, _ := s.balances(t)
		require.Equal(t, map[string]int64{"ada": 45}, xp)

		response, text := s.send(t, signing.Admin, http.MethodGet, "/v1/operations/rejected", nil, nil)
		require.Equal(t, http.StatusOK, response.StatusCode)
		var list struct {
			Rejected []struct{ ID, Stage, Code, PlayerID, EventID string } `json:"rejected"`
		}
		require.NoError(t, json.Unmarshal([]byte(strings.NewReplacer("player_id", "PlayerID", "event_id", "EventID").Replace(string(text))), &list))
		require.Len(t, list.Rejected, 1)
		require.Equal(t, "impossible-value", list.Rejected[0].Code)
		require.Equal(t, "eve", list.Rejected[0].PlayerID)
		response, text = s.send(t, signing.Admin, http.MethodGet, "/v1/operations/rejected/"+list.Rejected[0].ID, nil, nil)
		require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
		var rejected struct{ Body []byte }
		require.NoError(t, json.Unmarshal(text, &rejected))
		require.Contains(t, string(rejected.Body), `"amount":36`, "the event is kept as it was")

		// The next request about the player is refused at the gate.
		response, text = s.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(xpEvent("next", "eve", 1, now)), nil)
		require.Equal(t, http.StatusForbidden, response.StatusCode)
		require.Contains(t, string(text), `"code":"player-blocked"`)
		status, statuses = s.post(t, xpEvent("next", "eve", 1, now), xpEvent("more", "ada", 10, now))
		require.Equal(t, http.StatusAccepted, status)
		require.Equal(t, []string{"rejected", "accepted"}, statuses)
	})
}

// TestForeignMessages puts bytes on the queues that no gateway wrote. They must not hold up what comes with them.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, backend{}, "chess", now)
	for i, body := range []string{"", "null", "{", "\xff\xfe", `{"player_id":"eve"}`, `[1,2]`, xpEvent("raw", "eve", 10, now)} {
		s.inject(t, "events", fmt.Sprintf("e%d", i), body)
		s.inject(t, "progression", fmt.Sprintf("p%d", i), body)
	}
	_, statuses := s.post(t, xpEvent("good", "ada", 10, now))
	require.Equal(t, []string{"accepted"}, statuses)
	s.quiet(t)
	xp, _ := s.balances(t)
	require.Equal(t, map[string]int64{"ada": 10}, xp)
	require.Equal(t, 14, s.rows(t, "rejected"))
}

// TestIdempotentRequests repeats requests in every way a client can.
func TestIdempotentRequests(t *testing.T) {
	t.Parallel()
	eachBus(t, func(t *testing.T, b backend) {
		now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
		s := start(t, b, "chess", now)
		sign := func(key, nonce string, body []byte) func(*http.Request) {
			return func(r *http.Request) {
				r.Header.Set("Idempotency-Key", key)
				require.NoError(t, signing.SignHTTP(r, s.Secrets.Key(signing.Server), body, s.clock(), nonce))
			}
		}
		body := []byte(xpEvent("once", "ada", 10, now))
		first, text := s.send(t, signing.Server, http.MethodPost, "/v1/events", body, sign("k1", "nonce-nonce-nonce-1", body))
		require.Equal(t, http.StatusAccepted, first.StatusCode)
		require.Empty(t, first.Header.Get("Idempotent-Replayed"))

		again, same := s.send(t, signing.Server, http.MethodPost, "/v1/events", body, sign("k1", "nonce-nonce-nonce-1", body))
		require.Equal(t, http.StatusAccepted, again.StatusCode, "the very same bytes, as a network retries them")
		require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
		require.Equal(t, text, same)
		again, same = s.send(t, signing.Server, http.MethodPost, "/v1/events", body, sign("k1", "nonce-nonce-nonce-2", body))
		require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
		require.Equal(t, text, same)

		other := []byte(xpEvent("other", "ada", 10, now))
		reused, problem := s.send(t, signing.Server, http.MethodPost, "/v1/events", other, sign("k1", "nonce-nonce-nonce-3", other))
		require.Equal(t, http.StatusUnprocessableEntity, reused.StatusCode)
		require.Contains(t, string(problem), "idempotency-key-reused")
		nonce, problem := s.send(t, signing.Server, http.MethodPost, "/v1/events", other, sign("k2", "nonce-nonce-nonce-1", other))
		require.Equal(t, http.StatusUnauthorized, nonce.StatusCode)
		require.Contains(t, string(problem), "nonce-replayed")

		// The same event under another key is a duplicate, alone and twice in a batch.
		_, statuses := s.post(t, string(body), xpEvent("two", "ada", 10, now), xpEvent("two", "ada", 10, now))
		require.Equal(t, []string{"duplicate", "accepted", "duplicate"}, statuses)
		s.quiet(t)
		xp, _ := s.balances(t)
		require.Equal(t, map[string]int64{"ada": 20}, xp)
	})
}
