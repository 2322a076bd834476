CREATE INDEX IF NOT EXISTS revocation_of_player ON session_revocation (player_id, generation)
