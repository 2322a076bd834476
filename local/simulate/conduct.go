package simulate

import (
	"time"

	"liveops/core/catalog"
	"liveops/core/fairness"
)

// Consequence is what a decision leads to for its player.
type Consequence struct {
	Until time.Time // he is blocked until then; zero: he is not
	Case  bool      // a case about him opens
}

// Conduct says what decisions lead to, given all of them in order, with the time at which the event came.
type Conduct interface {
	After(d fairness.Decision, at time.Time) Consequence
}

// NewConduct is the conduct of the fairness stage: a deny blocks for as long as the policy says. Nothing opens a case.
func NewConduct(policy catalog.Fairness) Conduct { return blocks(policy.Block) }

type blocks time.Duration

// After implements Conduct.
func (b blocks) After(d fairness.Decision, at time.Time) Consequence {
	if d.Verdict != fairness.Deny {
		return Consequence{}
	}
	return Consequence{Until: at.Add(time.Duration(b))}
}
