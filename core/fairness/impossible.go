package fairness

import (
	"maps"
	"slices"

	"liveops/core/catalog"
	"liveops/core/event"
)

// impossibleValue limits each value of an event to what an honest game can send: the bounds and enumerations of its fields,
// and the bounds of the board a score is for. What the catalog does not know, or what has another form than it asks for, is
// not this rule's business.
func impossibleValue(e event.Accepted, c *catalog.Catalog) []limit {
	var broken []limit
	bounds := func(field string, least, most *int64) {
		n, ok := e.Int(field)
		switch {
		case !ok:
		case least != nil && n < *least:
			broken = append(broken, limit{by: byKnown, measure: "/data/" + field, limit: *least, observed: n})
		case most != nil && n > *most:
			broken = append(broken, limit{by: byKnown, measure: "/data/" + field, limit: *most, observed: n})
		}
	}
	fields := c.Events[e.Type].Fields
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		bounds(name, f.Min, f.Max)
		if text, ok := e.Text(name); ok && len(f.Enum) > 0 && !slices.Contains(f.Enum, text) {
			broken = append(broken, limit{by: byKnown, measure: "/data/" + name, text: text[:min(len(text), 64)]})
		}
	}
	if board, ok := scored(e, c); ok {
		bounds("score", board.Min, board.Max)
	}
	return broken
}

// scored is the board that a score is for.
func scored(e event.Accepted, c *catalog.Catalog) (catalog.Board, bool) {
	if e.Type != event.ScoreSubmitted {
		return catalog.Board{}, false
	}
	name, _ := e.Text("board")
	board, ok := c.Boards[name]
	return board, ok
}
