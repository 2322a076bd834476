package store_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestOpenRedis(t *testing.T) {
	t.Parallel()
	rdb, err := store.OpenRedis("rediss://:secret@cache.example:6380/2")
	require.NoError(t, err)
	require.Equal(t, "cache.example:6380", rdb.Options().Addr)
	require.Equal(t, 2, rdb.Options().DB)
	require.Equal(t, "secret", rdb.Options().Password)
	require.NotNil(t, rdb.Options().TLSConfig)
	require.NoError(t, rdb.Close())
	for _, url := range []string{"", "http://:secret@host", "redis://:secret@host:port", "redis://:secret@host/first"} {
		_, err := store.OpenRedis(url)
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestRedisError(t *testing.T) {
	t.Parallel()
	ours := fault.Rebuilding.Errorf("not yet")
	require.NoError(t, store.RedisError("read", nil))
	require.Equal(t, redis.Nil, store.RedisError("read", redis.Nil))
	require.Same(t, ours, store.RedisError("read", ours))
	for _, cause := range []error{io.EOF, context.DeadlineExceeded, redis.ErrClosed} {
		err := store.RedisError("read rank", fmt.Errorf("dial: %w", cause))
		require.ErrorIs(t, err, fault.RedisUnavailable)
		require.ErrorIs(t, err, cause)
		require.Contains(t, err.Error(), "read rank: ")
		require.NotContains(t, fault.Of(err).Detail, "read rank", "what was being done is for the log")
	}
	err := store.RedisError("read rank", context.Canceled)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, fault.Internal, fault.KindOf(err), "nobody waits for the answer")
}

func TestRedisThatIsDownIsUnavailable(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	require.NoError(t, rdb.Set(t.Context(), "a", 1, 0).Err())
	server.SetError("LOADING Redis is loading the dataset in memory")
	require.ErrorIs(t, store.RedisError("read", rdb.Get(t.Context(), "a").Err()), fault.Unavailable)
	server.SetError("")
	require.NoError(t, rdb.Get(t.Context(), "a").Err())
	server.Close()
	require.ErrorIs(t, store.RedisError("read", rdb.Get(t.Context(), "a").Err()), fault.Unavailable)
}

func TestEachRedisIsEmptyAndOnesOwn(t *testing.T) {
	t.Parallel()
	for range 2 {
		storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
			require.Zero(t, rdb.DBSize(t.Context()).Val())
			require.NoError(t, rdb.Set(t.Context(), "mine", 1, 0).Err())
			require.EqualValues(t, 1, rdb.DBSize(t.Context()).Val())
		})
	}
}
