CREATE TABLE IF NOT EXISTS session (
	player_id  VARCHAR(63) NOT NULL PRIMARY KEY,
	generation BIGINT NOT NULL,
	revoked_at BIGINT NOT NULL
	/*! , KEY session_revoked (revoked_at, player_id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
