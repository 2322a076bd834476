CREATE INDEX IF NOT EXISTS mail_newest ON mail (player_id, sent_at, mail_id)
