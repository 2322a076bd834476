package gate_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/store/storetest"
)

// fixture is a gate on an empty Redis whose clock only moves when told to.
type fixture struct {
	*gate.Gate
	game  catalog.Catalog
	clock atomic.Int64 // unix ms
	nonce atomic.Int64
}

func newFixture(rdb *redis.Client) *fixture {
	f := &fixture{game: catalog.Catalog{Fairness: catalog.Fairness{Burst: rate(20, time.Second), Sustained: rate(30, time.Minute)}}}
	f.clock.Store(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixMilli())
	f.Gate = &gate.Gate{
		Redis: rdb, Now: func() time.Time { return time.UnixMilli(f.clock.Load()).UTC() },
		Catalog: func() *catalog.Catalog { return &f.game },
	}
	return f
}

func rate(events int, per time.Duration) catalog.Rate {
	return catalog.Rate{Events: events, Per: catalog.Duration(per)}
}

func (f *fixture) pass(d time.Duration) { f.clock.Add(d.Milliseconds()) }

// entry is a request with a new nonce.
func (f *fixture) entry(key, body string, players ...gate.Player) gate.Entry {
	return gate.Entry{
		KeyID: "studio", Nonce: fmt.Sprintf("nonce-%016d", f.nonce.Add(1)), Scope: "/v1/events",
		IdempotencyKey: key, Fingerprint: sha256.Sum256([]byte(body)), Players: players,
	}
}

func player(id string, n int) gate.Player { return gate.Player{ID: id, Events: ids("e", n)} }

func ids(prefix string, n int) []gate.Event {
	out := make([]gate.Event, n)
	for i := range out {
		out[i].ID = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

// named makes events of ids.
func named(ids ...string) []gate.Event {
	out := make([]gate.Event, len(ids))
	for i, id := range ids {
		out[i].ID = id
	}
	return out
}

func count(r gate.Ruling) (admitted, duplicate, throttled int) {
	for _, v := range r.Events {
		switch v {
		case gate.Admitted:
			admitted++
		case gate.Duplicate:
			duplicate++
		case gate.Throttled:
			throttled++
		}
	}
	return
}

// shapes are the ways an entry may go: to the slot of one player, of many, of all, of none.
var shapes = map[string]struct {
	oneNode bool
	players []gate.Player
}{
	"one player":            {false, []gate.Player{player("p1", 1)}},
	"many players":          {false, []gate.Player{player("p1", 1), player("p2", 1)}},
	"many players together": {true, []gate.Player{player("p1", 1), player("p2", 1)}},
	"no player":             {false, nil},
	"no player together":    {true, nil},
}

var done = gate.Answer{Status: 202, Header: map[string]string{"Content-Type": "application/json", "X-Raw": "\xff\x00"}, Body: []byte("{\"a\":1}\n\x00\xfe")}

// TestIdempotency is the state machine of a request: each row leads to a state, then asks once more.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		lead func(t *testing.T, f *fixture, first gate.Entry, pass gate.Pass)
		then func(f *fixture, first gate.Entry, again *gate.Entry)
		code fault.Code // "": enters
		same bool       // the stored answer comes back
	}{
		{name: "in flight", code: fault.IdempotencyInFlight},
		{name: "in flight until the lease ends", code: fault.IdempotencyInFlight, lead: func(_ *testing.T, f *fixture, _ gate.Entry, _ gate.Pass) {
			f.pass(30*time.Second - time.Millisecond)
		}},
		{name: "an expired lease is taken over", lead: func(_ *testing.T, f *fixture, _ gate.Entry, _ gate.Pass) { f.pass(30 * time.Second) }},
		{name: "an expired lease is not for another request", code: fault.IdempotencyReused, lead: func(_ *testing.T, f *fixture, _ gate.Entry, _ gate.Pass) {
			f.pass(30 * time.Second)
		}, then: func(_ *fixture, _ gate.Entry, again *gate.Entry) { again.Fingerprint[0]++ }},
		{name: "done", same: true, lead: leave(&done)},
		{name: "done, with the same nonce", same: true, lead: leave(&done), then: func(_ *fixture, first gate.Entry, again *gate.Entry) { again.Nonce = first.Nonce }},
		{name: "done, long after the lease", same: true, lead: func(t *testing.T, f *fixture, e gate.Entry, p gate.Pass) {
			leave(&done)(t, f, e, p)
			f.pass(time.Hour)
		}},
		{name: "done, another fingerprint", code: fault.IdempotencyReused, lead: leave(&done), then: func(_ *fixture, _ gate.Entry, again *gate.Entry) { again.Fingerprint[31]++ }},
		{name: "done, another fingerprint, the same nonce", code: fault.NonceReplayed, lead: leave(&done), then: func(_ *fixture, first gate.Entry, again *gate.Entry) {
			again.Nonce = first.Nonce
			again.Fingerprint[31]++
		}},
		{name: "in flight, another fingerprint", code: fault.IdempotencyReused, then: func(_ *fixture, _ gate.Entry, again *gate.Entry) { again.Fingerprint[0]++ }},
		{name: "in flight, the same nonce", code: fault.NonceReplayed, then: func(_ *fixture, first gate.Entry, again *gate.Entry) { again.Nonce = first.Nonce }},
		{name: "released", lead: leave(nil)},
		{name: "released, for another request", lead: leave(nil), then: func(_ *fixture, _ gate.Entry, again *gate.Entry) { again.Fingerprint[0]++ }},
		{name: "released, the same nonce", code: fault.NonceReplayed, lead: leave(nil), then: func(_ *fixture, first gate.Entry, again *gate.Entry) { again.Nonce = first.Nonce }},
		{name: "another idempotency key", lead: leave(&done), then: func(_ *fixture, _ gate.Entry, again *gate.Entry) { again.IdempotencyKey += "-other" }},
		{name: "another route", lead: leave(&done), then: func(_ *fixture, _ gate.Entry, again *gate.Entry) { again.Scope = "/v1/receipts/verify" }},
		{name: "another key", lead: leave(&done), then: func(_ *fixture, _ gate.Entry, again *gate.Entry) { again.KeyID = "other" }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
				for shape, way := range shapes {
					f, players := newFixture(rdb), way.players
					f.OneNode = way.oneNode
					first := f.entry("key of "+shape, "body", players...)
					first.Nonce += "-" + strings.ReplaceAll(shape, " ", "-")
					pass, err := f.Enter(t.Context(), first)
					require.NoError(t, err, shape)
					require.Nil(t, pass.Replay)
					if row.lead != nil {
						row.lead(t, f, first, pass)
					}
					again := first
					again.Nonce += "-again"
					if row.then != nil {
						row.then(f, first, &again)
					}
					pass, err = f.Enter(t.Context(), again)
					switch {
					case row.code != "":
						require.ErrorIs(t, err, row.code, shape)
						require.Equal(t, gate.Pass{}, pass)
					case row.same:
						require.NoError(t, err, shape)
						require.Equal(t, &done, pass.Replay, shape)
					default:
						require.NoError(t, err, shape)
						require.Nil(t, pass.Replay, shape)
						require.Len(t, pass.Players, len(players))
					}
					if row.code == fault.IdempotencyInFlight {
						var refused *fault.Error
						require.ErrorAs(t, err, &refused)
						require.Equal(t, time.Second, refused.RetryAfter)
					}
				}
			})
		})
	}
}

func leave(a *gate.Answer) func(*testing.T, *fixture, gate.Entry, gate.Pass) {
	return func(t *testing.T, f *fixture, _ gate.Entry, pass gate.Pass) {
		t.Helper()
		require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: a}))
	}
}

func TestLeaseBelongsToItsHolder(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		slow, err := f.Enter(t.Context(), f.entry("k", "body", player("p", 1)))
		require.NoError(t, err)
		f.pass(time.Minute)
		quick, err := f.Enter(t.Context(), f.entry("k", "body", player("p", 1)))
		require.NoError(t, err)

		for _, answer := range []*gate.Answer{nil, {Status: 500, Body: []byte("late")}} {
			require.NoError(t, f.Leave(t.Context(), slow, gate.Leaving{Answer: answer}))
			_, err = f.Enter(t.Context(), f.entry("k", "body", player("p", 1)))
			require.ErrorIs(t, err, fault.IdempotencyInFlight, "the second one still holds the lease")
		}
		require.NoError(t, f.Leave(t.Context(), quick, gate.Leaving{Answer: &done}))
		require.NoError(t, f.Leave(t.Context(), slow, gate.Leaving{Answer: &gate.Answer{Status: 500}}))
		require.NoError(t, f.Leave(t.Context(), quick, gate.Leaving{}), "left already")
		again, err := f.Enter(t.Context(), f.entry("k", "body", player("p", 1)))
		require.NoError(t, err)
		require.Equal(t, &done, again.Replay)
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		binary := make([]byte, 256)
		for i := range binary {
			binary[i] = byte(i)
		}
		for i, answer := range []gate.Answer{
			{Status: 204, Header: map[string]string{}, Body: []byte{}},
			{Status: 202, Header: map[string]string{"Location": "/x", "Empty": ""}, Body: binary},
			{Status: 404, Header: map[string]string{}, Body: make([]byte, gate.MaxAnswer)},
		} {
			key := fmt.Sprint(i)
			pass, err := f.Enter(t.Context(), f.entry(key, "body"))
			require.NoError(t, err)
			require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &answer}))
			pass, err = f.Enter(t.Context(), f.entry(key, "body"))
			require.NoError(t, err)
			require.Equal(t, &answer, pass.Replay)
			require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{}), "a replay holds nothing")
			pass, err = f.Enter(t.Context(), f.entry(key, "body"))
			require.NoError(t, err)
			require.Equal(t, &answer, pass.Replay)
		}
		pass, err := f.Enter(t.Context(), f.entry("large", "body"))
		require.NoError(t, err)
		err = f.Leave(t.Context(), pass, gate.Leaving{Answer: &gate.Answer{Status: 200, Header: map[string]string{"A": "b"}, Body: make([]byte, gate.MaxAnswer-1)}})
		require.ErrorContains(t, err, "1048577 bytes")
		pass, err = f.Enter(t.Context(), f.entry("large", "body"))
		require.NoError(t, err)
		require.Nil(t, pass.Replay, "released")
	})
}

func TestReadsOnlyUseTheirNonce(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		for _, players := range [][]gate.Player{nil, {{ID: "p1"}}} {
			read := f.entry("", "", players...)
			pass, err := f.Enter(t.Context(), read)
			require.NoError(t, err)
			require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{}))
			_, err = f.Enter(t.Context(), read)
			require.ErrorIs(t, err, fault.NonceReplayed)
			other := read
			other.KeyID = "other"
			_, err = f.Enter(t.Context(), other)
			require.NoError(t, err, "nonces are per key")
			read.Nonce += "x"
			_, err = f.Enter(t.Context(), read)
			require.NoError(t, err)
		}
	})
}

func TestNonceIsForgottenAfterItsTime(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	f := newFixture(rdb)
	read := f.entry("", "")
	_, err := f.Enter(t.Context(), read)
	require.NoError(t, err)
	server.FastForward(10*time.Minute - time.Millisecond)
	_, err = f.Enter(t.Context(), read)
	require.ErrorIs(t, err, fault.NonceReplayed)
	server.FastForward(time.Millisecond)
	_, err = f.Enter(t.Context(), read)
	require.NoError(t, err)

	write := f.entry("k", "body")
	pass, err := f.Enter(t.Context(), write)
	require.NoError(t, err)
	require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done}))
	server.FastForward(24*time.Hour - time.Millisecond)
	pass, err = f.Enter(t.Context(), write)
	require.NoError(t, err)
	require.Equal(t, &done, pass.Replay)
	server.FastForward(time.Millisecond)
	write.Nonce += "x"
	pass, err = f.Enter(t.Context(), write)
	require.NoError(t, err)
	require.Nil(t, pass.Replay)
}

func TestRates(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		ruling := func(key string, n int) gate.Ruling {
			t.Helper()
			pass, err := f.Enter(t.Context(), f.entry(key, "", gate.Player{ID: "p", Events: ids(key, n)}))
			require.NoError(t, err)
			return pass.Players[0]
		}
		r := ruling("a", 25)
		for i, v := range r.Events {
			require.Equal(t, i < 20, v == gate.Admitted, "the first 20 pass")
			require.Equal(t, i >= 20, v == gate.Throttled)
		}
		require.Equal(t, 250*time.Millisecond, r.RetryAfter, "until 5 more pass")
		require.Equal(t, []gate.Limit{
			{Policy: "burst", Quota: 20, Window: time.Second, Remaining: 0, Reset: time.Second},
			{Policy: "sustained", Quota: 30, Window: time.Minute, Remaining: 10, Reset: 40 * time.Second},
		}, r.Limits)

		r = ruling("b", 1)
		require.Equal(t, []gate.Verdict{gate.Throttled}, r.Events)
		require.Equal(t, 50*time.Millisecond, r.RetryAfter)
		f.pass(50*time.Millisecond - 1*time.Millisecond)
		require.Equal(t, []gate.Verdict{gate.Throttled}, ruling("c", 1).Events, "what was throttled cost nothing, and it is not yet time")
		f.pass(time.Millisecond)
		require.Equal(t, []gate.Verdict{gate.Admitted, gate.Throttled}, ruling("d", 2).Events)

		f.pass(time.Second)
		r = ruling("e", 20)
		admitted, _, throttled := count(r)
		require.Equal(t, 9, admitted, "the sustained rate is the tighter one now: 30 - 21, and half of one regained")
		require.Equal(t, 11, throttled)
		require.Equal(t, 11, r.Limits[0].Remaining)
		require.Equal(t, 0, r.Limits[1].Remaining)
		require.Equal(t, 22*time.Second-1050*time.Millisecond, r.RetryAfter, "11 events at 2 s, counted from the start of the first")

		pass, err := f.Enter(t.Context(), f.entry("f", "", player("q", 20)))
		require.NoError(t, err)
		require.Equal(t, 0, pass.Players[0].Limits[0].Remaining, "another player has his own")
		require.Zero(t, pass.Players[0].RetryAfter)
	})
}

// TestRatesForgiveALateRequest: a request takes the time, waits for a connection, and is ruled after younger ones. Only what
// they took is missing.
func TestRatesForgiveALateRequest(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		f.pass(4 * time.Second)
		pass, err := f.Enter(t.Context(), f.entry("", "", gate.Player{ID: "p", Events: ids("young", 3)}))
		require.NoError(t, err)
		f.pass(-4 * time.Second)
		late, err := f.Enter(t.Context(), f.entry("", "", gate.Player{ID: "p", Events: ids("late", 20)}))
		require.NoError(t, err)
		admitted, _, throttled := count(late.Players[0])
		require.Equal(t, []int{17, 3}, []int{admitted, throttled})
		require.Equal(t, 150*time.Millisecond, late.Players[0].RetryAfter)
		require.Equal(t, 17, pass.Players[0].Limits[0].Remaining)
		require.Equal(t, time.Second, late.Players[0].Limits[0].Reset)
	})
}

// TestRatesForgiveAClockThatWasAhead: what a replica with a fast clock wrote costs a player one whole quota at most, and 5
// seconds, however far ahead it was.
func TestRatesForgiveAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		f.pass(time.Hour)
		_, err := f.Enter(t.Context(), f.entry("", "", player("p", 20)))
		require.NoError(t, err)
		f.pass(-time.Hour)
		pass, err := f.Enter(t.Context(), f.entry("", "", player("p", 1)))
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Throttled}, pass.Players[0].Events)
		require.Equal(t, 2*time.Second, pass.Players[0].RetryAfter, "one event of the sustained rate")
		require.Equal(t, time.Minute, pass.Players[0].Limits[1].Reset)

		f.pass(7*time.Second - time.Millisecond)
		pass, err = f.Enter(t.Context(), f.entry("", "", player("p", 2)))
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Throttled, gate.Throttled}, pass.Players[0].Events)
		f.pass(time.Millisecond)
		pass, err = f.Enter(t.Context(), f.entry("", "", player("p", 2)))
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Admitted, gate.Throttled}, pass.Players[0].Events, "5 seconds, and one interval")
	})
}

func TestWhatDoesNotEnterCostsNothing(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		for i, others := range [][]gate.Player{nil, {player("other", 1)}, {player("other", 1)}} {
			f := newFixture(rdb)
			f.OneNode = i == 2
			who := gate.Player{ID: fmt.Sprintf("p%d", i), Events: ids("e", 5)}
			entry := func(key, body string) gate.Entry {
				e := f.entry(key, body, append([]gate.Player{who}, others...)...)
				e.Nonce, e.Scope = e.Nonce+who.ID, who.ID
				return e
			}
			first := entry("k", "body")
			pass, err := f.Enter(t.Context(), first)
			require.NoError(t, err)
			require.Equal(t, 15, pass.Players[0].Limits[0].Remaining)
			_, err = f.Enter(t.Context(), first)
			require.ErrorIs(t, err, fault.NonceReplayed)
			_, err = f.Enter(t.Context(), entry("k", "body"))
			require.ErrorIs(t, err, fault.IdempotencyInFlight)
			_, err = f.Enter(t.Context(), entry("k", "another body"))
			require.ErrorIs(t, err, fault.IdempotencyReused)
			require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done}))
			again, err := f.Enter(t.Context(), entry("k", "body"))
			require.NoError(t, err)
			require.NotNil(t, again.Replay)
			require.Empty(t, again.Players)
			pass, err = f.Enter(t.Context(), entry("other", "body"))
			require.NoError(t, err)
			require.Equal(t, 10, pass.Players[0].Limits[0].Remaining, "only the two that entered were charged")
		}
	})
}

func TestSeenEvents(t *testing.T) {
	t.Parallel()
	t.Run("cluster", func(t *testing.T) { t.Parallel(); testSeenEvents(t, false) })
	t.Run("one node", func(t *testing.T) { t.Parallel(); testSeenEvents(t, true) })
}

func testSeenEvents(t *testing.T, oneNode bool) {
	t.Helper()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		f.OneNode = oneNode
		pass, err := f.Enter(t.Context(), f.entry("a", "", player("p", 20), player("q", 1)))
		require.NoError(t, err)
		require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done, Accepted: []gate.Player{{ID: "q"}, {ID: "p", Events: named("e1", "e3")}, player("r", 2)}}))
		require.Equal(t, int64(2), rdb.ZCard(t.Context(), "gate:{r}:seen").Val())
		f.pass(time.Second)
		pass, err = f.Enter(t.Context(), f.entry("b", "", gate.Player{ID: "p", Events: named("e1", "new", "e3", "e0")}, player("q", 4)))
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Duplicate, gate.Admitted, gate.Duplicate, gate.Admitted}, pass.Players[0].Events)
		require.Equal(t, 18, pass.Players[0].Limits[0].Remaining, "duplicates cost nothing")
		require.Equal(t, []gate.Verdict{gate.Admitted, gate.Admitted, gate.Admitted, gate.Admitted}, pass.Players[1].Events, "ids are per player")

		f.pass(time.Hour - time.Second - time.Millisecond)
		pass, err = f.Enter(t.Context(), f.entry("c", "", gate.Player{ID: "p", Events: named("e1")}))
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Duplicate}, pass.Players[0].Events)
		f.pass(time.Millisecond)
		pass, err = f.Enter(t.Context(), f.entry("d", "", gate.Player{ID: "p", Events: named("e1")}))
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Admitted}, pass.Players[0].Events, "an hour is over")

		require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Accepted: []gate.Player{{ID: "p", Events: ids("x", 4_000)}}}))
		require.Equal(t, int64(4_000), rdb.ZCard(t.Context(), "gate:{p}:seen").Val(), "what is over was removed")
		f.pass(time.Second)
		require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Accepted: []gate.Player{{ID: "p", Events: ids("y", 4_000)}}}))
		require.Equal(t, int64(5_000), rdb.ZCard(t.Context(), "gate:{p}:seen").Val(), "and there is a limit")
		_, err = rdb.ZScore(t.Context(), "gate:{p}:seen", "y0").Result()
		require.NoError(t, err, "the newest stay")
	})
}

func TestBlock(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		start := f.Now()
		ask := func(players ...gate.Player) []gate.Ruling {
			t.Helper()
			pass, err := f.Enter(t.Context(), f.entry("", "", players...))
			require.NoError(t, err)
			return pass.Players
		}
		ten := gate.Block{Reason: "impossible-value", Until: start.Add(10 * time.Minute), DecisionID: "d-1"}
		require.NoError(t, f.Block(t.Context(), "p", ten))

		require.Equal(t, []gate.Ruling{{Blocked: &ten, Events: []gate.Verdict{gate.Refused, gate.Refused}}}, ask(player("p", 2)))
		rulings := ask(player("q", 1), player("p", 1))
		require.Nil(t, rulings[0].Blocked)
		require.Equal(t, []gate.Verdict{gate.Admitted}, rulings[0].Events, "one blocked player does not stop the others")
		require.Equal(t, &ten, rulings[1].Blocked)

		require.NoError(t, f.Block(t.Context(), "p", gate.Block{Reason: "older", Until: start.Add(time.Minute)}))
		require.Equal(t, &ten, ask(player("p", 1))[0].Blocked, "a shorter block comes too late")
		require.NoError(t, f.Block(t.Context(), "p", gate.Block{Reason: "same end", Until: ten.Until}))
		require.Equal(t, &ten, ask(player("p", 1))[0].Blocked, "and one of the same length")
		hour := gate.Block{Reason: "impossible-value", Until: start.Add(time.Hour), DecisionID: "d-2"}
		require.NoError(t, f.Block(t.Context(), "p", hour))
		require.Equal(t, &hour, ask(player("p", 1))[0].Blocked)

		f.pass(time.Hour - time.Millisecond)
		require.Equal(t, &hour, ask(player("p", 1))[0].Blocked)
		f.pass(time.Millisecond)
		freed := ask(player("p", 1))[0]
		require.Nil(t, freed.Blocked)
		require.Equal(t, 19, freed.Limits[0].Remaining, "while blocked nothing was charged")

		require.NoError(t, f.Block(t.Context(), "p", hour), "it is over")
		require.Nil(t, ask(player("p", 1))[0].Blocked)
		require.NoError(t, f.Block(t.Context(), "p", gate.Block{Until: f.Now().Add(time.Hour)}))
		require.NotNil(t, ask(player("p", 1))[0].Blocked)
		require.NoError(t, f.Unblock(t.Context(), "p", false))
		require.NoError(t, f.Unblock(t.Context(), "p", false))
		require.Nil(t, ask(player("p", 1))[0].Blocked)

		require.Error(t, f.Block(t.Context(), "p", gate.Block{Reason: "for ever"}))
		require.Error(t, f.Block(t.Context(), "no}player", ten))
	})
}

// TestBansAndBlocks: an operator's ban and an automatic block stand side by side, and neither shortens or lifts the other.
func TestBansAndBlocks(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		start := newFixture(rdb).Now()
		block := gate.Block{Reason: "impossible-value", Until: start.Add(time.Hour), DecisionID: "d"}
		for i, row := range []struct {
			ban    time.Duration
			lift   []bool // which of the two, a ban or not
			after  time.Duration
			banned bool
			out    bool
		}{
			{ban: time.Minute, banned: true, out: true},
			{ban: time.Minute, after: time.Minute, out: true},
			{ban: time.Minute, after: time.Hour},
			{ban: time.Minute, lift: []bool{true}, out: true},
			{ban: time.Minute, lift: []bool{false}, banned: true, out: true},
			{ban: time.Minute, lift: []bool{false}, after: time.Minute},
			{ban: 2 * time.Hour, banned: true, out: true},
			{ban: 2 * time.Hour, after: time.Hour, banned: true, out: true},
			{ban: 2 * time.Hour, after: 2 * time.Hour},
			{ban: 2 * time.Hour, lift: []bool{true}, out: true},
			{ban: 2 * time.Hour, lift: []bool{true}, after: time.Hour},
			{ban: 2 * time.Hour, lift: []bool{true, false, true, false}},
		} {
			ban := gate.Block{Reason: "sold his account", Until: start.Add(row.ban), Ban: true}
			for order, blocks := range [][]gate.Block{{block, ban}, {ban, block}, {ban, block, ban, block}} {
				f := newFixture(rdb)
				who := fmt.Sprintf("p%d-%d", i, order)
				for _, b := range blocks {
					require.NoError(t, f.Block(t.Context(), who, b))
				}
				require.GreaterOrEqual(t, rdb.PTTL(t.Context(), "gate:{"+who+"}:block").Val(), max(row.ban, time.Hour)-time.Minute/2)
				for _, lift := range row.lift {
					require.NoError(t, f.Unblock(t.Context(), who, lift))
				}
				f.pass(row.after)
				for _, oneNode := range []bool{false, true} {
					f.OneNode = oneNode
					e := f.entry("", "", gate.Player{ID: who}, player("other", 1))
					e.Nonce += who + fmt.Sprint(oneNode)
					pass, err := f.Enter(t.Context(), e)
					require.NoError(t, err)
					var want *gate.Block
					if row.out {
						want = &block
					}
					if row.banned {
						want = &ban
					}
					require.Equal(t, want, pass.Players[0].Blocked, "row %d, order %d", i, order)
					require.Nil(t, pass.Players[1].Blocked)
				}
			}
		}
	})
}

func TestWhatABlockedPlayerIsTold(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		block gate.Block
		extra map[string]any
	}{
		{gate.Block{Reason: "score-velocity", Until: until, DecisionID: "d"}, map[string]any{"blocked_until": "2026-11-22T13:00:00Z", "decision_id": "d"}},
		{gate.Block{Reason: "score-velocity", Until: until}, map[string]any{"blocked_until": "2026-11-22T13:00:00Z"}},
		{gate.Block{Reason: "sold his account", Until: until, Ban: true}, map[string]any{"blocked_until": "2026-11-22T13:00:00Z", "reason": "sold his account"}},
	} {
		f := row.block.Fault()
		require.ErrorIs(t, f, fault.PlayerBlocked)
		require.Equal(t, row.extra, f.Extra)
	}
}

// TestTypesHaveRatesOfTheirOwn: an event is charged to all rates it falls under, or to none.
func TestTypesHaveRatesOfTheirOwn(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		f.game.Events = map[string]catalog.EventType{"rare": {Rate: rate(2, time.Minute)}, "often": {}, "daily": {Rate: rate(1, 24*time.Hour)}}
		f.game.Fairness.Burst = rate(5, time.Second)
		ask := func(types ...string) gate.Ruling {
			t.Helper()
			p := gate.Player{ID: "p"}
			for i, name := range types {
				p.Events = append(p.Events, gate.Event{ID: fmt.Sprintf("%s-%d-%d", name, f.nonce.Load(), i), Type: name})
			}
			pass, err := f.Enter(t.Context(), f.entry("", "", p))
			require.NoError(t, err)
			return pass.Players[0]
		}
		const a, x = gate.Admitted, gate.Throttled
		r := ask("often", "rare", "rare", "rare", "often", "rare", "often", "often")
		require.Equal(t, []gate.Verdict{a, a, a, x, a, x, a, x}, r.Events)
		require.Equal(t, []gate.Limit{
			{Policy: "burst", Quota: 5, Window: time.Second, Remaining: 0, Reset: time.Second},
			{Policy: "sustained", Quota: 30, Window: time.Minute, Remaining: 25, Reset: 10 * time.Second},
			{Policy: "events.rare", Quota: 2, Window: time.Minute, Remaining: 0, Reset: time.Minute},
		}, r.Limits)
		require.Equal(t, time.Minute, r.RetryAfter, "both rare ones")
		f.pass(time.Second)
		r = ask("rare", "often")
		require.Equal(t, []gate.Verdict{x, a}, r.Events)
		require.Equal(t, 29*time.Second, r.RetryAfter)
		r = ask("often")
		require.Equal(t, []gate.Verdict{a}, r.Events)
		require.Len(t, r.Limits, 2, "no rate that did not apply")

		// What one type needs for long is not forgotten because the others need it for a short time only.
		require.Equal(t, []gate.Verdict{a}, ask("daily").Events)
		ask("often")
		require.Greater(t, rdb.PTTL(t.Context(), "gate:{p}:rate").Val(), 23*time.Hour)
	})
}

// TestKeysHaveRates: a key has the rate of its id, or else of its class; events and reads are charged to it in every shape of request.
func TestKeysHaveRates(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		for shape, way := range shapes {
			f := newFixture(rdb)
			f.OneNode = way.oneNode
			build := "build-" + strings.ReplaceAll(shape, " ", "-")
			f.game.Fairness.Keys = map[string]catalog.Rate{build: rate(4, time.Second), "client": rate(6, time.Second)}
			enter := func(key, id, class string, sent int) (gate.Pass, error) {
				e := f.entry(key, "", way.players...)
				e.Nonce, e.Scope = e.Nonce+strings.ReplaceAll(shape, " ", "-"), shape
				e.KeyID, e.KeyClass, e.Sent = id, class, sent
				return f.Enter(t.Context(), e)
			}
			limit := func(quota, remaining int, reset time.Duration) gate.Limit {
				return gate.Limit{Policy: "key", Quota: quota, Window: time.Second, Remaining: remaining, Reset: reset}
			}
			pass, err := enter("", build, "client", 0)
			require.NoError(t, err)
			require.Equal(t, &gate.Allowance{Admitted: 1, Limit: limit(4, 3, 250*time.Millisecond)}, pass.Key, "a read counts as one")
			pass, err = enter("k", build, "client", 5)
			require.NoError(t, err)
			require.Equal(t, &gate.Allowance{Admitted: 3, Limit: limit(4, 0, time.Second), RetryAfter: 500 * time.Millisecond}, pass.Key)
			require.True(t, pass.Key.Admits(2))
			require.False(t, pass.Key.Admits(3))
			require.Len(t, pass.Players, len(way.players))
			require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done}))

			pass, err = enter("k2", build, "client", 9)
			require.NoError(t, err)
			require.Equal(t, &gate.Allowance{Limit: limit(4, 0, time.Second), RetryAfter: time.Second}, pass.Key)
			require.Empty(t, pass.Players)
			_, err = enter("k2", build, "client", 9)
			require.ErrorIs(t, err, fault.IdempotencyInFlight, "it holds the lease")
			require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{}))
			pass, err = enter("k", build, "client", 5)
			require.NoError(t, err)
			require.Equal(t, &done, pass.Replay, "a stored answer needs no room")

			pass, err = enter("", build+"-2", "client", 2)
			require.NoError(t, err)
			require.Equal(t, limit(6, 4, 333_334*time.Microsecond), pass.Key.Limit, "each key has its own count")
			pass, err = enter("", "studio", "server", 10_000)
			require.NoError(t, err)
			require.Nil(t, pass.Key)
			require.True(t, pass.Key.Admits(9_999))
		}
		_, err := newFixture(rdb).Enter(t.Context(), gate.Entry{KeyID: "no}key", Nonce: "n"})
		require.ErrorContains(t, err, "no key can have that id")
	})
}

// TestAKeyAloneFails: when only the part about the key fails, the lease is given back.
func TestAKeyAloneFails(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		f.game.Fairness.Keys = map[string]catalog.Rate{"studio": rate(4, time.Second)}
		require.NoError(t, rdb.Set(t.Context(), "gate:{k.studio}:rate", "not a hash", 0).Err())
		_, err := f.Enter(t.Context(), f.entry("k", "body", player("p", 1)))
		require.ErrorIs(t, err, fault.Unavailable)
		require.NoError(t, rdb.Del(t.Context(), "gate:{k.studio}:rate").Err())
		pass, err := f.Enter(t.Context(), f.entry("k", "body", player("p", 1)))
		require.NoError(t, err)
		require.Equal(t, 3, pass.Key.Limit.Remaining)
	})
}

func TestLocal(t *testing.T) {
	t.Parallel()
	f := newFixture(nil)
	f.game.Fairness.Keys = map[string]catalog.Rate{"studio": rate(7, time.Minute), "client": rate(5, time.Minute)}
	local := gate.Local{Catalog: f.Catalog, Now: f.Now}
	take := func(id, class string) bool {
		allowed, err := local.Take(id, class, 1)
		require.NoError(t, err)
		return allowed.Admits(0)
	}
	for _, row := range []struct {
		id, class string
		most      int
	}{{"studio", "server", 7}, {"build-7", "client", 5}, {"other", "server", 1_000}} {
		var admitted atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 200 {
					if take(row.id, row.class) {
						admitted.Add(1)
					}
				}
			})
		}
		all.Wait()
		require.Equal(t, int64(row.most), admitted.Load(), row.id)
	}
	f.pass(time.Minute / 7)
	require.False(t, take("studio", "server"))
	f.pass(time.Millisecond)
	require.True(t, take("studio", "server"))
	f.game.Fairness.Keys["studio"] = catalog.Rate{}
	_, err := local.Take("studio", "server", 1)
	require.ErrorContains(t, err, `rate "key"`)
}

func TestRefusesWhatWouldLeaveItsSlot(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	f := newFixture(rdb)
	for _, id := range []string{"", "}", "a b", "r.x", strings.Repeat("p", 64)} {
		_, err := f.Enter(t.Context(), f.entry("k", "", gate.Player{ID: id}))
		require.Error(t, err)
		require.Equal(t, fault.Internal, fault.KindOf(err))
	}
	f.game = catalog.Catalog{}
	_, err := f.Enter(t.Context(), f.entry("k", "", player("p", 1)))
	require.ErrorContains(t, err, `rate "burst"`)
	require.Empty(t, server.Keys())
}

// TestKeys: every key has a time to live, and the keys of a script one hash tag.
func TestKeys(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		f.game.Fairness.Keys = map[string]catalog.Rate{"studio": rate(100, time.Minute)}
		for i, players := range [][]gate.Player{nil, {player("p1", 3)}, {player("p2", 1), player("p3", 1)}} {
			for _, key := range []string{"", fmt.Sprint("done", i), fmt.Sprint("flying", i)} {
				pass, err := f.Enter(t.Context(), f.entry(key, "", players...))
				require.NoError(t, err)
				if !strings.HasPrefix(key, "flying") {
					require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done, Accepted: players}))
				}
			}
		}
		require.NoError(t, f.Block(t.Context(), "p1", gate.Block{Until: f.Now().Add(time.Minute)}))
		keys := rdb.Keys(t.Context(), "*").Val()
		require.Len(t, keys, 9+6+1+3+3+1, "nonces, requests, a block, rates, seen, a rate of the key")
		for _, key := range keys {
			require.Regexp(t, `^gate:\{([A-Za-z0-9_-]+|r\.[A-Za-z0-9_-]{22}|k\.studio)\}:(nonce:studio:nonce-\d+|request:[A-Za-z0-9_-]{22}|block|rate|seen)$`, key)
			ttl := rdb.PTTL(t.Context(), key).Val()
			require.Positive(t, ttl, key)
			require.LessOrEqual(t, ttl, 24*time.Hour, key)
		}
	})
}

func TestOneOfManyEnters(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		for shape, way := range shapes {
			f, players := newFixture(rdb), way.players
			f.OneNode = way.oneNode
			var entered, flying atomic.Int64
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					e := f.entry("k "+shape, "body", players...)
					e.Nonce = fmt.Sprintf("%s-%d", strings.ReplaceAll(shape, " ", "-"), i)
					_, err := f.Enter(t.Context(), e)
					switch {
					case err == nil:
						entered.Add(1)
					case errors.Is(err, fault.IdempotencyInFlight):
						flying.Add(1)
					}
				})
			}
			all.Wait()
			require.Equal(t, int64(1), entered.Load(), shape)
			require.Equal(t, int64(49), flying.Load(), shape)
		}
		f := newFixture(rdb)
		same := f.entry("", "")
		var entered, replayed atomic.Int64
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				switch _, err := f.Enter(t.Context(), same); {
				case err == nil:
					entered.Add(1)
				case errors.Is(err, fault.NonceReplayed):
					replayed.Add(1)
				}
			})
		}
		all.Wait()
		require.Equal(t, int64(1), entered.Load())
		require.Equal(t, int64(49), replayed.Load())
	})
}

// trips counts round trips, and scripts whose keys do not share a hash tag. It can lose the answers of some.
type trips struct {
	n       atomic.Int64
	astride atomic.Int64
	keys    atomic.Int64 // scripts about signing keys
	lose    atomic.Int64
}

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !handshake(cmd) {
			c.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if handshake(cmds[0]) {
			return next(ctx, cmds)
		}
		c.n.Add(1)
		for _, cmd := range cmds {
			tags := map[string]bool{}
			for _, key := range cmd.Args()[3 : 3+cmd.Args()[2].(int)] {
				tag, _, _ := strings.Cut(key.(string), "}")
				tags[tag] = true
			}
			if len(tags) != 1 {
				c.astride.Add(1)
			}
			if tags["gate:{k.studio"] {
				c.keys.Add(1)
			}
		}
		if c.lose.Add(-1) >= 0 {
			again := make([]redis.Cmder, len(cmds)) // the server did it, the answer was lost, the client sends it again
			for i, cmd := range cmds {
				again[i] = redis.NewCmd(ctx, cmd.Args()...)
			}
			if err := next(ctx, again); err != nil {
				return err
			}
		}
		return next(ctx, cmds)
	}
}

// handshake says that a command belongs to a new connection, not to a request.
func handshake(cmd redis.Cmder) bool {
	return slices.Contains([]string{"hello", "auth", "select", "client"}, cmd.Name())
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	t.Run("keys without a rate", func(t *testing.T) { t.Parallel(); testRoundTrips(t, nil) })
	t.Run("keys with a rate", func(t *testing.T) {
		t.Parallel()
		testRoundTrips(t, map[string]catalog.Rate{"studio": rate(10_000, time.Second)})
	})
}

func testRoundTrips(t *testing.T, keys map[string]catalog.Rate) {
	t.Helper()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		f.game.Fairness.Keys = keys
		var many []gate.Player
		for i := range 200 {
			many = append(many, gate.Player{ID: fmt.Sprintf("p%d", i), Events: named("e")})
		}
		kinds := []struct {
			name    string
			key     string
			players []gate.Player
			oneNode bool
			enter   int64
			leave   int64
		}{
			{"a read", "", nil, false, 1, 0},
			{"a read about a player", "", []gate.Player{{ID: "p"}}, false, 1, 0},
			{"one event", "k", []gate.Player{player("p", 1)}, false, 1, 1},
			{"a batch of one player", "k", []gate.Player{player("p", 200)}, false, 1, 1},
			{"a batch of many players", "k", many, false, 2, 1},
			{"a batch of many players on one node", "k", many, true, 1, 1},
			{"an operation", "k", nil, false, 1, 1},
		}
		for _, kind := range kinds { // the first of each kind loads its scripts
			f.OneNode = kind.oneNode
			pass, err := f.Enter(t.Context(), f.entry("first "+kind.name, "", kind.players...))
			require.NoError(t, err)
			require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done, Accepted: kind.players}))
		}
		var counted trips
		rdb.AddHook(&counted)
		for _, kind := range kinds {
			counted.n.Store(0)
			f.OneNode = kind.oneNode
			key := kind.key
			if key != "" {
				key += kind.name
			}
			pass, err := f.Enter(t.Context(), f.entry(key, "", kind.players...))
			require.NoError(t, err)
			require.Equal(t, kind.enter, counted.n.Load(), "enter %s", kind.name)
			require.Equal(t, keys != nil, counted.keys.Swap(0) > 0, "a command more where there is a limit")
			var leaving gate.Leaving
			if key != "" {
				leaving = gate.Leaving{Answer: &done, Accepted: kind.players}
			}
			counted.n.Store(0)
			require.NoError(t, f.Leave(t.Context(), pass, leaving))
			require.Equal(t, kind.leave, counted.n.Load(), "leave %s", kind.name)
			if key == "" {
				continue
			}
			counted.n.Store(0)
			pass, err = f.Enter(t.Context(), f.entry(key, "", kind.players...))
			require.NoError(t, err)
			require.NotNil(t, pass.Replay)
			require.Equal(t, int64(1), counted.n.Load(), "replay %s", kind.name)
			require.Equal(t, kind.oneNode, counted.astride.Swap(0) > 0, "%s: scripts that a cluster would refuse", kind.name)
		}
	})
}

// TestForgottenScripts: a Redis that was restarted, or failed over, has no scripts. Nothing is charged twice for it.
func TestForgottenScripts(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t) // on a shared server this would disturb the other tests
	f := newFixture(rdb)
	for i := 1; i <= 3; i++ {
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		pass, err := f.Enter(t.Context(), f.entry(fmt.Sprint(i), "", gate.Player{ID: "p", Events: named("e")}, gate.Player{ID: "q", Events: named("e", "f")}))
		require.NoError(t, err)
		require.Equal(t, 20-i, pass.Players[0].Limits[0].Remaining)
		require.Equal(t, 20-2*i, pass.Players[1].Limits[0].Remaining)
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done}))
	}
}

type noScript struct{}

func (noScript) Error() string { return "NOSCRIPT No matching script" }
func (noScript) RedisError()   {}

// forgetful loses the script of the last command of each pipeline of several, as one restarted node of a cluster would.
type forgetful struct{ trips }

func (f *forgetful) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		last := len(cmds) - 1
		if last == 0 || cmds[0].Name() != "evalsha" {
			return next(ctx, cmds)
		}
		cmds[last].SetErr(noScript{})
		if err := next(ctx, cmds[:last]); err != nil {
			return err
		}
		return noScript{}
	}
}

func TestScriptsForgottenByOneNode(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	f := newFixture(rdb)
	batch := []gate.Player{player("p", 1), player("q", 2), player("r", 3)}
	_, err := f.Enter(t.Context(), f.entry("warm", "", batch...))
	require.NoError(t, err)
	rdb.AddHook(&forgetful{})
	pass, err := f.Enter(t.Context(), f.entry("k", "", batch...))
	require.NoError(t, err)
	for i, remaining := range []int{18, 16, 14} {
		require.Equal(t, remaining, pass.Players[i].Limits[0].Remaining, "charged once each time")
	}
}

// TestLostAnswer: the client library sends a command again when its answer was lost. That is not a replay.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		var lossy trips
		rdb.AddHook(&lossy)
		f := newFixture(rdb)
		for shape, way := range shapes {
			players := way.players
			f.OneNode = way.oneNode
			for _, key := range []string{"", "k"} {
				warm, err := f.Enter(t.Context(), f.entry("warm "+shape+key, "", players...))
				require.NoError(t, err)
				require.NoError(t, f.Leave(t.Context(), warm, gate.Leaving{Answer: &done}))
				lossy.lose.Store(1)
				e := f.entry(key, "", players...)
				e.Scope = shape
				pass, err := f.Enter(t.Context(), e)
				require.NoError(t, err, shape)
				require.Nil(t, pass.Replay)
				_, err = f.Enter(t.Context(), e)
				require.ErrorIs(t, err, fault.NonceReplayed)
				lossy.lose.Store(1)
				require.NoError(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done}))
				e.Nonce += "x"
				again, err := f.Enter(t.Context(), e)
				require.NoError(t, err)
				require.Equal(t, key != "", again.Replay != nil)
			}
		}
	})
}

func TestRedisDown(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(t *testing.T) (*fixture, func()){
		"refuses": func(t *testing.T) (*fixture, func()) {
			rdb, server := storetest.Miniredis(t)
			return newFixture(rdb), func() { server.SetError("LOADING Redis is loading the dataset in memory") }
		},
		"gone": func(t *testing.T) (*fixture, func()) {
			rdb, server := storetest.Miniredis(t)
			return newFixture(rdb), server.Close
		},
		"silent": func(t *testing.T) (*fixture, func()) {
			rdb, server := storetest.Miniredis(t)
			deaf, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, deaf.Close()) })
			address := server.Addr()
			var down atomic.Bool
			dialling := redis.NewClient(&redis.Options{
				MaxRetries: -1, ReadTimeout: 50 * time.Millisecond, PoolSize: 1, MaxIdleConns: 1,
				Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
					var d net.Dialer
					if down.Load() {
						return d.DialContext(ctx, network, deaf.Addr().String())
					}
					return d.DialContext(ctx, network, address)
				},
			})
			t.Cleanup(func() { _ = dialling.Close() })
			_ = rdb
			return newFixture(dialling), func() {
				down.Store(true)
				server.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, fail := broken(t)
			pass, err := f.Enter(t.Context(), f.entry("k", "", player("p", 1)))
			require.NoError(t, err)
			fail()
			for shape, way := range shapes {
				f.OneNode = way.oneNode
				_, err = f.Enter(t.Context(), f.entry("k "+shape, "", way.players...))
				require.ErrorIs(t, err, fault.RedisUnavailable, shape)
			}
			require.ErrorIs(t, f.Leave(t.Context(), pass, gate.Leaving{Answer: &done}), fault.Unavailable)
			require.ErrorIs(t, f.Leave(t.Context(), pass, gate.Leaving{}), fault.Unavailable)
			require.ErrorIs(t, f.Block(t.Context(), "p", gate.Block{Until: f.Now().Add(time.Hour)}), fault.Unavailable)
			require.ErrorIs(t, f.Unblock(t.Context(), "p", false), fault.Unavailable)
			require.ErrorIs(t, f.Unblock(t.Context(), "p", true), fault.Unavailable)
		})
	}
}

// TestHalfwayDown: when Redis fails between the two round trips of a batch, the lease is given up again.
func TestHalfwayDown(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f := newFixture(rdb)
		batch := []gate.Player{player("p", 1), player("q", 1)}
		require.NoError(t, rdb.Set(t.Context(), "gate:{q}:rate", "not a hash", 0).Err())
		_, err := f.Enter(t.Context(), f.entry("k", "body", batch...))
		require.ErrorIs(t, err, fault.Unavailable)
		require.NoError(t, rdb.Del(t.Context(), "gate:{q}:rate").Err())
		pass, err := f.Enter(t.Context(), f.entry("k", "body", batch...))
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Admitted}, pass.Players[1].Events)
	})
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	f := newFixture(rdb)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Enter(ctx, f.entry("k", "", player("p", 1)))
	require.ErrorIs(t, err, context.Canceled)
}

func BenchmarkEnter(b *testing.B) {
	var many []gate.Player
	for i := range 200 {
		many = append(many, gate.Player{ID: fmt.Sprintf("p%d", i), Events: named("e")})
	}
	for _, kind := range []struct {
		name    string
		players []gate.Player
		oneNode bool
	}{
		{"single", []gate.Player{player("p", 1)}, false},
		{"batch200/one-player", []gate.Player{player("p", 200)}, false},
		{"batch200/200-players", many, false},
		{"batch200/200-players-one-node", many, true},
	} {
		b.Run(kind.name, func(b *testing.B) {
			players := kind.players
			rdb, _ := storetest.Miniredis(b)
			if address := os.Getenv("TEST_REDIS_URL"); address != "" {
				rdb = storetest.Redis(b, address)
			}
			f := newFixture(rdb)
			f.OneNode = kind.oneNode
			for i := 0; b.Loop(); i++ {
				pass, err := f.Enter(b.Context(), f.entry(fmt.Sprint(i), "", players...))
				if err != nil {
					b.Fatal(err)
				}
				if err := f.Leave(b.Context(), pass, gate.Leaving{Answer: &done, Accepted: players}); err != nil {
					b.Fatal(err)
				}
				f.pass(time.Second)
			}
		})
	}
}
