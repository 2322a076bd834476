package fairness

import (
	"slices"
	"time"

	"liveops/core/event"
	"liveops/core/fault"
)

// scoreVelocity limits the points a player gathers on a board in the 10 seconds, 60 seconds and the hour up to and
// including a score. A negative score counts as 0: losing points must not make room for more.
func scoreVelocity() rule {
	return rule{code: fault.ScoreVelocity, version: 2, judge: func(v *view) (found []Finding) {
		if !limited(v) {
			return nil
		}
		velocity, cells := v.game.Boards[v.name].Velocity, v.known.look(v.subject).cells
		for _, w := range [...]struct {
			window time.Duration
			most   int64
		}{{10 * time.Second, velocity.Per10s}, {time.Minute, velocity.Per60s}, {time.Hour, velocity.Per1h}} {
			if w.most == 0 {
				continue
			}
			points := min(within(cells, v.At.UnixMilli(), w.window.Milliseconds())+max(v.score, 0), tooMany)
			if points > w.most {
				found = append(found, Finding{Measure: "points", Window: w.window.Milliseconds(), Limit: float64(w.most), Observed: float64(points)})
			}
		}
		return found
	}}
}

// limited says whether an event is a score on a board with a velocity.
func limited(v *view) bool {
	if !v.board || !v.measured {
		return false
	}
	velocity := v.game.Boards[v.name].Velocity
	return velocity.Per10s > 0 || velocity.Per60s > 0 || velocity.Per1h > 0
}

// cell is the points of one score, or of several that lie close together for how long ago they are.
type cell struct {
	from, to int64 // ms
	points   int64
}

// tooMany is more points than any limit: sums stop there, where a JSON number is still exact.
const tooMany = event.MaxInteger + 1

// horizon is how long points are kept: those of an hour, for scores that come late.
const horizon = 2 * time.Hour

// within is the points in (at − window, at]. A cell counts when it lies in there as a whole, so that the sum is never too
// large; it lacks at most what was gathered in an eighth of the window, at its beginning. For a score that comes late it lacks an eighth of
// how late it is at both ends besides: what is that long ago has been joined.
func within(cells []cell, at, window int64) (sum int64) {
	for i := len(cells) - 1; i >= 0 && cells[i].from > at-window; i-- {
		if cells[i].to <= at {
			sum += cells[i].points
		}
	}
	return sum
}

// gathered adds points. Then it joins neighbours whose time together is an eighth of their age or less, so that the number of cells
// grows with the logarithm of the time they cover, and the two oldest of too many.
func (s *series) gathered(at, points int64) {
	i, _ := slices.BinarySearchFunc(s.cells, at, func(c cell, at int64) int {
		if c.from > at {
			return 1
		}
		return -1
	})
	s.cells = slices.Insert(s.cells, i, cell{at, at, points})
	newest := s.cells[len(s.cells)-1].to
	kept := s.cells[:0]
	for _, c := range s.cells {
		if c.to <= newest-horizon.Milliseconds() {
			continue
		}
		if last := len(kept) - 1; last >= 0 && (c.to-kept[last].from)*8 <= newest-c.to {
			kept[last].join(c)
			continue
		}
		kept = append(kept, c)
	}
	for len(kept) > cellsMost {
		kept[0].join(kept[1])
		kept = slices.Delete(kept, 1, 2)
	}
	s.cells = kept
}

func (c *cell) join(next cell) {
	c.to = max(c.to, next.to)
	c.points = min(c.points+next.points, tooMany)
}
