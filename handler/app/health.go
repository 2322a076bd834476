package app

import (
	"context"
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

// readyz says whether the dependencies answer, the schema is current and the windows are laid out. The broker is not
// asked: while it is away reads still work, and writes answer 503 by themselves.
func (a *App) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, stop := context.WithTimeout(r.Context(), probe)
	defer stop()
	if err := a.redis.Ping(ctx).Err(); err != nil {
		return fault.RedisUnavailable.Wrap(err, "Redis does not answer")
	}
	pending, err := a.db.Pending(ctx)
	if err != nil {
		return fault.DatabaseUnavailable.Wrap(err, "the database does not answer, or its schema belongs to another version")
	}
	if len(pending) > 0 {
		return fault.DatabaseUnavailable.Errorf("the database lacks %d migrations: run `liveops migrate`", len(pending))
	}
	if !a.started.Load() {
		return fault.DatabaseUnavailable.Errorf("the windows are not laid out yet")
	}
	return web.JSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// time tells a client how far its clock is off.
func (a *App) time(w http.ResponseWriter, _ *http.Request) error {
	now := a.options.Now()
	return web.JSON(w, http.StatusOK, map[string]any{"unix": now.Unix(), "time": timestamp(now)})
}
