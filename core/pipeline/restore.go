package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"liveops/core/catalog"
	"liveops/core/leaderboard"
	"liveops/core/season"
)

// Restore brings back what Redis lost and SQL knows: the rankings of the windows that are read from it, and whom the gate keeps
// out. What else Redis holds is lost with it and harmless: answers to idempotent requests, of which a repeat is
// accepted again and applied once, and what fairness remembers of the last hour.
type Restore struct {
	Catalog   func() *catalog.Catalog
	Windows   *season.Windows
	Ranking   *leaderboard.Ranking
	Sanctions interface {
		Restore(ctx context.Context) error
		Sweep(ctx context.Context) error
	}
	Sessions interface { // nil: there are none
		Sweep(ctx context.Context) error
	}
	Now func() time.Time
	Log *slog.Logger

	epoch atomic.Int64 // the one that was restored
}

// Run restores everything if Redis is in another epoch than at the last run that succeeded, and returns when it is there. Every
// process does so, and they share the work: what one has rebuilt is complete for the others. Every run hides whom a sanction
// hides, shows whom none hides any more, and keeps the keys of sessions out that were revoked lately.
func (r *Restore) Run(ctx context.Context) error {
	err := r.rebuild(ctx)
	if failed := r.Sanctions.Sweep(ctx); failed != nil { // whatever became of the rest
		err = errors.Join(err, fmt.Errorf("sweep sanctions: %w", failed))
	}
	if r.Sessions != nil {
		if failed := r.Sessions.Sweep(ctx); failed != nil {
			err = errors.Join(err, fmt.Errorf("sweep sessions: %w", failed))
		}
	}
	return err
}

func (r *Restore) rebuild(ctx context.Context) error {
	epoch, err := r.Ranking.Epoch(ctx)
	if err != nil {
		return err
	}
	if epoch == r.epoch.Load() {
		return nil
	}
	now, began := r.Now(), time.Now()
	if err := r.Sanctions.Restore(ctx); err != nil {
		return fmt.Errorf("restore sanctions: %w", err)
	}
	served, err := r.Windows.Served(ctx, now)
	if err != nil {
		return err
	}
	boards, complete := r.Catalog().Boards, 0
	for _, w := range served {
		if _, known := boards[w.Board]; !known {
			continue
		}
		if err := r.Ranking.Complete(ctx, w.Board, w.ID); err != nil {
			return fmt.Errorf("restore window %s of board %s: %w", w.ID, w.Board, err)
		}
		complete++
	}
	r.epoch.Store(epoch)
	r.Log.Info("rankings and sanctions are in Redis", slog.Int64("epoch", epoch), slog.Int("windows", complete),
		slog.Duration("took", time.Since(began)))
	return nil
}
