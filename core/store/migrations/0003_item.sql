CREATE TABLE IF NOT EXISTS item (
	player_id VARCHAR(63) NOT NULL,
	item_id   VARCHAR(64) NOT NULL,
	quantity  BIGINT NOT NULL,
	PRIMARY KEY (player_id, item_id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
