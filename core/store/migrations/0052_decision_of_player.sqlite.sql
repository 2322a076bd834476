CREATE INDEX IF NOT EXISTS decision_of_player ON fairness_decision (player_id, decided_at, decision_id)
