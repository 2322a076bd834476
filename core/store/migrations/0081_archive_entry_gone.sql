DROP TABLE IF EXISTS archive_entry
