package season

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/store"
)

// ahead is how many windows after the current one exist as rows, so that a boundary never waits for one to be made.
const ahead = 2

// Windows keeps the windows of every board and their archives. It owns the tables board_window, window_action, archive,
// archive_entry, archive_block and archive_chain. Its methods are safe for concurrent use, in one process and in many.
type Windows struct {
	DB        *store.DB
	Now       func() time.Time
	Grace     func() time.Duration    // how long after its end a window takes late entries
	Catalog   func() *catalog.Catalog // for Sweep and HallOfFame: the one in force. A board it lacks has no tiers, no hall of fame and no retention
	Standings Standings               // for Sweep
	Rewards   Rewards                 // for Sweep
	Sealer    *Sealer                 // for Sweep
	Owner     string                  // for Sweep: names this process on the leases it holds, for people; at most 128 characters
	Lease     time.Duration           // how long a sweeper that says nothing keeps a window; default 5m
	Chunk     int                     // entries archived, rewarded or purged in one go; default 1000
}

// Set is the windows that take entries, as of one read.
type Set struct {
	boards map[string][]Window
}

// At gives the windows of a board that contain an instant and take entries, in order of id. None means that the time of
// all of them is over, or that the board is not known.
func (s Set) At(board string, at time.Time) []Window {
	var windows []Window
	for _, w := range s.boards[board] {
		if w.Contains(at) {
			windows = append(windows, w)
		}
	}
	return windows
}

// Materialise makes the rows that are missing: for every board and cadence the current window, two ahead, and all between
// the newest row and now; every season that has not ended or began after the newest one known. It gives the number of
// rows it found missing. Rows that exist keep their instants, whatever the catalog or the zone's rules say by now and whoever moved
// them; the next row begins where the newest ends, and a season leaves to others what is theirs, so that time is still covered
// once.
func (w *Windows) Materialise(ctx context.Context, c *catalog.Catalog) (added int, err error) {
	now := w.Now()
	missing, err := missingWindows(ctx, w.DB.Queries, c, now)
	if err == nil && len(missing) > 0 {
		err = w.DB.Tx(ctx, func(tx *store.Tx) error {
			if _, err := w.Load(ctx, tx.Queries, true); err != nil { // from here on nobody moves an end
				return err
			}
			if missing, err = missingWindows(ctx, tx.Queries, c, now); err != nil {
				return err
			}
			return insertWindows(ctx, tx, missing, now)
		})
	}
	if err != nil {
		return 0, fmt.Errorf("make windows: %w", err)
	}
	return len(missing), nil
}

// missingWindows lists the windows that should have a row by now and do not, in order of board and id.
func missingWindows(ctx context.Context, q store.Queries, c *catalog.Catalog, now time.Time) ([]Window, error) {
	made, err := readNewest(ctx, q, now)
	if err != nil {
		return nil, err
	}
	var missing []Window
	for _, name := range slices.Sorted(maps.Keys(c.Boards)) {
		calendar, err := NewCalendar(name, c.Boards[name], c.Seasons)
		if err != nil {
			return nil, err
		}
		for _, cadence := range c.Boards[name].Windows {
			missing = append(missing, calendar.missing(cadence, made[series{name, cadence}], now)...)
		}
	}
	// All who do this at once lock in the same order.
	slices.SortFunc(missing, func(a, b Window) int { return cmp.Or(cmp.Compare(a.Board, b.Board), cmp.Compare(a.ID, b.ID)) })
	return missing, nil
}

func insertWindows(ctx context.Context, tx *store.Tx, missing []Window, now time.Time) error {
	rows := make([][]any, len(missing))
	for i, m := range missing {
		var ends any
		if !m.Ends.IsZero() {
			ends = m.Ends.UnixMilli()
		}
		rows[i] = []any{m.Board, m.ID, m.Cadence, m.Starts.UnixMilli(), ends, string(m.State), now.UnixMilli(), "", 0, 0}
	}
	table := store.Table{
		Name: "board_window", Key: []string{"board", "window_id"},
		Columns: []string{"board", "window_id", "cadence", "starts_at", "ends_at", "state", "changed_at", "lease_owner", "lease_until", "fence"},
	}
	return table.InsertMissing(ctx, tx.Queries, rows)
}

// series is the windows of one board and cadence.
type series struct{ board, cadence string }

// newest is what is known of a series that has rows.
type newest struct {
	id      string
	ends    time.Time
	ahead   int      // rows that begin later than now
	seasons []Window // all of them, in order, of a series of seasons
}

// readNewest reads the newest row of every series. Both columns grow with time, so their maxima belong together; seasons may be
// named in any order and are listed.
func readNewest(ctx context.Context, q store.Queries, now time.Time) (map[series]newest, error) {
	made := map[series]newest{}
	query := `SELECT board, cadence, MAX(window_id), MAX(ends_at), COUNT(CASE WHEN starts_at > ? THEN 1 END) FROM board_window GROUP BY board, cadence`
	err := q.Each(ctx, query, []any{now.UnixMilli()}, func(scan func(...any) error) error {
		var s series
		var n newest
		var ends sql.NullInt64
		err := scan(&s.board, &s.cadence, &n.id, &ends, &n.ahead)
		n.ends = moment(ends)
		made[s] = n
		return err
	})
	if err != nil {
		return nil, err
	}
	seasons, err := readWindows(ctx, q, `SELECT `+windowColumns+` FROM board_window WHERE cadence = ? ORDER BY board, starts_at`, Season)
	for _, w := range seasons {
		s := series{w.Board, Season}
		n := made[s]
		n.seasons = append(n.seasons, w)
		made[s] = n
	}
	return made, err
}

// missing lists the windows of a cadence that should have a row by now and do not.
func (c *Calendar) missing(cadence string, made newest, now time.Time) []Window {
	var missing []Window
	known := made.id != ""
	switch cadence {
	case AllTime:
		if w, ok := c.At(AllTime, now); ok && !known {
			missing = append(missing, w)
		}
	case Season:
		for _, w := range c.seasons {
			w, isMade := w.beside(made.seasons)
			passed := !w.Ends.After(now)
			missed := known && !w.Starts.Before(made.ends)
			if !isMade && (!passed || missed) && w.Starts.Before(w.Ends) {
				missing = append(missing, w)
			}
		}
	default:
		w, ok := c.At(cadence, now)
		if known {
			w, ok = c.At(cadence, made.ends)
			for ok && w.ID <= made.id { // the zone or its rules changed, or somebody moved the end, and by now the newest row would end later
				w, ok = c.At(cadence, w.Ends)
			}
			w.Starts = made.ends
		}
		for n := made.ahead; ok && (n < ahead || !w.Starts.After(now)); w, ok = c.At(cadence, w.Ends) {
			missing = append(missing, w)
			if w.Starts.After(now) {
				n++
			}
		}
	}
	return missing
}

// beside cuts off a window what lies in others of its series, and says whether it is one of them.
func (w Window) beside(others []Window) (Window, bool) {
	for _, o := range others {
		switch {
		case o.ID == w.ID:
			return w, true
		case !o.Starts.After(w.Starts) && w.Starts.Before(o.Ends):
			w.Starts = o.Ends
		case w.Starts.Before(o.Starts) && o.Starts.Before(w.Ends):
			w.Ends = o.Starts
		}
	}
	return w, false
}

const windowColumns = `board, window_id, cadence, starts_at, ends_at, state`

// Load reads every window that takes entries, of all boards, in one query. With lock, inside a transaction, no window of
// the set can be frozen before that transaction ends: MySQL holds a shared lock on each row, and the freeze, an update of
// that row, waits for it; a freeze that came first makes this read wait for its commit and then leaves the window out.
// SQLite's transactions exclude each other.
func (w *Windows) Load(ctx context.Context, q store.Queries, lock bool) (Set, error) {
	// The index is over a column that only the freeze changes. Through an index over state, a row that moves from open to
	// closing during the read could leave the part not yet read for the part already read, and be missed. It also keeps
	// this read off the rows an archive in progress holds. SQLite takes the hint for a comment.
	query := `SELECT ` + windowColumns + ` FROM board_window /*! FORCE INDEX (board_window_taking) */ WHERE taking = 1 ORDER BY board, window_id`
	if lock {
		query += q.Dialect.ForShare()
	}
	windows, err := readWindows(ctx, q, query)
	if err != nil {
		return Set{}, fmt.Errorf("load windows: %w", err)
	}
	set := Set{boards: map[string][]Window{}}
	for _, window := range windows {
		set.boards[window.Board] = append(set.boards[window.Board], window)
	}
	return set, nil
}

// List gives at most limit windows of a board, those without end first, then the latest; windows made ahead are among
// them. A board without windows gives none. limit ≥ 0.
func (w *Windows) List(ctx context.Context, board string, limit int) ([]Window, error) {
	windows, err := readWindows(ctx, w.DB.Queries, `SELECT `+windowColumns+` FROM board_window WHERE board = ?
		ORDER BY CASE WHEN ends_at IS NULL THEN 0 ELSE 1 END, starts_at DESC, window_id DESC LIMIT ?`, board, limit)
	if err != nil {
		return nil, fmt.Errorf("list windows: %w", err)
	}
	return windows, nil
}

// Served gives the windows that began by an instant and are not archived, of all boards, in order of board and id: those
// whose ranks are read from the rankings.
func (w *Windows) Served(ctx context.Context, by time.Time) ([]Window, error) {
	windows, err := readWindows(ctx, w.DB.Queries, `SELECT `+windowColumns+` FROM board_window
		WHERE state IN (?, ?, ?) AND starts_at <= ? ORDER BY board, window_id`,
		string(Open), string(Closing), string(Frozen), by.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("list served windows: %w", err)
	}
	return windows, nil
}

// Get gives one window, or fault.WindowNotFound.
func (w *Windows) Get(ctx context.Context, board, id string) (Window, error) {
	return get(ctx, w.DB.Queries, board, id)
}

func get(ctx context.Context, q store.Queries, board, id string) (Window, error) {
	windows, err := readWindows(ctx, q, `SELECT `+windowColumns+` FROM board_window WHERE board = ? AND window_id = ?`, board, id)
	if err != nil {
		return Window{}, fmt.Errorf("read window: %w", err)
	}
	if len(windows) == 0 {
		return Window{}, fault.WindowNotFound.Errorf("board %s has no window %s", board, id)
	}
	return windows[0], nil
}

// Current gives the window of a cadence that contains an instant, in whatever state, or fault.WindowNotFound: between
// seasons, for a cadence the board does not have, and before the first window and after the last one made.
func (w *Windows) Current(ctx context.Context, board, cadence string, at time.Time) (Window, error) {
	windows, err := readWindows(ctx, w.DB.Queries, `SELECT `+windowColumns+` FROM board_window
		WHERE board = ? AND cadence = ? AND starts_at <= ? AND (ends_at IS NULL OR ends_at > ?)
		ORDER BY starts_at DESC LIMIT 1`, board, cadence, at.UnixMilli(), at.UnixMilli())
	if err != nil {
		return Window{}, fmt.Errorf("read current window: %w", err)
	}
	if len(windows) == 0 {
		return Window{}, fault.WindowNotFound.Errorf("board %s has no %s window at %s", board, cadence, at.UTC().Format(time.RFC3339))
	}
	return windows[0], nil
}

func readWindows(ctx context.Context, q store.Queries, query string, args ...any) ([]Window, error) {
	var windows []Window
	err := q.Each(ctx, query, args, func(scan func(...any) error) error {
		var w Window
		var starts int64
		var ends sql.NullInt64
		err := scan(&w.Board, &w.ID, &w.Cadence, &starts, &ends, &w.State)
		w.Starts, w.Ends = time.UnixMilli(starts).UTC(), moment(ends)
		windows = append(windows, w)
		return err
	})
	return windows, err
}

// moment reads a nullable column of milliseconds; NULL is the zero time.
func moment(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}
