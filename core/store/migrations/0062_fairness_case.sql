CREATE TABLE IF NOT EXISTS fairness_case (
	case_id     CHAR(32) NOT NULL PRIMARY KEY,
	player_id   VARCHAR(63) NOT NULL,
	state       VARCHAR(16) NOT NULL,
	opened_at   BIGINT NOT NULL,
	opened_by   VARCHAR(64) NOT NULL,
	reason      VARCHAR(1000) NOT NULL,
	decision_id VARCHAR(32) NOT NULL,
	points      DOUBLE NOT NULL,
	ended_at    BIGINT NOT NULL,
	ended_by    VARCHAR(64) NOT NULL
	/*! , KEY case_newest (opened_at, case_id), KEY case_of_player (player_id, opened_at, case_id), KEY case_in_state (state, opened_at, case_id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
