package season

import (
	"context"
	"fmt"

	"liveops/core/catalog"
	"liveops/core/store"
)

// Win is a place in an archived window that a tier of the board reaches.
type Win struct {
	Standing
	Tier       catalog.Tier
	TierNumber int // its place among the tiers of the window, from 1
}

// Rewards gives winners what their tiers bring.
type Rewards interface {
	// Grant grants each of the wins once, however often and by however many at once it is called for them, and returns when
	// that is certain. It is called for some of a window's winners at a time, in order of rank, and after an error or a crash
	// again from the first one on. The header and its tiers are the same every time.
	Grant(ctx context.Context, h Header, wins []Win) error
}

// reward grants what an archived window brings and then lets its entries go, which nobody reads any more.
func (w *Windows) reward(ctx context.Context, l *lease) (func(tx *store.Tx) error, error) {
	h, err := w.Archive(ctx, l.Board, l.ID)
	if err != nil {
		return nil, err
	}
	for granted := int64(0); ; {
		wins, err := w.wins(ctx, h, granted)
		if err != nil {
			return nil, err
		}
		if len(wins) == 0 {
			break
		}
		if err := l.prolong(ctx); err != nil {
			return nil, err
		}
		if err := w.Rewards.Grant(ctx, h, wins); err != nil {
			return nil, fmt.Errorf("grant rewards from rank %d on: %w", wins[0].Rank, err)
		}
		granted = wins[len(wins)-1].Rank
	}
	for left := true; left; {
		if err := l.prolong(ctx); err != nil {
			return nil, err
		}
		if left, err = w.Standings.Forget(ctx, l.Board, l.ID); err != nil {
			return nil, fmt.Errorf("forget entries: %w", err)
		}
	}
	return nil, nil
}

// wins gives the next winners after a rank, at most a chunk; none when that was the last one. Below a place that no tier
// reaches there is none that one does.
func (w *Windows) wins(ctx context.Context, h Header, after int64) ([]Win, error) {
	if _, ok := h.tier(after + 1); !ok {
		return nil, nil
	}
	page, err := w.Page(ctx, h.Board, h.ID, after, int(w.chunk()))
	if err != nil {
		return nil, err
	}
	var wins []Win
	for _, s := range page {
		number, ok := h.tier(s.Rank)
		if !ok {
			break
		}
		wins = append(wins, Win{Standing: s, Tier: h.Tiers[number-1], TierNumber: number})
	}
	return wins, nil
}

// tier is the number of the first tier that reaches a rank, from 1.
func (h Header) tier(rank int64) (int, bool) {
	for i, tier := range h.Tiers {
		if rank <= h.Entries && tier.Reaches(rank, h.Entries) {
			return i + 1, true
		}
	}
	return 0, false
}
