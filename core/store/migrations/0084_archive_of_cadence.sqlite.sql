CREATE INDEX IF NOT EXISTS archive_of_cadence ON archive (board, cadence, sequence)
