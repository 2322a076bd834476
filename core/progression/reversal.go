package progression

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
)

// The longest texts of an Order, in characters.
const (
	MaxActor  = 128
	MaxReason = 512
)

// Order is an operator's wish to take back what an event did.
type Order struct {
	Player  string
	EventID string
	Actor   string // who wants it: 1 to MaxActor characters
	Reason  string // 1 to MaxReason characters
}

// Reversal is what is on record of an Order that was carried out.
type Reversal struct {
	Order
	ID string // of the event that took the effect back
	At time.Time
}

// ReversalID is the id of the event that takes back what an event did: the same for the same event, always. As with RewardID, no client can
// choose it.
func ReversalID(eventID string) string {
	sum := sha256.Sum256([]byte("liveops reversal\n" + eventID))
	return "reversal~" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

// Reverse takes back what an event did, by compensating entries under an event of its own: the same kinds, with the deltas turned around. Of
// what the player does not have any more, as much is taken as there is, and the rest is noted. What comes back to him fits whatever
// the stacks are. Levels once reached stay, and so do tallies: what was used up of a limit stays used up.
//
// It happens once, however often and by however many at once it is ordered; a repeat comes back with Fresh unset, whoever orders it and why.
// An event without effect is fault.EventNotFound, one that is itself a reversal fault.NotReversible, an order without a fitting actor and
// reason fault.RequestInvalid.
//
// also, if not nil, runs as in Apply, with the effect before anything is written, and for a repeat as well.
func (l *Ledger) Reverse(ctx context.Context, o Order, also func(tx *store.Tx, e *Effect) error) (*Effect, error) {
	for field, n := range map[string][2]int{
		"actor": {utf8.RuneCountInString(o.Actor), MaxActor}, "reason": {utf8.RuneCountInString(o.Reason), MaxReason},
	} {
		if n[0] == 0 || n[0] > n[1] {
			return nil, &fault.Error{
				Code: fault.RequestInvalid, Detail: fmt.Sprintf("%s has %d characters, 1 to %d are needed", field, n[0], n[1]),
				Fields: []fault.Field{{Pointer: "/" + field, Code: fault.FieldRange}},
			}
		}
	}
	if also == nil {
		also = func(*store.Tx, *Effect) error { return nil }
	}
	var effect *Effect
	err := l.DB.Tx(ctx, func(tx *store.Tx) error {
		rules, at := l.Catalog(), l.Now().UTC().Truncate(time.Millisecond)
		now := at.UnixMilli()
		undo := event.Accepted{
			Event: event.Event{
				ID: ReversalID(o.EventID), Type: event.EventReversed, PlayerID: o.Player, OccurredAt: at, Data: map[string]any{"event_id": o.EventID},
			},
			At: at, ReceivedAt: at,
		}
		accounts, err := lock(ctx, tx, []event.Accepted{undo}, now)
		if err != nil {
			return err
		}
		xp, wishes, repeated, err := turned(ctx, tx, undo, o.EventID)
		if err != nil {
			return err
		}
		if repeated {
			effect = &Effect{Event: undo}
			return also(tx, effect)
		}
		a := accounts[o.Player]
		effect = &Effect{
			Event: undo, Fresh: true, XPBefore: a.xp, LevelBefore: a.level, CatalogVersion: rules.Version,
		}
		levels := effect.move(rules, xp)
		a.progress = progress{xp: effect.XPAfter, level: effect.LevelAfter}
		err = readItems(ctx, tx, rules, accounts, []*Effect{effect, effect}, [][]wish{wishes, levels})
		if err != nil {
			return err
		}
		for _, w := range wishes {
			moved := fitting(a.items[w.item], w.quantity, event.MaxInteger)
			if moved != 0 {
				effect.Grants = append(effect.Grants, a.change(rules, w.kind, w.item, moved))
			}
			if moved != w.quantity {
				effect.note(fault.BalanceLimit, w.kind, w.quantity-moved)
			}
		}
		effect.settle(rules, levels, a)
		if err := also(tx, effect); err != nil {
			return err
		}
		if err := write(ctx, tx, accounts, []*Effect{effect}, now); err != nil {
			return err
		}
		return record(ctx, tx, Reversal{Order: o, ID: undo.ID, At: at})
	})
	if err != nil {
		return nil, fmt.Errorf("reverse event: %w", err)
	}
	return effect, nil
}

// turned reads what an event did, turned around, and whether it was taken back before.
func turned(ctx context.Context, tx *store.Tx, undo event.Accepted, eventID string) (xp int64, wishes []wish, repeated bool, err error) {
	found, reversal := false, false
	query := "SELECT event_id, kind, event_type, item_id, delta FROM ledger WHERE player_id = ? AND event_id IN (?, ?) ORDER BY entry_no"
	err = tx.Each(ctx, query, []any{undo.PlayerID, eventID, undo.ID}, func(scan func(...any) error) error {
		var id, kind, eventType, item string
		var delta int64
		if err := scan(&id, &kind, &eventType, &item, &delta); err != nil {
			return err
		}
		switch {
		case id == undo.ID:
			repeated = true
		case kind == Root:
			found, reversal, xp = true, eventType == event.EventReversed, -delta
		default:
			wishes = append(wishes, wish{kind: kind, item: item, quantity: -delta})
		}
		return nil
	})
	switch {
	case err != nil:
		return 0, nil, false, fmt.Errorf("read what is to be reversed: %w", err)
	case !found:
		return 0, nil, false, fault.EventNotFound.Errorf("the event has had no effect for the player")
	case reversal:
		return 0, nil, false, fault.NotReversible.Errorf("the event is itself a reversal")
	}
	return xp, wishes, repeated, nil
}

// record keeps who wanted a reversal, and why.
func record(ctx context.Context, tx *store.Tx, r Reversal) error {
	table := store.Table{Name: "reversal", Columns: []string{"player_id", "event_id", "reversal_id", "actor", "reason", "reversed_at"}}
	err := table.Insert(ctx, tx.Queries, [][]any{{r.Player, r.EventID, r.ID, r.Actor, r.Reason, r.At.UnixMilli()}})
	if err != nil {
		return fmt.Errorf("record reversal: %w", err)
	}
	return nil
}

// Reversal gives what is on record of the reversal of an event; one that was not reversed is fault.EventNotFound.
func (l *Ledger) Reversal(ctx context.Context, player, eventID string) (Reversal, error) {
	r := Reversal{Order: Order{Player: player, EventID: eventID}}
	var at int64
	query := "SELECT reversal_id, actor, reason, reversed_at FROM reversal WHERE player_id = ? AND event_id = ?"
	err := l.DB.Row(ctx, query, []any{player, eventID}, &r.ID, &r.Actor, &r.Reason, &at)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Reversal{}, fault.EventNotFound.Errorf("the event was not reversed")
	case err != nil:
		return Reversal{}, fmt.Errorf("read reversal: %w", err)
	}
	r.At = time.UnixMilli(at).UTC()
	return r, nil
}
