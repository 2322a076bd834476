CREATE INDEX IF NOT EXISTS sanction_until ON sanction (until_at)
