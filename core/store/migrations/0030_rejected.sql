CREATE TABLE IF NOT EXISTS rejected (
	id         CHAR(32) NOT NULL PRIMARY KEY,
	stage      VARCHAR(16) NOT NULL,
	message_id VARCHAR(128) NOT NULL,
	player_id  VARCHAR(63) NOT NULL,
	event_id   VARCHAR(64) NOT NULL,
	code       VARCHAR(64) NOT NULL,
	detail     VARCHAR(1000) NOT NULL,
	body       MEDIUMBLOB NOT NULL,
	first_at   BIGINT NOT NULL,
	last_at    BIGINT NOT NULL,
	times      BIGINT NOT NULL
	/*! , KEY rejected_newest (first_at, id) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
