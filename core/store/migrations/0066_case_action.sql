CREATE TABLE IF NOT EXISTS case_action (
	action_id   CHAR(32) NOT NULL PRIMARY KEY,
	case_id     CHAR(32) NOT NULL,
	acted_at    BIGINT NOT NULL,
	actor       VARCHAR(64) NOT NULL,
	action      VARCHAR(16) NOT NULL,
	remark      VARCHAR(1000) NOT NULL,
	until_at    BIGINT NOT NULL,
	fingerprint CHAR(64) NOT NULL
	/*! , KEY action_of_case (case_id, acted_at, action_id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
