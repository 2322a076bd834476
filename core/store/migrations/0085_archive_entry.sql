CREATE TABLE IF NOT EXISTS archive_entry (
	board         VARCHAR(64) NOT NULL,
	window_id     VARCHAR(64) NOT NULL,
	position      BIGINT NOT NULL,
	tied_position BIGINT NOT NULL,
	player_id     VARCHAR(63) NOT NULL,
	score         BIGINT NOT NULL,
	achieved_at   BIGINT NOT NULL,
	event_id      VARCHAR(64) NOT NULL,
	metadata      VARCHAR(1024) NOT NULL,
	salt          CHAR(22) NULL,
	commitment    CHAR(43) NULL,
	path          VARCHAR(2400) NULL,
	PRIMARY KEY (board, window_id, position),
	CONSTRAINT archive_entry_player UNIQUE (player_id, board, window_id),
	CONSTRAINT archive_entry_salt CHECK ((salt IS NULL) <> (commitment IS NULL))
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
