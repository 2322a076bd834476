package fairness

import (
	"time"

	"liveops/core/catalog"
	"liveops/core/event"
)

// scoreVelocity limits the points a player gathers on a board in the 10 seconds, 60 seconds and the hour up to and
// including a score. A negative score counts as 0: losing points must not make room for more.
func scoreVelocity(e event.Accepted, c *catalog.Catalog) []limit {
	board, ok := scored(e, c)
	if !ok {
		return nil
	}
	name, _ := e.Text("board")
	score, _ := e.Int("score")
	var limits []limit
	for _, w := range []struct {
		window time.Duration
		most   int64
	}{{10 * time.Second, board.Velocity.Per10s}, {time.Minute, board.Velocity.Per60s}, {time.Hour, board.Velocity.Per1h}} {
		if w.most > 0 {
			limits = append(limits, limit{by: byPoints, of: name, points: max(score, 0), window: w.window, measure: "points", limit: w.most})
		}
	}
	return limits
}
