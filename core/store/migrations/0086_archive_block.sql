CREATE TABLE IF NOT EXISTS archive_block (
	board     VARCHAR(64) NOT NULL,
	window_id VARCHAR(64) NOT NULL,
	block     BIGINT NOT NULL,
	root      CHAR(43) NOT NULL,
	PRIMARY KEY (board, window_id, block)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
