package app

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"liveops/core/mailbox"
	"liveops/handler/web"
)

// listMails answers a player's mails, newest first: in one state with ?state=.
func (a *App) listMails(w http.ResponseWriter, r *http.Request, c caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	state, err := oneOf(r, "state", string(mailbox.Waiting), string(mailbox.Claimed), string(mailbox.Withdrawn), string(mailbox.Expired))
	if err != nil {
		return err
	}
	mails, next, err := a.mailbox.List(r.Context(), mailbox.Filter{
		Player: player, State: mailbox.State(state), After: r.URL.Query().Get("cursor"), Limit: n,
	})
	if err != nil {
		return err
	}
	now := a.options.Now()
	list := each(mails, func(m mailbox.Mail) map[string]any { return mail(m, now) })
	return web.JSON(w, http.StatusOK, map[string]any{"player_id": player, "mails": list, "next": next})
}

// claimMail gives a player what a mail brings. Its answer is what is on record of the claim, so that a repeat is answered alike,
// however late and under whatever idempotency key.
func (a *App) claimMail(r *http.Request, player string) (any, error) {
	claim, err := a.rewards.Claim(r.Context(), player, r.PathValue("mail"))
	if err != nil {
		return nil, err
	}
	root, grants := claim.Entries[0], []map[string]any{}
	for _, e := range claim.Entries[1:] {
		grants = append(grants, map[string]any{"kind": e.Kind, "item": e.Item, "quantity": e.Delta})
	}
	return map[string]any{
		"player_id": player, "mail_id": claim.Mail.ID, "state": mailbox.Claimed, "claimed_at": timestamp(claim.Mail.ClaimedAt),
		"xp": root.Delta, "grants": grants, "notes": root.Notes, "receipt": optional(claim.Receipt),
	}, nil
}

func mail(m mailbox.Mail, now time.Time) map[string]any {
	items := []map[string]any{}
	for _, item := range slices.Sorted(maps.Keys(m.Items)) {
		items = append(items, map[string]any{"item": item, "quantity": m.Items[item]})
	}
	return map[string]any{
		"mail_id": m.ID, "state": m.State(now), "sent_at": timestamp(m.SentAt), "expires_at": timestamp(m.ExpiresAt), "claimed_at": ending(m.ClaimedAt),
		"withdrawn_at": ending(m.WithdrawnAt), "source": m.Source, "board": m.Board, "window": m.Window, "rank": m.Rank, "tied_rank": m.TiedRank,
		"event_id": optional(m.EventID), "ref": optional(m.Ref), "xp": m.XP, "items": items,
	}
}
