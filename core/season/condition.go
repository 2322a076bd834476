package season

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Condition is how the windows of all boards stand.
type Condition struct {
	Windows    map[State]int // how many are in each state, those made ahead among them; every state is in it
	Overdue    time.Duration // how long ago the most overdue step was due, of those that end with the rewards; 0: none is due
	SeasonEnds time.Time     // the soonest end of a season that runs; zero: none runs
}

// Condition reads how the windows stand now. What is due and not done is what a sweep failed at, or did not get to. A purge is
// never overdue: nobody waits for it.
func (w *Windows) Condition(ctx context.Context) (Condition, error) {
	now := w.Now()
	c := Condition{Windows: map[State]int{}}
	for _, s := range States() {
		c.Windows[s] = 0
	}
	first := map[State]time.Time{} // of the windows in a state, the end that came first
	query := `SELECT state, COUNT(*), MIN(ends_at), MIN(CASE WHEN cadence = ? AND starts_at <= ? AND ends_at > ? THEN ends_at END)
		FROM board_window GROUP BY state`
	err := w.DB.Each(ctx, query, []any{Season, now.UnixMilli(), now.UnixMilli()}, func(scan func(...any) error) error {
		var state State
		var count int
		var ends, season sql.NullInt64
		if err := scan(&state, &count, &ends, &season); err != nil {
			return err
		}
		c.Windows[state] = count
		if ends.Valid {
			first[state] = moment(ends)
		}
		if at := moment(season); season.Valid && (c.SeasonEnds.IsZero() || at.Before(c.SeasonEnds)) {
			c.SeasonEnds = at
		}
		return nil
	})
	if err != nil {
		return Condition{}, fmt.Errorf("read the condition of the windows: %w", err)
	}
	after := time.Duration(0)
	for _, s := range w.steps(&Report{}) {
		ends, has := first[s.from]
		after = max(after, s.after) // no step comes before the one before it
		if has && s.to != Purged {
			c.Overdue = max(c.Overdue, now.Sub(ends.Add(after)))
		}
	}
	return c, nil
}
