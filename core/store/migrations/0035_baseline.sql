CREATE TABLE IF NOT EXISTS baseline (
	subject VARCHAR(65) NOT NULL,
	width   BIGINT NOT NULL,
	starts  BIGINT NOT NULL,
	votes   MEDIUMTEXT NOT NULL,
	PRIMARY KEY (subject, width, starts)
) /*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */
