package mailbox

import "liveops/core/store"

// Personal tells what of the domain is about a player. Erasing deletes it.
func Personal() []store.Personal {
	return []store.Personal{{
		Kind: "mail", Table: "mail", Key: []string{"mail_id"},
		Columns: []string{
			"mail_id", "source", "board", "window_id", "position int", "tied_position int", "event_id", "ref", "xp int", "items json",
			"sent_at time", "expires_at time", "claimed_at time", "withdrawn_at time",
		},
	}}
}
