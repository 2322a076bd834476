CREATE TABLE IF NOT EXISTS entry (
	board       VARCHAR(64) NOT NULL,
	window_id   VARCHAR(32) NOT NULL,
	player_id   VARCHAR(63) NOT NULL,
	score       BIGINT NOT NULL,
	total       BIGINT NOT NULL,
	standing    BIGINT NOT NULL,
	achieved_at BIGINT NOT NULL,
	seq         BIGINT NOT NULL,
	event_id    VARCHAR(64) NOT NULL,
	version     BIGINT NOT NULL,
	PRIMARY KEY (board, window_id, player_id)
	/*! , KEY entry_standing (board, window_id, standing, achieved_at, player_id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
