package fairness

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/store"
)

// Records keeps decisions with their evidence and what they lead to: the conduct of players, their sanctions, and cases with
// what operators did. It owns the tables fairness_decision, conduct, sanction, fairness_case and case_action.
//
// Whatever changes one of them for a player first locks his row of conduct, several in order of player id. So a decision and an
// operator's action count once, however often and by however many at once they are brought, and the end is that of some order
// of them.
type Records struct {
	DB  *store.DB
	Now func() time.Time
}

// Recorded is what Record did.
type Recorded struct {
	New     []Decision // those that were not on record yet, each once
	Blocked int        // blocks that began
	Cases   int        // cases that were opened
	// Players are those whose sanctions may have come from these decisions, now or when they were recorded before, in order. Who
	// carries sanctions elsewhere looks at them all: the one before may not have come to it.
	Players []string
}

// maxList bounds one page of any list.
const maxList = 1000

// Record keeps the decisions that have evidence, and leaves out the others. Those that are new count for the conduct of their
// players by the policy, and have their consequences, in one transaction; recording a decision again changes nothing.
func (r *Records) Record(ctx context.Context, decisions []Decision, policy catalog.Fairness) (Recorded, error) {
	notable := map[string]Decision{}
	players := map[string]bool{}
	for _, d := range decisions {
		if len(d.Evidence) > 0 {
			notable[d.ID], players[d.PlayerID] = d, true
		}
	}
	if len(notable) == 0 {
		return Recorded{}, nil
	}
	var recorded Recorded
	err := r.DB.Tx(ctx, func(tx *store.Tx) error {
		recorded = Recorded{}
		book, err := lockBook(ctx, tx, slices.Sorted(maps.Keys(players)), r.now())
		if err != nil {
			return err
		}
		fresh, err := missing(ctx, tx.Queries, notable)
		if err != nil {
			return err
		}
		for _, d := range fresh {
			to := book.add(d, policy)
			if !to.BlockUntil.IsZero() {
				recorded.Blocked++
			}
			if to.Case {
				recorded.Cases++
			}
		}
		recorded.New = fresh
		recorded.Players = book.concerned(notable)
		if err := insertDecisions(ctx, tx.Queries, fresh); err != nil {
			return err
		}
		return book.write(ctx)
	})
	if err != nil {
		return Recorded{}, fmt.Errorf("record %d decisions: %w", len(notable), err)
	}
	return recorded, nil
}

func (r *Records) now() time.Time { return r.Now().UTC().Truncate(time.Millisecond) }

// book is what is on record of some players while they are locked, and what is to be written of it.
type book struct {
	tx        *store.Tx
	now       time.Time
	conduct   map[string]Conduct
	sanctions map[string]map[Kind]Sanction
	changed   map[string]bool // players whose conduct is another
	imposed   []Sanction      // that are new or other than they were
	cases     []Case          // that are new or other than they were
	actions   []Action        // that are new
}

// lockBook locks players, who are in order, and reads what is on record of them.
func lockBook(ctx context.Context, tx *store.Tx, players []string, now time.Time) (*book, error) {
	b := &book{tx: tx, now: now, conduct: map[string]Conduct{}, sanctions: map[string]map[Kind]Sanction{}, changed: map[string]bool{}}
	rows, ids := make([][]any, len(players)), make([]any, len(players))
	for i, player := range players {
		rows[i], ids[i] = conductRow(player, Conduct{}), player
	}
	// Inserting first makes every row exist, and locks it.
	if err := conductTable().InsertMissing(ctx, tx.Queries, rows); err != nil {
		return nil, err
	}
	err := eachConduct(ctx, tx.Queries, "WHERE player_id IN "+tx.Dialect.In(len(ids), 1)+tx.Dialect.ForUpdate(), ids, func(player string, c Conduct) {
		b.conduct[player] = c
	})
	if err != nil {
		return nil, err
	}
	err = eachSanction(ctx, tx.Queries, "WHERE player_id IN "+tx.Dialect.In(len(ids), 1), ids, func(s Sanction) {
		if b.sanctions[s.PlayerID] == nil {
			b.sanctions[s.PlayerID] = map[Kind]Sanction{}
		}
		b.sanctions[s.PlayerID][s.Kind] = s
	})
	return b, err
}

// add counts a decision.
func (b *book) add(d Decision, policy catalog.Fairness) Consequence {
	before := b.conduct[d.PlayerID]
	after, to := before.After(d, policy)
	if after != before {
		b.conduct[d.PlayerID], b.changed[d.PlayerID] = after, true
	}
	if to.Case {
		b.cases = append(b.cases, Case{
			ID: after.Case, PlayerID: d.PlayerID, State: CaseOpen, OpenedAt: d.At, OpenedBy: Automatic, Reason: d.Rule, DecisionID: d.ID, Points: after.Points,
		})
		b.actions = append(b.actions, Action{ID: derived("action", after.Case, Automatic), CaseID: after.Case, At: d.At, Actor: Automatic, Kind: ActionOpen, Text: d.Rule})
	}
	sanction := Sanction{PlayerID: d.PlayerID, DecisionID: d.ID, CaseID: after.Case, Reason: string(d.Code), Actor: Automatic, Starts: d.At}
	if !to.BlockUntil.IsZero() {
		sanction.Kind, sanction.Until = Block, to.BlockUntil
		b.impose(sanction)
	}
	// What an operator said stands, and so does what he took back of the time before.
	held := b.sanctions[d.PlayerID][ShadowBan]
	ordered := held.DecisionID == "" && held.Until.After(b.now)
	if to.ShadowUntil.After(held.Until) && !ordered && !d.At.Before(held.Lifted) {
		sanction.Kind, sanction.Until = ShadowBan, to.ShadowUntil
		b.impose(sanction)
	}
	return to
}

func (b *book) impose(s Sanction) {
	if b.sanctions[s.PlayerID] == nil {
		b.sanctions[s.PlayerID] = map[Kind]Sanction{}
	}
	b.sanctions[s.PlayerID][s.Kind] = s
	b.imposed = append(b.imposed, s)
}

// lift ends a sanction now, if it is in force.
func (b *book) lift(player string, kind Kind) bool {
	s, ok := b.sanctions[player][kind]
	if !ok || !s.Until.After(b.now) {
		return false
	}
	s.Until, s.Lifted = b.now, b.now
	b.impose(s)
	return true
}

// concerned lists the players of whom a decision could have made a sanction: by its verdict, or because one says so.
func (b *book) concerned(decisions map[string]Decision) []string {
	players := map[string]bool{}
	for _, d := range decisions {
		if d.Verdict == Deny || d.Verdict == Shadow {
			players[d.PlayerID] = true
		}
		for _, s := range b.sanctions[d.PlayerID] {
			if s.DecisionID == d.ID {
				players[d.PlayerID] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(players))
}

// write writes what has changed.
func (b *book) write(ctx context.Context) error {
	var conduct [][]any
	for _, player := range slices.Sorted(maps.Keys(b.changed)) {
		conduct = append(conduct, conductRow(player, b.conduct[player]))
	}
	if err := conductTable().Upsert(ctx, b.tx.Queries, conduct); err != nil {
		return err
	}
	sanctions := map[string][]any{} // the last of each player and kind
	for _, s := range b.imposed {
		sanctions[s.PlayerID+"\n"+string(s.Kind)] = sanctionRow(s)
	}
	if err := sanctionTable().Upsert(ctx, b.tx.Queries, inOrder(sanctions)); err != nil {
		return err
	}
	cases := map[string][]any{}
	for _, c := range b.cases {
		cases[c.ID] = caseRow(c)
	}
	if err := caseTable().Upsert(ctx, b.tx.Queries, inOrder(cases)); err != nil {
		return err
	}
	actions := map[string][]any{}
	for _, a := range b.actions {
		actions[a.ID] = actionRow(a)
	}
	return actionTable().InsertMissing(ctx, b.tx.Queries, inOrder(actions))
}

// inOrder gives rows in the order of their keys: the same everywhere, so that two replicas wait for each other instead of
// deadlocking.
func inOrder(rows map[string][]any) [][]any {
	ordered := make([][]any, 0, len(rows))
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		ordered = append(ordered, rows[key])
	}
	return ordered
}

// missing gives the decisions that are not on record, in the order in which they count: by time.
func missing(ctx context.Context, q store.Queries, decisions map[string]Decision) ([]Decision, error) {
	ids := make([]any, 0, len(decisions))
	for id := range decisions {
		ids = append(ids, id)
	}
	fresh := maps.Clone(decisions)
	err := q.Each(ctx, "SELECT decision_id FROM fairness_decision WHERE decision_id IN "+q.Dialect.In(len(ids), 1), ids, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		delete(fresh, id)
		return err
	})
	return slices.SortedFunc(maps.Values(fresh), func(a, b Decision) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID))
	}), err
}

func conductTable() store.Table {
	return store.Table{
		Name:    "conduct",
		Columns: []string{"player_id", "points", "points_at", "throttled", "throttled_at", "blocks", "blocked_until", "case_id"},
		Key:     []string{"player_id"},
	}
}

func conductRow(player string, c Conduct) []any {
	return []any{player, c.Points, millis(c.PointsAt), c.Throttled, millis(c.ThrottledAt), c.Blocks, millis(c.BlockedUntil), c.Case}
}

func eachConduct(ctx context.Context, q store.Queries, where string, args []any, each func(player string, c Conduct)) error {
	query := "SELECT " + strings.Join(conductTable().Columns, ", ") + " FROM conduct " + where
	return q.Each(ctx, query, args, func(scan func(...any) error) error {
		var player string
		var c Conduct
		var points, throttled, blocked int64
		err := scan(&player, &c.Points, &points, &c.Throttled, &throttled, &c.Blocks, &blocked, &c.Case)
		c.PointsAt, c.ThrottledAt, c.BlockedUntil = instant(points), instant(throttled), instant(blocked)
		each(player, c)
		return err
	})
}

// Conduct gives what the decisions on a player add up to.
func (r *Records) Conduct(ctx context.Context, player string) (Conduct, error) {
	var found Conduct
	err := eachConduct(ctx, r.DB.Queries, "WHERE player_id = ?", []any{player}, func(_ string, c Conduct) { found = c })
	if err != nil {
		return Conduct{}, fmt.Errorf("read the conduct of a player: %w", err)
	}
	return found, nil
}

// millis is how an instant is stored, the zero time as 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// cursor is where a list goes on that is ordered by time and id, newest first.
func cursor(at time.Time, id string) string { return strconv.FormatInt(at.UnixMilli(), 10) + "." + id }

func parseCursor(text string) (at int64, id string, err error) {
	ms, id, _ := strings.Cut(text, ".")
	at, err = strconv.ParseInt(ms, 10, 64)
	if raw, bad := hex.DecodeString(id); err != nil || bad != nil || len(raw) != 16 {
		return 0, "", fault.MalformedCursor.Errorf("the cursor was not issued here")
	}
	return at, id, nil
}

// conditions is the WHERE of a list.
type conditions struct {
	text []string
	args []any
}

func (c *conditions) add(text string, args ...any) {
	c.text, c.args = append(c.text, text), append(c.args, args...)
}

// equal asks for a column to have a value, unless that is empty.
func (c *conditions) equal(column, value string) {
	if value != "" {
		c.add(column+" = ?", value)
	}
}

// page ends the query of a list: what comes after a cursor, one more than the limit, which says whether there is a next page.
func (c *conditions) page(after, at, id string, limit int) (string, error) {
	if after != "" {
		ms, last, err := parseCursor(after)
		if err != nil {
			return "", err
		}
		c.add("("+at+" < ? OR "+at+" = ? AND "+id+" < ?)", ms, ms, last)
	}
	where := ""
	if len(c.text) > 0 {
		where = " WHERE " + strings.Join(c.text, " AND ")
	}
	c.args = append(c.args, limit+1)
	return where + " ORDER BY " + at + " DESC, " + id + " DESC LIMIT ?", nil
}
