package fairness

import (
	"math"

	"liveops/core/fault"
)

// regularTiming finds players whose events come as regularly as a machine's. It looks once at every so many intervals.
func regularTiming() rule {
	return rule{code: fault.RegularTiming, version: 1, judge: func(v *view) []Finding {
		before := v.known.look(v.subject).rhythm
		r := before.with(v.At.UnixMilli())
		if r.n < int64(v.rule.After) || r.n == before.n {
			return nil
		}
		variation := r.variation()
		if variation >= v.rule.Limit {
			return nil
		}
		return []Finding{{
			Measure: "interval_variation", Window: int64(float64(r.n) * float64(r.mean)), Baseline: r.n,
			Limit: v.rule.Limit, Observed: rounded(variation),
		}}
	}}
}

// rhythm is the intervals between a player's events since it was last looked at.
type rhythm struct {
	last       int64 // ms
	n          int64
	mean, away float32 // ms, and the sum of squared distances from the mean
}

// A pause is an interval of more than so many times the mean. It is passed over: a machine that rests is still one.
const pause = 3

// with counts an event in. One that comes late, or at the same instant as another, does not tell of a rhythm.
func (r rhythm) with(at int64) rhythm {
	interval := float64(at - r.last)
	switch {
	case r.last == 0:
		r.last = at
	case interval <= 0:
	case r.n >= 3 && interval > pause*float64(r.mean):
		r.last = at
	default:
		r.last = at
		r.n++
		moved := interval - float64(r.mean)
		r.mean += float32(moved / float64(r.n))
		r.away += float32(moved * (interval - float64(r.mean)))
	}
	return r
}

// turn begins anew after so many intervals.
func (r rhythm) turn(after int64) rhythm {
	if r.n >= after {
		return rhythm{last: r.last}
	}
	return r
}

// variation is the coefficient of variation of the intervals.
func (r rhythm) variation() float64 {
	return math.Sqrt(float64(r.away)/float64(r.n-1)) / float64(r.mean)
}
