package simulate

import (
	"math"

	"liveops/core/fairness"
)

// count counts events and the players they came from.
type count struct {
	events  int
	players map[string]int // events by player
}

func (c *count) add(player string) {
	if c.players == nil {
		c.players = map[string]int{}
	}
	c.events++
	c.players[player]++
}

func (c *count) sum() Count { return Count{Events: c.events, Players: len(c.players)} }

// tally is what became of the events.
type tally struct {
	verdicts               map[fairness.Verdict]*count
	refused, blocks, cases count
	rules                  map[string]*findings
}

// findings is what one rule found.
type findings struct {
	verdicts map[fairness.Verdict]*count // where the rule acts
	acts     count                       // all of them
	noted    count                       // where it is in mode shadow
	worst    map[string]sighting         // by player, in either mode
}

// sighting is a finding and the event it is about.
type sighting struct {
	fairness.Finding
	event string
}

func newTally() tally {
	return tally{verdicts: map[fairness.Verdict]*count{}, rules: map[string]*findings{}}
}

func (t *tally) decided(d fairness.Decision) {
	counted(t.verdicts, d.Verdict).add(d.PlayerID)
	for _, f := range d.Evidence {
		rule := t.rules[f.Rule]
		if rule == nil {
			rule = &findings{verdicts: map[fairness.Verdict]*count{}, worst: map[string]sighting{}}
			t.rules[f.Rule] = rule
		}
		if f.Mode == enforce {
			counted(rule.verdicts, f.Verdict).add(d.PlayerID)
			rule.acts.add(d.PlayerID)
		} else {
			rule.noted.add(d.PlayerID)
		}
		if known, seen := rule.worst[d.PlayerID]; !seen || excess(f) > excess(known.Finding) {
			rule.worst[d.PlayerID] = sighting{f, d.EventID}
		}
	}
}

// The modes of a rule, as catalogs write them.
const (
	enforce = "enforce"
	shadow  = "shadow"
	off     = "off"
)

func counted(by map[fairness.Verdict]*count, verdict fairness.Verdict) *count {
	if by[verdict] == nil {
		by[verdict] = &count{}
	}
	return by[verdict]
}

// excess orders findings of one rule by how far from the limit they are, in times the limit, whichever side of it is the wrong one.
func excess(f fairness.Finding) float64 {
	observed, limit := math.Abs(f.Observed), math.Abs(f.Limit)
	switch {
	case observed == limit:
		return 1
	case observed == 0 || limit == 0:
		return math.Inf(1)
	}
	return max(observed/limit, limit/observed)
}
