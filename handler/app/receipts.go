package app

import (
	"errors"
	"net/http"

	"github.com/go-jose/go-jose/v4"
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

// verifyReceipt says whether a receipt was signed here, what it says, whether these very bytes are on record, and whether what they state was taken
// back since. A genuine one that is not on record states what this database does not know: of an erased player, or of another
// deployment under the same secret.
func (a *App) verifyReceipt(w http.ResponseWriter, r *http.Request, c caller) error {
	var question struct {
		Receipt string `json:"receipt"`
	}
	if err := json.Unmarshal(c.request.Body, &question, json.RejectUnknownMembers(true)); err != nil {
		return fault.MalformedJSON.Wrap(err, `the body is {"receipt": "…"}`)
	}
	claims, err := a.receipts.Load().Verify(question.Receipt)
	if errors.Is(err, fault.Invalid) {
		return web.JSON(w, http.StatusOK, map[string]any{"valid": false, "reason": fault.CodeOf(err)})
	}
	if err != nil {
		return err
	}
	stored, err := receipt.Get(r.Context(), a.db, claims.PlayerID, claims.EventID)
	if err != nil && !errors.Is(err, fault.ReceiptNotFound) {
		return err
	}
	answer := map[string]any{"valid": true, "claims": claims, "on_record": false, "reversed": nil, "reversed_at": nil}
	if stored.Token == question.Receipt {
		answer["on_record"], answer["reversed"], answer["reversed_at"] = true, !stored.ReversedAt.IsZero(), ending(stored.ReversedAt)
	}
	return web.JSON(w, http.StatusOK, answer)
}

// publicKeys answers the public keys of seals and of receipts, those in use and those retired, as a JWKS.
func (a *App) publicKeys(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "public, max-age=300")
	keys := append([]jose.JSONWebKey{}, a.sealer.PublicKeys().Keys...)
	return web.JSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: append(keys, a.receipts.Load().PublicKeys().Keys...)})
}
