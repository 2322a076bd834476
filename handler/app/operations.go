package app

import (
	"net/http"

	"liveops/core/rejected"
	"liveops/handler/web"
)

// listRejected answers what had no effect, newest first.
func (a *App) listRejected(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	rows, next, err := a.rejected.List(r.Context(), rejected.Filter{After: r.URL.Query().Get("cursor"), Limit: n})
	if err != nil {
		return err
	}
	list := make([]map[string]any, len(rows))
	for i, row := range rows {
		list[i] = rejection(row)
	}
	return web.JSON(w, http.StatusOK, map[string]any{"rejected": list, "next": next})
}

// showRejected answers one rejected message with its bytes.
func (a *App) showRejected(w http.ResponseWriter, r *http.Request, _ caller) error {
	row, err := a.rejected.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	answer := rejection(row)
	answer["body"] = row.Body // base64: it may be anything
	return web.JSON(w, http.StatusOK, answer)
}

func rejection(row rejected.Rejection) map[string]any {
	return map[string]any{
		"id": row.ID, "stage": row.Stage, "message_id": row.MessageID, "player_id": row.PlayerID, "event_id": row.EventID,
		"code": row.Code, "detail": row.Detail, "first_at": timestamp(row.FirstAt), "last_at": timestamp(row.LastAt), "times": row.Times,
	}
}
