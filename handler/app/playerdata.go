package app

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"liveops/core/erasure"
	"liveops/core/fault"
	"liveops/handler/web"
)

// exportPlayer streams everything that is held on a player, as NDJSON. The last line counts the others by kind: without it the
// answer was cut.
func (a *App) exportPlayer(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	return a.exports.Write(r.Context(), player, &named{w, player})
}

// named is an answer whose headers are sent with its first byte: until then it may still become a fault.
type named struct {
	http.ResponseWriter
	player string
}

func (n *named) Write(text []byte) (int, error) {
	if n.player != "" {
		n.Header().Set("Content-Type", "application/x-ndjson")
		n.Header().Set("Content-Disposition", `attachment; filename="`+n.player+`.ndjson"`)
		n.player = ""
	}
	return n.ResponseWriter.Write(text)
}

// showErasure answers how far a player's erasure is.
func (a *App) showErasure(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	q, err := a.erasures.Get(r.Context(), player)
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, described(q))
}

// erasePlayer asks for a player to be erased when the grace is over. A repeat, under whatever Idempotency-Key, answers with the request
// that is there: its instant does not move.
func (a *App) erasePlayer(w http.ResponseWriter, r *http.Request, c caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	if err := c.keyed(); err != nil {
		return err
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(c.request.Body, &body, json.RejectUnknownMembers(true)); err != nil {
		return unreadable(err)
	}
	if body.Reason = strings.TrimSpace(body.Reason); body.Reason == "" || utf8.RuneCountInString(body.Reason) > erasure.MaxReason {
		return invalid("/reason", fault.FieldRange, "has 1 to 500 characters")
	}
	q, err := a.erasures.Ask(r.Context(), player, c.key.ID, body.Reason)
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, described(q))
}

// cancelErasure takes a request back that has not begun. The body may be empty.
func (a *App) cancelErasure(w http.ResponseWriter, r *http.Request, c caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	if err := c.keyed(); err != nil {
		return err
	}
	if err := a.erasures.Cancel(r.Context(), player); err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, described(erasure.Request{PlayerID: player, State: erasure.None}))
}

func described(q erasure.Request) map[string]any {
	answer := map[string]any{"player_id": q.PlayerID, "state": q.State}
	if q.State == erasure.None {
		return answer
	}
	answer["requested_at"], answer["due_at"], answer["erased_at"] = timestamp(q.RequestedAt), timestamp(q.DueAt), ending(q.ErasedAt)
	answer["requested_by"], answer["reason"] = optional(q.Actor), optional(q.Reason)
	return answer
}
