CREATE INDEX IF NOT EXISTS mail_ended ON mail (ended_at)
