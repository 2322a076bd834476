package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"liveops/core/event"
	"liveops/core/store"
)

// Held is one key of a player's, as it is told to him.
type Held struct {
	Key    string // what follows the player in the key, see Gate
	Fields map[string]string
}

// Held gives what the gate holds of a player beside single requests: his block, his rates, and the ids of the events it has seen. Nonces
// and stored answers are not told: they are what he sent and got, and gone within a day.
func (g *Gate) Held(ctx context.Context, player string) ([]Held, error) {
	if !event.ValidPlayerID(player) {
		return nil, nil
	}
	var held []Held
	for _, key := range []string{"block", "rate"} {
		fields, err := g.Redis.HGetAll(ctx, playerKey(player, key)).Result()
		if err != nil {
			return nil, store.RedisError("read what the gate holds", err)
		}
		if len(fields) > 0 {
			held = append(held, Held{key, fields})
		}
	}
	seen, err := g.Redis.ZRangeWithScores(ctx, playerKey(player, "seen"), 0, -1).Result()
	if err != nil {
		return nil, store.RedisError("read what the gate holds", err)
	}
	if len(seen) > 0 {
		fields := make(map[string]string, len(seen))
		for _, one := range seen {
			fields[fmt.Sprint(one.Member)] = fmt.Sprintf("%.0f", one.Score)
		}
		held = append(held, Held{"seen", fields})
	}
	return held, nil
}

// Erase forgets everything about a player: every key in his slot. It goes over all keys of Redis. It may be repeated.
func (g *Gate) Erase(ctx context.Context, player string) error {
	if !event.ValidPlayerID(player) {
		return fmt.Errorf("erase: no player can have that id")
	}
	prefix := playerKey(player, "")
	for cursor := uint64(0); ; {
		keys, next, err := g.Redis.Scan(ctx, cursor, prefix+"*", 1000).Result()
		if err != nil {
			return store.RedisError("erase what the gate holds", err)
		}
		keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) })
		if len(keys) > 0 {
			if err := g.Redis.Unlink(ctx, keys...).Err(); err != nil {
				return store.RedisError("erase what the gate holds", err)
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
