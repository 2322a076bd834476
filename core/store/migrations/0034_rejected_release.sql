CREATE TABLE IF NOT EXISTS rejected_release (
	id          CHAR(32) NOT NULL PRIMARY KEY,
	queue       VARCHAR(260) NOT NULL,
	released_at BIGINT NOT NULL,
	released_by VARCHAR(64) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
