CREATE TABLE IF NOT EXISTS fairness_decision (
	decision_id     CHAR(32) NOT NULL PRIMARY KEY,
	player_id       VARCHAR(63) NOT NULL,
	event_id        VARCHAR(64) NOT NULL,
	verdict         VARCHAR(16) NOT NULL,
	rule            VARCHAR(64) NOT NULL,
	rule_version    INTEGER NOT NULL,
	mode            VARCHAR(16) NOT NULL,
	evidence        TEXT NOT NULL,
	decided_at      BIGINT NOT NULL,
	catalog_version BIGINT NOT NULL
	/*! , KEY decision_newest (decided_at, decision_id), KEY decision_of_player (player_id, decided_at, decision_id),
		KEY decision_of_rule (rule, decided_at, decision_id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
