package season

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/store"
)

// ActionKind is what an operator can do about a window.
type ActionKind string

// The kinds of action.
const (
	ActionClose   ActionKind = "close"   // it ends now
	ActionExtend  ActionKind = "extend"  // it ends later
	ActionRebuild ActionKind = "rebuild" // its ranking is made anew, by whoever keeps it
)

// Order names what an operator wants done about a window. The same order of an actor is done once.
type Order struct {
	Actor  string // the id of the operator's key
	Key    string // one for each order of an actor, from the Idempotency-Key header
	Reason string // 1 to 1000 characters
}

// Action is one thing that was done about a window. Actions are only ever added.
type Action struct {
	ID      string // 32 characters
	Board   string
	Window  string
	Kind    ActionKind
	At      time.Time
	Actor   string
	Reason  string
	Details ActionDetails

	fingerprint string // of the order
}

// ActionDetails is what a close or an extension changed.
type ActionDetails struct {
	Ended time.Time `json:"ended,omitzero"` // the end the window had
	Ends  time.Time `json:"ends,omitzero"`  // the end it has
	Next  string    `json:"next,omitempty"` // the window of its series that begins there now, where there is one
}

const (
	// maxReason is how long a reason may be, in characters.
	maxReason = 1000
	// maxActions is how many actions a list has at most.
	maxActions = 1000
)

// CloseNow ends a running window with the current millisecond, so that everything counted in it by now lies in it, and the window
// of its series that would begin at its end begins then. A window that has not begun, or has ended, is fault.WindowNotRunning, one without end fault.WindowEndless, an unknown one
// fault.WindowNotFound.
//
// The same order again, however late, gives the same action and does nothing; the same key with another order is
// fault.IdempotencyReused. An order without a reason is fault.RequestInvalid.
func (w *Windows) CloseNow(ctx context.Context, board, window string, o Order) (Action, error) {
	a := Action{Board: board, Window: window, Kind: ActionClose}
	return w.act(ctx, a, o, time.Time{}, func(tx *store.Tx, s running) (ActionDetails, error) {
		return s.moveEnd(ctx, tx, s.now.Add(time.Millisecond))
	})
}

// Extend moves the end of a running window to a later instant, at most a year after its end. What follows in its series and would
// begin before that begins there, and must end later still. An instant that is none of this is fault.RequestInvalid. It is
// otherwise as CloseNow.
func (w *Windows) Extend(ctx context.Context, board, window string, until time.Time, o Order) (Action, error) {
	until = until.UTC().Truncate(time.Millisecond)
	a := Action{Board: board, Window: window, Kind: ActionExtend}
	return w.act(ctx, a, o, until, func(tx *store.Tx, s running) (ActionDetails, error) {
		if err := s.extends(until); err != nil {
			return ActionDetails{}, err
		}
		return s.moveEnd(ctx, tx, until)
	})
}

// Rebuild puts on record that the ranking of a window is made anew, and does nothing else. A window whose ranks come from the
// archive is fault.WindowNotRunning. It is otherwise as CloseNow.
func (w *Windows) Rebuild(ctx context.Context, board, window string, o Order) (Action, error) {
	return w.act(ctx, Action{Board: board, Window: window, Kind: ActionRebuild}, o, time.Time{}, nil)
}

// Actions lists what was done about a window, newest first, at most limit and at most 1000. limit ≥ 0.
func (w *Windows) Actions(ctx context.Context, board, window string, limit int) ([]Action, error) {
	list, err := readActions(ctx, w.DB.Queries, `board = ? AND window_id = ? ORDER BY acted_at DESC, action_id DESC LIMIT ?`,
		board, window, min(limit, maxActions))
	if err != nil {
		return nil, fmt.Errorf("list actions: %w", err)
	}
	return list, nil
}

// act does an order that was not done yet and gives the action that is on record. change, where there is one, gets the window
// while nobody else can change it or anything that is counted in it.
func (w *Windows) act(
	ctx context.Context, a Action, o Order, until time.Time, change func(tx *store.Tx, s running) (ActionDetails, error),
) (Action, error) {
	a.Actor, a.Reason = o.Actor, o.Reason
	a.ID, a.fingerprint = o.id(), a.order(until)
	var done Action
	err := w.DB.Tx(ctx, func(tx *store.Tx) error {
		target, err := get(ctx, tx.Queries, a.Board, a.Window)
		if err != nil {
			return err
		}
		s := running{Window: target}
		if change != nil {
			if s, err = lockRunning(ctx, tx, target); err != nil {
				return err
			}
		}
		s.now = w.Now().UTC().Truncate(time.Millisecond) // of the lock: whatever was counted before was in time
		var known bool
		if done, known, err = a.recorded(ctx, tx.Queries); err != nil || known {
			return err
		}
		if err := o.check(); err != nil {
			return err
		}
		a := a
		a.At = s.now
		switch {
		case change != nil:
			if err = s.runs(); err == nil {
				a.Details, err = change(tx, s)
			}
		case target.State.Final():
			err = fault.WindowNotRunning.Errorf("window %s of board %s is %s: its ranks come from the archive", a.Window, a.Board, target.State)
		}
		if err != nil {
			return err
		}
		if err := a.insert(ctx, tx); err != nil {
			return err
		}
		done, _, err = a.recorded(ctx, tx.Queries) // the same key may have done something elsewhere meanwhile
		return err
	})
	if err != nil {
		return Action{}, fmt.Errorf("%s window: %w", a.Kind, err)
	}
	return done, nil
}

// running is a window that is locked to be changed, and what follows it in its series.
type running struct {
	Window
	now  time.Time
	next Window // the zero Window: nothing does
}

// lockRunning locks every window of a board that takes entries and finds one of them again, as it is now. All are locked, in the
// order in which Load locks them, because the next one is not known before; so this and a batch never wait for each other in
// turn. A window that takes no entries any more comes back as it was given.
func lockRunning(ctx context.Context, tx *store.Tx, target Window) (running, error) {
	query := `SELECT ` + windowColumns + ` FROM board_window /*! FORCE INDEX (board_window_taking) */ WHERE taking = 1 AND board = ? ORDER BY window_id`
	locked, err := readWindows(ctx, tx.Queries, query+tx.Dialect.ForUpdate(), target.Board)
	if err != nil {
		return running{}, err
	}
	s := running{Window: target}
	for _, w := range locked {
		if w.ID == target.ID {
			s.Window = w
		}
	}
	slices.SortFunc(locked, func(a, b Window) int { return cmp.Or(a.Starts.Compare(b.Starts), cmp.Compare(a.ID, b.ID)) })
	for _, w := range slices.Backward(locked) {
		if w.Cadence == s.Cadence && w.ID != s.ID && !w.Starts.Before(s.Ends) {
			s.next = w
		}
	}
	return s, nil
}

// runs says why the end of the window cannot be moved.
func (s running) runs() error {
	switch {
	case s.Ends.IsZero():
		return fault.WindowEndless.Errorf("window %s of board %s never ends", s.ID, s.Board)
	case s.now.Before(s.Starts):
		return fault.WindowNotRunning.Errorf("window %s of board %s begins at %s", s.ID, s.Board, s.Starts.Format(time.RFC3339Nano))
	case s.State != Open || !s.now.Before(s.Ends):
		return fault.WindowNotRunning.Errorf("window %s of board %s ended at %s", s.ID, s.Board, s.Ends.Format(time.RFC3339Nano))
	}
	return nil
}

// extends says why the end of the window cannot be moved to a later instant.
func (s running) extends(until time.Time) error {
	switch latest := s.Ends.AddDate(1, 0, 0); {
	case !until.After(s.Ends): // which is later than now
		return invalid("/until", "must be later than "+s.Ends.Format(time.RFC3339Nano)+", when the window ends")
	case until.After(latest):
		return invalid("/until", "must be at most a year later than the end, "+latest.Format(time.RFC3339Nano))
	case s.next.ID != "" && !until.Before(s.next.Ends):
		return invalid("/until", "must be before "+s.next.Ends.Format(time.RFC3339Nano)+", when the next window, "+s.next.ID+", ends")
	}
	return nil
}

// moveEnd ends the window at another instant. What adjoins it, or would begin before that, begins then. The fence grows, so that a
// sweep which saw the old end does nothing.
func (s running) moveEnd(ctx context.Context, tx *store.Tx, to time.Time) (ActionDetails, error) {
	d := ActionDetails{Ended: s.Ends, Ends: to}
	_, err := tx.Exec(ctx, `UPDATE board_window SET ends_at = ?, fence = fence + 1 WHERE board = ? AND window_id = ?`, to.UnixMilli(), s.Board, s.ID)
	if err != nil || s.next.ID == "" || s.next.Starts.After(s.Ends) && !s.next.Starts.Before(to) {
		return d, err
	}
	d.Next = s.next.ID
	_, err = tx.Exec(ctx, `UPDATE board_window SET starts_at = ? WHERE board = ? AND window_id = ?`, to.UnixMilli(), s.Board, s.next.ID)
	return d, err
}

// id is the same for the same key of the same actor.
func (o Order) id() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", o.Actor, o.Key))
	return hex.EncodeToString(sum[:16])
}

func (o Order) check() error {
	switch n := utf8.RuneCountInString(o.Reason); {
	case strings.TrimSpace(o.Reason) == "":
		return &fault.Error{
			Code: fault.RequestInvalid, Detail: "the request breaks the rules listed in errors",
			Fields: []fault.Field{{Pointer: "/reason", Code: fault.FieldMissing, Detail: "must say why"}},
		}
	case n > maxReason || !utf8.ValidString(o.Reason):
		return invalid("/reason", fmt.Sprintf("has at most %d characters", maxReason))
	}
	return nil
}

func invalid(pointer, detail string) error {
	return &fault.Error{
		Code: fault.RequestInvalid, Detail: "the request breaks the rules listed in errors",
		Fields: []fault.Field{{Pointer: pointer, Code: fault.FieldRange, Detail: detail}},
	}
}

// order is what must be equal for two orders under one key to be the same.
func (a Action) order(until time.Time) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %d", a.Board, a.Window, a.Kind, a.Reason, until.UnixMilli()))
	return hex.EncodeToString(sum[:])
}

// recorded finds the action on record with the id of a, which must be of the same order.
func (a Action) recorded(ctx context.Context, q store.Queries) (found Action, known bool, err error) {
	list, err := readActions(ctx, q, `action_id = ?`, a.ID)
	if err != nil || len(list) == 0 {
		return Action{}, false, err
	}
	if list[0].fingerprint != a.fingerprint {
		return Action{}, false, fault.IdempotencyReused.Errorf("the idempotency key belongs to another order, use a new one")
	}
	return list[0], true, nil
}

const actionColumns = "action_id, board, window_id, acted_at, actor, action, reason, details, fingerprint"

func (a Action) insert(ctx context.Context, tx *store.Tx) error {
	details, err := json.Marshal(a.Details)
	if err != nil {
		return err
	}
	table := store.Table{Name: "window_action", Columns: strings.Split(actionColumns, ", "), Key: []string{"action_id"}}
	return table.InsertMissing(ctx, tx.Queries, [][]any{{
		a.ID, a.Board, a.Window, a.At.UnixMilli(), a.Actor, string(a.Kind), a.Reason, string(details), a.fingerprint,
	}})
}

func readActions(ctx context.Context, q store.Queries, rest string, args ...any) ([]Action, error) {
	var list []Action
	err := q.Each(ctx, `SELECT `+actionColumns+` FROM window_action WHERE `+rest, args, func(scan func(...any) error) error {
		var a Action
		var at int64
		var details []byte
		if err := scan(&a.ID, &a.Board, &a.Window, &at, &a.Actor, &a.Kind, &a.Reason, &details, &a.fingerprint); err != nil {
			return err
		}
		a.At = time.UnixMilli(at).UTC()
		list = append(list, a)
		return json.Unmarshal(details, &list[len(list)-1].Details)
	})
	return list, err
}
