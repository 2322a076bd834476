package receipt

import "liveops/core/store"

// Personal tells what of the domain is about a player. Erasing deletes it: what a receipt states is signed and names him.
func Personal() []store.Personal {
	return []store.Personal{{
		Kind: "receipt", Table: "receipt", Key: []string{"event_id"},
		Columns: []string{"event_id", "receipt_id", "token", "issued_at time", "reversed_at time"},
	}}
}
