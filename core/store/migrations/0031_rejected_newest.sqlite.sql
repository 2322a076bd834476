CREATE INDEX IF NOT EXISTS rejected_newest ON rejected (first_at, id)
