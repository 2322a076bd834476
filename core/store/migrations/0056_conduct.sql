CREATE TABLE IF NOT EXISTS conduct (
	player_id     VARCHAR(63) NOT NULL PRIMARY KEY,
	points        DOUBLE NOT NULL,
	points_at     BIGINT NOT NULL,
	throttled     DOUBLE NOT NULL,
	throttled_at  BIGINT NOT NULL,
	blocks        INTEGER NOT NULL,
	blocked_until BIGINT NOT NULL,
	case_id       VARCHAR(32) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
