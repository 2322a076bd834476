package app

import (
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/season"
	"liveops/handler/web"
)

// shownActions is how many of a window's latest actions come with it.
const shownActions = 100

// listWindows answers the latest windows of ?board=, those ahead too, or of all boards those that are not archived.
func (a *App) listWindows(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	var windows []season.Window
	if board := r.URL.Query().Get("board"); board != "" {
		windows, err = a.windows.List(r.Context(), board, n)
	} else {
		windows, err = a.windows.Served(r.Context(), a.options.Now())
	}
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{"windows": each(windows, a.describeWindow)})
}

// describeWindow is a window as operators see it.
func (a *App) describeWindow(in season.Window) map[string]any {
	out := a.describe(in)
	return map[string]any{
		"board": in.Board, "id": out.ID, "cadence": out.Cadence, "starts_at": optional(out.StartsAt), "ends_at": optional(out.EndsAt), "state": out.State,
		"seconds_left": out.SecondsLeft,
	}
}

// showWindow answers a window with what was done about it.
func (a *App) showWindow(w http.ResponseWriter, r *http.Request, _ caller) error {
	in, err := a.windows.Get(r.Context(), r.PathValue("board"), r.PathValue("window"))
	if err != nil {
		return err
	}
	actions, err := a.windows.Actions(r.Context(), in.Board, in.ID, shownActions)
	if err != nil {
		return err
	}
	answer := a.describeWindow(in)
	answer["actions"] = each(actions, windowAction)
	return web.JSON(w, http.StatusOK, answer)
}

// orderWindow makes a handler that has something done about the window of the path, by an order that its idempotency key names for
// ever. The answer is what is on record of the order. A rebuild is on record before it is done, and a repeat does it again.
func (a *App) orderWindow(kind season.ActionKind) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller) error {
		if err := c.keyed(); err != nil {
			return err
		}
		var body struct {
			Reason string    `json:"reason"`
			Until  time.Time `json:"until"`
		}
		if err := json.Unmarshal(c.request.Body, &body, json.RejectUnknownMembers(true)); err != nil {
			return unreadable(err)
		}
		if (kind == season.ActionExtend) == body.Until.IsZero() {
			return invalid("/until", fault.FieldMissing, "says when an extended window ends, and goes with nothing else")
		}
		in, err := a.windows.Get(r.Context(), r.PathValue("board"), r.PathValue("window"))
		if err != nil {
			return err
		}
		order := season.Order{Actor: c.key.ID, Key: c.request.IdempotencyKey, Reason: body.Reason}
		var done season.Action
		switch kind {
		case season.ActionClose:
			done, err = a.windows.CloseNow(r.Context(), in.Board, in.ID, order)
		case season.ActionExtend:
			done, err = a.windows.Extend(r.Context(), in.Board, in.ID, body.Until, order)
		case season.ActionRebuild:
			if done, err = a.windows.Rebuild(r.Context(), in.Board, in.ID, order); err == nil {
				err = a.ranking.Rebuild(r.Context(), in.Board, in.ID)
			}
		}
		if err != nil {
			return err
		}
		return web.JSON(w, http.StatusOK, windowAction(done))
	}
}

func windowAction(a season.Action) map[string]any {
	return map[string]any{
		"id": a.ID, "board": a.Board, "window": a.Window, "action": a.Kind, "at": timestamp(a.At), "actor": a.Actor, "reason": a.Reason,
		"ended": ending(a.Details.Ended), "ends": ending(a.Details.Ends), "next": optional(a.Details.Next),
	}
}
