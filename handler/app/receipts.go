package app

import (
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/receipt"
	"liveops/handler/web"
)

// receipt answers the signed statement of what an event granted.
func (a *App) receipt(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	stored, err := receipt.Get(r.Context(), a.db, player, r.PathValue("event"))
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{
		"player_id": player, "event_id": r.PathValue("event"), "receipt": stored.Token, "reversed_at": ending(stored.ReversedAt),
	})
}

// verifyReceipt says whether a receipt was issued here and says what it says.
func (a *App) verifyReceipt(w http.ResponseWriter, _ *http.Request, c caller) error {
	var question struct {
		Receipt string `json:"receipt"`
	}
	if err := json.Unmarshal(c.request.Body, &question, json.RejectUnknownMembers(true)); err != nil {
		return fault.MalformedJSON.Wrap(err, `the body is {"receipt": "…"}`)
	}
	claims, err := a.receipts.Verify(question.Receipt)
	if errors.Is(err, fault.Invalid) {
		return web.JSON(w, http.StatusOK, map[string]any{"valid": false, "reason": fault.CodeOf(err)})
	}
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{"valid": true, "claims": claims})
}
