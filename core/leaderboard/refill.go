package leaderboard

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"liveops/core/store"
)

//go:embed refill.lua
var refillLua string

var refillScript = redis.NewScript(projectionLua + refillLua)

// replenish sets a refill going, once for all who ask in this process.
func (r *Ranking) replenish(ctx context.Context, w window) {
	r.rebuilds.DoChan(w.tag()+" refill", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebuildTimeout)
		defer cancel()
		return nil, r.refill(ctx, w)
	})
}

// refill moves the floor of a window back until the zset holds what it may, some rows at a time, under the lease of a rebuild.
// Everybody reads and writes meanwhile, and it may stop anywhere.
//
// Each step sets a mark in Redis and then reads the rows behind the floor from SQL. What was committed by then is among the rows;
// what is projected from then on and would be trimmed is seen at the mark, and the floor does not move behind that.
func (r *Ranking) refill(ctx context.Context, w window) error {
	token := uuid.NewString()
	for {
		missing, err := r.refillStep(ctx, w, token)
		if err != nil {
			// The next one need not wait for the lease to run out.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = endScript.Run(ctx, r.Redis, w.keys(), w.form, token, "").Err() // err says more
			return fmt.Errorf("refill ranking: %w", err)
		}
		if !missing {
			return nil
		}
	}
}

// refillStep is false when there is nothing more to do here.
func (r *Ranking) refillStep(ctx context.Context, w window, token string) (bool, error) {
	reply, err := refillScript.Run(ctx, r.Redis, w.keys(), w.form, token, rebuildLease.Milliseconds(), w.size).StringSlice()
	if err != nil || len(reply) != 3 {
		return false, store.RedisError("read the floor", err)
	}
	floor, err := parseFloor(reply[0], reply[1])
	if err != nil {
		return false, err
	}
	missing, err := strconv.Atoi(reply[2])
	if err != nil {
		return false, fmt.Errorf("read the floor: %w", err)
	}
	rows, to, err := r.behind(ctx, w, *floor, min(missing, scriptRows))
	if err != nil {
		return false, err
	}
	hidden, err := r.visibilities(ctx, players(rows))
	if err != nil {
		return false, err
	}
	calls := []call{{window: w, args: w.rowArgs(token, &to, rows, hidden)}}
	if err := r.exchange(ctx, projectScript, calls); err != nil {
		return false, store.RedisError("project rows", err)
	}
	state, err := calls[0].reply.Int()
	return state != leaseLost, store.RedisError("project rows", err)
}

// behind reads the rows from the floor on, at most limit, and gives the place up to which these are all: that of the row after them.
func (r *Ranking) behind(ctx context.Context, w window, floor point, limit int) ([]Row, point, error) {
	var rows []Row
	err := r.Entries.following(ctx, r.DB.Queries, w.board, w.id, ">=", floor, limit+1, func(scan func(...any) error) error {
		row, err := scanRow(scan)
		rows = append(rows, row)
		return err
	})
	if err != nil || len(rows) <= limit {
		return rows, point{standing: behindAll}, err
	}
	return rows[:limit], rows[limit].point(w.order), nil
}

// behindAll is a standing that no score has.
const behindAll = 1 << 53

func (p point) member() string {
	if p.player == "" {
		return ""
	}
	return member(time.UnixMilli(p.achieved), p.player)
}

// parseFloor reads a place as scripts give it; nil where there is none.
func parseFloor(score, member string) (*point, error) {
	if score == "" {
		return nil, nil
	}
	value, err := strconv.ParseFloat(score, 64)
	if err != nil || member == "" {
		return &point{standing: int64(value)}, err
	}
	achieved, player, err := splitMember(member)
	return &point{int64(value), achieved.UnixMilli(), player}, err
}
