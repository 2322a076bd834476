package season

import (
	"fmt"
	"slices"
	"time"

	"liveops/core/catalog"
)

// Calendar computes the windows of one board. It is pure: the same catalog and zone rules give the same windows.
type Calendar struct {
	board   string
	zone    *time.Location
	seasons []Window
}

// NewCalendar reads the board's zone and the seasons in it. A zone or a season that cannot be read is an error.
func NewCalendar(name string, board catalog.Board, seasons []catalog.Season) (*Calendar, error) {
	zone, err := time.LoadLocation(board.Zone)
	if err != nil {
		return nil, fmt.Errorf("board %s: %w", name, err)
	}
	c := &Calendar{board: name, zone: zone}
	for _, s := range seasons {
		starts, err := s.ClockTime(s.Starts)
		if err != nil {
			return nil, fmt.Errorf("season %s: starts: %w", s.ID, err)
		}
		ends, err := s.ClockTime(s.Ends)
		if err != nil {
			return nil, fmt.Errorf("season %s: ends: %w", s.ID, err)
		}
		c.seasons = append(c.seasons, c.window(Season, s.ID, starts, ends))
	}
	slices.SortFunc(c.seasons, func(a, b Window) int { return a.Starts.Compare(b.Starts) })
	return c, nil
}

// At is the window of a cadence that contains an instant; false for an unknown cadence and between seasons. The window
// after w is At(w.Cadence, w.Ends).
func (c *Calendar) At(cadence string, at time.Time) (Window, bool) {
	switch cadence {
	case Daily:
		return c.cut(at, 1, func(first time.Time) Window {
			return c.window(Daily, first.Format(time.DateOnly), first, first.AddDate(0, 0, 1))
		}), true
	case Weekly:
		return c.cut(at, 7, func(first time.Time) Window {
			year, week := first.ISOWeek()
			return c.window(Weekly, fmt.Sprintf("%04d-W%02d", year, week), first, first.AddDate(0, 0, 7))
		}), true
	case Season:
		for _, w := range c.seasons {
			if w.Contains(at) {
				return w, true
			}
		}
	case AllTime:
		return Window{Board: c.board, ID: AllTime, Cadence: AllTime, Starts: time.UnixMilli(0).UTC(), State: Open}, true
	}
	return Window{}, false
}

// Seasons lists every season, in order.
func (c *Calendar) Seasons() []Window { return slices.Clone(c.seasons) }

// cut finds the window of so many days that contains an instant. The local date is only a first guess: where clocks were
// set back across midnight the date before shows twice, and where a zone crossed the date line a day is missing and its
// window empty.
func (c *Calendar) cut(at time.Time, days int, window func(first time.Time) Window) Window {
	year, month, day := at.In(c.zone).Date()
	first := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	if days == 7 {
		first = first.AddDate(0, 0, -int(first.Weekday()+6)%7)
	}
	w := window(first)
	for !at.Before(w.Ends) {
		first = first.AddDate(0, 0, days)
		w = window(first)
	}
	for at.Before(w.Starts) {
		first = first.AddDate(0, 0, -days)
		w = window(first)
	}
	return w
}

// window spans two wall times, written as if they were UTC.
func (c *Calendar) window(cadence, id string, starts, ends time.Time) Window {
	return Window{Board: c.board, ID: id, Cadence: cadence, Starts: instant(starts, c.zone), Ends: instant(ends, c.zone), State: Open}
}

// instant is the first instant at which the clocks of a zone show the wall time or a later one. Where clocks jump over it,
// that is the moment of the jump; where they show it twice, the first. time.Date promises neither.
func instant(wall time.Time, zone *time.Location) time.Time {
	at := wall.Add(-48 * time.Hour).In(zone) // before it in any zone
	for {
		_, offset := at.Zone()
		shows := wall.Add(-time.Duration(offset) * time.Second)
		_, next := at.ZoneBounds()
		if !next.IsZero() && !next.After(at) {
			// Beyond the zone's table of changes ZoneBounds lets every year end after 365 days, which on the last day of a leap
			// year has passed already. No zone changes on that day; it is walked through by the hour.
			next = at.Add(time.Hour)
		}
		if next.IsZero() || shows.Before(next) {
			if shows.Before(at) {
				return at.UTC()
			}
			return shows.UTC()
		}
		at = next
	}
}
