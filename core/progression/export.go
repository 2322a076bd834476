package progression

import "liveops/core/store"

// Personal tells what of the domain is about a player. What the cache holds in Redis is a copy of it.
func Personal() []store.Personal {
	return []store.Personal{
		{
			Kind: "player", Table: "player", Key: []string{"player_id"},
			Columns: []string{"xp int", "level int", "entries int", "created_at time", "updated_at time"},
		},
		{Kind: "item", Table: "item", Key: []string{"item_id"}, Columns: []string{"item_id", "quantity int"}},
		{
			Kind: "ledger", Table: "ledger", Key: []string{"entry_no"},
			Columns: []string{
				"entry_no int", "event_id", "kind", "event_type", "item_id", "delta int", "balance int", "level_before int", "level_after int",
				"catalog_version int", "modifier", "effective_at time", "recorded_at time", "notes json",
			},
		},
		{Kind: "tally", Table: "tally", Key: []string{"subject", "period"}, Columns: []string{"subject", "period", "amount int"}},
		{
			Kind: "reversal", Table: "reversal", Key: []string{"event_id"},
			Columns: []string{"event_id", "reversal_id", "actor", "reason", "reversed_at time"},
		},
	}
}
