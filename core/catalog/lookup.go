package catalog

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"
)

// Level is the level of a player with this much XP, from 1 to the last of the table. XP past the last level keeps it.
func (c Curve) Level(xp int64) int {
	return max(1, sort.Search(len(c.Table), func(i int) bool { return c.Table[i] > xp }))
}

// Next is the XP that reaches the level after this one; false at the last level.
func (c Curve) Next(level int) (int64, bool) {
	if level >= len(c.Table) {
		return 0, false
	}
	return c.Table[level], true
}

// Board finds a board by its name.
func (c *Catalog) Board(name string) (Board, bool) {
	board, known := c.Boards[name]
	return board, known
}

// Item finds an item by its name, or by its family: "eco-c00" is of the family "eco-*". The longest family wins.
func (c *Catalog) Item(name string) (Item, bool) {
	if item, ok := c.Items[name]; ok {
		return item, !strings.HasSuffix(name, "*")
	}
	if family := c.Family(name); family != "" {
		return c.Items[family+"*"], true
	}
	return Item{}, false
}

// Family gives what the names of an item's family begin with: "eco-" of "eco-c00", where there is a family "eco-*" and no longer one; empty for what is
// of none, as is an item that stands in the catalog by its own name.
func (c *Catalog) Family(name string) string {
	if _, own := c.Items[name]; own {
		return ""
	}
	for i := len(name); i > 0; i-- {
		if _, ok := c.Items[name[:i]+"*"]; ok {
			return name[:i]
		}
	}
	return ""
}

// Fed is the names of all boards that a score submitted to board counts in, sorted: itself and those with From = board. It
// is empty for a board nothing can be submitted to.
func (c *Catalog) Fed(board string) []string {
	if b, ok := c.Boards[board]; !ok || b.From != "" {
		return nil
	}
	fed := []string{board}
	for name, b := range c.Boards {
		if b.From == board {
			fed = append(fed, name)
		}
	}
	slices.Sort(fed)
	return fed
}

// ClockTime reads Starts or Ends: what the clocks of a zone show then, as if it were UTC.
func (Season) ClockTime(text string) (time.Time, error) { return clockTime(text) }

// ordered walks a map in order of its keys. The map may be changed on the way, for keys it has.
func ordered[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
