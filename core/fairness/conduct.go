package fairness

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strings"
	"time"

	"liveops/core/catalog"
)

// Conduct is what the decisions on a player add up to. The zero value is a player against whom there is nothing. It is a pure
// value: what keeps it, and makes each decision count once, is Records.
type Conduct struct {
	Points       float64   // of suspicion, as of PointsAt
	PointsAt     time.Time // of the latest decision with points
	Throttled    float64   // throttled events not yet forgiven, as of ThrottledAt
	ThrottledAt  time.Time
	Blocks       int       // in a row: the next one is so many times longer
	BlockedUntil time.Time // the end of the last block, or when it was lifted
	Case         string    // the id of the open case; empty without one
}

// Consequence is what one decision leads to. The zero value: to nothing.
type Consequence struct {
	BlockUntil  time.Time // the player is kept out until then; zero: he is not
	ShadowUntil time.Time // he is hidden from the others until then; zero: he is not
	Case        bool      // a case was opened, with the id that Conduct.Case then has
}

// After is the conduct when a decision has been added, and what the decision leads to. Only findings that are enforced add
// points, each rule's once for an event, and points add up to the same in any order. A case is opened by as many points, rounded
// to whole ones since they fade from the first moment on, as the policy says.
//
// Whatever was denied or throttled before the end of the last block belongs to the block: it makes it no longer, nor the next.
func (c Conduct) After(d Decision, policy catalog.Fairness) (Conduct, Consequence) {
	var to Consequence
	c = c.suspected(d, policy.Suspicion)
	if d.Drops() && !d.At.Before(c.BlockedUntil) && (d.Verdict == Deny || c.overflows(d.At, policy.Escalation)) {
		c = c.blocked(d.At, policy)
		to.BlockUntil = c.BlockedUntil
	}
	if d.Verdict == Shadow {
		to.ShadowUntil = d.At.Add(policy.Shadow.Std())
	}
	if c.Case == "" && (d.Verdict == Shadow || weight(d) > 0 && math.Round(c.Points) >= float64(policy.Suspicion.Case)) {
		c.Case, to.Case = caseID("decision", d.ID), true
	}
	return c, to
}

// PointsOn is what the points are worth at an instant. Before PointsAt they are worth what they were then.
func (c Conduct) PointsOn(at time.Time, halfLife time.Duration) float64 {
	return c.Points * faded(at.Sub(c.PointsAt), halfLife)
}

// suspected adds the points of a decision. One that comes late adds what is left of its points.
func (c Conduct) suspected(d Decision, policy catalog.Suspicion) Conduct {
	points := weight(d)
	if points == 0 {
		return c
	}
	halfLife := policy.HalfLife.Std()
	if d.At.After(c.PointsAt) {
		c.Points, c.PointsAt = c.PointsOn(d.At, halfLife), d.At
	}
	c.Points += float64(points) * faded(c.PointsAt.Sub(d.At), halfLife)
	return c
}

// weight is the points of a decision: of each rule that is enforced the most that one of its findings has.
func weight(d Decision) (sum int) {
	rules := map[string]int{}
	for _, f := range d.Evidence {
		if f.Mode == enforce {
			rules[f.Rule] = max(rules[f.Rule], f.Points)
		}
	}
	for _, points := range rules {
		sum += points
	}
	return sum
}

// faded is what is left of 1 after a while.
func faded(after, halfLife time.Duration) float64 {
	if after <= 0 {
		return 1
	}
	return math.Exp2(-float64(after) / float64(halfLife))
}

// overflows takes in one throttled event and says whether there was no room for it. There is room for as many as the policy
// says at once, and it comes back evenly.
func (c *Conduct) overflows(at time.Time, policy catalog.Escalation) bool {
	if policy.Throttles == 0 {
		return false
	}
	if at.After(c.ThrottledAt) {
		forgiven := float64(at.Sub(c.ThrottledAt)) / float64(policy.Within) * float64(policy.Throttles)
		c.Throttled, c.ThrottledAt = max(0, c.Throttled-forgiven), at
	}
	c.Throttled++
	return c.Throttled > float64(policy.Throttles)
}

// blocked begins the next block.
func (c Conduct) blocked(at time.Time, policy catalog.Fairness) Conduct {
	if at.Sub(c.BlockedUntil) >= policy.Escalation.Memory.Std() {
		c.Blocks = 0
	}
	length, most := policy.Block.Std(), policy.Escalation.Most.Std()
	for range c.Blocks {
		if length >= most/time.Duration(max(1, policy.Escalation.Factor)) {
			length = most
			break
		}
		length *= time.Duration(policy.Escalation.Factor)
	}
	c.Blocks, c.BlockedUntil, c.Throttled = c.Blocks+1, at.Add(min(length, most)), 0
	return c
}

// lifted is the conduct of a player whose last block was a mistake and ended at an instant: it does not make the next longer.
func (c Conduct) lifted(at time.Time) Conduct {
	c.Blocks = max(0, c.Blocks-1)
	if at.Before(c.BlockedUntil) {
		c.BlockedUntil = at
	}
	return c
}

// cleared is the conduct of a player against whom there is nothing any more. What was decided before is still part of the last
// block, should it only come now.
func (c Conduct) cleared(at time.Time) Conduct {
	return Conduct{BlockedUntil: at, Case: c.Case}
}

// caseID is the same for the same occasion.
func caseID(kind, occasion string) string { return derived("case", kind, occasion) }

// derived is an id of 32 characters that follows from parts without line feeds, and from them alone.
func derived(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:16])
}
