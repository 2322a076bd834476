package fairness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
)

// CaseState is how far a case is.
type CaseState string

// The states.
const (
	CaseOpen    CaseState = "open"    // a person should look
	CaseCleared CaseState = "cleared" // there is nothing against the player
	CaseClosed  CaseState = "closed"  // the player was banned or shadow-banned
)

// Case is something about a player that a person should look at. Of a player one at most is open.
type Case struct {
	ID         string // 32 characters
	PlayerID   string
	State      CaseState
	OpenedAt   time.Time
	OpenedBy   string // the id of the operator's key, or Automatic
	Reason     string
	DecisionID string    // of the decision that opened it; empty where an operator did
	Points     float64   // of suspicion, as of the last decision before it was opened, and that one's too
	EndedAt    time.Time // zero while it is open
	EndedBy    string
}

// ActionKind is what can be done about a case.
type ActionKind string

// The kinds of action.
const (
	ActionOpen      ActionKind = "open"
	ActionComment   ActionKind = "comment"
	ActionClear     ActionKind = "clear"      // ends the case; the player's points and blocks are forgotten, and sanctions by the rules lifted
	ActionShadowBan ActionKind = "shadow-ban" // ends the case; its points are spent
	ActionBan       ActionKind = "ban"        // likewise
	ActionUnban     ActionKind = "unban"      // lifts ban and shadow-ban, by whomever
)

// Action is one thing that was done about a case. Actions are only ever added.
type Action struct {
	ID       string // 32 characters
	CaseID   string
	PlayerID string // set by Act and Open
	At       time.Time
	Actor    string // the id of the operator's key, or Automatic
	Kind     ActionKind
	Text     string    // the reason, or the comment
	Until    time.Time // of a ban or shadow-ban; Forever: without end

	fingerprint string // of the order
}

// Order is what an operator wants done. Actor and Key name it: the same order again is done once.
type Order struct {
	Actor string // the id of the operator's key
	Key   string // one for each order of an actor on a case, from the Idempotency-Key header
	Kind  ActionKind
	Text  string        // 1 to 1000 characters
	For   time.Duration // how long a ban or shadow-ban lasts, to the year 2200 at most; 0: see Until
	Until time.Time     // when it ends; zero, and For 0: never
}

// maxText is how long a reason or comment may be, in characters.
const maxText = 1000

// CaseFilter is what Cases lists. Empty fields ask for nothing.
type CaseFilter struct {
	Player string
	State  CaseState
	After  string // the next of the page before; empty: from the newest
	Limit  int    // 1 to 1000; outside of that it is moved to the nearer end
}

// Act does something about a case. The same order again, however late, gives the same action and does nothing; the same key with
// another order is fault.IdempotencyReused. What cannot be done so is fault.RequestInvalid, and an id that is nobody's
// fault.CaseNotFound.
func (r *Records) Act(ctx context.Context, id string, o Order) (Action, error) {
	var done Action
	err := r.DB.Tx(ctx, func(tx *store.Tx) error {
		found, err := getCase(ctx, tx.Queries, id)
		if err != nil {
			return err
		}
		b, err := lockBook(ctx, tx, []string{found.PlayerID}, r.now())
		if err != nil {
			return err
		}
		if found, err = getCase(ctx, tx.Queries, id); err != nil { // as it is now that nobody changes it
			return err
		}
		a := Action{ID: derived("action", id, o.Actor, o.Key), CaseID: id, PlayerID: found.PlayerID}
		done, err = b.order(ctx, a, o, func(a Action) { b.act(found, a) })
		return err
	})
	if err != nil {
		return Action{}, fmt.Errorf("%s: %w", o.Kind, err)
	}
	return done, nil
}

// Open opens a case about a player by hand, unless one is open already: then the action is added to that one. opened says whether there
// is a new case. It is otherwise as Act.
func (r *Records) Open(ctx context.Context, player string, o Order) (done Action, opened bool, err error) {
	if !event.ValidPlayerID(player) {
		return Action{}, false, invalid("/player_id", fault.FieldType, "is not the id of a player")
	}
	err = r.DB.Tx(ctx, func(tx *store.Tx) error {
		b, err := lockBook(ctx, tx, []string{player}, r.now())
		if err != nil {
			return err
		}
		opened = false
		c := b.conduct[player]
		a := Action{ID: derived("action", "open", o.Actor, o.Key), CaseID: c.Case, PlayerID: player}
		if a.CaseID == "" {
			a.CaseID = caseID("order", o.Actor+"\n"+o.Key)
		}
		done, err = b.order(ctx, a, o, func(a Action) {
			if c.Case != "" {
				return
			}
			c.Case, opened = a.CaseID, true
			b.conduct[player], b.changed[player] = c, true
			b.cases = append(b.cases, Case{
				ID: a.CaseID, PlayerID: player, State: CaseOpen, OpenedAt: a.At, OpenedBy: a.Actor, Reason: a.Text, Points: c.Points,
			})
		})
		return err
	})
	if err != nil {
		return Action{}, false, fmt.Errorf("open a case: %w", err)
	}
	return done, opened, nil
}

// order does an order that was not done yet, under the id of a, and gives the action that is on record.
func (b *book) order(ctx context.Context, a Action, o Order, do func(Action)) (Action, error) {
	a.At, a.Actor, a.Kind, a.Text, a.fingerprint = b.now, o.Actor, o.Kind, o.Text, o.fingerprint(a.PlayerID)
	before, known, err := b.action(ctx, a)
	if err != nil || known {
		return before, err
	}
	if a.Until, err = o.until(b.now); err != nil {
		return Action{}, err
	}
	do(a)
	b.actions = append(b.actions, a)
	if err := b.write(ctx); err != nil {
		return Action{}, err
	}
	a, _, err = b.action(ctx, a) // the same key may have opened a case about another player meanwhile
	return a, err
}

// act changes what an action about a case changes.
func (b *book) act(about Case, a Action) {
	player, c := about.PlayerID, b.conduct[about.PlayerID]
	ours := c.Case == "" || c.Case == about.ID // points that belong to another open case stay there
	switch a.Kind {
	case ActionClear:
		if b.lift(player, Block) {
			c.BlockedUntil = a.At
		}
		if b.sanctions[player][ShadowBan].DecisionID != "" {
			b.lift(player, ShadowBan)
		}
		if ours {
			c = c.cleared(a.At)
		}
		about.State = CaseCleared
	case ActionBan, ActionShadowBan:
		b.impose(Sanction{
			PlayerID: player, Kind: Kind(a.Kind), CaseID: about.ID, Reason: a.Text, Actor: a.Actor, Starts: a.At, Until: a.Until,
		})
		if ours {
			c.Points = 0
		}
		about.State = CaseClosed
	case ActionUnban:
		b.lift(player, Ban)
		b.lift(player, ShadowBan)
		return
	default:
		return
	}
	if c.Case == about.ID {
		c.Case = ""
	}
	about.EndedAt, about.EndedBy = a.At, a.Actor
	b.conduct[player], b.changed[player] = c, true
	b.cases = append(b.cases, about)
}

// action finds the action on record with the id of a, which must be of the same order.
func (b *book) action(ctx context.Context, a Action) (found Action, known bool, err error) {
	err = eachAction(ctx, b.tx.Queries, "WHERE action_id = ?", []any{a.ID}, func(one Action) { found, known = one, true })
	if err == nil && known && found.fingerprint != a.fingerprint {
		return Action{}, false, fault.IdempotencyReused.Errorf("the idempotency key belongs to another order, use a new one")
	}
	found.PlayerID = a.PlayerID
	return found, known, err
}

// until checks an order and gives the end of what it imposes.
func (o Order) until(now time.Time) (time.Time, error) {
	member := "/reason"
	if o.Kind == ActionComment {
		member = "/text"
	}
	switch n := utf8.RuneCountInString(o.Text); {
	case strings.TrimSpace(o.Text) == "":
		return time.Time{}, invalid(member, fault.FieldMissing, "must say why")
	case n > maxText || !utf8.ValidString(o.Text):
		return time.Time{}, invalid(member, fault.FieldRange, fmt.Sprintf("has at most %d characters", maxText))
	}
	imposes := o.Kind == ActionBan || o.Kind == ActionShadowBan
	switch {
	case !imposes && o.For == 0 && o.Until.IsZero():
		return time.Time{}, nil
	case !imposes:
		return time.Time{}, invalid("/until", fault.FieldUnknown, "only a ban or a shadow-ban ends")
	case o.For != 0 && !o.Until.IsZero():
		return time.Time{}, invalid("/until", fault.FieldUnknown, "is given beside for")
	case o.For < 0 || o.For > Forever.Sub(now):
		return time.Time{}, invalid("/for", fault.FieldRange, "must be above 0, and end before the year 2200")
	case o.For > 0:
		return now.Add(o.For), nil
	case o.Until.IsZero():
		return Forever, nil
	case !o.Until.After(now) || o.Until.After(Forever):
		return time.Time{}, invalid("/until", fault.FieldRange, "must be in the future, and before the year 2200")
	}
	return o.Until.UTC().Truncate(time.Millisecond), nil
}

// fingerprint is what must be equal for two orders under one key to be the same.
func (o Order) fingerprint(player string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d %d", player, o.Kind, o.Text, o.For, millis(o.Until)))
	return hex.EncodeToString(sum[:])
}

func invalid(pointer string, code fault.Code, detail string) error {
	return &fault.Error{
		Code: fault.RequestInvalid, Detail: "the request breaks the rules listed in errors",
		Fields: []fault.Field{{Pointer: pointer, Code: code, Detail: detail}},
	}
}

func caseTable() store.Table {
	return store.Table{
		Name: "fairness_case",
		Columns: []string{
			"case_id", "player_id", "state", "opened_at", "opened_by", "reason", "decision_id", "points", "ended_at", "ended_by",
		},
		Key: []string{"case_id"},
	}
}

func caseRow(c Case) []any {
	return []any{
		c.ID, c.PlayerID, string(c.State), millis(c.OpenedAt), c.OpenedBy, c.Reason, c.DecisionID, c.Points, millis(c.EndedAt), c.EndedBy,
	}
}

func listCases(ctx context.Context, q store.Queries, rest string, args []any) (list []Case, err error) {
	query := "SELECT " + strings.Join(caseTable().Columns, ", ") + " FROM fairness_case" + rest
	err = q.Each(ctx, query, args, func(scan func(...any) error) error {
		var c Case
		var opened, ended int64
		err := scan(&c.ID, &c.PlayerID, &c.State, &opened, &c.OpenedBy, &c.Reason, &c.DecisionID, &c.Points, &ended, &c.EndedBy)
		c.OpenedAt, c.EndedAt = instant(opened), instant(ended)
		list = append(list, c)
		return err
	})
	return list, err
}

func getCase(ctx context.Context, q store.Queries, id string) (Case, error) {
	found, err := listCases(ctx, q, " WHERE case_id = ?", []any{id})
	switch {
	case err != nil:
		return Case{}, fmt.Errorf("read case: %w", err)
	case len(found) == 0:
		return Case{}, fault.CaseNotFound.Errorf("there is no case with this id")
	}
	return found[0], nil
}

// Case gives one case, or fault.CaseNotFound.
func (r *Records) Case(ctx context.Context, id string) (Case, error) {
	return getCase(ctx, r.DB.Queries, id)
}

// Cases lists cases, newest first, and gives the After of the next page, empty at the end. An After that it did not give is
// fault.MalformedCursor.
func (r *Records) Cases(ctx context.Context, f CaseFilter) ([]Case, string, error) {
	var c conditions
	c.equal("player_id", f.Player)
	c.equal("state", string(f.State))
	limit := min(max(f.Limit, 1), maxList)
	rest, err := c.page(f.After, "opened_at", "case_id", limit)
	if err != nil {
		return nil, "", err
	}
	list, err := listCases(ctx, r.DB.Queries, rest, c.args)
	if err != nil {
		return nil, "", fmt.Errorf("list cases: %w", err)
	}
	if len(list) <= limit {
		return list, "", nil
	}
	return list[:limit], cursor(list[limit-1].OpenedAt, list[limit-1].ID), nil
}

func actionTable() store.Table {
	return store.Table{
		Name:    "case_action",
		Columns: []string{"action_id", "case_id", "acted_at", "actor", "action", "remark", "until_at", "fingerprint"},
		Key:     []string{"action_id"},
	}
}

func actionRow(a Action) []any {
	return []any{a.ID, a.CaseID, millis(a.At), a.Actor, string(a.Kind), a.Text, millis(a.Until), a.fingerprint}
}

func eachAction(ctx context.Context, q store.Queries, rest string, args []any, each func(Action)) error {
	query := "SELECT " + strings.Join(actionTable().Columns, ", ") + " FROM case_action " + rest
	return q.Each(ctx, query, args, func(scan func(...any) error) error {
		var a Action
		var at, until int64
		err := scan(&a.ID, &a.CaseID, &at, &a.Actor, &a.Kind, &a.Text, &until, &a.fingerprint)
		a.At, a.Until = instant(at), instant(until)
		each(a)
		return err
	})
}

// Actions lists what was done about a case, oldest first, at most the last 1000.
func (r *Records) Actions(ctx context.Context, id string) ([]Action, error) {
	var list []Action
	err := eachAction(ctx, r.DB.Queries, "WHERE case_id = ? ORDER BY acted_at DESC, action_id DESC LIMIT ?", []any{id, maxList}, func(a Action) {
		list = append(list, a)
	})
	if err != nil {
		return nil, fmt.Errorf("list actions: %w", err)
	}
	slices.Reverse(list)
	return list, nil
}
