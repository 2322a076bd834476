CREATE INDEX IF NOT EXISTS decision_newest ON fairness_decision (decided_at, decision_id)
