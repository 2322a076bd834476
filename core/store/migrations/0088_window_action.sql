CREATE TABLE IF NOT EXISTS window_action (
	action_id   CHAR(32) NOT NULL PRIMARY KEY,
	board       VARCHAR(64) NOT NULL,
	window_id   VARCHAR(64) NOT NULL,
	acted_at    BIGINT NOT NULL,
	actor       VARCHAR(64) NOT NULL,
	action      VARCHAR(16) NOT NULL,
	reason      VARCHAR(1000) NOT NULL,
	details     TEXT NOT NULL,
	fingerprint CHAR(64) NOT NULL
	/*! , KEY action_of_window (board, window_id, acted_at, action_id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
