INSERT INTO fairness_decision
	SELECT decision_id, player_id, event_id, verdict, rule, rule_version, mode, evidence, decided_at, 0 FROM decision
	WHERE decision_id NOT IN (SELECT decision_id FROM fairness_decision)
