package fairness

import (
	"slices"
	"strings"

	"liveops/core/fault"
)

// impossibleValue compares each value of an event with what an honest game can send: the bounds and enumerations of its
// fields, and the bounds of the board a score is for. What the catalog does not know, or what has another form than it asks
// for, is not this rule's business.
func impossibleValue() rule {
	return rule{code: fault.ImpossibleValue, version: 1, judge: func(v *view) (found []Finding) {
		bounds := func(field string, least, most *int64) {
			n, ok := v.Int(field)
			switch {
			case !ok:
			case least != nil && n < *least:
				found = append(found, Finding{Measure: "/data/" + field, Limit: float64(*least), Observed: float64(n)})
			case most != nil && n > *most:
				found = append(found, Finding{Measure: "/data/" + field, Limit: float64(*most), Observed: float64(n)})
			}
		}
		for name, field := range v.game.Events[v.Type].Fields {
			bounds(name, field.Min, field.Max)
			if text, ok := v.Text(name); ok && len(field.Enum) > 0 && !slices.Contains(field.Enum, text) {
				found = append(found, Finding{Measure: "/data/" + name, Text: strings.ToValidUTF8(text[:min(len(text), 64)], "")})
			}
		}
		if v.board {
			board := v.game.Boards[v.name]
			bounds("score", board.Min, board.Max)
		}
		slices.SortStableFunc(found, func(a, b Finding) int { return strings.Compare(a.Measure, b.Measure) })
		return found
	}}
}
