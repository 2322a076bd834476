CREATE INDEX IF NOT EXISTS case_in_state ON fairness_case (state, opened_at, case_id)
