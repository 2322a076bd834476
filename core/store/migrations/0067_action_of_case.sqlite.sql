CREATE INDEX IF NOT EXISTS action_of_case ON case_action (case_id, acted_at, action_id)
