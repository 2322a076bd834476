INSERT INTO sanction
	SELECT player_id, 'block', decision_id, '', reason, 'fairness', blocked_at, 0, until_at FROM player_block
	WHERE player_id NOT IN (SELECT player_id FROM sanction WHERE kind = 'block')
