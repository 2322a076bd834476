package replay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/event"
	"liveops/local/clock"
	"liveops/local/replay"
)

var dawn = time.Date(2022, 11, 1, 0, 0, 0, 0, time.UTC)

// world is a clock with boundaries. It notes what it was asked and holds whoever asks to the boundaries.
type world struct {
	mu         sync.Mutex
	clock      *clock.Clock
	boundaries []time.Time // in order
	moves      []time.Time
	skipped    []time.Time // boundaries that were moved over
	down       error       // of every move
}

func newWorld(boundaries ...time.Time) *world {
	return &world{clock: clock.New(dawn), boundaries: boundaries}
}

func (w *world) reading() clock.Reading {
	r := clock.Reading{Now: w.clock.Now()}
	for _, b := range w.boundaries {
		if b.After(r.Now) {
			r.Next = b
			break
		}
	}
	return r
}

func (w *world) Clock(context.Context) (clock.Reading, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reading(), nil
}

func (w *world) Move(_ context.Context, to time.Time) (clock.Reading, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return clock.Reading{}, w.down
	}
	if next := w.reading().Next; !next.IsZero() && to.After(next) {
		w.skipped = append(w.skipped, next)
	}
	w.moves = append(w.moves, to)
	err := w.clock.Set(to)
	return w.reading(), err
}

// follow plays events into a gateway on the world's clock.
func (w *world) follow(t require.TestingT, p replay.Player, events []event.Event, until time.Time, answer func(request) reply) (*gateway, *replay.Report, error) {
	g := newGateway(t, answer)
	g.verifier.Now = w.clock.Now
	p.URL, p.Key, p.Client = "http://gateway.test/", key(), g.client()
	report, err := p.Follow(context.Background(), events, w, until)
	p.Client.CloseIdleConnections()
	require.NoError(t, g.server.Close())
	require.Empty(t, g.problems)
	return g, report, err
}

// TestFollow plays recordings at random distances over boundaries at random places: every event once and in order of time, none
// before the clock is there, none late, never more than an hour at once.
func TestFollow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		events := recording(rapid.IntRange(0, 60).Draw(rt, "events"), 5)
		// From milliseconds to days, and often at once.
		at, distance := dawn, rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Minute, 20 * time.Minute, 59*time.Minute + 59999*time.Millisecond, time.Hour, 30 * time.Hour})
		for i := range events {
			at = at.Add(distance.Draw(rt, "distance"))
			events[i].OccurredAt = at
		}
		boundaries := rapid.SliceOfN(rapid.Int64Range(1, int64(at.Sub(dawn)/time.Millisecond)+2), 0, 8).Draw(rt, "boundaries")
		for _, e := range events { // where an event lies on a boundary, and right before one
			switch ms := e.OccurredAt.Sub(dawn).Milliseconds(); rapid.IntRange(0, 9).Draw(rt, "on") {
			case 0:
				boundaries = append(boundaries, ms)
			case 1:
				boundaries = append(boundaries, ms+1)
			}
		}
		slices.Sort(boundaries)
		w := newWorld()
		for _, b := range boundaries {
			w.boundaries = append(w.boundaries, dawn.Add(time.Duration(b)*time.Millisecond))
		}
		until := time.Time{}
		if rapid.Bool().Draw(rt, "until") {
			until = at.Add(distance.Draw(rt, "on to"))
		}
		sent := make([]event.Event, len(events))
		for i, place := range rapid.Permutation(rangeOf(len(events))).Draw(rt, "order") {
			sent[i] = events[place]
		}
		want := slices.Clone(sent)
		slices.SortStableFunc(want, func(a, b event.Event) int { return a.OccurredAt.Compare(b.OccurredAt) })
		before := slices.Clone(sent)

		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var arrived []event.Event
			sentAt := map[time.Time][]event.Event{} // by where the clock stood
			_, report, err := w.follow(t, replay.Player{Concurrency: 1}, sent, until, func(r request) reply {
				mu.Lock()
				defer mu.Unlock()
				now := w.clock.Now()
				require.Equal(t, now.Truncate(time.Second), r.sent.UTC())
				arrived = append(arrived, r.events...)
				sentAt[now] = append(sentAt[now], r.events...)
				return reply{}
			})
			require.NoError(t, err)
			require.Equal(t, len(events), report.Accepted)
			require.Equal(t, before, sent, "what was given stays as it was")
			require.Equal(t, names(want), names(arrived))
			require.Empty(t, w.skipped)
			require.True(t, slices.IsSortedFunc(w.moves, time.Time.Compare))
			for now, sent := range sentAt {
				first, last := sent[0].OccurredAt, sent[len(sent)-1].OccurredAt
				require.Equal(t, now, last, "not in the future, and no later than it must be")
				require.LessOrEqual(t, last.Sub(first), time.Hour)
				for _, b := range w.boundaries {
					require.False(t, first.Before(b) && !last.Before(b), "%v to %v over %v", first, last, b)
				}
			}
			end := dawn
			if len(want) > 0 {
				end = want[len(want)-1].OccurredAt
			}
			if until.After(end) {
				end = until
			}
			require.Equal(t, end, w.clock.Now())
		})
	})
}

func rangeOf(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func names(events []event.Event) []string {
	var list []string
	for _, e := range events {
		list = append(list, e.ID)
	}
	return list
}

// TestFollowManyAtOnce: an instant with more events than are sent at once.
func TestFollowManyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		events := recording(12_000, 50)
		for i := range events {
			events[i].OccurredAt = dawn.Add(time.Minute)
		}
		w := newWorld()
		g, report, err := w.follow(t, replay.Player{}, events, time.Time{}, nil)
		require.NoError(t, err)
		require.Equal(t, 12_000, report.Accepted)
		require.Equal(t, []time.Time{dawn.Add(time.Minute)}, w.moves)
		require.GreaterOrEqual(t, len(g.requests), 60)
	})
}

// TestFollowThrottled lets a gateway throttle by its own clock, which nothing but the player moves: every event arrives all the
// same, each player's in order, and no real time passes.
func TestFollowThrottled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(t *testing.T, w *world) func(r request) reply
		end    time.Duration
	}{
		"players": {
			func(t *testing.T, w *world) func(r request) reply {
				var mu sync.Mutex
				next := map[string]time.Time{} // one event of a player a minute
				return func(r request) reply {
					mu.Lock()
					defer mu.Unlock()
					results := make([]item, len(r.events))
					for i, e := range r.events {
						results[i] = item{e.ID, "accepted", "", 0}
						if wait := next[e.PlayerID].Sub(w.clock.Now()); wait > 0 {
							results[i] = item{e.ID, "throttled", "rate-limited", int64((wait + time.Second - 1) / time.Second)}
							continue
						}
						next[e.PlayerID] = w.clock.Now().Add(time.Minute)
					}
					return reply{results: results}
				}
			},
			29*time.Second + 9*time.Minute, // ten events of each player
		},
		"the key": {
			func(t *testing.T, w *world) func(r request) reply {
				return func(r request) reply { // nothing in the first ten minutes
					if w.clock.Now().Before(dawn.Add(10 * time.Minute)) {
						return reply{status: 429, header: http.Header{"Retry-After": {"120"}}, body: map[string]any{"code": "rate-limited"}}
					}
					return reply{}
				}
			},
			29*time.Second + 10*time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				began := time.Now()
				events := recording(30, 3)
				for i := range events {
					events[i].OccurredAt = dawn.Add(time.Duration(i) * time.Second)
				}
				boundary := dawn.Add(2 * time.Minute)
				w := newWorld(boundary)
				var mu sync.Mutex
				last := map[string]int{}
				answer := c.answer(t, w)
				_, report, err := w.follow(t, replay.Player{}, events, time.Time{}, func(r request) reply {
					out := answer(r)
					mu.Lock()
					defer mu.Unlock()
					for i, e := range r.events {
						if out.status != 0 || out.results != nil && out.results[i].Status == "throttled" {
							continue
						}
						var n int
						_, err := fmt.Sscanf(e.ID, "e%d", &n)
						require.NoError(t, err)
						require.GreaterOrEqual(t, n, last[e.PlayerID])
						last[e.PlayerID] = n
					}
					return out
				})
				require.NoError(t, err)
				require.Equal(t, 30, report.Accepted)
				require.Positive(t, report.Throttled)
				require.Zero(t, report.Retried)
				require.Equal(t, dawn.Add(c.end), w.clock.Now())
				require.Empty(t, w.skipped, "a wait stops at boundaries too")
				require.Zero(t, time.Since(began))
			})
		})
	}
}

func TestFollowStops(t *testing.T) {
	t.Parallel()
	events := recording(3, 1)
	for i := range events {
		events[i].OccurredAt = dawn.Add(time.Duration(i) * time.Hour)
	}
	for name, c := range map[string]struct {
		at, until time.Duration
		down      error
		answer    reply
		want      string
		sent      int
	}{
		"events that would be late": {at: time.Millisecond, want: "the first event is of 2022-11-01T00:00:00Z, and the clock stands at 2022-11-01T00:00:00.001Z already"},
		"an end before the end":     {until: time.Hour, want: "the last event is of 2022-11-01T02:00:00Z, which is after 2022-11-01T01:00:00Z"},
		"a clock that is stuck":     {down: errors.New("3 messages are still under way"), want: "3 messages are still under way"},
		"a gateway that refuses":    {answer: reply{status: 400, body: map[string]any{"code": "malformed-json"}}, want: "400 Bad Request", sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld()
				require.NoError(t, w.clock.Set(dawn.Add(c.at)))
				w.down = c.down
				var until time.Time
				if c.until > 0 {
					until = dawn.Add(c.until)
				}
				g, report, err := w.follow(t, replay.Player{}, events, until, func(request) reply { return c.answer })
				require.ErrorContains(t, err, c.want)
				require.Len(t, g.requests, c.sent)
				require.Zero(t, report.Events())
			})
		})
	}
}
