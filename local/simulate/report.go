package simulate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"liveops/core/catalog"
	"liveops/core/fairness"
)

// Report compares a candidate with the current policy.
type Report struct {
	Events    int            `json:"events"`
	Players   int            `json:"players"`
	From      time.Time      `json:"from"` // when the first event was received, and the last
	To        time.Time      `json:"to"`
	Cheats    map[string]int `json:"cheats,omitzero"` // players by label; nil without labels
	Current   Outcome        `json:"current"`
	Candidate Outcome        `json:"candidate"`
	Rules     []Rule         `json:"rules"` // by name
	Curves    []Curve        `json:"curves,omitzero"`
}

// Outcome is what a policy came to.
type Outcome struct {
	Policy    string `json:"policy"`
	Catalog   string `json:"catalog"`
	Version   int    `json:"version"`
	Allowed   Count  `json:"allowed"`
	Flagged   Count  `json:"flagged"`
	Shadowed  Count  `json:"shadowed"`
	Throttled Count  `json:"throttled"`
	Denied    Count  `json:"denied"`
	Refused   Count  `json:"refused"` // while the player was blocked, at the gate
	Blocks    Count  `json:"blocks"`  // how many began
	Cases     Count  `json:"cases"`   // how many opened
	Score     *Score `json:"score,omitzero"`
}

// Count is events, or blocks or cases, and the players they concern.
type Count struct {
	Events  int `json:"events"`
	Players int `json:"players"`
}

// Rule is what a rule found under both policies.
type Rule struct {
	Rule      string      `json:"rule"`
	Current   RuleOutcome `json:"current"`
	Candidate RuleOutcome `json:"candidate"`
	// Whom it does something to under the candidate only, and under the current policy only, by player id.
	New      []string  `json:"new"`
	Gone     []string  `json:"gone"`
	Examples []Example `json:"examples"` // the furthest from the limit: of those new, those gone, or else of those who stay
}

// RuleOutcome is what a rule found under one policy. An event counts for every rule that found something, whichever decided.
type RuleOutcome struct {
	Mode      string  `json:"mode"`
	Verdict   string  `json:"verdict"`
	Limit     float64 `json:"limit,omitzero"` // of a statistic,
	After     int     `json:"after,omitzero"` // and how much must be known before it judges
	Denied    int     `json:"denied"`
	Throttled int     `json:"throttled"`
	Flagged   int     `json:"flagged"`
	Shadowed  int     `json:"shadowed"`
	Noted     int     `json:"noted"`   // found in mode shadow, which does nothing
	Players   int     `json:"players"` // whom it did something to
	Watched   int     `json:"watched"` // whom it noted
	Score     *Score  `json:"score,omitzero"`
}

// Example is one finding and why it is shown.
type Example struct {
	Change   string           `json:"change"` // new, gone or same
	PlayerID string           `json:"player_id"`
	EventID  string           `json:"event_id"`
	Label    string           `json:"label,omitzero"`
	Finding  fairness.Finding `json:"finding"`
}

// Score compares whom a rule, or all of them together, found in either mode with the labels. A share of nobody is nil.
type Score struct {
	Cheats        int                 `json:"cheats"`         // cheats who were found,
	Clean         int                 `json:"clean"`          // and others
	Precision     *float64            `json:"precision"`      // cheats among those found
	Recall        *float64            `json:"recall"`         // found among the cheats
	FalsePositive *float64            `json:"false_positive"` // found among the others
	Kinds         map[string]*float64 `json:"kinds"`          // found among the cheats with a label
}

func share(part, of int) *float64 {
	if of == 0 {
		return nil
	}
	s := float64(part) / float64(of)
	return &s
}

func (r *run) report() *Report {
	report := &Report{
		Events: r.events, Players: len(r.players), From: r.from, To: r.to,
		Current: r.outcome(r.current), Candidate: r.outcome(r.candidate),
	}
	if r.Labels != nil {
		report.Cheats = map[string]int{}
		for player, label := range r.Labels {
			if r.players[player] {
				report.Cheats[label]++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(catalog.Rules())) {
		report.Rules = append(report.Rules, r.rule(name))
	}
	if r.probe != nil {
		report.Curves = r.probe.curves(r)
	}
	return report
}

func (r *run) outcome(s *side) Outcome {
	of := func(v fairness.Verdict) Count { return counted(s.verdicts, v).sum() }
	found := map[string]bool{}
	for _, f := range s.rules {
		for player := range f.worst {
			found[player] = true
		}
	}
	return Outcome{
		Policy: s.Name, Catalog: s.Game.Name, Version: s.Game.Version,
		Allowed: of(fairness.Allow), Flagged: of(fairness.Flag), Shadowed: of(fairness.Shadow), Throttled: of(fairness.Throttle),
		Denied: of(fairness.Deny), Refused: s.refused.sum(), Blocks: s.blocks.sum(), Cases: s.cases.sum(),
		Score: score(r, found),
	}
}

func (r *run) rule(name string) Rule {
	current, candidate := r.current.found(name), r.candidate.found(name)
	rule := Rule{
		Rule: name, Current: ruleOutcome(r, r.current, name), Candidate: ruleOutcome(r, r.candidate, name),
		New: without(candidate.acts, current.acts), Gone: without(current.acts, candidate.acts),
		Examples: []Example{},
	}
	show := func(change string, from *findings, players []string) {
		slices.SortFunc(players, func(a, b string) int {
			return cmp.Or(cmp.Compare(excess(from.worst[b].Finding), excess(from.worst[a].Finding)), cmp.Compare(a, b))
		})
		for _, player := range players[:min(len(players), r.Examples)] {
			worst := from.worst[player]
			rule.Examples = append(rule.Examples, Example{change, player, worst.event, r.Labels[player], worst.Finding})
		}
	}
	show("new", candidate, slices.Clone(rule.New))
	show("gone", current, slices.Clone(rule.Gone))
	if len(rule.Examples) == 0 {
		show("same", candidate, slices.Collect(maps.Keys(candidate.worst)))
	}
	return rule
}

func (t *tally) found(rule string) *findings {
	if f := t.rules[rule]; f != nil {
		return f
	}
	return &findings{}
}

// without is the players of one count who are not in the other, sorted.
func without(these, those count) []string {
	players := []string{}
	for _, player := range slices.Sorted(maps.Keys(these.players)) {
		if those.players[player] == 0 {
			players = append(players, player)
		}
	}
	return players
}

func ruleOutcome(r *run, s *side, name string) RuleOutcome {
	f, policy := s.found(name), s.Game.Fairness.Rules[name]
	events := func(v fairness.Verdict) int {
		if c := f.verdicts[v]; c != nil {
			return c.events
		}
		return 0
	}
	return RuleOutcome{
		Mode: policy.Mode, Verdict: policy.Verdict, Limit: policy.Limit, After: policy.After,
		Denied: events(fairness.Deny), Throttled: events(fairness.Throttle), Flagged: events(fairness.Flag), Shadowed: events(fairness.Shadow),
		Noted: f.noted.events, Players: len(f.acts.players), Watched: len(f.noted.players),
		Score: score(r, f.worst),
	}
}

// score is nil without labels.
func score[V any](r *run, found map[string]V) *Score {
	if r.Labels == nil {
		return nil
	}
	all, caught := map[string]int{}, map[string]int{}
	cheats := 0
	s := Score{Kinds: map[string]*float64{}}
	for player := range r.players {
		label, cheat := r.Labels[player]
		_, hit := found[player]
		if cheat {
			cheats++
			all[label]++
		}
		switch {
		case hit && cheat:
			s.Cheats++
			caught[label]++
		case hit:
			s.Clean++
		}
	}
	for label, n := range all {
		s.Kinds[label] = share(caught[label], n)
	}
	s.Precision, s.Recall = share(s.Cheats, s.Cheats+s.Clean), share(s.Cheats, cheats)
	s.FalsePositive = share(s.Clean, len(r.players)-cheats)
	return &s
}
