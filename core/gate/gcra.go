package gate

import (
	"fmt"
	"time"

	"liveops/core/catalog"
)

// lead is how far ahead of its own clock a request may be ruled, in microseconds: further than the clocks of replicas differ
// and than a request waits for a connection, and as long as a replica with a fast clock can hold up a player.
const lead = 5_000_000

// instant is what a request is ruled by: the latest instant that anything of its state was ruled by. A request that took the
// time long ago would otherwise find that more than the whole quota is missing, and none of it would pass.
func instant(now, latest int64) int64 { return max(now, min(latest, now+lead)) }

// policy is a rate limit as GCRA knows it: quota events at once, and one more every interval. So no more than the quota and
// what is regained meanwhile passes in any stretch of time. Its state is one instant, the time at which the whole quota is
// there again. Instants and durations are microseconds; with those a double, which is what Lua calculates with, is exact.
//
// players.lua calculates instant, room and charge in the same way.
type policy struct {
	name     string
	quota    int64
	interval int64
	window   time.Duration
}

// newPolicy rounds the interval up, so that never more than the rate gets through.
func newPolicy(name string, rate catalog.Rate) (policy, error) {
	quota, window := int64(rate.Events), time.Duration(rate.Per)
	if quota < 1 || window < time.Microsecond || window > 24*time.Hour || quota > 1_000_000 {
		return policy{}, fmt.Errorf("rate %q: %d events in %s, need 1 to 1,000,000 in 1µs to 24h", name, quota, window)
	}
	return policy{name: name, quota: quota, interval: (window.Microseconds() + quota - 1) / quota, window: window}, nil
}

// span is how long it takes to regain the whole quota.
func (p policy) span() int64 { return p.quota * p.interval }

// from is where charging starts: full since long ago counts as full now, and more than the whole quota can never be
// missing. The latter matters when a replica with a fast clock wrote the state, or the quota has been lowered.
func (p policy) from(whole, now int64) int64 { return min(max(whole, now), now+p.span()) }

// room is how many events pass now.
func (p policy) room(whole, now int64) int64 {
	return (now + p.span() - p.from(whole, now)) / p.interval
}

// charge is the state after n events, n ≤ room.
func (p policy) charge(whole, now, n int64) int64 { return p.from(whole, now) + n*p.interval }

// wait is how long it takes until n events pass at once, n ≤ quota.
func (p policy) wait(whole, now, n int64) int64 {
	return max(0, p.charge(whole, now, n)-now-p.span())
}

// always is how many policies every event of a player falls under: burst and sustained, the first of any list of his.
const always = 2

// retry is how long to wait until those of the throttled events would pass that pass where every rate is whole. own is for each
// of them the index of the policy of its type, 0 where there is none.
func retry(policies []policy, wholes []int64, at int64, own []int) time.Duration {
	counts := make([]int64, len(policies)) // of those that pass where every quota is whole
	for _, o := range own {
		if counts[0] == policies[0].quota || counts[1] == policies[1].quota || o > 0 && counts[o] == policies[o].quota {
			continue
		}
		counts[0]++
		counts[1]++
		if o > 0 {
			counts[o]++
		}
	}
	var longest int64
	for i, p := range policies {
		if counts[i] > 0 {
			longest = max(longest, p.wait(wholes[i], at, counts[i]))
		}
	}
	return time.Duration(longest) * time.Microsecond
}
