package simulate

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

// Curve is what other limits of a statistic would give, all else as the candidate has it.
type Curve struct {
	Rule      string  `json:"rule"`
	Current   float64 `json:"current"` // the limits of the two policies; 0 where the rule is off
	Candidate float64 `json:"candidate"`
	Points    []Point `json:"points"` // by limit
}

// Point is the share of players that a limit finds.
type Point struct {
	Limit  float64  `json:"limit"`
	Found  float64  `json:"found"`           // of all players
	Cheats *float64 `json:"cheats,omitzero"` // of the cheats; nil without labels
	Clean  *float64 `json:"clean,omitzero"`  // of the others
}

// probe measures the statistics themselves. Its judge has limits so lax that every measurement is a finding, and rules that do
// nothing, so that one run tells what any limit would find: whoever was measured beyond it once. The statistics are the same as with
// the candidate's limits, because flags change none.
type probe struct {
	judges  Judge
	scans   map[string]scan     // by rule
	extreme map[string]extremes // by rule
}

// scan is the limits to look at.
type scan struct {
	least, most        float64
	current, candidate float64
	below              bool // what is below the limit is found, not what is above
}

// extremes is the furthest that was measured of each player.
type extremes map[string]float64

// pointsOf is how many limits are looked at.
const pointsOf = 61

func (r *run) newProbe(current, candidate *catalog.Catalog) *probe {
	p := &probe{scans: map[string]scan{}, extreme: map[string]extremes{}}
	game := *candidate
	game.Fairness.Rules = maps.Clone(candidate.Fairness.Rules)
	for name, rule := range game.Fairness.Rules {
		if rule.Limit == 0 {
			continue // a hard rule
		}
		limits := []float64{rule.Limit, cmp.Or(current.Fairness.Rules[name].Limit, rule.Limit)}
		s := scan{
			least: slices.Min(limits) / 4, most: slices.Max(limits) * 4, below: name == string(fault.RegularTiming),
			current: inForce(current.Fairness.Rules[name]), candidate: inForce(rule),
		}
		p.scans[name], p.extreme[name] = s, extremes{}
		rule.Mode, rule.Limit = shadow, s.least/2
		if s.below {
			rule.Limit = s.most * 2
		}
		game.Fairness.Rules[name] = rule
	}
	p.judges = r.judge(&game)
	return p
}

func inForce(rule catalog.Rule) float64 {
	if rule.Mode == off {
		return 0
	}
	return rule.Limit
}

func (p *probe) judge(ctx context.Context, events []event.Accepted) error {
	decisions, err := p.judges.Judge(ctx, events)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		for _, f := range d.Evidence {
			s, statistic := p.scans[f.Rule]
			if !statistic {
				continue
			}
			observed := f.Observed
			if f.Measure == "beyond_9999_of_10000" { // found where the statistic cannot be had, whatever its limit
				observed = math.Inf(1)
			}
			before, known := p.extreme[f.Rule][d.PlayerID]
			if !known || s.below == (observed < before) {
				p.extreme[f.Rule][d.PlayerID] = observed
			}
		}
	}
	return nil
}

func (p *probe) curves(r *run) []Curve {
	var curves []Curve
	for _, name := range slices.Sorted(maps.Keys(p.scans)) {
		s := p.scans[name]
		curve := Curve{Rule: name, Current: s.current, Candidate: s.candidate}
		for i := range pointsOf {
			// The ladder writes what it observed to a thousandth; between two of them a limit parts the players as if it had not.
			limit := math.Floor(1000*s.least*math.Pow(s.most/s.least, float64(i)/(pointsOf-1)))/1000 + .0005
			found := map[string]bool{}
			for player, extreme := range p.extreme[name] {
				if s.below == (extreme < limit) {
					found[player] = true
				}
			}
			point := Point{Limit: limit}
			if len(r.players) > 0 {
				point.Found = float64(len(found)) / float64(len(r.players))
			}
			if score := score(r, found); score != nil {
				point.Cheats, point.Clean = score.Recall, score.FalsePositive
			}
			curve.Points = append(curve.Points, point)
		}
		curves = append(curves, curve)
	}
	return curves
}
