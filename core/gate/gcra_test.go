package gate

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/store/storetest"
)

// bucket is the naive model: credit that grows by one a microsecond up to quota × interval, an event costs interval.
type bucket struct {
	credit, at int64
	policy     policy
}

func fullBucket(p policy) *bucket { return &bucket{credit: p.quota * p.interval, policy: p} }

func (b *bucket) refill(now int64) {
	b.credit = min(b.credit+now-b.at, b.policy.quota*b.policy.interval)
	b.at = now
}

// take lets events through one by one as long as every bucket can pay for them.
func take(buckets []*bucket, now int64, n int) (admitted int64) {
	for _, b := range buckets {
		b.refill(now)
	}
	for range n {
		for _, b := range buckets {
			if b.credit < b.policy.interval {
				return admitted
			}
		}
		for _, b := range buckets {
			b.credit -= b.policy.interval
		}
		admitted++
	}
	return admitted
}

func drawRate(t *rapid.T, name string) catalog.Rate {
	return catalog.Rate{
		Events: rapid.IntRange(1, 50).Draw(t, name+" events"),
		Per:    catalog.Duration(time.Duration(rapid.Int64Range(1, 120_000_000).Draw(t, name+" per")) * time.Microsecond),
	}
}

func drawPolicies(t *rapid.T) (catalog.Fairness, []policy) {
	fairness := catalog.Fairness{Burst: drawRate(t, "burst"), Sustained: drawRate(t, "sustained")}
	policies, err := (&Gate{Fairness: func() catalog.Fairness { return fairness }}).rates()
	require.NoError(t, err)
	return fairness, policies
}

// drawStep draws a time between two requests that is often near to where the answer changes.
func drawStep(t *rapid.T, policies []policy) int64 {
	interval := policies[rapid.IntRange(0, 1).Draw(t, "policy")].interval
	return max(0, rapid.Int64Range(0, 5).Draw(t, "intervals")*interval+rapid.Int64Range(-1, 1).Draw(t, "off"))
}

func TestAdmitIsATokenBucket(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		_, policies := drawPolicies(t)
		buckets := []*bucket{fullBucket(policies[0]), fullBucket(policies[1])}
		wholes := []int64{0, 0}
		now := int64(1_795_348_800_000_000)
		for range rapid.IntRange(1, 30).Draw(t, "requests") {
			now += drawStep(t, policies)
			n := rapid.IntRange(0, 60).Draw(t, "events")
			want := take(buckets, now, n)
			var got int64
			got, wholes = admit(policies, wholes, now, int64(n))
			require.Equal(t, want, got)
			for i, p := range policies {
				require.Equal(t, buckets[i].credit/p.interval, p.room(wholes[i], now))
			}
			if throttled := int64(n) - got; throttled > 0 {
				wait := retry(policies, wholes, now, throttled).Microseconds()
				atOnce := min(throttled, policies[0].quota, policies[1].quota)
				require.Positive(t, wait)
				enough, _ := admit(policies, wholes, now+wait, atOnce)
				require.Equal(t, atOnce, enough, "after the wait they pass")
				early, _ := admit(policies, wholes, now+wait-1, atOnce)
				require.Less(t, early, atOnce, "and not before")
			}
		}
	})
}

// TestScriptIsAdmit runs the same random requests through the script and through admit.
func TestScriptIsAdmit(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		players := 0
		rapid.Check(t, func(rt *rapid.T) {
			fairness, policies := drawPolicies(rt)
			now := int64(1_795_348_800_000_000)
			g := Gate{
				Redis: rdb, Fairness: func() catalog.Fairness { return fairness }, Now: func() time.Time { return time.UnixMicro(now) },
				OneNode: rapid.Bool().Draw(rt, "one node"),
			}
			players++
			player := fmt.Sprintf("p%d", players)
			wholes := []int64{0, 0}
			for i := range rapid.IntRange(1, 8).Draw(rt, "requests") {
				now += drawStep(rt, policies)
				events := make([]string, rapid.IntRange(0, 60).Draw(rt, "events"))
				for j := range events {
					events[j] = fmt.Sprintf("e%d-%d", i, j)
				}
				var others []Player
				if rapid.Bool().Draw(rt, "with others") {
					others = []Player{{player + "-1", nil}, {player + "-2", []string{"x", "y", "z"}}}
				}
				pass, err := g.Enter(t.Context(), Entry{KeyID: "k", Nonce: fmt.Sprintf("%s-%d", player, i), Players: append(others, Player{player, events})})
				require.NoError(rt, err)
				ruling := pass.Players[len(others)]
				var want int64
				want, wholes = admit(policies, wholes, now, int64(len(events)))
				for j, verdict := range ruling.Events {
					require.Equal(rt, int64(j) < want, verdict == Admitted, "event %d of %d, %d admitted", j, len(events), want)
				}
				for j, limit := range ruling.Limits {
					require.Equal(rt, int(policies[j].room(wholes[j], now)), limit.Remaining)
					require.Equal(rt, policies[j].from(wholes[j], now)-now, limit.Reset.Microseconds())
				}
				require.Equal(rt, retry(policies, wholes, now, int64(len(events))-want), ruling.RetryAfter)
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

// admit says how many of n events pass under every policy now, and the states after them. wholes has a state for each
// policy.
func admit(policies []policy, wholes []int64, now, n int64) (admitted int64, after []int64) {
	admitted = n
	for i, p := range policies {
		admitted = min(admitted, p.room(wholes[i], now))
	}
	after = make([]int64, len(policies))
	for i, p := range policies {
		after[i] = p.charge(wholes[i], now, admitted)
	}
	return admitted, after
}
