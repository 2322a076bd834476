DROP TABLE IF EXISTS player_block
