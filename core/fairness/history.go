package fairness

import (
	"fmt"
	"math"

	"liveops/core/fault"
)

// ownHistory finds scores far above what the player himself scored lately.
func ownHistory() rule {
	return rule{code: fault.OwnHistory, version: 1, judge: func(v *view) []Finding {
		if !v.board || !v.measured {
			return nil
		}
		h := v.known.look(v.subject).habit
		if h.n < int64(v.rule.After) {
			return nil
		}
		deviations := (v.x - float64(h.mean)) / h.deviation()
		if deviations <= v.rule.Limit {
			return nil
		}
		return []Finding{{
			Measure: "deviations_from_own", Baseline: h.n, Limit: v.rule.Limit, Observed: rounded(deviations),
			Text: fmt.Sprintf("score %d, usually %.0f", v.score, v.points(float64(h.mean))),
		}}
	}}
}

// habit is what a player scores: mean and variance on the logarithmic scale, exponentially weighted once there are more than
// habitWeight scores.
type habit struct {
	n              int64 // scores that counted, up to habitMost
	mean, variance float32
}

const (
	habitWeight = 40   // a score counts for as much as all that follow after so many more
	habitMost   = 1000 // from here on the exact number is of no interest
	habitClip   = 6    // deviations that one score may move things by, so that one cheat does not make the next look normal
)

// with counts a score in.
func (h habit) with(x float64) habit {
	if h.n > 0 {
		reach := habitClip * h.deviation()
		x = min(max(x, float64(h.mean)-reach), float64(h.mean)+reach)
	}
	h.n = min(h.n+1, habitMost)
	weight := 1 / float64(min(h.n, habitWeight))
	moved := x - float64(h.mean)
	step := weight * moved
	h.mean += float32(step)
	h.variance = float32((1 - weight) * (float64(h.variance) + moved*step))
	return h
}

// deviation is the standard deviation, and never less than 5 %, nor than one point more or less makes of such a score.
func (h habit) deviation() float64 {
	return max(math.Sqrt(float64(h.variance)), .05, math.Exp(-math.Abs(float64(h.mean))))
}

// rounded keeps what a person reads of a statistic.
func rounded(x float64) float64 { return math.Round(x*1000) / 1000 }
