// Package fairness judges accepted events behind the queue: a ladder of rules, each a pure function of the event, of what is
// known of its player and of everybody, and of the policy in the catalog. Hard rules drop events; statistics only point at
// players. It keeps the evidence of every verdict and the list of blocked players. It knows nothing of queues, and what a verdict
// leads to is up to its caller.
package fairness

import (
	"cmp"
	"slices"
	"time"

	"liveops/core/event"
	"liveops/core/fault"
)

// Verdict is what is to happen to an event.
type Verdict string

// The verdicts, weakest first.
const (
	Allow    Verdict = "allow"
	Flag     Verdict = "flag"     // it counts, and somebody should look
	Shadow   Verdict = "shadow"   // it counts for the player's own eyes only
	Throttle Verdict = "throttle" // it came too soon and is dropped
	Deny     Verdict = "deny"     // it is dropped and the player is blocked
)

// Verdicts lists all, weakest first.
func Verdicts() []Verdict { return []Verdict{Allow, Flag, Shadow, Throttle, Deny} }

func (v Verdict) strength() int { return slices.Index(Verdicts(), v) }

// drops says that an event with this verdict has no effect.
func (v Verdict) drops() bool { return v == Throttle || v == Deny }

// The modes of a rule.
const (
	enforce = "enforce"
	observe = "shadow"
	off     = "off"
)

// Modes lists those in which a rule finds something.
func Modes() []string { return []string{enforce, observe} }

// Finding is one limit that an event broke.
type Finding struct {
	Rule     string  `json:"rule"` // a fault.Code
	Version  int     `json:"version"`
	Mode     string  `json:"mode"`    // enforce, or shadow: then it changes nothing
	Verdict  Verdict `json:"verdict"` // what the rule says, in either mode
	Points   int     `json:"points,omitzero"`
	Measure  string  `json:"measure"`            // what was compared: a pointer into the event, interval_ms, points, or a statistic
	Window   int64   `json:"window_ms,omitzero"` // the stretch of time that was looked at
	Baseline int64   `json:"baseline,omitzero"`  // of a statistic: how many values stand behind it
	Limit    float64 `json:"limit"`
	Observed float64 `json:"observed"`
	Text     string  `json:"text,omitzero"` // the observed value where it is no number, cut to 64 bytes; of a statistic, in words
}

// acts is the finding's verdict as far as its mode lets it act.
func (f Finding) acts() Verdict {
	if f.Mode == enforce {
		return f.Verdict
	}
	return Allow
}

// Decision is the verdict on one event. The same event always gets the same decision.
type Decision struct {
	ID       string // 32 characters, derived from the event's identity
	PlayerID string
	EventID  string
	Verdict  Verdict // of the strongest finding that is enforced; allow without one
	// Rule, RuleVersion, Mode and Code are of the first finding and empty without one. A verdict of allow with a rule is one
	// that a rule in shadow mode would have changed.
	Rule        string
	RuleVersion int
	Mode        string
	Code        fault.Code
	Evidence    []Finding // every limit the event broke, the strongest first, at most 16
	// At is when the event was first judged, and CatalogVersion is of the policy it was judged by; zero without a finding.
	At             time.Time
	CatalogVersion int
}

// Drops says that the event must have no effect.
func (d Decision) Drops() bool { return d.Verdict.drops() }

// maxEvidence bounds what is kept of one event.
const maxEvidence = 16

// decide makes the decision from all findings on an event, in the ladder's order.
func decide(e event.Event, findings []Finding, at time.Time) Decision {
	d := Decision{ID: DecisionID(e.PlayerID, e.ID), PlayerID: e.PlayerID, EventID: e.ID, Verdict: Allow}
	if len(findings) == 0 {
		return d
	}
	d.Evidence, d.At = strongest(findings), at
	first := d.Evidence[0]
	d.Verdict, d.Rule, d.RuleVersion, d.Mode, d.Code = first.acts(), first.Rule, first.Version, first.Mode, fault.Code(first.Rule)
	return d
}

// strongest puts the findings first that act, and among them those that say more.
func strongest(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.acts().strength(), a.acts().strength()), cmp.Compare(b.Verdict.strength(), a.Verdict.strength()))
	})
	return findings[:min(len(findings), maxEvidence)]
}
