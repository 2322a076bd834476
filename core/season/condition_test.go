package season_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// refusing grants nothing.
type refusing struct{}

func (refusing) Grant(context.Context, season.Header, []season.Win) error {
	return errors.New("no rewards today")
}

func condition(t *testing.T, w *season.Windows) season.Condition {
	t.Helper()
	c, err := w.Condition(t.Context())
	require.NoError(t, err)
	return c
}

// in gives how many windows are in each state.
func in(open, closing, frozen, archived, rewarded, purged int) map[season.State]int {
	return map[season.State]int{
		season.Open: open, season.Closing: closing, season.Frozen: frozen, season.Archived: archived, season.Rewarded: rewarded, season.Purged: purged,
	}
}

func TestConditionOfNothing(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		require.Equal(t, season.Condition{Windows: in(0, 0, 0, 0, 0, 0)}, condition(t, windows(t, db, c, nil)))
	})
}

// A window of the day passes through every state, and each of its steps may be late.
func TestConditionOverdue(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		broken := errors.New("no standings today")
		w := windows(t, db, c, finals{Default: ranked(3), before: func(string, int64) error { return broken }})
		rewards := w.Rewards
		w.Rewards = refusing{}
		played := game(map[string]catalog.Board{
			"arena": {
				Zone: "UTC", Windows: []string{season.Daily, season.AllTime}, Retention: catalog.Duration(time.Hour),
				Rewards: map[string][]catalog.Tier{season.Daily: {{Rank: 1, XP: 100}}},
			},
		})
		w.Catalog = func() *catalog.Catalog { return played }
		materialise(t, w, played, 4)
		for _, step := range []struct {
			at      string
			sweep   func()
			windows map[season.State]int
			overdue time.Duration
		}{
			{"2022-11-22T12:00:00Z", nil, in(4, 0, 0, 0, 0, 0), 0},
			{"2022-11-23T00:00:00Z", nil, in(4, 0, 0, 0, 0, 0), 0},
			{"2022-11-23T00:00:30Z", nil, in(4, 0, 0, 0, 0, 0), 30 * time.Second},
			{"2022-11-23T00:00:30Z", func() {}, in(3, 1, 0, 0, 0, 0), 0},
			{"2022-11-23T00:10:01Z", nil, in(3, 1, 0, 0, 0, 0), time.Second},
			{"2022-11-23T00:12:00Z", func() {}, in(3, 0, 1, 0, 0, 0), 2 * time.Minute},
			{"2022-11-23T00:13:00Z", func() { broken = nil }, in(3, 0, 0, 1, 0, 0), 3 * time.Minute},
			{"2022-11-23T00:14:00Z", func() { w.Rewards = rewards }, in(3, 0, 0, 0, 1, 0), 0},
			{"2022-11-23T02:00:00Z", nil, in(3, 0, 0, 0, 1, 0), 0},
			{"2022-11-23T02:00:00Z", func() {}, in(3, 0, 0, 0, 0, 1), 0},
			{"2022-11-25T00:30:00Z", nil, in(3, 0, 0, 0, 0, 1), 24*time.Hour + 30*time.Minute},
			{"2022-11-25T00:30:00Z", func() {}, in(1, 0, 0, 0, 1, 2), 0},
		} {
			c.Set(t, step.at)
			if step.sweep != nil {
				step.sweep()
				_, _ = w.Sweep(t.Context()) // its failures are what the condition tells
			}
			require.Equal(t, season.Condition{Windows: step.windows, Overdue: step.overdue}, condition(t, w), step.at)
		}
	})
}

// The season that ends first counts, and an operator may have moved its end.
func TestConditionOfSeasons(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		c := &clock{}
		c.Set(t, "2022-11-22T12:00:00Z")
		w := windows(t, db, c, finals{Default: ranked(3)})
		seasons := []string{season.Season}
		materialise(t, w, game(map[string]catalog.Board{"rome": {Zone: "Europe/Rome", Windows: seasons}, "arena": {Zone: "UTC", Windows: seasons}},
			catalog.Season{ID: "s1", Starts: "2022-11-01", Ends: "2022-12-01"}, catalog.Season{ID: "s2", Starts: "2022-12-02", Ends: "2023-01-01"},
		), 4)
		for at, ends := range map[string]string{
			"2022-10-31T12:00:00Z": "", "2022-11-22T12:00:00Z": "2022-11-30T23:00:00Z", "2022-11-30T23:00:00Z": "2022-12-01T00:00:00Z",
			"2022-12-01T00:00:00Z": "", "2022-12-05T00:00:00Z": "2022-12-31T23:00:00Z", "2023-01-01T00:00:00Z": "",
		} {
			c.Set(t, at)
			var want time.Time
			if ends != "" {
				want = utc(t, ends)
			}
			require.Equal(t, want, condition(t, w).SeasonEnds, at)
		}
		c.Set(t, "2022-11-22T12:00:00Z")
		_, err := w.Extend(t.Context(), "rome", "s1", utc(t, "2022-12-01T12:00:00Z"), season.Order{Actor: "liz", Key: "k", Reason: "rain"})
		require.NoError(t, err)
		require.Equal(t, utc(t, "2022-12-01T00:00:00Z"), condition(t, w).SeasonEnds)
	})
}
