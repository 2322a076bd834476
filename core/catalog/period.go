package catalog

import (
	"fmt"
	"slices"
	"time"
)

// Ever is the period that has no end.
const Ever = "ever"

// Location is the zone in which the game's days and weeks begin. It takes a while: ask once for many events.
func (c *Catalog) Location() *time.Location {
	zone, err := time.LoadLocation(c.Zone)
	if err != nil { // Parse takes no such catalog
		return time.UTC
	}
	return zone
}

// Period names the day, the week, or the season that a time in the catalog's Location lies in, or Ever: "2026-11-25", "2026-W48", "s07". A
// season lasts until the next one begins; the time before the first has the name "".
func (c *Catalog) Period(of string, local time.Time) string {
	switch of {
	case "day":
		return local.Format(time.DateOnly)
	case "week":
		year, week := local.ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, week)
	case "season":
		id := ""
		for _, s := range c.Seasons {
			if starts, err := s.ClockTime(s.Starts); err == nil && !clock(local).Before(starts) {
				id = s.ID
			}
		}
		return id
	}
	return Ever
}

// Modified is the XP that an event of a type, at a time in the catalog's Location, brings instead of this many, and the modifier that makes
// it so, "" for none. XP lies between 0 and event.MaxInteger; what is returned is never below 0 and at most ten times as much, which may be more
// than event.MaxInteger.
func (c *Catalog) Modified(eventType string, local time.Time, xp int64) (int64, string) {
	percent, name := int64(100), ""
	for candidate, m := range ordered(c.Modifiers) {
		if m.applies(eventType, clock(local)) && (name == "" || m.Percent > percent) {
			percent, name = m.Percent, candidate
		}
	}
	return xp * percent / 100, name // xp × 1000 < 2^63
}

// applies says whether the modifier changes events of a type at a time that clocks in the catalog's zone show.
func (m Modifier) applies(eventType string, local time.Time) bool {
	starts, err := clockTime(m.Starts)
	if err != nil || local.Before(starts) {
		return false
	}
	ends, err := clockTime(m.Ends)
	if err != nil || !local.Before(ends) {
		return false
	}
	return len(m.Types) == 0 || slices.Contains(m.Types, eventType)
}

// clock is what clocks show at a local time, as if it were UTC.
func clock(local time.Time) time.Time {
	return time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), local.Second(), local.Nanosecond(), time.UTC)
}

// clockTime reads a time of the catalog as clocks show it.
func clockTime(text string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	return time.Parse("2006-01-02T15:04", text)
}
