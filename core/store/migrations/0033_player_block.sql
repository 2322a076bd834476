CREATE TABLE IF NOT EXISTS player_block (
	player_id   VARCHAR(63) NOT NULL PRIMARY KEY,
	decision_id CHAR(32) NOT NULL,
	reason      VARCHAR(64) NOT NULL,
	blocked_at  BIGINT NOT NULL,
	until_at    BIGINT NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
