package fairness

import (
	"math"

	"liveops/core/catalog"
	"liveops/core/event"
)

// view is what a rule may look at: an event, what is known of its player before it, and what everybody else does.
type view struct {
	*event.Accepted
	measure
	game   *catalog.Catalog
	rule   catalog.Rule // the settings of the rule that looks
	known  *features
	crowd  crowd
	period int64 // of the baseline, in minutes: when it began
	place  int   // in the batch
}

// measure is an event as a number.
type measure struct {
	subject
	measured bool // whether there is a number that others can be compared with
	mirrored bool // less is better
	score    int64
	x        float64 // on the scale on which scores are compared; more is better
}

// measureOf gives a score's points, and the amount of gained XP. Of anything else it only knows what it is.
func measureOf(e *event.Accepted, game *catalog.Catalog) measure {
	m := measure{subject: subject{name: e.Type}}
	switch e.Type {
	case event.ScoreSubmitted:
		name, _ := e.Text("board")
		board, known := game.Boards[name]
		if !known {
			return m
		}
		m.subject = subject{board: true, name: name}
		m.score, m.measured = e.Int("score")
		m.x = scale(m.score)
		if m.mirrored = board.Order == "asc"; m.mirrored {
			m.x = -m.x
		}
	case event.XPGained:
		m.score, m.measured = e.Int("amount")
		m.x = scale(m.score)
	}
	return m
}

// scale is log1p, mirrored for what is below zero: on it, scores differ by how many times one is the other.
func scale(score int64) float64 {
	if score < 0 {
		return -math.Log1p(-float64(score))
	}
	return math.Log1p(float64(score))
}

// points is the score at a place of the scale.
func (m measure) points(x float64) float64 {
	if m.mirrored {
		x = -x
	}
	return math.Copysign(math.Round(math.Expm1(math.Abs(x))), x)
}
