package app

import (
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/pipeline"
	"liveops/handler/web"
)

// shownDecisions is how many of a player's latest decisions come with a case.
const shownDecisions = 20

// listDecisions answers the verdicts that have evidence, newest first.
func (a *App) listDecisions(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	verdict, err := oneOf(r, "verdict", string(fairness.Allow), string(fairness.Flag), string(fairness.Shadow), string(fairness.Throttle), string(fairness.Deny))
	if err != nil {
		return err
	}
	rule, err := oneOf(r, "rule", rules()...)
	if err != nil {
		return err
	}
	player, err := playerQuery(query)
	if err != nil {
		return err
	}
	from, err := instant(query, "from")
	if err != nil {
		return err
	}
	to, err := instant(query, "to")
	if err != nil {
		return err
	}
	rows, next, err := a.records.Decisions(r.Context(), fairness.DecisionFilter{
		Player: player, Rule: rule, Verdict: fairness.Verdict(verdict), From: from, To: to, After: query.Get("cursor"), Limit: n,
	})
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{"decisions": each(rows, decision), "next": next})
}

// showDecision answers one decision with its evidence.
func (a *App) showDecision(w http.ResponseWriter, r *http.Request, _ caller) error {
	row, err := a.records.Decision(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	answer := decision(row)
	answer["evidence"] = row.Evidence
	answer["rejected_id"] = optional(pipeline.Dropped(row))
	return web.JSON(w, http.StatusOK, answer)
}

// listCases answers cases, newest first.
func (a *App) listCases(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	state, err := oneOf(r, "state", string(fairness.CaseOpen), string(fairness.CaseCleared), string(fairness.CaseClosed))
	if err != nil {
		return err
	}
	player, err := playerQuery(r.URL.Query())
	if err != nil {
		return err
	}
	rows, next, err := a.records.Cases(r.Context(), fairness.CaseFilter{
		Player: player, State: fairness.CaseState(state), After: r.URL.Query().Get("cursor"), Limit: n,
	})
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{"cases": each(rows, describeCase), "next": next})
}

// showCase answers one case with everything that helps to decide it.
func (a *App) showCase(w http.ResponseWriter, r *http.Request, _ caller) error {
	row, err := a.records.Case(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	actions, err := a.records.Actions(r.Context(), row.ID)
	if err != nil {
		return err
	}
	inForce, err := a.records.InForce(r.Context(), row.PlayerID)
	if err != nil {
		return err
	}
	conduct, err := a.records.Conduct(r.Context(), row.PlayerID)
	if err != nil {
		return err
	}
	decisions, _, err := a.records.Decisions(r.Context(), fairness.DecisionFilter{Player: row.PlayerID, Limit: shownDecisions})
	if err != nil {
		return err
	}
	halfLife := a.catalog.Load().Fairness.Suspicion.HalfLife.Std()
	answer := describeCase(row)
	answer["actions"], answer["sanctions"], answer["decisions"] = each(actions, action), each(inForce[row.PlayerID], sanction), each(decisions, decision)
	answer["points_now"], answer["blocks_in_a_row"] = conduct.PointsOn(a.options.Now(), halfLife), conduct.Blocks
	return web.JSON(w, http.StatusOK, answer)
}

// openCase opens a case by hand, or adds to the one that is open.
func (a *App) openCase(w http.ResponseWriter, r *http.Request, c caller) error {
	var body struct {
		PlayerID string `json:"player_id"`
		Reason   string `json:"reason"`
	}
	order, err := ordered(c, &body)
	if err != nil {
		return err
	}
	order.Text = body.Reason
	done, err := a.cases.Open(r.Context(), body.PlayerID, order)
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, action(done))
}

// comment adds a remark to a case.
func (a *App) comment(w http.ResponseWriter, r *http.Request, c caller) error {
	var body struct {
		Text string `json:"text"`
	}
	order, err := ordered(c, &body)
	if err != nil {
		return err
	}
	order.Kind, order.Text = fairness.ActionComment, body.Text
	return a.act(w, r, order)
}

// decide makes a handler that ends a case, or takes sanctions back.
func (a *App) decide(kind fairness.ActionKind) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller) error {
		var body struct {
			Reason string `json:"reason"`
		}
		order, err := ordered(c, &body)
		if err != nil {
			return err
		}
		order.Kind, order.Text = kind, body.Reason
		return a.act(w, r, order)
	}
}

// impose makes a handler that imposes a sanction, for a time, until an instant, or without end.
func (a *App) impose(kind fairness.ActionKind) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller) error {
		var body struct {
			Reason string `json:"reason"`
			For    string `json:"for"`
			Until  string `json:"until"`
		}
		order, err := ordered(c, &body)
		if err != nil {
			return err
		}
		order.Kind, order.Text = kind, body.Reason
		if body.For != "" {
			if order.For, err = time.ParseDuration(body.For); err != nil || order.For < time.Second {
				return invalid("/for", fault.FieldRange, "is a length of time such as 72h, at least 1s")
			}
		}
		if body.Until != "" {
			if order.Until, err = time.Parse(time.RFC3339, body.Until); err != nil {
				return invalid("/until", fault.FieldType, "is an instant as RFC 3339 has it")
			}
		}
		return a.act(w, r, order)
	}
}

// act has an order done. Its answer is what is on record of the order, so that a repeat is answered alike, however late.
func (a *App) act(w http.ResponseWriter, r *http.Request, order fairness.Order) error {
	done, err := a.cases.Act(r.Context(), r.PathValue("id"), order)
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, action(done))
}

// ordered reads the body of an order, which must be under an idempotency key: that names the order for ever, not only for as
// long as the gate would know it.
func ordered(c caller, body any) (fairness.Order, error) {
	if err := c.keyed(); err != nil {
		return fairness.Order{}, err
	}
	if err := json.Unmarshal(c.request.Body, body, json.RejectUnknownMembers(true)); err != nil {
		return fairness.Order{}, unreadable(err)
	}
	return fairness.Order{Actor: c.key.ID, Key: c.request.IdempotencyKey}, nil
}

// rules is the codes of the fairness rules.
func rules() []string {
	return []string{
		string(fault.ImpossibleValue), string(fault.MinimumInterval), string(fault.ScoreVelocity), string(fault.OwnHistory),
		string(fault.Population), string(fault.RegularTiming),
	}
}

// playerQuery reads ?player=, empty when it is not sent.
func playerQuery(query url.Values) (string, error) {
	player := query.Get("player")
	if player != "" && !event.ValidPlayerID(player) {
		return "", malformed("player", "player is the id of a player")
	}
	return player, nil
}

// instant reads a parameter that is an instant, zero when it is not sent.
func instant(query url.Values, name string) (time.Time, error) {
	text := query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, malformed(name, name+" is an instant as RFC 3339 has it")
	}
	return at, nil
}

func each[T any](rows []T, describe func(T) map[string]any) []map[string]any {
	list := make([]map[string]any, len(rows))
	for i, row := range rows {
		list[i] = describe(row)
	}
	return list
}

func decision(d fairness.Decision) map[string]any {
	return map[string]any{
		"id": d.ID, "player_id": d.PlayerID, "event_id": d.EventID, "verdict": d.Verdict, "rule": d.Rule, "rule_version": d.RuleVersion,
		"mode": d.Mode, "decided_at": timestamp(d.At), "catalog_version": d.CatalogVersion,
	}
}

func describeCase(c fairness.Case) map[string]any {
	return map[string]any{
		"id": c.ID, "player_id": c.PlayerID, "state": c.State, "opened_at": timestamp(c.OpenedAt), "opened_by": c.OpenedBy, "reason": c.Reason,
		"decision_id": optional(c.DecisionID), "points": c.Points, "ended_at": ending(c.EndedAt), "ended_by": optional(c.EndedBy),
	}
}

func action(a fairness.Action) map[string]any {
	return map[string]any{
		"id": a.ID, "case_id": a.CaseID, "at": timestamp(a.At), "actor": a.Actor, "action": a.Kind, "text": a.Text, "until": ending(a.Until),
	}
}

func sanction(s fairness.Sanction) map[string]any {
	return map[string]any{
		"kind": s.Kind, "reason": s.Reason, "actor": s.Actor, "decision_id": optional(s.DecisionID), "case_id": optional(s.CaseID),
		"starts_at": timestamp(s.Starts), "until": ending(s.Until),
	}
}

// ending is an instant, or null where there is none or none that matters.
func ending(t time.Time) any {
	if t.IsZero() || t.Equal(fairness.Forever) {
		return nil
	}
	return timestamp(t)
}

// optional is a text, or null where it is empty.
func optional(text string) any {
	if text == "" {
		return nil
	}
	return text
}
