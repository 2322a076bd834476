package app

import (
	"net/http"

	"github.com/go-json-experiment/json"

	"liveops/core/progression"
	"liveops/handler/web"
)

// reverse takes back what an event did to a player. The event names the order: a repeat, under whatever idempotency key, is answered with what is on
// record. What the event's claimed mails brought stays until the events of their ids are reversed, too.
func (a *App) reverse(w http.ResponseWriter, r *http.Request, c caller) error {
	if err := c.keyed(); err != nil {
		return err
	}
	player, err := playerID(r)
	if err != nil {
		return err
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(c.request.Body, &body, json.RejectUnknownMembers(true)); err != nil {
		return unreadable(err)
	}
	reversed, err := a.reversals.Reverse(r.Context(), progression.Order{
		Player: player, EventID: r.PathValue("event"), Actor: c.key.ID, Reason: body.Reason,
	})
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{
		"player_id": player, "event_id": reversed.EventID, "reversal_id": reversed.ID, "at": timestamp(reversed.At), "actor": reversed.Actor,
		"reason": reversed.Reason, "entries": each(reversed.Entries, ledgerRow), "receipt": reversed.Receipt,
		"withdrawn_mails": listed(reversed.Withdrawn), "claimed_mails": listed(reversed.Claimed),
	})
}

// listed is a list, empty rather than null.
func listed(ids []string) []string { return append([]string{}, ids...) }
