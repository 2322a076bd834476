package app

import (
	"errors"
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
	answer := map[string]any{"player_id": player, "event_id": r.PathValue("event"), "entries": each(entries, ledgerRow)}
	reversal, err := a.ledger.Reversal(r.Context(), player, r.PathValue("event"))
	if err != nil && !errors.Is(err, fault.EventNotFound) {
		return err
	}
	answer["reversed_by"] = optional(reversal.ID)
	if len(entries) > 0 && entries[0].EventType == event.ScoreSubmitted {
		late := slices.ContainsFunc(entries[0].Notes, func(n progression.Note) bool { return n.Code == fault.WindowClosed })
		if answer["ranked"] = !late; late {
			answer["reason"] = fault.WindowClosed
		}
	}
	return web.JSON(w, http.StatusOK, answer)
}

func ledgerRow(e progression.Entry) map[string]any {
	return map[string]any{
		"event_id": e.EventID, "kind": e.Kind, "number": e.Number, "event_type": e.EventType, "item": e.Item, "delta": e.Delta, "balance": e.Balance,
		"level_before": e.LevelBefore, "level_after": e.LevelAfter, "catalog_version": e.CatalogVersion, "modifier": optional(e.Modifier),
		"effective_at": timestamp(e.EffectiveAt), "recorded_at": timestamp(e.RecordedAt), "notes": e.Notes,
	}
}

// listEntries answers a player's ledger, newest first: with ?item= only what changed that item, with ?type= only what events of that type did.
func (a *App) listEntries(w http.ResponseWriter, r *http.Request, c caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	entries, next, err := a.ledger.List(r.Context(), progression.Filter{
		Player: player, Item: query.Get("item"), Type: query.Get("type"), After: query.Get("cursor"), Limit: n,
	})
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{"player_id": player, "entries": each(entries, ledgerRow), "next": next})
}

// inventory answers what a player holds, in order of item: with ?prefix= only what begins with it. stack is the most he may hold of the item, where
// there is a limit.
func (a *App) inventory(w http.ResponseWriter, r *http.Request, c caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	n, err := limit(r, c, 100)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	held, next, err := a.ledger.Inventory(r.Context(), progression.Filter{
		Player: player, Prefix: query.Get("prefix"), After: query.Get("cursor"), Limit: n,
	})
	if err != nil {
		return err
	}
	game := a.catalog.Load()
	items := each(held, func(h progression.Holding) map[string]any {
		shown := map[string]any{"item": h.Item, "quantity": h.Quantity}
		if item, known := game.Item(h.Item); known && item.Stack > 0 {
			shown["stack"] = item.Stack
		}
		return shown
	})
	return web.JSON(w, http.StatusOK, map[string]any{"player_id": player, "items": items, "next": next})
}

func playerID(r *http.Request) (string, error) {
	player := r.PathValue("player")
	if !event.ValidPlayerID(player) {
		return "", fault.PlayerNotFound.Errorf("no player can have that id")
	}
	return player, nil
}
