package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"liveops/local/simulate"
)

// printComparison prints a report for people: what stayed the same once, what changed as "then → now".
func printComparison(to *printer, r *simulate.Report) {
	to.printf("%d events of %d players, %s to %s\n", r.Events, r.Players, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	to.table(0, func(row func(string, ...any)) {
		row("current\t%s %d, %s", r.Current.Catalog, r.Current.Version, r.Current.Policy)
		row("candidate\t%s %d, %s", r.Candidate.Catalog, r.Candidate.Version, r.Candidate.Policy)
	})
	current, candidate := r.Current, r.Candidate
	to.printf("\n")
	to.table(tabwriter.AlignRight, func(row func(string, ...any)) {
		row("\tcurrent\tcandidate\tchange\tplayers\tcandidate\tchange\t")
		for _, line := range []struct {
			name string
			a, b simulate.Count
		}{
			{"allowed", current.Allowed, candidate.Allowed},
			{"flagged", current.Flagged, candidate.Flagged},
			{"shadowed", current.Shadowed, candidate.Shadowed},
			{"throttled", current.Throttled, candidate.Throttled},
			{"denied", current.Denied, candidate.Denied},
			{"refused while blocked", current.Refused, candidate.Refused},
			{"blocks", current.Blocks, candidate.Blocks},
			{"cases", current.Cases, candidate.Cases},
		} {
			row("%s\t%d\t%d\t%s\t%d\t%d\t%s\t", line.name, line.a.Events, line.b.Events, change(line.a.Events, line.b.Events),
				line.a.Players, line.b.Players, change(line.a.Players, line.b.Players))
		}
	})
	to.printf("\n")
	to.table(0, func(row func(string, ...any)) {
		row("rule\tmode\tlimit\tdenied\tthrottled\tflagged\tshadowed\tnoted\tplayers\tnew\tgone")
		for _, rule := range r.Rules {
			a, b := rule.Current, rule.Candidate
			row("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d", rule.Rule, both(a.Mode, b.Mode), both(number(a.Limit), number(b.Limit)),
				both(a.Denied, b.Denied), both(a.Throttled, b.Throttled), both(a.Flagged, b.Flagged), both(a.Shadowed, b.Shadowed),
				both(a.Noted, b.Noted), both(a.Players, b.Players), len(rule.New), len(rule.Gone))
		}
	})
	if r.Cheats != nil {
		printScores(to, r)
	}
	printExamples(to, r)
}

// printScores prints how what was found compares with the labels, in players.
func printScores(to *printer, r *simulate.Report) {
	kinds := slices.Sorted(maps.Keys(r.Cheats))
	list := []string{"no cheats"}
	for i, kind := range kinds {
		list = append(list[:min(i, len(list))], fmt.Sprintf("%d %s", r.Cheats[kind], kind))
	}
	to.printf("\nlabels: %s\n", strings.Join(list, ", "))
	to.table(0, func(row func(string, ...any)) {
		row("found by\tprecision\trecall\tfalse positive%s", strings.Join(append([]string{""}, kinds...), "\t"))
		line := func(name string, a, b *simulate.Score) {
			cells := []string{both(percent(a.Precision), percent(b.Precision)), both(percent(a.Recall), percent(b.Recall)), both(percent(a.FalsePositive), percent(b.FalsePositive))}
			for _, kind := range kinds {
				cells = append(cells, both(percent(a.Kinds[kind]), percent(b.Kinds[kind])))
			}
			row("%s\t%s", name, strings.Join(cells, "\t"))
		}
		for _, rule := range r.Rules {
			line(rule.Rule, rule.Current.Score, rule.Candidate.Score)
		}
		line("any", r.Current.Score, r.Candidate.Score)
	})
}

// printExamples prints the evidence of the worst of each rule.
func printExamples(to *printer, r *simulate.Report) {
	shown := false
	to.table(0, func(row func(string, ...any)) {
		for _, rule := range r.Rules {
			for _, e := range rule.Examples {
				if !shown {
					row("\nexample\tof\tplayer\tevent\tverdict\tmeasure\tobserved\tlimit\twindow\tbaseline\tlabel\t")
					shown = true
				}
				f := e.Finding
				window := "-"
				if f.Window > 0 {
					window = (time.Duration(f.Window) * time.Millisecond).Round(time.Second).String()
				}
				row("%s\t%s\t%s\t%s\t%s, %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", e.Change, rule.Rule, e.PlayerID, e.EventID, f.Verdict, f.Mode, f.Measure,
					number(f.Observed), number(f.Limit), window, number(float64(f.Baseline)), orDash(e.Label), f.Text)
			}
		}
	})
}

// both is the two values, or the one when they are the same.
func both[T comparable](current, candidate T) string {
	if current == candidate {
		return fmt.Sprint(current)
	}
	return fmt.Sprintf("%v → %v", current, candidate)
}

func change(current, candidate int) string {
	if current == candidate {
		return ""
	}
	return fmt.Sprintf("%+d", candidate-current)
}

func number(n float64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func percent(share *float64) string {
	if share == nil {
		return "-"
	}
	return strconv.FormatFloat(100**share, 'f', 1, 64) + " %"
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
