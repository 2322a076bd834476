CREATE TABLE IF NOT EXISTS archive (
	board           VARCHAR(64) NOT NULL,
	window_id       VARCHAR(64) NOT NULL,
	cadence         VARCHAR(16) NOT NULL,
	starts_at       BIGINT NOT NULL,
	ends_at         BIGINT NOT NULL,
	entries         BIGINT NOT NULL,
	kept            BIGINT NOT NULL,
	top_player      VARCHAR(63) NOT NULL,
	top_score       BIGINT NOT NULL,
	closed_at       BIGINT NOT NULL,
	catalog_version BIGINT NOT NULL,
	tiers           MEDIUMTEXT NOT NULL,
	mismatches      BIGINT NULL,
	root            CHAR(43) NOT NULL,
	sequence        BIGINT NOT NULL,
	previous        VARCHAR(43) NOT NULL,
	seal            TEXT NOT NULL,
	PRIMARY KEY (board, window_id),
	CONSTRAINT archive_sequence UNIQUE (board, sequence)
	/*! , KEY archive_of_cadence (board, cadence, sequence) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
