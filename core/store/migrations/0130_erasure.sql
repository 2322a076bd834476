CREATE TABLE IF NOT EXISTS erasure (
	player_id    VARCHAR(63) NOT NULL PRIMARY KEY,
	requested_at BIGINT NOT NULL,
	due_at       BIGINT NOT NULL,
	actor        VARCHAR(128) NOT NULL,
	reason       VARCHAR(512) NOT NULL,
	begun_at     BIGINT NULL,
	erased_at    BIGINT NULL,
	next_at      BIGINT NOT NULL
	/*! , KEY erasure_next (next_at) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
