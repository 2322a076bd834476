package fairness

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
)

// DecisionFilter is what Decisions lists. Empty fields ask for nothing.
type DecisionFilter struct {
	Player   string
	Rule     string // of the first finding
	Verdict  Verdict
	From, To time.Time // when it was judged: from From on, before To
	After    string    // the next of the page before; empty: from the newest
	Limit    int       // 1 to 1000; outside of that it is moved to the nearer end
}

func decisionTable() store.Table {
	return store.Table{
		Name: "fairness_decision", Key: []string{"decision_id"},
		Columns: []string{
			"decision_id", "player_id", "event_id", "verdict", "rule", "rule_version", "mode", "evidence", "decided_at", "catalog_version",
		},
	}
}

// DecisionID is the id of the decision on an event, if there is one.
func DecisionID(player, id string) string {
	return derived("decision", event.Event{PlayerID: player, ID: id}.Identity())
}

func insertDecisions(ctx context.Context, q store.Queries, decisions []Decision) error {
	rows := make(map[string][]any, len(decisions))
	for _, d := range decisions {
		evidence, err := json.Marshal(d.Evidence)
		if err != nil {
			return fmt.Errorf("write the evidence of decision %s: %w", d.ID, err)
		}
		rows[d.ID] = []any{
			d.ID, d.PlayerID, d.EventID, string(d.Verdict), d.Rule, d.RuleVersion, d.Mode, string(evidence), d.At.UnixMilli(), d.CatalogVersion,
		}
	}
	return decisionTable().Insert(ctx, q, inOrder(rows))
}

// Decision gives one decision, or fault.DecisionNotFound.
func (r *Records) Decision(ctx context.Context, id string) (Decision, error) {
	found, err := r.decisions(ctx, " WHERE decision_id = ?", []any{id})
	switch {
	case err != nil:
		return Decision{}, fmt.Errorf("read decision: %w", err)
	case len(found) == 0:
		return Decision{}, fault.DecisionNotFound.Errorf("there is no decision with this id")
	}
	return found[0], nil
}

// Decisions lists decisions, newest first, and gives the After of the next page, empty at the end. An After that it did not give
// is fault.MalformedCursor.
func (r *Records) Decisions(ctx context.Context, f DecisionFilter) ([]Decision, string, error) {
	var c conditions
	c.equal("player_id", f.Player)
	c.equal("rule", f.Rule)
	c.equal("verdict", string(f.Verdict))
	if !f.From.IsZero() {
		c.add("decided_at >= ?", f.From.UnixMilli())
	}
	if !f.To.IsZero() {
		c.add("decided_at < ?", f.To.UnixMilli())
	}
	limit := min(max(f.Limit, 1), maxList)
	rest, err := c.page(f.After, "decided_at", "decision_id", limit)
	if err != nil {
		return nil, "", err
	}
	list, err := r.decisions(ctx, rest, c.args)
	if err != nil {
		return nil, "", fmt.Errorf("list decisions: %w", err)
	}
	if len(list) <= limit {
		return list, "", nil
	}
	return list[:limit], cursor(list[limit-1].At, list[limit-1].ID), nil
}

func (r *Records) decisions(ctx context.Context, rest string, args []any) ([]Decision, error) {
	var list []Decision
	err := r.DB.Each(ctx, "SELECT "+strings.Join(decisionTable().Columns, ", ")+" FROM fairness_decision"+rest, args, func(scan func(...any) error) error {
		var d Decision
		var evidence string
		var at int64
		err := scan(&d.ID, &d.PlayerID, &d.EventID, &d.Verdict, &d.Rule, &d.RuleVersion, &d.Mode, &evidence, &at, &d.CatalogVersion)
		if err != nil {
			return err
		}
		d.Code, d.At = fault.Code(d.Rule), time.UnixMilli(at).UTC()
		err = json.Unmarshal([]byte(evidence), &d.Evidence)
		list = append(list, d)
		return err
	})
	return list, err
}
