package leaderboard

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"liveops/core/store"
)

//go:embed epoch.lua
var epochLua string

var epochScript = redis.NewScript(epochLua)

const epochKey = "rank:epoch"

// Epoch gives the number of the epoch that Redis is in. A new one, with a greater number, begins when Redis has lost
// everything or when a server that never held the epoch answers: it was started again, perhaps from an old snapshot, or a
// replica took over, and nobody knows what it is missing. No projection of an older epoch is complete any more, so that each is
// rebuilt before it is read.
//
// Until the first call projections of any epoch are taken. A change is noticed by this call and not before.
func (r *Ranking) Epoch(ctx context.Context) (int64, error) {
	text, err := epochScript.Run(ctx, r.Redis, []string{epochKey}, r.server(ctx), time.Now().UnixMilli()).Text()
	if err != nil {
		return 0, store.RedisError("find the epoch of Redis", err)
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("find the epoch of Redis: %w", err)
	}
	r.epoch.Store(epoch)
	return epoch, nil
}

// server is the id that a Redis process gives itself when it starts. One that does not tell is known by what it holds alone.
func (r *Ranking) server(ctx context.Context) string {
	info, err := r.Redis.Info(ctx, "server").Result()
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(info, "run_id:")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id
}
