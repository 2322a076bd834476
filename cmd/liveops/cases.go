package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"liveops/core/signing"
)

type casesCommand struct {
	List      casesList   `cmd:"" default:"withargs" help:"List cases, newest first."`
	Show      casesShow   `cmd:"" help:"Print a case with everything that helps to decide it."`
	Open      casesOpen   `cmd:"" help:"Open a case about a player, or add to the one that is open."`
	Comment   caseComment `cmd:"" help:"Add a remark to a case."`
	Clear     caseClear   `cmd:"" help:"There is nothing against the player: end the case, and what the rules imposed."`
	Ban       caseBan     `cmd:"" help:"Keep the player out, and hide him from everybody."`
	ShadowBan caseShadow  `cmd:"" help:"Hide the player from everybody but himself."`
	Unban     caseUnban   `cmd:"" help:"Take ban and shadow-ban back."`
}

// Help implements kong's longer help.
func (casesCommand) Help() string {
	return `Examples:
  liveops cases --state open --secret-file DIR/dev-admin.secret
  liveops cases show 6e9d… --secret-file DIR/dev-admin.secret
  liveops cases ban 6e9d… "sells scores" --for 72h --secret-file DIR/dev-admin.secret`
}

// page is the flags of lists.
type page struct {
	Limit int `help:"How many, 1 to 1000." default:"20"`
}

// Validate implements kong's check of the flags.
func (p page) Validate() error {
	if p.Limit < 1 || p.Limit > 1000 {
		return errors.New("--limit must be 1 to 1000")
	}
	return nil
}

// each asks for a list page by page, and gives each page to read, which says how many it held and where the next begins.
func (c client) each(ctx context.Context, path string, query url.Values, limit int, read func(text []byte) (n int, next string, err error)) error {
	for limit > 0 {
		query.Set("limit", strconv.Itoa(min(limit, maxMove)))
		var text rawJSON
		if err := c.do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &text); err != nil {
			return err
		}
		n, next, err := read(text)
		if err != nil || next == "" {
			return err
		}
		limit -= n
		query.Set("cursor", next)
	}
	return nil
}

// rawJSON keeps an answer as it came.
type rawJSON []byte

// UnmarshalJSON implements json.Unmarshaler.
func (r *rawJSON) UnmarshalJSON(text []byte) error {
	*r = append((*r)[:0], text...)
	return nil
}

// present sets the parameters that have a value.
func present(parameters map[string]string) url.Values {
	query := url.Values{}
	for name, value := range parameters {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

type shownCase struct {
	ID        string          `json:"id"`
	PlayerID  string          `json:"player_id"`
	State     string          `json:"state"`
	OpenedAt  string          `json:"opened_at"`
	OpenedBy  string          `json:"opened_by"`
	Reason    string          `json:"reason"`
	PointsNow float64         `json:"points_now"`
	Blocks    int             `json:"blocks_in_a_row"`
	Actions   []shownAction   `json:"actions"`
	Sanctions []shownSanction `json:"sanctions"`
	Decisions []shownDecision `json:"decisions"`
}

type shownAction struct {
	CaseID string `json:"case_id"`
	At     string `json:"at"`
	Actor  string `json:"actor"`
	Action string `json:"action"`
	Text   string `json:"text"`
	Until  string `json:"until"`
}

type shownSanction struct {
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
	Actor  string `json:"actor"`
	Until  string `json:"until"`
}

type casesList struct {
	State  string `help:"Only those that are open, cleared or closed." enum:"open,cleared,closed," default:""`
	Player string `help:"Only those about this player." placeholder:"ID"`
	page
	address
	operator
}

// Validate implements kong's check of the flags.
func (c casesList) Validate() error { return errors.Join(c.page.Validate(), c.address.Validate()) }

func (c casesList) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	var list []shownCase
	err = me.each(ctx, "/v1/operations/cases", present(map[string]string{"state": c.State, "player": c.Player}), c.Limit, func(text []byte) (int, string, error) {
		var answer struct {
			Cases []shownCase `json:"cases"`
			Next  string      `json:"next"`
		}
		err := json.Unmarshal(text, &answer)
		list = append(list, answer.Cases...)
		return len(answer.Cases), answer.Next, err
	})
	t.out.table(0, func(row func(string, ...any)) {
		for _, one := range list {
			row("%s\t%s\t%s\t%s\t%s\t%s", one.ID, one.State, one.PlayerID, one.OpenedAt, one.OpenedBy, one.Reason)
		}
	})
	return err
}

type casesShow struct {
	ID string `arg:"" help:"The case."`
	address
	operator
}

func (c casesShow) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	var one shownCase
	if err := me.do(ctx, http.MethodGet, "/v1/operations/cases/"+url.PathEscape(c.ID), nil, &one); err != nil {
		return err
	}
	t.out.printf("%s  %s  %.1f points now, %d blocks in a row\n", one.PlayerID, one.State, one.PointsNow, one.Blocks)
	for _, s := range one.Sanctions {
		t.out.printf("in force: %s %s, by %s: %s\n", s.Kind, ends(s.Until), s.Actor, s.Reason)
	}
	t.out.printf("\n")
	t.out.table(0, func(row func(string, ...any)) {
		for _, a := range one.Actions {
			until := ""
			if a.Action == "ban" || a.Action == "shadow-ban" {
				until = " " + ends(a.Until)
			}
			row("%s\t%s\t%s%s\t%s", a.At, a.Actor, a.Action, until, a.Text)
		}
	})
	t.out.printf("\n")
	printDecisions(t.out, one.Decisions)
	return nil
}

// ends says until when a sanction lasts.
func ends(until string) string {
	if until == "" {
		return "without end"
	}
	return "until " + until
}

// order is the flags of commands that change something.
type order struct {
	Order string `help:"Name of the order, to try it again when it is not certain that it was done: then nothing is done twice. A new one when not given." placeholder:"NAME"`
	address
	operator
}

// send posts an order and reads what is on record of it.
func (o order) send(ctx context.Context, path string, members map[string]string, done any) error {
	me, err := o.signed(identity(o.operator))
	if err != nil {
		return err
	}
	me.idempotency = o.Order
	if me.idempotency == "" {
		me.idempotency = signing.NewNonce()
	}
	body, err := json.Marshal(members, json.Deterministic(true))
	if err != nil {
		return err
	}
	if err := me.do(ctx, http.MethodPost, path, body, done); err != nil {
		return fmt.Errorf("%w (to try the same order again: --order %s)", err, me.idempotency)
	}
	return nil
}

// about sends an order about a case and says what is on record of it.
func (o order) about(ctx context.Context, t *terminal, path string, members map[string]string) error {
	var done shownAction
	if err := o.send(ctx, "/v1/operations/cases"+path, members, &done); err != nil {
		return err
	}
	t.out.printf("%s  %s  %s  %s\n", done.CaseID, done.At, done.Action, done.Text)
	return nil
}

type casesOpen struct {
	Player string `arg:"" help:"The player."`
	Reason string `arg:"" help:"Why."`
	order
}

func (c casesOpen) Run(ctx context.Context, t *terminal) error {
	return c.about(ctx, t, "", map[string]string{"player_id": c.Player, "reason": c.Reason})
}

type caseComment struct {
	ID   string `arg:"" help:"The case."`
	Text string `arg:"" help:"The remark."`
	order
}

func (c caseComment) Run(ctx context.Context, t *terminal) error {
	return c.about(ctx, t, "/"+url.PathEscape(c.ID)+"/comment", map[string]string{"text": c.Text})
}

// verdict is the arguments of commands that decide a case.
type verdict struct {
	ID     string `arg:"" help:"The case."`
	Reason string `arg:"" help:"Why."`
	order
}

func (v verdict) decide(ctx context.Context, t *terminal, action string) error {
	return v.about(ctx, t, "/"+url.PathEscape(v.ID)+"/"+action, map[string]string{"reason": v.Reason})
}

type (
	caseClear struct{ verdict }
	caseUnban struct{ verdict }
)

func (c caseClear) Run(ctx context.Context, t *terminal) error { return c.decide(ctx, t, "clear") }

func (c caseUnban) Run(ctx context.Context, t *terminal) error { return c.decide(ctx, t, "unban") }

// sentence is the arguments of commands that impose something.
type sentence struct {
	verdict
	For   string `help:"How long, such as 72h; without end when neither this nor --until is given." placeholder:"TIME" xor:"end"`
	Until string `help:"Until when, as 2026-12-01T00:00:00Z." placeholder:"TIME" xor:"end"`
}

func (s sentence) impose(ctx context.Context, t *terminal, action string) error {
	members := map[string]string{"reason": s.Reason}
	if s.For != "" {
		members["for"] = s.For
	}
	if s.Until != "" {
		members["until"] = s.Until
	}
	return s.about(ctx, t, "/"+url.PathEscape(s.ID)+"/"+action, members)
}

type (
	caseBan    struct{ sentence }
	caseShadow struct{ sentence }
)

func (c caseBan) Run(ctx context.Context, t *terminal) error { return c.impose(ctx, t, "ban") }

func (c caseShadow) Run(ctx context.Context, t *terminal) error {
	return c.impose(ctx, t, "shadow-ban")
}

type decisionsCommand struct {
	ID      string `arg:"" optional:"" help:"One decision, with its evidence."`
	Player  string `help:"Only those on this player." placeholder:"ID"`
	Rule    string `help:"Only those by this rule." placeholder:"CODE"`
	Verdict string `help:"Only this verdict." enum:"allow,flag,shadow,throttle,deny," default:""`
	From    string `help:"Only from then on." placeholder:"TIME"`
	To      string `help:"Only before then." placeholder:"TIME"`
	page
	address
	operator
}

// Help implements kong's longer help.
func (decisionsCommand) Help() string {
	return `Examples:
  liveops decisions --player katsu --secret-file DIR/dev-admin.secret
  liveops decisions 5f0c… --secret-file DIR/dev-admin.secret`
}

// Validate implements kong's check of the flags.
func (c decisionsCommand) Validate() error {
	return errors.Join(c.page.Validate(), c.address.Validate())
}

type shownDecision struct {
	ID        string  `json:"id"`
	PlayerID  string  `json:"player_id"`
	EventID   string  `json:"event_id"`
	Verdict   string  `json:"verdict"`
	Rule      string  `json:"rule"`
	DecidedAt string  `json:"decided_at"`
	Rejected  string  `json:"rejected_id"`
	Catalog   int     `json:"catalog_version"`
	Evidence  []proof `json:"evidence"`
}

// proof is one limit that an event broke.
type proof struct {
	Rule     string  `json:"rule"`
	Mode     string  `json:"mode"`
	Verdict  string  `json:"verdict"`
	Measure  string  `json:"measure"`
	Window   int64   `json:"window_ms"`
	Limit    float64 `json:"limit"`
	Observed float64 `json:"observed"`
	Text     string  `json:"text"`
}

func (c decisionsCommand) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	if c.ID != "" {
		return me.showDecision(ctx, t, c.ID)
	}
	query := present(map[string]string{"player": c.Player, "rule": c.Rule, "verdict": c.Verdict, "from": c.From, "to": c.To})
	var list []shownDecision
	err = me.each(ctx, "/v1/operations/decisions", query, c.Limit, func(text []byte) (int, string, error) {
		var answer struct {
			Decisions []shownDecision `json:"decisions"`
			Next      string          `json:"next"`
		}
		err := json.Unmarshal(text, &answer)
		list = append(list, answer.Decisions...)
		return len(answer.Decisions), answer.Next, err
	})
	printDecisions(t.out, list)
	return err
}

func (c client) showDecision(ctx context.Context, t *terminal, id string) error {
	var one shownDecision
	if err := c.do(ctx, http.MethodGet, "/v1/operations/decisions/"+url.PathEscape(id), nil, &one); err != nil {
		return err
	}
	t.out.printf("%s  event %s of %s at %s by catalog %d\n", one.Verdict, one.EventID, one.PlayerID, one.DecidedAt, one.Catalog)
	if one.Rejected != "" {
		t.out.printf("rejected: %s\n", one.Rejected)
	}
	t.out.table(0, func(row func(string, ...any)) {
		for _, p := range one.Evidence {
			row("%s\t%s\t%s\t%s", p.Rule+" ("+p.Mode+")", p.Verdict, p.Measure, strings.TrimSpace(fmt.Sprintf("%g, limit %g %s", p.Observed, p.Limit, p.Text)))
		}
	})
	return nil
}

func printDecisions(to *printer, list []shownDecision) {
	to.table(0, func(row func(string, ...any)) {
		for _, d := range list {
			row("%s\t%s\t%s\t%s\t%s\t%s", d.ID, d.DecidedAt, d.Verdict, d.Rule, d.PlayerID, d.EventID)
		}
	})
}
