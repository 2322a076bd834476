CREATE TABLE IF NOT EXISTS mail (
	player_id     VARCHAR(63) NOT NULL,
	mail_id       VARCHAR(64) NOT NULL,
	source        VARCHAR(16) NOT NULL,
	board         VARCHAR(64) NOT NULL,
	window_id     VARCHAR(64) NOT NULL,
	position      BIGINT NOT NULL,
	tied_position BIGINT NOT NULL,
	xp            BIGINT NOT NULL,
	items         MEDIUMTEXT NOT NULL,
	sent_at       BIGINT NOT NULL,
	expires_at    BIGINT NOT NULL,
	claimed_at    BIGINT NULL,
	ended_at      BIGINT GENERATED ALWAYS AS (COALESCE(claimed_at, expires_at)) STORED,
	PRIMARY KEY (player_id, mail_id)
	/*! , KEY mail_newest (player_id, sent_at, mail_id), KEY mail_ended (ended_at) */
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
