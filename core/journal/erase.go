package journal

import "liveops/core/store"

// Personal tells what of the domain is about a player. Erasing deletes it: a policy is tried without him.
func Personal() []store.Personal {
	return []store.Personal{{
		Kind: "recorded_event", Table: "journal", Key: []string{"received_at", "event_id"},
		Columns: []string{"received_at time", "event_id", "body json"},
	}}
}
