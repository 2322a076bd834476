package pipeline_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// afterPipeline runs something after every pipeline whose first command has a name.
type afterPipeline struct {
	command string
	do      func()
}

func (a afterPipeline) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (a afterPipeline) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (a afterPipeline) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if cmds[0].Name() == a.command {
			a.do()
		}
		return err
	}
}

// TestWhoeverReadsAfterABatchSeesIt reads players through the cache before a batch, right after it was told to forget them, and
// after the batch.
func TestWhoeverReadsAfterABatchSeesIt(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		xpOf := func(player string) int64 {
			s, err := p.progression.Players.Player(t.Context(), player)
			require.NoError(t, err)
			return s.XP
		}
		_, err := p.progression.Apply(t.Context(), batch(t, xp("ada", "x1", 10), xp("bob", "x2", 20)))
		require.NoError(t, err)
		require.Equal(t, []int64{10, 20}, []int64{xpOf("ada"), xpOf("bob")})

		hooked := redis.NewClient(rdb.Options())
		t.Cleanup(func() { require.NoError(t, hooked.Close()) })
		var between []int64
		hooked.AddHook(afterPipeline{"unlink", func() { between = append(between, xpOf("ada"), xpOf("bob")) }})
		p.progression.Players = &progression.Cache{Redis: hooked, Ledger: p.progression.Ledger}
		_, err = p.progression.Apply(t.Context(), batch(t, xp("ada", "x3", 1), xp("bob", "x4", 1), xp("ada", "x5", 1)))
		require.NoError(t, err)
		require.Equal(t, []int64{12, 21}, between, "they are forgotten after the commit, or somebody could keep what was before it")
		require.Equal(t, []int64{12, 21}, []int64{xpOf("ada"), xpOf("bob")})
	})
}

// TestARepeatForgetsWhatACrashLeft commits a batch and dies before it forgets the players.
func TestARepeatForgetsWhatACrashLeft(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		cache := p.progression.Players
		_, err := p.progression.Apply(t.Context(), batch(t, xp("ada", "x1", 10)))
		require.NoError(t, err)
		before, err := cache.Player(t.Context(), "ada")
		require.NoError(t, err)

		more := batch(t, xp("ada", "x2", 10))
		p.progression.Players = &progression.Cache{Redis: deadRedis(t), Ledger: cache.Ledger}
		_, err = p.progression.Apply(t.Context(), more)
		require.ErrorIs(t, err, fault.RedisUnavailable)
		p.progression.Players = cache
		stale, err := cache.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.Equal(t, before, stale)

		_, err = p.progression.Apply(t.Context(), more)
		require.NoError(t, err)
		after, err := cache.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, 20, after.XP)
	})
}
