package gate

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/store/storetest"
)

// bucket is the naive model of one policy: credit as of an instant, that grows by one a microsecond up to quota × interval. An
// event costs interval.
type bucket struct{ credit, at, quota, interval int64 }

// refilled is the bucket at another instant. owed says that it would hold less than nothing.
func (b bucket) refilled(at int64) (refilled bucket, owed bool) {
	credit := b.credit + at - b.at
	b.credit, b.at = min(max(0, credit), b.quota*b.interval), at
	return b, credit < 0
}

// model is the naive model of a player or a key: its buckets, and the latest instant at which they changed.
type model struct {
	buckets []bucket
	latest  int64
	passed  []passage
}

// passage is what passed a bucket at an instant.
type passage struct {
	bucket int
	at, n  int64
}

func newModel(rates ...catalog.Rate) *model {
	m := &model{}
	for _, r := range rates {
		quota := int64(r.Events)
		interval := (r.Per.Std().Microseconds() + quota - 1) / quota
		m.buckets = append(m.buckets, bucket{credit: quota * interval, quota: quota, interval: interval})
	}
	return m
}

func (m *model) clone() *model { return &model{buckets: slices.Clone(m.buckets), latest: m.latest} }

func (m *model) instant(now int64) int64 {
	return max(now, min(m.latest, now+5*time.Second.Microseconds()))
}

// rule lets events through one by one where every bucket that they fall into can pay for them. Only the listed buckets are looked
// at.
func (m *model) rule(now int64, listed []int, falls [][]int) (passes []bool) {
	at := m.instant(now)
	next, changed, counts := slices.Clone(m.buckets), make([]bool, len(m.buckets)), make([]int64, len(m.buckets))
	for _, i := range listed {
		next[i], changed[i] = m.buckets[i].refilled(at)
	}
	for _, in := range falls {
		pays := !slices.ContainsFunc(in, func(i int) bool { return next[i].credit < next[i].interval })
		passes = append(passes, pays)
		for _, i := range in {
			if pays {
				next[i].credit -= next[i].interval
				changed[i] = true
				counts[i]++
			}
		}
	}
	for i := range next {
		if changed[i] {
			m.buckets[i], m.latest = next[i], at
		}
		if counts[i] > 0 {
			m.passed = append(m.passed, passage{i, at, counts[i]})
		}
	}
	return passes
}

// limit is where a bucket stands at an instant.
func (m *model) limit(i int, at int64) (remaining int, reset time.Duration) {
	b, _ := m.buckets[i].refilled(at)
	return int(b.credit / b.interval), time.Duration(b.quota*b.interval-b.credit) * time.Microsecond
}

// within requires that no bucket let through more than its quota, and what it regained meanwhile, in any stretch of time.
func (m *model) within(t require.TestingT) {
	for i, b := range m.buckets {
		for from, first := range m.passed {
			sum := int64(0)
			for _, p := range m.passed[from:] {
				if p.bucket != i || first.bucket != i {
					continue
				}
				sum += p.n
				require.LessOrEqual(t, sum, b.quota+(p.at-first.at)/b.interval, "in %d µs", p.at-first.at)
			}
		}
	}
}

// waits requires that after a wait those of the events that were throttled at an instant pass that ever do, and not before.
func (m *model) waits(t require.TestingT, at int64, wait time.Duration, throttled [][]int) {
	if len(throttled) == 0 {
		require.Zero(t, wait)
		return
	}
	whole := m.clone()
	for i := range whole.buckets {
		whole.buckets[i].credit = whole.buckets[i].quota * whole.buckets[i].interval
	}
	soon := m.clone()
	whole.latest, soon.latest = 0, 0 // the clock that was ahead is right by then
	all := []int{0, 1, 2, 3}[:len(m.buckets)]
	ever, early := whole.rule(at, all, throttled), soon.clone()
	require.Positive(t, wait)
	require.Equal(t, ever, soon.rule(at+wait.Microseconds(), all, throttled), "after the wait they pass")
	require.NotEqual(t, ever, early.rule(at+wait.Microseconds()-1, all, throttled), "and not before")
}

func drawRate(t *rapid.T, name string) catalog.Rate {
	return catalog.Rate{
		Events: rapid.IntRange(1, 50).Draw(t, name+" events"),
		Per:    catalog.Duration(time.Duration(rapid.Int64Range(1, 120_000_000).Draw(t, name+" per")) * time.Microsecond),
	}
}

// clocks are those of replicas that take turns at one player or key.
type clocks struct {
	time int64
	far  bool // one was further off than is forgiven
}

// next draws the time of the next request: often near to where an answer of the model changes, on a clock that is a little off,
// or, rarely, by far.
func (c *clocks) next(t *rapid.T, m *model) int64 {
	interval := m.buckets[rapid.IntRange(0, len(m.buckets)-1).Draw(t, "bucket")].interval
	c.time += max(0, rapid.Int64Range(0, 5).Draw(t, "intervals")*interval+rapid.Int64Range(-1, 1).Draw(t, "off"))
	switch rapid.IntRange(0, 9).Draw(t, "clock") {
	case 0:
		return c.time + rapid.Int64Range(-2_500_000, 2_500_000).Draw(t, "ahead")
	case 1:
		if rapid.IntRange(0, 9).Draw(t, "broken") == 0 {
			c.far = true
			return c.time + rapid.Int64Range(-3600_000_000, 3600_000_000).Draw(t, "far ahead")
		}
	}
	return c.time
}

const noon = 1_795_348_800_000_000 // µs

// TestScriptIsATokenBucket runs random requests through players.lua and through the model.
func TestScriptIsATokenBucket(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		players := 0
		rapid.Check(t, func(rt *rapid.T) {
			burst, sustained, slow, rare := drawRate(rt, "burst"), drawRate(rt, "sustained"), drawRate(rt, "slow"), drawRate(rt, "rare")
			game := &catalog.Catalog{
				Fairness: catalog.Fairness{Burst: burst, Sustained: sustained},
				Events:   map[string]catalog.EventType{"free": {}, "slow": {Rate: slow}, "rare": {Rate: rare}},
			}
			falls := map[string][]int{"free": {0, 1}, "slow": {0, 1, 2}, "rare": {0, 1, 3}}
			names := []string{"burst", "sustained", "events.slow", "events.rare"}
			m, c, now := newModel(burst, sustained, slow, rare), clocks{time: noon}, int64(0)
			g := Gate{
				Redis: rdb, Catalog: func() *catalog.Catalog { return game }, Now: func() time.Time { return time.UnixMicro(now) },
				OneNode: rapid.Bool().Draw(rt, "one node"),
			}
			players++
			player := fmt.Sprintf("p%d", players)
			for i := range rapid.IntRange(1, 12).Draw(rt, "requests") {
				now = c.next(rt, m)
				types := rapid.SliceOfN(rapid.SampledFrom([]string{"free", "slow", "rare"}), 0, 60).Draw(rt, "types")
				events := make([]Event, len(types))
				in := make([][]int, len(types))
				for j, name := range types {
					events[j], in[j] = Event{fmt.Sprintf("e%d-%d", i, j), name}, falls[name]
				}
				var others []Player
				if rapid.Bool().Draw(rt, "with others") {
					others = []Player{{player + "-1", nil}, {player + "-2", []Event{{"x", "slow"}, {"y", "other"}, {"z", "free"}}}}
				}
				at := m.instant(now)
				pass, err := g.Enter(t.Context(), Entry{KeyID: "k", Nonce: fmt.Sprintf("%s-%d", player, i), Players: append(others, Player{player, events})})
				require.NoError(rt, err)
				require.Nil(rt, pass.Key)
				ruling := pass.Players[len(others)]
				listed := []int{0, 1}
				if others != nil || slices.Contains(types, "slow") {
					listed = append(listed, 2)
				}
				if slices.Contains(types, "rare") {
					listed = append(listed, 3)
				}
				passes := m.rule(now, listed, in)
				var throttled [][]int
				for j, verdict := range ruling.Events {
					require.Equal(rt, passes[j], verdict == Admitted, "event %d of %d", j, len(events))
					if !passes[j] {
						throttled = append(throttled, in[j])
					}
				}
				applied := map[string]bool{"burst": true, "sustained": true, "events.slow": slices.Contains(types, "slow"), "events.rare": slices.Contains(types, "rare")}
				for _, limit := range ruling.Limits {
					remaining, reset := m.limit(slices.Index(names, limit.Policy), at)
					require.Equal(rt, remaining, limit.Remaining, limit.Policy)
					require.Equal(rt, reset, limit.Reset, limit.Policy)
					require.True(rt, applied[limit.Policy], limit.Policy)
					delete(applied, limit.Policy)
				}
				require.NotContains(rt, slices.Collect(maps.Values(applied)), true, "each that applied is listed")
				m.waits(rt, at, ruling.RetryAfter, throttled)
			}
			if !c.far {
				m.within(rt)
			}
		})
	})
}

// TestKeysAreTokenBuckets runs random requests of one key through the script, through Local and through the model.
func TestKeysAreTokenBuckets(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		keys := 0
		rapid.Check(t, func(rt *rapid.T) {
			keys++
			id := fmt.Sprintf("k.%d", keys)
			rate := drawRate(rt, "key")
			game := &catalog.Catalog{Fairness: catalog.Fairness{Burst: rate, Sustained: rate, Keys: map[string]catalog.Rate{id: rate}}}
			m, c, now := newModel(rate), clocks{time: noon}, int64(0)
			current, clock := func() *catalog.Catalog { return game }, func() time.Time { return time.UnixMicro(now) }
			g, local := Gate{Redis: rdb, Catalog: current, Now: clock}, Local{Catalog: current, Now: clock}
			for i := range rapid.IntRange(1, 12).Draw(rt, "requests") {
				now = c.next(rt, m)
				sent := rapid.IntRange(0, 60).Draw(rt, "sent")
				at := m.instant(now)
				pass, err := g.Enter(t.Context(), Entry{KeyID: id, Nonce: fmt.Sprint(i), Sent: sent})
				require.NoError(rt, err)
				allowed, err := local.Take(id, "", max(1, sent))
				require.NoError(rt, err)
				require.Equal(rt, allowed, pass.Key)

				in := slices.Repeat([][]int{{0}}, max(1, sent))
				admitted := 0
				for _, passes := range m.rule(now, []int{0}, in) {
					if passes {
						admitted++
					}
				}
				remaining, reset := m.limit(0, at)
				require.Equal(rt, admitted, allowed.Admitted)
				require.Equal(rt, Limit{Policy: "key", Quota: rate.Events, Window: rate.Per.Std(), Remaining: remaining, Reset: reset}, allowed.Limit)
				m.waits(rt, at, allowed.RetryAfter, in[admitted:])
			}
			if !c.far {
				m.within(rt)
			}
		})
	})
}

func TestPolicyForgivesAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	p, err := newPolicy("burst", catalog.Rate{Events: 20, Per: catalog.Duration(time.Second)})
	require.NoError(t, err)
	now := int64(1_795_348_800_000_000)
	ahead := p.charge(0, now+time.Hour.Microseconds(), 20)
	require.Equal(t, int64(0), p.room(ahead, now))
	require.Equal(t, time.Second.Microseconds(), p.wait(ahead, now, 20), "a whole quota is the most that can be missing")
	require.Equal(t, int64(20), p.room(0, now))
}

func TestNewPolicy(t *testing.T) {
	t.Parallel()
	p, err := newPolicy("burst", catalog.Rate{Events: 7, Per: catalog.Duration(time.Second)})
	require.NoError(t, err)
	require.Equal(t, int64(142_858), p.interval, "rounded up")
	for _, rate := range []catalog.Rate{
		{},
		{Events: 1},
		{Per: catalog.Duration(time.Second)},
		{Events: -1, Per: catalog.Duration(time.Second)},
		{Events: 1, Per: catalog.Duration(25 * time.Hour)},
		{Events: 1_000_001, Per: catalog.Duration(time.Second)},
	} {
		_, err := newPolicy("burst", rate)
		require.ErrorContains(t, err, `rate "burst"`)
	}
}

// Local remembers no more keys than there is room for, and forgets first what nobody is throttled by.
func TestLocalIsBounded(t *testing.T) {
	t.Parallel()
	now := int64(noon)
	game := &catalog.Catalog{Fairness: catalog.Fairness{Keys: map[string]catalog.Rate{"client": {Events: 2, Per: catalog.Duration(time.Minute)}}}}
	l := Local{Catalog: func() *catalog.Catalog { return game }, Now: func() time.Time { return time.UnixMicro(now) }}
	take := func(id string, n int) int {
		allowed, err := l.Take(id, "client", n)
		require.NoError(t, err)
		return allowed.Admitted
	}
	require.Equal(t, 2, take("busy", 2))
	for i := range maxLocal + 10 {
		require.Equal(t, 1, take(fmt.Sprint(i), 1))
		require.LessOrEqual(t, len(l.keys), maxLocal)
	}
	require.Equal(t, 0, take("busy", 1), "others are nearer to their whole quota")
	now += time.Minute.Microseconds() / 2
	require.Equal(t, 1, take("new", 1))
	require.Len(t, l.keys, 2, "busy and new")
}
