package replay_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/event"
	"liveops/local/replay"
)

// recording is n events of players taken in turn.
func recording(n, players int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{
			ID: fmt.Sprintf("e%d", i), Type: event.XPGained, PlayerID: fmt.Sprintf("p%d", i%players),
			OccurredAt: time.Date(2026, 11, 22, 12, 0, i, 0, time.UTC), Data: map[string]any{"amount": 1.0, "source": "match"},
		}
	}
	return events
}

// bubble runs a test on a fake clock.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func TestZeroValuesAreUsable(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]replay.Player{"zero": {}, "absurd": {Batch: 100_000, Concurrency: -1}, "negative": {Batch: -5}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGateway(t, nil)
				report, err := g.play(t.Context(), p, recording(1000, 1))
				require.NoError(t, err)
				require.Equal(t, 1000, report.Accepted)
				require.Len(t, g.requests, 5)
				for _, r := range g.requests {
					require.Len(t, r.events, event.MaxBatch)
				}
			})
		})
	}
}

func TestNothingToPlay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, nil)
		report, err := g.play(t.Context(), replay.Player{}, nil)
		require.NoError(t, err)
		require.Zero(t, report.Events())
		require.Zero(t, report.Latency(.99))
		require.Empty(t, g.requests)
	})
}

func TestBatchesKeepToTheBodyLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		events := recording(100, 1)
		for i := range events {
			events[i].Data["source"] = strings.Repeat("x", 30_000)
		}
		g := newGateway(t, nil)
		report, err := g.play(t.Context(), replay.Player{}, events)
		require.NoError(t, err)
		require.Equal(t, 100, report.Accepted)
		require.Len(t, g.requests, 6, "17 events of 30 kB fit into 512 KiB")
		for _, r := range g.requests {
			require.LessOrEqual(t, len(r.body), event.MaxBody)
		}
	})
}

func TestConcurrencyIsTheNumberOfRequestsAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var most, now int
		gate := make(chan struct{})
		g := newGateway(t, func(request) reply {
			mu.Lock()
			now++
			most = max(most, now)
			if now == 3 {
				close(gate)
			}
			mu.Unlock()
			<-gate // until three are here at once
			mu.Lock()
			now--
			mu.Unlock()
			return reply{}
		})
		_, err := g.play(t.Context(), replay.Player{Batch: 1000, Concurrency: 3}, recording(300, 100))
		require.NoError(t, err)
		require.Equal(t, 3, most)
	})
}

// TestOrder plays recordings into a gateway that throttles, breaks and delays at random: every event arrives once, each
// player's in order.
func TestOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		players := rapid.IntRange(1, 5).Draw(rt, "players")
		events := recording(rapid.IntRange(1, 80).Draw(rt, "events"), players)
		p := replay.Player{
			Batch: rapid.IntRange(1, 12).Draw(rt, "batch"), Concurrency: rapid.IntRange(1, 4).Draw(rt, "concurrency"), Retries: 100,
		}
		quotas := map[string][]int{} // how many events of a player pass, request by request, until all do
		for i := range players {
			quotas[fmt.Sprintf("p%d", i)] = rapid.SliceOfN(rapid.IntRange(0, 3), 0, 20).Draw(rt, "quotas")
		}
		troubles := rapid.SliceOfN(rapid.IntRange(0, 6), 0, 20).Draw(rt, "troubles")
		wait := rapid.Int64Range(0, 3)
		waits := rapid.SliceOfN(wait, 5, 5).Draw(rt, "waits")

		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			arrived := map[string][]string{}
			throttled, broken := 0, 0
			g := newGateway(t, func(r request) reply {
				mu.Lock()
				defer mu.Unlock()
				trouble := 0
				if len(troubles) > 0 {
					trouble, troubles = troubles[0], troubles[1:]
				}
				switch trouble {
				case 1:
					broken++
					return reply{status: http.StatusServiceUnavailable}
				case 2:
					broken++
					return reply{status: http.StatusConflict}
				case 3: // before anything was done
					broken++
					return reply{status: http.StatusOK, body: "", lost: true}
				}
				pass := map[string]int{}
				results := make([]item, len(r.events))
				for i, e := range r.events {
					quota, seen := pass[e.PlayerID]
					if left := quotas[e.PlayerID]; !seen {
						quota = len(events)
						if len(left) > 0 {
							quota, quotas[e.PlayerID] = left[0], left[1:]
						}
					}
					pass[e.PlayerID] = quota - 1
					results[i] = item{EventID: e.ID, Status: "accepted"}
					if quota < 1 {
						results[i].Status, results[i].RetryAfter = "throttled", waits[i%len(waits)]
						throttled++
						continue
					}
					arrived[e.PlayerID] = append(arrived[e.PlayerID], e.ID)
				}
				if trouble == 4 {
					broken++
				}
				return reply{results: results, lost: trouble == 4, after: time.Duration(trouble) * time.Second} // 4: all done, and nobody hears of it
			})
			settled := 0
			p.Progress = func(done int) {
				mu.Lock()
				defer mu.Unlock()
				settled += done
			}
			report, err := g.play(t.Context(), p, events)
			require.NoError(t, err)

			sent := map[string][]string{}
			for _, e := range events {
				sent[e.PlayerID] = append(sent[e.PlayerID], e.ID)
			}
			require.Equal(t, sent, arrived)
			require.Equal(t, len(events), report.Accepted)
			require.Equal(t, len(events), settled)
			require.Equal(t, throttled, report.Throttled)
			require.Equal(t, broken, report.Retried)
		})
	})
}

func TestThrottledEventsWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := map[string]bool{}
		g := newGateway(t, func(r request) reply {
			var results []item
			for _, e := range r.events {
				if e.PlayerID == "p1" && !first[e.ID] {
					first[e.ID] = true
					results = append(results, item{e.ID, "throttled", "rate-limited", 7})
					continue
				}
				results = append(results, item{e.ID, "accepted", "", 0})
			}
			return reply{results: results}
		})
		report, err := g.play(t.Context(), replay.Player{Batch: 4, Concurrency: 1}, recording(8, 2))
		require.NoError(t, err)
		require.Equal(t, 8, report.Accepted)
		require.Equal(t, "e0 e1 e2 e3", ids(g.requests[0]))
		require.Equal(t, "e4 e6", ids(g.requests[1]), "what is held does not stop the others")
		require.Equal(t, g.requests[0].at, g.requests[1].at)
		require.Equal(t, "e1", ids(g.requests[2]), "none passed, so one is tried")
		require.Equal(t, 7*time.Second, g.requests[2].at.Sub(g.requests[0].at))
		require.Equal(t, 7*time.Second, g.requests[2].at.Sub(g.requests[1].at))
	})
}

func ids(r request) string {
	var list []string
	for _, e := range r.events {
		list = append(list, e.ID)
	}
	return strings.Join(list, " ")
}

func TestSentAgain(t *testing.T) {
	t.Parallel()
	wait := func(text string) http.Header { return http.Header{"Retry-After": {text}} }
	problem := map[string]any{"code": "queue-unavailable", "title": "The queue cannot be reached"}
	for name, c := range map[string]struct {
		first reply
		pause time.Duration
	}{
		"503":                      {reply{status: 503, body: problem, header: wait("3")}, 3 * time.Second},
		"503 without Retry-After":  {reply{status: 503, body: problem}, time.Second},
		"503 for long":             {reply{status: 503, body: problem, header: wait("120")}, 2 * time.Minute},
		"unreadable Retry-After":   {reply{status: 503, body: problem, header: wait("soon")}, time.Second},
		"409":                      {reply{status: 409, body: map[string]any{"code": "idempotency-in-flight"}, header: wait("1")}, time.Second},
		"429 of something between": {reply{status: 429, body: "<html>", header: wait("5")}, 5 * time.Second},
		"502 of something between": {reply{status: 502, body: "<html>Bad Gateway</html>"}, time.Second},
		"504 without a body":       {reply{status: 504, body: ""}, time.Second},
		"connection lost":          {reply{lost: true, status: 200, body: ""}, time.Second},
		"answer lost":              {reply{lost: true}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGateway(t, func(r request) reply {
					if r.number == 1 {
						return c.first
					}
					return reply{}
				})
				report, err := g.play(t.Context(), replay.Player{Retries: 1}, recording(3, 1))
				require.NoError(t, err)
				require.Equal(t, 3, report.Accepted)
				require.Equal(t, 1, report.Retried)
				require.Len(t, g.requests, 2)
				one, two := g.requests[0], g.requests[1]
				require.Equal(t, one.key, two.key)
				require.Equal(t, one.body, two.body)
				require.NotEqual(t, one.nonce, two.nonce)
				require.Equal(t, c.pause, two.at.Sub(one.at))
			})
		})
	}
}

// TestLostOnAUsedConnection: net/http sends a request again by itself when a connection that was used before breaks, which
// would use its nonce twice.
func TestLostOnAUsedConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, func(r request) reply { return reply{lost: r.number == 2} })
		report, err := g.play(t.Context(), replay.Player{Batch: 1, Concurrency: 1, Retries: 1}, recording(3, 1))
		require.NoError(t, err)
		require.Equal(t, 3, report.Accepted)
		require.Equal(t, 1, report.Retried)
		require.Len(t, g.requests, 4)
	})
}

func TestRetriesEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, func(request) reply {
			return reply{status: 503, body: map[string]any{"code": "redis-unavailable", "title": "Redis cannot be reached"}}
		})
		report, err := g.play(t.Context(), replay.Player{Retries: 2}, recording(3, 1))
		require.EqualError(t, err, "the gateway answered 503 Service Unavailable: redis-unavailable: Redis cannot be reached")
		require.Len(t, g.requests, 3)
		require.Equal(t, 2, report.Retried)
		require.Zero(t, report.Events())
	})
}

func TestStops(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer reply
		err    string
	}{
		"400": {
			reply{status: 400, body: map[string]any{"code": "malformed-json", "title": "The body is not valid JSON", "detail": "at byte 3"}},
			"the gateway answered 400 Bad Request: malformed-json: The body is not valid JSON (at byte 3)",
		},
		"401": {
			reply{status: 401, body: map[string]any{"code": "key-unknown", "title": "The key id is not known"}},
			"the gateway answered 401 Unauthorized: key-unknown: The key id is not known",
		},
		"401 about the clock without a time": {
			reply{status: 401, body: map[string]any{"code": "timestamp-out-of-window", "title": "Too far"}},
			"the gateway answered 401 Unauthorized: timestamp-out-of-window: Too far",
		},
		"422 without results": {
			reply{status: 422, body: map[string]any{"code": "idempotency-key-reused", "title": "Used"}},
			"the gateway answered 422 Unprocessable Entity: idempotency-key-reused: Used",
		},
		"not a gateway":    {reply{status: 404, body: "<html>"}, "the gateway answered 404 Not Found without saying why"},
		"500":              {reply{status: 500, body: ""}, "the gateway answered 500 Internal Server Error without saying why"},
		"too few results":  {reply{results: []item{{EventID: "e0", Status: "accepted"}}}, "the gateway answered 1 results for 3 events"},
		"202 about nobody": {reply{body: map[string]any{"results": []item{}}}, "the gateway answered 202 Accepted without saying why"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGateway(t, func(request) reply { return c.answer })
				report, err := g.play(t.Context(), replay.Player{Retries: 5}, recording(3, 1))
				require.EqualError(t, err, c.err)
				require.Len(t, g.requests, 1)
				require.Zero(t, report.Events())
			})
		})
	}
}

func TestStopsWithAKeyThatCannotSign(t *testing.T) {
	t.Parallel()
	p := replay.Player{URL: "http://gateway.test"}
	_, err := p.Play(t.Context(), recording(1, 1))
	require.ErrorContains(t, err, "no secret")
}

func TestRejections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, func(r request) reply {
			switch r.number {
			case 1:
				return reply{status: 422, results: []item{{"e0", "rejected", "board-unknown", 0}, {"e1", "rejected", "event-invalid", 0}}}
			case 2:
				return reply{results: []item{{"e2", "duplicate", "", 0}, {"e3", "rejected", "board-unknown", 0}}}
			}
			return reply{status: 403, body: map[string]any{"code": "player-blocked", "title": "The player is blocked"}}
		})
		report, err := g.play(t.Context(), replay.Player{Batch: 2, Concurrency: 1}, recording(6, 1))
		require.NoError(t, err)
		require.Equal(t, map[string]int{"board-unknown": 2, "event-invalid": 1, "player-blocked": 2}, report.Rejected)
		require.Equal(t, 1, report.Duplicate)
		require.Equal(t, 6, report.Events())
	})
}

func TestClockIsCorrectedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, nil)
		g.ahead = 2 * time.Hour
		report, err := g.play(t.Context(), replay.Player{Batch: 10, Concurrency: 4}, recording(200, 40))
		require.NoError(t, err)
		require.Equal(t, 200, report.Accepted)
		wrong := 0
		for _, r := range g.requests {
			if r.sent.Before(r.at.Add(time.Hour)) {
				wrong++
			}
		}
		require.Positive(t, wrong)
		require.LessOrEqual(t, wrong, 4, "at most those that were under way together")
		require.Equal(t, wrong, report.Retried)
	})
}

func TestClockIsNotCorrectedTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, func(request) reply {
			return reply{status: 401, body: map[string]any{"code": "timestamp-out-of-window", "title": "Too far", "server_time": 1_000_000_000}}
		})
		_, err := g.play(t.Context(), replay.Player{Retries: 9}, recording(1, 1))
		require.ErrorContains(t, err, "401 Unauthorized")
		require.Len(t, g.requests, 2)
		require.NotEqual(t, int64(1_000_000_000), g.requests[0].sent.Unix())
	})
}

func TestNowDatesTheRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, nil)
		g.ahead = -time.Hour
		p := replay.Player{Now: func() time.Time { return time.Now().Add(-time.Hour) }}
		report, err := g.play(t.Context(), p, recording(5, 1))
		require.NoError(t, err)
		require.Zero(t, report.Retried)
	})
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]reply{
		"while throttled": {results: []item{{EventID: "e0", Status: "throttled", RetryAfter: 3600}}},
		"between tries":   {status: 503, header: http.Header{"Retry-After": {"3600"}}},
		"while asking":    {after: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				g := newGateway(t, func(request) reply { return answer })
				started := time.Now()
				report, err := g.play(ctx, replay.Player{Retries: 5}, recording(1, 1))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, time.Minute, time.Since(started))
				require.Equal(t, time.Minute, report.Elapsed)
			})
		})
	}
}

func TestReport(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t, func(r request) reply { return reply{after: time.Duration(r.number) * time.Millisecond} })
		report, err := g.play(t.Context(), replay.Player{Batch: 2, Concurrency: 1}, recording(200, 7))
		require.NoError(t, err)
		require.Equal(t, 200, report.Accepted)
		require.Equal(t, 5050*time.Millisecond, report.Elapsed) // 1 + 2 + … + 100
		require.InDelta(t, 200/5.05, report.Rate(), 1e-9)
		require.Equal(t, 50*time.Millisecond, report.Latency(.5))
		require.Equal(t, 99*time.Millisecond, report.Latency(.99))
		require.Equal(t, 100*time.Millisecond, report.Latency(.991), "not less than were answered within it")
		require.Equal(t, 100*time.Millisecond, report.Latency(1))
		require.Equal(t, time.Millisecond, report.Latency(0))
	})
}

func TestRestamp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		offsets := rapid.SliceOfN(rapid.Int64Range(0, 1_000_000_000), 1, 20).Draw(t, "offsets")
		end := time.Unix(1_700_000_000, rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		began := time.Date(2022, 11, 1, 0, 0, 0, 0, time.UTC)
		events := make([]event.Event, len(offsets))
		last := offsets[0]
		for i, o := range offsets {
			events[i].OccurredAt = began.Add(time.Duration(o) * time.Millisecond)
			last = max(last, o)
		}
		replay.Restamp(events, end)
		for i, o := range offsets {
			require.Equal(t, time.Duration(last-o)*time.Millisecond, end.Truncate(time.Millisecond).Sub(events[i].OccurredAt))
			require.Equal(t, time.UTC, events[i].OccurredAt.Location())
		}
	})
	replay.Restamp(nil, time.Now())
}

func TestRead(t *testing.T) {
	t.Parallel()
	line := `{"event_id":"a","type":"xp_gained","player_id":"p","occurred_at":"2026-11-22T12:00:00Z","data":{"amount":1}}`
	long := strings.Replace(line, `"amount":1`, `"text":"`+strings.Repeat("x", event.MaxSize)+`"`, 1)
	events, err := replay.Read(strings.NewReader(line + "\r\n\n  " + strings.Replace(line, `"a"`, `"b"`, 1)))
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, "b", events[1].ID)

	for text, want := range map[string]string{
		line + "\nnonsense": "line 2: malformed-json",
		"\n\n{}":            "line 3: event-invalid",
		line + "\n" + long:  "line 2: event-too-large",
		line + "\n" + long + long + long + "\n{}\n": "line 2: longer than any event may be",
	} {
		_, err := replay.Read(strings.NewReader(text))
		require.ErrorContains(t, err, want)
	}
}
