package catalog

import (
	"sort"
	"strings"
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

// Item finds an item by its name, or by its family: "eco-c00" is of the family "eco-*". The longest family wins.
func (c *Catalog) Item(name string) (Item, bool) {
	if item, ok := c.Items[name]; ok {
		return item, !strings.HasSuffix(name, "*")
	}
	for i := len(name); i > 0; i-- {
		if item, ok := c.Items[name[:i]+"*"]; ok {
			return item, true
		}
	}
	return Item{}, false
}
