CREATE TABLE IF NOT EXISTS receipt (
	player_id  VARCHAR(63) NOT NULL,
	event_id   VARCHAR(64) NOT NULL,
	receipt_id VARCHAR(64) NOT NULL,
	token      TEXT NOT NULL,
	issued_at  BIGINT NOT NULL,
	PRIMARY KEY (player_id, event_id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
