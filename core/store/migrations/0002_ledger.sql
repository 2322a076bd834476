CREATE TABLE IF NOT EXISTS ledger (
	player_id       VARCHAR(63) NOT NULL,
	event_id        VARCHAR(64) NOT NULL,
	kind            VARCHAR(96) NOT NULL,
	entry_no        BIGINT NOT NULL,
	event_type      VARCHAR(64) NOT NULL,
	item_id         VARCHAR(64) NOT NULL,
	delta           BIGINT NOT NULL,
	balance         BIGINT NOT NULL,
	level_before    INTEGER NOT NULL,
	level_after     INTEGER NOT NULL,
	catalog_version INTEGER NOT NULL,
	effective_at    BIGINT NOT NULL,
	recorded_at     BIGINT NOT NULL,
	notes           MEDIUMTEXT,
	PRIMARY KEY (player_id, event_id, kind),
	UNIQUE (player_id, entry_no)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
