CREATE TABLE IF NOT EXISTS archive (
	board           VARCHAR(64) NOT NULL,
	window_id       VARCHAR(64) NOT NULL,
	entries         BIGINT NOT NULL,
	top_player      VARCHAR(63) NOT NULL,
	top_score       BIGINT NOT NULL,
	closed_at       BIGINT NOT NULL,
	catalog_version BIGINT NOT NULL,
	digest          CHAR(64) NOT NULL,
	PRIMARY KEY (board, window_id)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
