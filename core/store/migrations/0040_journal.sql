CREATE TABLE IF NOT EXISTS journal (
	received_at BIGINT NOT NULL,
	player_id   VARCHAR(63) NOT NULL,
	event_id    VARCHAR(64) NOT NULL,
	body        MEDIUMBLOB NOT NULL,
	PRIMARY KEY (received_at, player_id, event_id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
