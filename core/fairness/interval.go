package fairness

import (
	"slices"

	"liveops/core/fault"
)

// minimumInterval keeps events of one type apart. Events come in any order, so it looks both ways: whichever of two that
// are too close is judged second is the one too many.
func minimumInterval() rule {
	return rule{code: fault.MinimumInterval, version: 1, judge: func(v *view) []Finding {
		every := v.game.Events[v.Type].Every.Std().Milliseconds()
		if every == 0 {
			return nil
		}
		gap, any := nearest(v.known.look(subject{name: v.Type}).instants, v.At.UnixMilli())
		if !any || gap >= every {
			return nil
		}
		return []Finding{{Measure: "interval_ms", Limit: float64(every), Observed: float64(gap)}}
	}}
}

// nearest is the distance from at to the nearest of some instants, which are by time.
func nearest(instants []int64, at int64) (distance int64, any bool) {
	i, _ := slices.BinarySearch(instants, at)
	if i < len(instants) {
		distance, any = instants[i]-at, true
	}
	if i > 0 && (!any || at-instants[i-1] < distance) {
		distance, any = at-instants[i-1], true
	}
	return distance, any
}
