package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"liveops/core/fault"
	"liveops/handler/web"
)

// probe bounds the check of one dependency.
const probe = 2 * time.Second

// healthz says that the process answers. It asks no dependency: restarting a pod mends none of them.
func (a *App) healthz(w http.ResponseWriter, _ *http.Request) error {
	return web.JSON(w, http.StatusOK, map[string]string{"status": "ok", "version": a.options.Version})
}

// readyz says whether the dependencies answer and everything the stages rely on is there: the schema, the windows, the
// rankings and blocks in Redis. The broker is not asked: while it is away reads still work, and writes answer 503 by themselves.
func (a *App) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, stop := context.WithTimeout(r.Context(), probe)
	defer stop()
	if err := a.redis.Ping(ctx).Err(); err != nil {
		return fault.RedisUnavailable.Wrap(err, "Redis does not answer")
	}
	if err := a.db.Ping(ctx); err != nil {
		return fault.DatabaseUnavailable.Wrap(err, "the database does not answer")
	}
	if !a.started.Load() {
		return a.notStarted()
	}
	return web.JSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// notStarted says what the start is waiting for.
func (a *App) notStarted() error {
	if obstacle := a.obstacle.Load(); obstacle != nil && errors.Is(*obstacle, fault.Unavailable) {
		return *obstacle
	}
	return fault.Starting.Errorf("the start is not finished yet")
}

// time tells a client how far its clock is off.
func (a *App) time(w http.ResponseWriter, _ *http.Request) error {
	now := a.options.Now()
	return web.JSON(w, http.StatusOK, map[string]any{"unix": now.Unix(), "time": timestamp(now)})
}
