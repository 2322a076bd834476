package leaderboard

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"liveops/core/fault"
)

// MaxLookup is the most players that are looked up at a time.
const MaxLookup = 100

//go:embed lookup.lua
var lookupLua string

//go:embed rank.lua
var rankLua string

var (
	lookupScript = redis.NewScript(projectionLua + viewLua + lookupLua)
	rankScript   = redis.NewScript(projectionLua + viewLua + rankLua)
)

// Lookup gives the rows of some players, at most MaxLookup, in ranking order, and the number of rows that the viewer sees in the
// whole window. Players who are absent, or hidden and not the viewer, are missing; one who is named twice is there once.
// q's limit and cursor are not used. More players are fault.RequestInvalid.
func (r *Ranking) Lookup(ctx context.Context, q Query, players []string) ([]Ranked, int64, error) {
	w, err := r.window(q.Board, q.Window)
	if err != nil {
		return nil, 0, err
	}
	if len(players) > MaxLookup {
		return nil, 0, fault.RequestInvalid.Errorf("at most %d players are looked up at a time", MaxLookup)
	}
	players = slices.Compact(slices.Sorted(slices.Values(players)))
	got, err := r.answer(ctx, func(ctx context.Context) (stretch, error) {
		return r.lookupRedis(ctx, w, q.Viewer, players)
	}, func() (stretch, error) {
		return w.lookupSQL(ctx, r.DB, q.Viewer, players)
	})
	return got.rows, got.count, err
}

func (r *Ranking) lookupRedis(ctx context.Context, w window, viewer string, players []string) (stretch, error) {
	args := []any{w.form, viewer}
	for _, player := range players {
		args = append(args, player)
	}
	reply, err := r.ask(ctx, w, lookupScript, args...)
	if err != nil {
		return stretch{}, err
	}
	var got stretch
	got.count, _ = reply[0].(int64)
	for values := range slices.Chunk(reply[2:], 5) {
		if len(values) < 5 {
			return stretch{}, fmt.Errorf("look up players: unexpected reply of %d values", len(reply))
		}
		row, err := w.row(values[2:])
		if err != nil {
			return stretch{}, err
		}
		before, _ := values[0].(int64)
		better, _ := values[1].(int64)
		row.Rank, row.TiedRank = before+1, better+1
		got.rows = append(got.rows, row)
	}
	slices.SortFunc(got.rows, func(a, b Ranked) int { return cmp.Compare(a.Rank, b.Rank) })
	return got, nil
}

// RankOf gives the ranks that a score would have if a new player reached it now: behind everybody who has it already. It also gives the
// number of rows that the viewer sees. Nothing else of the row is set but the score. q's limit and cursor are not used; a score beyond
// what one can be is read as the last one that can.
func (r *Ranking) RankOf(ctx context.Context, q Query, score int64) (Ranked, int64, error) {
	w, err := r.window(q.Board, q.Window)
	if err != nil {
		return Ranked{}, 0, err
	}
	score = bounded(score)
	got, err := r.answer(ctx, func(ctx context.Context) (stretch, error) {
		reply, err := r.ask(ctx, w, rankScript, w.form, q.Viewer, standing(w.order, score))
		if err != nil {
			return stretch{}, err
		}
		got, better, err := head(reply)
		got.rows = []Ranked{{Rank: got.first + 1, TiedRank: better + 1, Score: score}}
		return got, err
	}, func() (stretch, error) {
		return w.rankSQL(ctx, r.DB, q.Viewer, score)
	})
	if err != nil {
		return Ranked{}, 0, err
	}
	return got.rows[0], got.count, nil
}

// Percentile is the share of count entries, in percent, that a rank is at or above: (count − rank + 1) / count, rounded down to two decimals.
// The first of any number has 100, the last of a hundred has 1. A rank behind them all has 0, and so has every rank of no entries.
// count ≤ 10^14.
func Percentile(rank, count int64) float64 {
	if rank < 1 || rank > count {
		return 0
	}
	return float64((count-rank+1)*10_000/count) / 100
}
