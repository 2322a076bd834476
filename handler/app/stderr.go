package app

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// KeepStderrClean silences the client of Redis, which writes to stderr what it also returns as an error: the Functions host
// takes every line there for an error of its own. It changes the whole process and is for main, before anything else runs.
func KeepStderrClean() { redis.SetLogger(silence{}) }

type silence struct{}

// Printf implements the logger of go-redis.
func (silence) Printf(context.Context, string, ...any) {}
