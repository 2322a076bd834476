CREATE INDEX IF NOT EXISTS case_newest ON fairness_case (opened_at, case_id)
