package oracle

import (
	"fmt"
	"time"
)

// A Season is a stretch of days, as a catalog lists it.
type Season struct{ ID, Starts, Ends string }

// Window names one window of a board.
type Window struct{ Board, Cadence, ID string }

// Closed is the final order of every window of a board in which something happened, and the score behind each place. The window of an instant
// is what a calendar on a wall in the zone says: its date, the week of its date, the season of its date.
func Closed(events []Event, name, from, zone string, seasons []Season) (map[Window][]Entry, error) {
	place, err := time.LoadLocation(zone)
	if err != nil {
		return nil, err
	}
	standing := map[Window]map[string]entry{}
	for _, e := range events {
		if e.Type != "score_submitted" || e.Data["board"].(string) != from {
			continue
		}
		at := e.at().In(place)
		day := at.Format(time.DateOnly)
		year, week := at.ISOWeek()
		windows := []Window{{name, "daily", day}, {name, "weekly", fmt.Sprintf("%04d-W%02d", year, week)}}
		for _, s := range seasons {
			if day >= s.Starts && day < s.Ends {
				windows = append(windows, Window{name, "season", s.ID})
			}
		}
		for _, w := range windows {
			if standing[w] == nil {
				standing[w] = map[string]entry{}
			}
			old, known := standing[w][e.PlayerID]
			standing[w][e.PlayerID] = merge(from, old, known, entry{int64(e.Data["score"].(int)), at.UnixMilli(), e.ID})
		}
	}
	closed := map[Window][]Entry{}
	for w, players := range standing {
		var rows []Entry
		for player, e := range players {
			rows = append(rows, Entry{PlayerID: player, Score: e.score, AchievedAt: time.UnixMilli(e.at).UTC()})
		}
		closed[w] = InOrder(rows)
	}
	return closed, nil
}
