CREATE TABLE IF NOT EXISTS session_revocation (
	revocation_id CHAR(32) NOT NULL PRIMARY KEY,
	player_id     VARCHAR(63) NOT NULL,
	generation    BIGINT NOT NULL,
	revoked_at    BIGINT NOT NULL,
	actor         VARCHAR(64) NOT NULL,
	reason        VARCHAR(1000) NOT NULL
	/*! , KEY revocation_of_player (player_id, generation) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
