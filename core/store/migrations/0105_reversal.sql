CREATE TABLE IF NOT EXISTS reversal (
	player_id   VARCHAR(63) NOT NULL,
	event_id    VARCHAR(64) NOT NULL,
	reversal_id VARCHAR(64) NOT NULL,
	actor       VARCHAR(128) NOT NULL,
	reason      VARCHAR(512) NOT NULL,
	reversed_at BIGINT NOT NULL,
	PRIMARY KEY (player_id, event_id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
