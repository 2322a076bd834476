package fairness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/store"
)

// Decisions keeps decisions with their evidence. It owns the table decision.
type Decisions struct {
	DB *store.DB
}

const decisionColumns = "decision_id, player_id, event_id, verdict, rule, rule_version, mode, evidence, decided_at"

// Record keeps the decisions that have evidence and leaves out the others. A decision is kept once: recording it again
// changes nothing.
func (d *Decisions) Record(ctx context.Context, decisions []Decision) error {
	var rows [][]any
	seen := map[string]bool{}
	// In one order everywhere, so that two replicas with the same batch wait for each other instead of deadlocking.
	for _, one := range slices.SortedFunc(slices.Values(decisions), func(a, b Decision) int { return strings.Compare(a.ID, b.ID) }) {
		if len(one.Evidence) == 0 || seen[one.ID] {
			continue
		}
		seen[one.ID] = true
		evidence, err := json.Marshal(one.Evidence)
		if err != nil {
			return fmt.Errorf("write the evidence of decision %s: %w", one.ID, err)
		}
		rows = append(rows, []any{
			one.ID, one.PlayerID, one.EventID, string(one.Verdict), one.Rule, one.RuleVersion, one.Mode, string(evidence), one.At.UnixMilli(),
		})
	}
	table := store.Table{Name: "decision", Columns: strings.Split(decisionColumns, ", "), Key: []string{"decision_id"}}
	if err := table.InsertMissing(ctx, d.DB.Queries, rows); err != nil {
		return fmt.Errorf("record %d decisions: %w", len(rows), err)
	}
	return nil
}

// Get gives one decision, or fault.DecisionNotFound.
func (d *Decisions) Get(ctx context.Context, id string) (Decision, error) {
	var one Decision
	err := d.DB.Each(ctx, "SELECT "+decisionColumns+" FROM decision WHERE decision_id = ?", []any{id}, func(scan func(...any) error) error {
		var evidence string
		var at int64
		if err := scan(&one.ID, &one.PlayerID, &one.EventID, &one.Verdict, &one.Rule, &one.RuleVersion, &one.Mode, &evidence, &at); err != nil {
			return err
		}
		one.Code, one.At = fault.Code(one.Rule), time.UnixMilli(at).UTC()
		return json.Unmarshal([]byte(evidence), &one.Evidence)
	})
	switch {
	case err != nil:
		return Decision{}, fmt.Errorf("read decision: %w", err)
	case one.ID == "":
		return Decision{}, fault.DecisionNotFound.Errorf("there is no decision with this id")
	}
	return one, nil
}
