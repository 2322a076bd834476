package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"liveops/core/fault"
)

// OpenRedis opens the Redis of a URL: redis://[:password@]host:port[/db], or rediss:// for TLS. It connects when first used.
func OpenRedis(rawURL string) (*redis.Client, error) {
	options, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, errors.New("redis URL: not a redis:// or rediss:// URL") // the parse error would quote the password
	}
	options.DialerRetries = 1            // a request must not wait for a Redis that refuses it
	options.ContextTimeoutEnabled = true // nor longer than it has time for one that says nothing
	options.DialTimeout = 2 * time.Second
	return redis.NewClient(options), nil
}

// RedisError makes a fault.Unavailable of an error of the Redis client; redis.Nil and faults stay what they are. what says
// what was being done.
func RedisError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil), fault.KindOf(err) != fault.Internal:
		return err
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fault.RedisUnavailable.Wrap(fmt.Errorf("%s: %w", what, err), "Redis does not answer, try again")
}
