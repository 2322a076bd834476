package fairness

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/redis/go-redis/v9"

	"liveops/core/store"
)

// States keeps what is known of each player.
type States interface {
	// Load gives the players' states in order, empty for those of whom nothing is known.
	Load(ctx context.Context, players []string) ([][]byte, error)
	// Save replaces each state that is still the one that was loaded, and says which: a state that anybody saved or that was lost
	// since is left as it is. Each player is named once. After an error any of them may have been saved.
	Save(ctx context.Context, changes []Change) (saved []bool, err error)
}

// Change is a player's state as it was loaded, and as it is to be.
type Change struct {
	Player        string
	Before, After []byte
}

// RedisStates keeps states in Redis, each under a key of its own for 30 days. Players share 16 hash tags, so that one script
// serves several of them on a cluster, too.
//
//	fairness:{0…15}:player  string  see encode
type RedisStates struct {
	Redis redis.UniversalClient
}

const tags = 16

//go:embed save.lua
var saveText string

// save is compare and set. See save.lua for its keys, arguments and result.
var save = redis.NewScript(saveText)

func tagOf(player string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(player))
	return h.Sum32() % tags
}

func stateKey(tag uint32, player string) string {
	return "fairness:{" + strconv.Itoa(int(tag)) + "}:" + player
}

// group is what is asked under one hash tag.
type group struct {
	keys   []string
	args   []any
	places []int
	reply  *redis.Cmd
}

// byTag groups players by hash tag.
func byTag(n int, player func(i int) string) []*group {
	var groups [tags]*group
	var used []*group
	for i := range n {
		tag := tagOf(player(i))
		if groups[tag] == nil {
			groups[tag] = &group{}
			used = append(used, groups[tag])
		}
		g := groups[tag]
		g.keys, g.places = append(g.keys, stateKey(tag, player(i))), append(g.places, i)
	}
	return used
}

// Load implements States in one round trip.
func (s RedisStates) Load(ctx context.Context, players []string) ([][]byte, error) {
	groups := byTag(len(players), func(i int) string { return players[i] })
	states := make([][]byte, len(players))
	_, err := s.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, g := range groups {
			command := make([]any, 0, 1+len(g.keys))
			command = append(command, "MGET")
			for _, key := range g.keys {
				command = append(command, key)
			}
			g.reply = pipe.Do(ctx, command...)
		}
		return nil
	})
	if err != nil {
		return nil, store.RedisError("load what is known of players", err)
	}
	for _, g := range groups {
		found, err := g.reply.Slice()
		if err != nil || len(found) != len(g.places) {
			return nil, fmt.Errorf("load what is known of %d players: %d answers: %w", len(g.places), len(found), err)
		}
		for i, value := range found {
			if text, ok := value.(string); ok {
				states[g.places[i]] = []byte(text)
			}
		}
	}
	return states, nil
}

// Save implements States in one round trip, or two where Redis does not know the script yet: what the first saved is then found
// saved already.
func (s RedisStates) Save(ctx context.Context, changes []Change) ([]bool, error) {
	groups := byTag(len(changes), func(i int) string { return changes[i].Player })
	for _, g := range groups {
		g.args = append(make([]any, 0, 2+2*len(g.places)), len(mark{}), retention.Milliseconds())
		for _, i := range g.places {
			c := changes[i]
			g.args = append(g.args, c.Before[:min(len(c.Before), len(mark{}))], c.After)
		}
	}
	send := func(run func(ctx context.Context, on redis.Scripter, keys []string, args ...any) *redis.Cmd) error {
		_, err := s.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, g := range groups {
				g.reply = run(ctx, pipe, g.keys, g.args...)
			}
			return nil
		})
		return err
	}
	err := send(save.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = send(save.Eval)
	}
	if err != nil {
		return nil, store.RedisError("save what is known of players", err)
	}
	saved := make([]bool, len(changes))
	for _, g := range groups {
		found, err := g.reply.Int64Slice()
		if err != nil || len(found) != len(g.places) {
			return nil, fmt.Errorf("save what is known of %d players: %d answers: %w", len(g.places), len(found), err)
		}
		for i, one := range found {
			saved[g.places[i]] = one == 1
		}
	}
	return saved, nil
}

// sameMark says whether a state is the one that was loaded.
func sameMark(state, before []byte) bool {
	return bytes.Equal(state[:min(len(state), len(mark{}))], before[:min(len(before), len(mark{}))])
}
