package pipeline

import (
	"context"
	"errors"
	"log/slog"

	"liveops/core/catalog"
	"liveops/core/leaderboard"
	"liveops/core/season"
	"liveops/core/store"
)

// Archive closes the windows that ended and keeps their final standings.
type Archive struct {
	Catalog func() *catalog.Catalog
	Windows *season.Windows
	Ranking *leaderboard.Ranking
	Metrics *Metrics
}

// Sweep handles one tick of the timer: it lays out the windows ahead and takes every window that is due one or more steps
// on. A tick that is missed, doubled or cut costs delay and nothing else.
func (a *Archive) Sweep(ctx context.Context) (Outcome, error) {
	added, err := a.Windows.Materialise(ctx, a.Catalog())
	if err != nil {
		return nil, err
	}
	report, err := a.Windows.Sweep(ctx)
	a.Metrics.WindowCloses.Add(float64(report.Closed + report.Frozen + report.Archived))
	a.Metrics.WindowFailures.Add(float64(report.Failed))
	for _, w := range report.Done {
		// From here on the archive answers. A projection that stays because this fails is only memory.
		err = errors.Join(err, a.Ranking.Drop(ctx, w.Board, w.ID))
	}
	return Outcome{
		slog.Int("windows_added", added), slog.Int("windows_closed", report.Closed),
		slog.Int("windows_frozen", report.Frozen), slog.Int("windows_archived", report.Archived), slog.Int("windows_failed", report.Failed),
	}, err
}

// Standings gives the archive a window's entries in ranking order, each with its ranks.
type Standings struct {
	Entries leaderboard.Entries
}

// EachStanding streams the final standings of a window from SQL.
func (s Standings) EachStanding(ctx context.Context, q store.Queries, board, window string, each func(season.Standing) error) error {
	var rank, tied, last int64
	return s.Entries.Each(ctx, q, board, window, func(row leaderboard.Row) error {
		rank++
		if rank == 1 || row.Score != last {
			tied, last = rank, row.Score
		}
		return each(season.Standing{
			Rank: rank, TiedRank: tied, Player: row.Player, Score: row.Score, AchievedAt: row.AchievedAt, EventID: row.EventID,
		})
	})
}
