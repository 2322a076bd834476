CREATE INDEX journal_of_player ON journal (player_id, received_at, event_id)
