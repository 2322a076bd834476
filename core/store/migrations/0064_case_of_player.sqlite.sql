CREATE INDEX IF NOT EXISTS case_of_player ON fairness_case (player_id, opened_at, case_id)
