package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"liveops/core/fault"
	"liveops/core/tracing"
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
	options.DisableIdentity = true // CLIENT SETINFO is an error before Redis 7.2, on every connection
	client := redis.NewClient(options)
	client.AddHook(spans{})
	return client, nil
}

// spans makes a span of each command and pipeline. Their arguments stay out of it: keys hold players.
type spans struct{}

var system = attribute.String("db.system.name", "redis")

// DialHook implements redis.Hook.
func (spans) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (spans) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		ctx, end := tracing.Start(ctx, strings.ToUpper(command.Name()), trace.SpanKindClient, system)
		err := next(ctx, command)
		end(answered(err))
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (spans) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		ctx, end := tracing.Start(ctx, "PIPELINE", trace.SpanKindClient, system, attribute.Int("db.operation.batch.size", len(commands)))
		err := next(ctx, commands)
		end(answered(err))
		return err
	}
}

// answered is nil for what is an answer and no trouble: no value, and a script that the server does not know yet.
func answered(err error) error {
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		return nil
	}
	return RedisError("command", err)
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
