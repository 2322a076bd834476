CREATE INDEX IF NOT EXISTS action_of_window ON window_action (board, window_id, acted_at, action_id)
