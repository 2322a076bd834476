package stack_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/signing"
)

// TestBrokerOutage takes the broker away: new events are told to come back, and under the same idempotency key they are taken
// when it is there again, once in effect, also where it had them and could not say so.
func TestBrokerOutage(t *testing.T) {
	t.Parallel()
	down := fault.BusUnavailable.Errorf("the queue cannot be reached, try again")
	for name, fails := range map[string]func(op, queue string) bool{
		"all of it":                func(string, string) bool { return true },
		"its confirmations":        func(op, _ string) bool { return op == "published" },
		"the queue of the gateway": func(op, queue string) bool { return op == "publish" && queue == "events" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
			s := start(t, backend{}, "chess", now)
			_, statuses := s.post(t, xpEvent("before", "ada", 10, now))
			require.Equal(t, []string{"accepted"}, statuses)
			s.quiet(t) // a message under way would keep its lock, and come a minute later

			s.Bus.Fail(func(op, queue string) error {
				if fails(op, queue) {
					return down
				}
				return nil
			})
			body := []byte(batchOf(xpEvent("during", "ada", 10, now), scoreEvent("score", "ada", "points", 2, now)))
			sameKey := func(r *http.Request) {
				r.Header.Set("Idempotency-Key", "one-key")
				require.NoError(t, signing.SignHTTP(r, s.Secrets.Key(signing.Server), body, s.clock(), signing.NewNonce()))
			}
			for range 3 {
				response, text := s.send(t, signing.Server, http.MethodPost, "/v1/events/batch", body, sameKey)
				require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, "%s", text)
				require.Contains(t, string(text), `"queue-unavailable"`)
				after, err := strconv.Atoi(response.Header.Get("Retry-After"))
				require.NoError(t, err)
				require.Positive(t, after)
			}
			s.get(t, "/v1/leaderboards/points?window=all_time", http.StatusOK)

			s.Bus.Fail(nil)
			response, text := s.send(t, signing.Server, http.MethodPost, "/v1/events/batch", body, sameKey)
			require.Equal(t, http.StatusAccepted, response.StatusCode, "the key is free: %s", text)
			require.Empty(t, response.Header.Get("Idempotent-Replayed"))
			s.quiet(t)
			require.EqualValues(t, 20, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
			require.Equal(t, int64(2), s.entries(t, "/v1/leaderboards/points?window=all_time")[0].Score)
			s.noneDead(t)
			require.Zero(t, s.rows(t, "rejected"))
		})
	}
}

func (s *system) noneDead(t *testing.T) {
	t.Helper()
	for _, queue := range []string{"events", "progression"} {
		counts, err := s.Bus.Counts(queue)
		require.NoError(t, err)
		require.Zero(t, counts.Dead, queue)
	}
}
