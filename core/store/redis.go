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
	// A request must wait neither for a Redis that refuses it nor for one that says nothing: some seconds at most, and no longer
	// than it has time itself.
	options.DialerRetries, options.MaxRetries = 1, 1
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	options.ContextTimeoutEnabled = true
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
