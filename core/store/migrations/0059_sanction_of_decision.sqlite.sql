CREATE INDEX IF NOT EXISTS sanction_of_decision ON sanction (decision_id)
