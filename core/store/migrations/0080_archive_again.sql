UPDATE board_window SET state = 'frozen' WHERE state = 'archived'
