CREATE TABLE IF NOT EXISTS board_window (
	board       VARCHAR(64) NOT NULL,
	window_id   VARCHAR(64) NOT NULL,
	cadence     VARCHAR(16) NOT NULL,
	starts_at   BIGINT NOT NULL,
	ends_at     BIGINT NULL,
	state       VARCHAR(16) NOT NULL,
	taking      SMALLINT GENERATED ALWAYS AS (CASE WHEN state IN ('open', 'closing') THEN 1 ELSE 0 END) STORED,
	changed_at  BIGINT NOT NULL,
	lease_owner VARCHAR(128) NOT NULL,
	lease_until BIGINT NOT NULL,
	fence       BIGINT NOT NULL,
	PRIMARY KEY (board, window_id)
	/*! , KEY board_window_taking (taking, board, window_id), KEY board_window_due (state, ends_at), KEY board_window_last (board, cadence, ends_at) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
