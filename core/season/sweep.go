package season

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"liveops/core/store"
)

// Report is what one sweep did, in windows.
type Report struct {
	Closed   int // open → closing
	Frozen   int // closing → frozen
	Archived int // frozen → archived
	Rewarded int // archived → rewarded
	Purged   int // rewarded → purged
	Held     int // left to another sweeper that is at work on them
	Failed   int // stuck on an error; the next sweep tries again

	Done []Window // those that came into the archive, or were rewarded because a sweep before did not get to it
}

// step moves a window from one state to the next. The table of them is the state machine.
type step struct {
	from, to State
	board    string        // only of this board; empty: of every one
	after    time.Duration // past the window's end
	// work does what the step is for, in transactions of the lease, and returns what remains to be written together with
	// the new state. It may be cut off anywhere and run again from the start. nil: there is nothing but the new state.
	work  func(ctx context.Context, l *lease) (finish func(tx *store.Tx) error, err error)
	count *int
}

func (w *Windows) steps(report *Report) []step {
	steps := []step{
		{from: Open, to: Closing, count: &report.Closed},
		{from: Closing, to: Frozen, after: w.Grace(), count: &report.Frozen},
		{from: Frozen, to: Archived, after: w.Grace(), work: w.archive, count: &report.Archived},
		{from: Archived, to: Rewarded, work: w.reward, count: &report.Rewarded},
	}
	for name, board := range w.Catalog().Boards {
		if board.Retention > 0 {
			steps = append(steps, step{
				from: Rewarded, to: Purged, board: name, after: board.Retention.Std(), work: w.purge, count: &report.Purged,
			})
		}
	}
	return steps
}

// takes says whether the step is due for a window.
func (s step) takes(w Window, now time.Time) bool {
	return w.State == s.from && (s.board == "" || s.board == w.Board) && !now.Before(w.Ends.Add(s.after))
}

// row is a window with its lease, as a sweep found it.
type row struct {
	Window
	fence int64
}

// errSuperseded says that another sweeper took the window over; whatever this one still had to write is not written.
var errSuperseded = errors.New("another sweeper took the window over")

// Sweep takes every window as far as is due by now, however many steps that is. It may run at any time, twice at once, and
// be killed anywhere: that costs delay, never data. A window that fails does not stop the others; the errors are joined
// and counted in the report.
func (w *Windows) Sweep(ctx context.Context) (Report, error) {
	var report Report
	if w.Catalog == nil || w.Standings == nil || w.Rewards == nil || w.Sealer == nil {
		return report, errors.New("a sweep needs a catalog, standings, rewards and a sealer")
	}
	steps := w.steps(&report)
	now := w.Now()
	due, err := w.due(ctx, steps, now)
	if err != nil {
		return report, fmt.Errorf("find due windows: %w", err)
	}
	var problems []error
	for _, r := range due {
		before := r.State
		if err := w.advance(ctx, &r, steps, now); errors.Is(err, errSuperseded) {
			report.Held++
		} else if err != nil {
			report.Failed++
			problems = append(problems, fmt.Errorf("close window %s of board %s: %w", r.ID, r.Board, err))
		}
		if r.State != before && r.State.Final() && before != Rewarded {
			report.Done = append(report.Done, r.Window)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return report, errors.Join(problems...)
}

// due lists the windows with a step to take, the longest overdue first.
func (w *Windows) due(ctx context.Context, steps []step, now time.Time) ([]row, error) {
	var conditions []string
	var args []any
	for _, s := range steps {
		condition := `(state = ? AND ends_at <= ?`
		args = append(args, string(s.from), now.Add(-s.after).UnixMilli())
		if s.board != "" {
			condition += ` AND board = ?`
			args = append(args, s.board)
		}
		conditions = append(conditions, condition+`)`)
	}
	var due []row
	query := `SELECT ` + windowColumns + `, fence FROM board_window WHERE ` + strings.Join(conditions, " OR ") + ` ORDER BY ends_at, board, window_id`
	err := w.DB.Each(ctx, query, args, func(scan func(...any) error) error {
		var r row
		var starts, ends int64
		err := scan(&r.Board, &r.ID, &r.Cadence, &starts, &ends, &r.State, &r.fence)
		r.Starts, r.Ends = time.UnixMilli(starts).UTC(), time.UnixMilli(ends).UTC()
		due = append(due, r)
		return err
	})
	return due, err
}

// advance takes the steps of one window that are due, in order.
func (w *Windows) advance(ctx context.Context, r *row, steps []step, now time.Time) error {
	for _, s := range steps {
		if !s.takes(r.Window, now) {
			continue
		}
		if err := w.take(ctx, r, s); err != nil {
			return fmt.Errorf("%s → %s: %w", s.from, s.to, err)
		}
		*s.count++
	}
	return nil
}

func (w *Windows) take(ctx context.Context, r *row, s step) error {
	l := &lease{windows: w, Window: r.Window, fence: r.fence}
	if s.work == nil {
		// One statement: there is nothing a lease could protect, and whoever is first wins.
		if err := l.complete(ctx, s.to, nil); err != nil {
			return err
		}
		r.State = s.to
		return nil
	}
	if err := l.claim(ctx); err != nil {
		return err
	}
	finish, err := s.work(ctx, l)
	if err == nil {
		err = l.complete(ctx, s.to, finish)
	}
	if err != nil {
		l.release(ctx)
		return err
	}
	r.State, r.fence = s.to, l.fence
	return nil
}

// lease is the right to work on a window in one state. The fence grows with every claim, and every transaction of the
// holder holds the row and compares it, so that one who lost the lease without noticing cannot write any more, whatever
// the clocks say. Until then the time only keeps others from doing the same work.
type lease struct {
	Window
	windows *Windows
	fence   int64
}

const held = ` WHERE board = ? AND window_id = ? AND state = ? AND fence = ?`

func (l *lease) until() int64 {
	d := l.windows.Lease
	if d <= 0 {
		d = 5 * time.Minute
	}
	return l.windows.Now().Add(d).UnixMilli()
}

// claim takes a lease that is free or ran out, or returns errSuperseded.
func (l *lease) claim(ctx context.Context) error {
	err := l.windows.DB.Tx(ctx, func(tx *store.Tx) error {
		return l.update(ctx, tx, `UPDATE board_window SET lease_owner = ?, lease_until = ?, fence = fence + 1`+held+` AND lease_until <= ?`,
			[]any{l.windows.Owner, l.until()}, l.windows.Now().UnixMilli())
	})
	if err != nil {
		return err
	}
	l.fence++
	return nil
}

// tx runs fn in a transaction that only commits while the lease is held, and prolongs it.
func (l *lease) tx(ctx context.Context, fn func(tx *store.Tx) error) error {
	return l.windows.DB.Tx(ctx, func(tx *store.Tx) error {
		if err := l.update(ctx, tx, `UPDATE board_window SET lease_until = ?`+held, []any{l.until()}); err != nil {
			return err
		}
		return fn(tx)
	})
}

// prolong keeps the lease while work is done that writes nothing through it.
func (l *lease) prolong(ctx context.Context) error {
	return l.tx(ctx, func(*store.Tx) error { return nil })
}

// complete writes the new state, and what finish writes, in one transaction, and ends the lease. For a freeze this waits
// for the transactions that read the window with a lock (Windows.Load): InnoDB needs the row exclusively, they hold it
// shared until they commit, and readers that come later queue behind it, so it is never starved.
func (l *lease) complete(ctx context.Context, to State, finish func(tx *store.Tx) error) error {
	return l.windows.DB.Tx(ctx, func(tx *store.Tx) error {
		if l.Takes() {
			// Readers lock the entry of the index first and then the row. An update by primary key locks the other way round,
			// and a freeze among steady readers would deadlock with them.
			query := `SELECT state FROM board_window /*! FORCE INDEX (board_window_taking) */ WHERE taking = 1 AND board = ? AND window_id = ?` + tx.Dialect.ForUpdate()
			var state State
			if err := tx.Row(ctx, query, []any{l.Board, l.ID}, &state); errors.Is(err, sql.ErrNoRows) {
				return errSuperseded
			} else if err != nil {
				return err
			}
		}
		err := l.update(ctx, tx, `UPDATE board_window SET state = ?, changed_at = ?, lease_owner = '', lease_until = 0`+held,
			[]any{string(to), l.windows.Now().UnixMilli()})
		if err != nil || finish == nil {
			return err
		}
		return finish(tx)
	})
}

// release lets the next sweep try again at once. Without it the lease runs out by itself, so its error says nothing that
// the error which led here does not.
func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = l.windows.DB.Tx(ctx, func(tx *store.Tx) error {
		return l.update(ctx, tx, `UPDATE board_window SET lease_until = 0`+held, nil)
	})
}

// update changes the window's row if the lease's state and fence still hold, or returns errSuperseded.
func (l *lease) update(ctx context.Context, tx *store.Tx, query string, set []any, further ...any) error {
	args := append(set, l.Board, l.ID, string(l.State), l.fence)
	found, err := tx.Exec(ctx, query, append(args, further...)...)
	if err == nil && found == 0 {
		return errSuperseded
	}
	return err
}
