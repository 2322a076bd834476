package pipeline

import (
	"context"
	"fmt"
	"time"

	"liveops/core/session"
)

// Sessions revokes the keys of players' sessions: in SQL, which says what holds, and then at the gate, which keeps them out.
// Everything it does may be repeated and meet itself.
type Sessions struct {
	Generations *session.Generations
	Gate        interface {
		Revoke(ctx context.Context, generations map[string]int64) error
	}
	Now func() time.Time
}

// Revoke begins another generation of a player's keys, once for an order, and returns when no replica lets one of an earlier in.
// After an error it may be in force or come into force, at the next Sweep at the latest: repeat it.
func (s *Sessions) Revoke(ctx context.Context, player string, o session.Order) (session.Revocation, error) {
	done, err := s.Generations.Revoke(ctx, player, o)
	if err != nil {
		return session.Revocation{}, err
	}
	if err := s.Gate.Revoke(ctx, map[string]int64{player: done.Generation}); err != nil {
		return session.Revocation{}, fmt.Errorf("tell the gate of a revocation: %w", err)
	}
	return done, nil
}

// Sweep tells the gate again what was revoked while keys of before may be alive: a revocation may have been cut between SQL and the
// gate, and a Redis that was restored from an older copy knows an older generation.
func (s *Sessions) Sweep(ctx context.Context) error {
	recent, err := s.Generations.Since(ctx, s.Now().Add(-session.MaxLife-time.Hour)) // an hour for clocks that differ
	if err != nil {
		return err
	}
	const most = 500 // in one exchange
	chunk := map[string]int64{}
	for player, generation := range recent {
		if chunk[player] = generation; len(chunk) < most {
			continue
		}
		if err := s.Gate.Revoke(ctx, chunk); err != nil {
			return fmt.Errorf("tell the gate of revocations: %w", err)
		}
		clear(chunk)
	}
	return s.Gate.Revoke(ctx, chunk)
}
