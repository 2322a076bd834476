package progression

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"liveops/core/store"
)

const (
	cacheFor      = 10 * time.Minute
	cacheLease    = 10 * time.Second // longer than reading a player takes
	cachePatience = time.Second      // how long a read waits for Redis before it asks SQL
	leasePrefix   = "lease:"
)

//go:embed fill.lua
var fillLua string

var fillScript = redis.NewScript(fillLua)

// Cache gives where players stand, and keeps it in Redis for the next who asks. SQL is the truth: the cache may lose
// anything at any time, and is passed over while Redis does not answer.
//
//	player:{id}:state  string  a State as JSON, or "lease:" and the token of the reader who is about to fill it in
//
// A state that is read before a commit is never kept beyond it. Whoever misses puts a lease in the key's place before he reads
// SQL and only replaces that lease; Forget, after the commit, removes either. Where the process dies between the two, an old
// state stays until the batch comes again, or for ten minutes at most.
type Cache struct {
	Redis  redis.UniversalClient
	Ledger *Ledger
}

// Player gives where a player stands. One without any event is fault.PlayerNotFound.
func (c *Cache) Player(ctx context.Context, id string) (State, error) {
	held, lease := c.look(ctx, id)
	if held != nil {
		return *held, nil
	}
	state, err := c.Ledger.Player(ctx, id)
	if err == nil && lease != "" {
		c.fill(ctx, id, lease, state)
	}
	return state, err
}

// Forget makes the next read of each player ask SQL. It may be repeated.
func (c *Cache) Forget(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := c.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, id := range ids {
			p.Unlink(ctx, stateKey(id))
		}
		return nil
	})
	return store.RedisError("forget players", err)
}

// look gives what the cache holds of a player, or the lease to fill it in; neither when somebody else has the lease or Redis
// does not answer.
func (c *Cache) look(ctx context.Context, id string) (held *State, lease string) {
	ctx, stop := context.WithTimeout(ctx, cachePatience)
	defer stop()
	text, err := c.Redis.Get(ctx, stateKey(id)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		lease = leasePrefix + uuid.NewString()
		if taken, err := c.Redis.SetNX(ctx, stateKey(id), lease, cacheLease).Result(); err != nil || !taken {
			return nil, ""
		}
		return nil, lease
	case err != nil || strings.HasPrefix(text, leasePrefix):
		return nil, ""
	}
	var s State
	if json.Unmarshal([]byte(text), &s, json.RejectUnknownMembers(true)) != nil {
		return nil, "" // another version of the program wrote it
	}
	return &s, ""
}

// fill puts a state where its lease still stands. That it could not be done costs the next read a look into SQL.
func (c *Cache) fill(ctx context.Context, id, lease string, s State) {
	text, err := json.Marshal(s)
	if err != nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, cachePatience)
	defer stop()
	_ = fillScript.Run(ctx, c.Redis, []string{stateKey(id)}, lease, text, cacheFor.Milliseconds()).Err()
}

func stateKey(id string) string { return "player:{" + id + "}:state" }
