CREATE INDEX IF NOT EXISTS session_revoked ON session (revoked_at, player_id)
