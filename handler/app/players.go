package app

import (
	"net/http"
	"slices"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/handler/web"
)

// player answers a player's progress.
func (a *App) player(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	state, err := a.players.Player(r.Context(), player)
	if err != nil {
		return err
	}
	type item struct {
		Item     string `json:"item"`
		Quantity int64  `json:"quantity"`
	}
	items := make([]item, len(state.Items))
	for i, held := range state.Items {
		items[i] = item{Item: held.Item, Quantity: held.Quantity}
	}
	answer := map[string]any{
		"player_id": player, "xp": state.XP, "level": state.Level, "items": items, "updated_at": timestamp(state.UpdatedAt),
	}
	if next, more := a.catalog.Load().XP.Next(state.Level); more {
		answer["next_level_xp"] = next
	}
	return web.JSON(w, http.StatusOK, answer)
}

// playerEvent answers what an accepted event did: its ledger rows, and what was cut and why. A score that came too late for a window
// that its time lies in is not ranked; its notes say on which boards.
func (a *App) playerEvent(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	entries, err := a.ledger.Entries(r.Context(), player, r.PathValue("event"))
	if err != nil {
		return err
	}
	rows := make([]map[string]any, len(entries))
	for i, e := range entries {
		rows[i] = map[string]any{
			"kind": e.Kind, "number": e.Number, "event_type": e.EventType, "item": e.Item, "delta": e.Delta, "balance": e.Balance,
			"level_before": e.LevelBefore, "level_after": e.LevelAfter, "catalog_version": e.CatalogVersion,
			"effective_at": timestamp(e.EffectiveAt), "recorded_at": timestamp(e.RecordedAt), "notes": e.Notes,
		}
	}
	answer := map[string]any{"player_id": player, "event_id": r.PathValue("event"), "entries": rows}
	if len(entries) > 0 && entries[0].EventType == event.ScoreSubmitted {
		late := slices.ContainsFunc(entries[0].Notes, func(n progression.Note) bool { return n.Code == fault.WindowClosed })
		if answer["ranked"] = !late; late {
			answer["reason"] = fault.WindowClosed
		}
	}
	return web.JSON(w, http.StatusOK, answer)
}

func playerID(r *http.Request) (string, error) {
	player := r.PathValue("player")
	if !event.ValidPlayerID(player) {
		return "", fault.PlayerNotFound.Errorf("%q is not a player id", player)
	}
	return player, nil
}
