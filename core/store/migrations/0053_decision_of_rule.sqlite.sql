CREATE INDEX IF NOT EXISTS decision_of_rule ON fairness_decision (rule, decided_at, decision_id)
