package session

import "liveops/core/store"

// Personal tells what of the domain is about a player. Erasing deletes it in the last pass: until then what was revoked stays so.
func Personal() []store.Personal {
	return []store.Personal{
		{Kind: "session", Table: "session", Key: []string{"player_id"}, Columns: []string{"generation int", "revoked_at time"}},
		{
			Kind: "session_revocation", Table: "session_revocation", Key: []string{"generation", "revocation_id"},
			Columns: []string{"generation int", "revoked_at time", "actor", "reason"},
		},
	}
}
