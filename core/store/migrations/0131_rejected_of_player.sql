CREATE INDEX rejected_of_player ON rejected (player_id, id)
