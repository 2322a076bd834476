CREATE TABLE IF NOT EXISTS tally (
	player_id VARCHAR(63) NOT NULL,
	subject   VARCHAR(96) NOT NULL,
	period    VARCHAR(64) NOT NULL,
	amount    BIGINT NOT NULL,
	PRIMARY KEY (player_id, subject, period)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
