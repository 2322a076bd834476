package progression_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// before runs something before a command of one name is sent, the first time.
type before struct {
	command string
	do      func()
	once    sync.Once
}

func (b *before) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == b.command {
			b.once.Do(b.do)
		}
		return next(ctx, cmd)
	}
}

func (b *before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func apply(t *testing.T, l *progression.Ledger, events ...event.Accepted) {
	t.Helper()
	_, err := l.Apply(t.Context(), events, nil)
	require.NoError(t, err)
}

func TestCacheKeepsAStateUntilItIsForgotten(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		ledger := ledgerOn(db, game())
		cache := &progression.Cache{Redis: rdb, Ledger: ledger}
		_, err := cache.Player(t.Context(), "ada")
		require.ErrorIs(t, err, fault.PlayerNotFound)
		apply(t, ledger, gained("ada", "e1", 120), killed("ada", "e2", "rat"))
		require.NoError(t, cache.Forget(t.Context(), []string{"ada", "nobody"}))
		want, err := ledger.Player(t.Context(), "ada")
		require.NoError(t, err)
		for range 3 {
			got, err := cache.Player(t.Context(), "ada")
			require.NoError(t, err)
			require.Equal(t, want, got)
		}

		// What follows is not seen until it is forgotten: the cache did answer.
		apply(t, ledger, gained("ada", "e3", 1))
		stale, err := cache.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.Equal(t, want, stale)
		ttl := rdb.PTTL(t.Context(), "player:{ada}:state").Val()
		require.Positive(t, ttl)
		require.LessOrEqual(t, ttl, 10*time.Minute)
		require.NoError(t, cache.Forget(t.Context(), []string{"ada"}))
		fresh, err := cache.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, 131, fresh.XP)

		// Wiped, or filled with what no program of this version wrote.
		require.NoError(t, rdb.FlushDB(t.Context()).Err())
		for range 2 {
			got, err := cache.Player(t.Context(), "ada")
			require.NoError(t, err)
			require.Equal(t, fresh, got)
		}
		require.NoError(t, rdb.Set(t.Context(), "player:{ada}:state", `{"Crowns":7}`, 0).Err())
		got, err := cache.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.Equal(t, fresh, got)
	})
}

// TestAStateReadBeforeACommitIsNotKept commits between a reader's look into SQL and his putting it into the cache.
func TestAStateReadBeforeACommitIsNotKept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		ledger := ledgerOn(db, game())
		writer := &progression.Cache{Redis: rdb, Ledger: ledger}
		apply(t, ledger, gained("ada", "e1", 10))
		slow := redis.NewClient(rdb.Options())
		t.Cleanup(func() { require.NoError(t, slow.Close()) })
		slow.AddHook(&before{command: "evalsha", do: func() {
			apply(t, ledger, gained("ada", "e2", 10))
			require.NoError(t, writer.Forget(t.Context(), []string{"ada"}))
			_, err := writer.Player(t.Context(), "ada") // and somebody else reads meanwhile
			require.NoError(t, err)
		}})
		reader := &progression.Cache{Redis: slow, Ledger: ledger}
		old, err := reader.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, 10, old.XP, "as of when it was read")
		for range 2 {
			now, err := reader.Player(t.Context(), "ada")
			require.NoError(t, err)
			require.EqualValues(t, 20, now.XP)
		}
	})
}

// TestCacheUnderWriters has everybody at it at once: no read that begins after a Forget gives less than what was committed
// before it, whatever is wiped.
func TestCacheUnderWriters(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		ledger := ledgerOn(db, game())
		cache := &progression.Cache{Redis: rdb, Ledger: ledger}
		const writers, batches = 3, 15
		apply(t, ledger, gained("ada", "first", 1))
		var forgotten atomic.Int64 // XP whose commit was followed by a Forget
		forgotten.Store(1)
		ctx, done := context.WithCancel(t.Context())
		var writing, reading sync.WaitGroup
		for w := range writers {
			writing.Go(func() {
				for i := range batches {
					effects, err := ledger.Apply(ctx, []event.Accepted{gained("ada", fmt.Sprint(w, "-", i), 1)}, nil)
					if err == nil {
						err = cache.Forget(ctx, []string{"ada"})
					}
					if err != nil {
						t.Errorf("write: %v", err)
						return
					}
					for {
						known := forgotten.Load()
						if effects[0].XPAfter <= known || forgotten.CompareAndSwap(known, effects[0].XPAfter) {
							break
						}
					}
				}
			})
		}
		for range 3 {
			reading.Go(func() {
				for ctx.Err() == nil {
					least := forgotten.Load()
					s, err := cache.Player(context.WithoutCancel(ctx), "ada")
					if err != nil || s.XP < least {
						t.Errorf("read %d XP, %d were committed and forgotten: %v", s.XP, least, err)
						return
					}
				}
			})
		}
		reading.Go(func() {
			for ctx.Err() == nil {
				_ = rdb.FlushDB(context.WithoutCancel(ctx)).Err()
			}
		})
		writing.Wait()
		done()
		reading.Wait()
		s, err := cache.Player(t.Context(), "ada")
		require.NoError(t, err)
		require.EqualValues(t, writers*batches+1, s.XP)
	})
}

func TestCacheWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	ledger := ledgerOn(storetest.SQLite(t), game())
	cache := &progression.Cache{Redis: rdb, Ledger: ledger}
	apply(t, ledger, gained("ada", "e1", 10))
	server.SetError("LOADING Redis is loading the dataset in memory")
	s, err := cache.Player(t.Context(), "ada")
	require.NoError(t, err)
	require.EqualValues(t, 10, s.XP)
	require.ErrorIs(t, cache.Forget(t.Context(), []string{"ada"}), fault.RedisUnavailable)
	require.NoError(t, cache.Forget(t.Context(), nil))
}
