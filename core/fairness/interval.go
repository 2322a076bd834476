package fairness

import (
	"liveops/core/catalog"
	"liveops/core/event"
)

// minimumInterval keeps events of one type apart. Events come in any order, so it looks both ways: whichever of two that
// are too close is judged second is the one too many.
func minimumInterval(e event.Accepted, c *catalog.Catalog) []limit {
	every := c.Events[e.Type].Every.Std().Milliseconds()
	if every == 0 {
		return nil
	}
	return []limit{{by: byGap, of: e.Type, measure: "interval_ms", limit: every}}
}
