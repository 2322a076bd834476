CREATE INDEX IF NOT EXISTS entry_standing ON entry (board, window_id, standing, achieved_at, player_id)
