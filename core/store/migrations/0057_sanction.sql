CREATE TABLE IF NOT EXISTS sanction (
	player_id   VARCHAR(63) NOT NULL,
	kind        VARCHAR(16) NOT NULL,
	decision_id VARCHAR(32) NOT NULL,
	case_id     VARCHAR(32) NOT NULL,
	reason      VARCHAR(1000) NOT NULL,
	actor       VARCHAR(64) NOT NULL,
	starts_at   BIGINT NOT NULL,
	lifted_at   BIGINT NOT NULL,
	until_at    BIGINT NOT NULL,
	PRIMARY KEY (player_id, kind)
	/*! , KEY sanction_until (until_at), KEY sanction_of_decision (decision_id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
