package leaderboard

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/store"
)

// Entries keeps the rows of every board in SQL, in the table entry. The column standing is the score turned so that less is
// better: the index over (board, window_id, standing, achieved_at, player_id) holds each window in ranking order.
type Entries struct {
	// Boards finds a board of the catalog in force by its name.
	Boards func(name string) (catalog.Board, bool)
}

const (
	pageSize    = 1000 // rows a statement reads
	rebuildPage = 2000 // rows a statement of a rebuild reads
	entryRead   = "SELECT board, window_id, player_id, score, total, achieved_at, seq, event_id, metadata, version FROM entry WHERE "
)

// Merge counts scores in, in the caller's transaction, and gives the current row of every window and player it was given, in
// order of board, window and player. A score that is not Fresh changes nothing; its row, if there is one, is given all the
// same. The caller holds a lock on every player, and gives the Fresh score of one event and window once.
func (e Entries) Merge(ctx context.Context, tx *store.Tx, scores []Score) ([]Row, error) {
	// Everybody writes in the order of the primary key, so that two transactions rather wait than deadlock.
	order := make([]int, len(scores))
	for i, s := range scores {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("merge scores: %w", err)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(scores[a].place().compare(scores[b].place()), a-b) })
	var keys []place
	for _, i := range order {
		if key := scores[i].place(); len(keys) == 0 || key != keys[len(keys)-1] {
			keys = append(keys, key)
		}
	}
	rows, err := e.read(ctx, tx.Queries, keys)
	if err != nil {
		return nil, fmt.Errorf("merge scores: %w", err)
	}
	current, write := make([]Row, 0, len(keys)), make([][]any, 0, len(keys))
	var board catalog.Board
	var known bool
	for i, key := range keys {
		if i == 0 || key.board != keys[i-1].board {
			board, known = e.Boards(key.board)
		}
		row := rows[key]
		before := row.Version
		for ; len(order) > 0 && scores[order[0]].place() == key; order = order[1:] {
			s := scores[order[0]]
			if !s.Fresh {
				continue
			}
			if !known {
				return nil, fmt.Errorf("merge scores: %w", fault.BoardUnknown.Errorf("there is no board %q", key.board))
			}
			row = row.Merge(board, s)
		}
		if row.Version != 0 {
			current = append(current, row)
		}
		if row.Version != before {
			write = append(write, []any{
				row.Board, row.Window, row.Player, row.Score, row.Total, standing(board.Order, row.Score),
				row.AchievedAt.UnixMilli(), row.Seq, row.EventID, row.Metadata, row.Version,
			})
		}
	}
	if err := entryTable().Upsert(ctx, tx.Queries, write); err != nil {
		return nil, fmt.Errorf("merge scores: %w", err)
	}
	return current, nil
}

func entryTable() store.Table {
	return store.Table{
		Name: "entry",
		Columns: []string{
			"board", "window_id", "player_id", "score", "total", "standing",
			"achieved_at", "seq", "event_id", "metadata", "version",
		},
		Key: []string{"board", "window_id", "player_id"},
	}
}

// Each calls fn for every row of a window in ranking order: score, who reached it first, player id. Rows of hidden players are
// left out. It reads in pages and holds one of them at a time; fn may use q. What changes meanwhile may be seen before or after,
// twice or not at all: a window whose order must be exact has stopped changing. A player who is hidden or shown meanwhile is in
// or not.
func (e Entries) Each(ctx context.Context, q store.Queries, board, window string, fn func(Row) error) error {
	b, ok := e.Boards(board)
	if !ok {
		return fault.BoardNotFound.Errorf("there is no board %q", board)
	}
	last := point{standing: math.MinInt64, achieved: -1}
	return pages(pageSize, scanRow, func(add func(scan func(...any) error) error) error {
		return e.following(ctx, q, board, window, ">", last, pageSize, add)
	}, func(rows []Row) error {
		last = rows[len(rows)-1].point(b.Order)
		for _, row := range rows {
			if err := fn(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// following adds, in ranking order, at most limit rows that are not hidden and come after a point (">"), or after it or at it (">=").
func (e Entries) following(
	ctx context.Context, q store.Queries, board, window, compare string, from point, limit int, add func(scan func(...any) error) error,
) error {
	// MySQL finds its way into the index by an OR of ranges but not by a row value, SQLite the other way round.
	after, args := "(standing, achieved_at, player_id) "+compare+" (?, ?, ?)", []any{board, window, from.standing, from.achieved, from.player}
	if q.Dialect == store.MySQL {
		after = "(standing > ? OR (standing = ? AND (achieved_at > ? OR (achieved_at = ? AND player_id " + compare + " ?))))"
		args = append([]any{board, window}, from.args()...)
	}
	// Near the end of a large window MySQL would rather sort all that is left than follow the index, for every page.
	read := strings.Replace(entryRead, "FROM entry", "FROM entry /*! FORCE INDEX (entry_standing) */", 1)
	return q.Each(ctx, read+"board = ? AND window_id = ? AND "+after+" AND "+seen+
		" ORDER BY standing, achieved_at, player_id LIMIT ?", append(args, "", limit), add)
}

// eachPage reads a window in the order of player ids, a page at a time, as far as its projection needs it: player, score, time,
// metadata and version, also of hidden players. A row never moves in that order, so every row that is there all the while is seen once,
// however its score changes. fn may keep the page.
func (e Entries) eachPage(ctx context.Context, q store.Queries, board, window string, fn func([]Row) error) error {
	const query = "SELECT player_id, score, achieved_at, metadata, version FROM entry " +
		"WHERE board = ? AND window_id = ? AND player_id > ? ORDER BY player_id LIMIT ?"
	last := ""
	scanPlace := func(scan func(...any) error) (Row, error) {
		r := Row{Board: board, Window: window}
		var achieved int64
		err := scan(&r.Player, &r.Score, &achieved, &r.Metadata, &r.Version)
		r.AchievedAt = time.UnixMilli(achieved).UTC()
		return r, err
	}
	return pages(rebuildPage, scanPlace, func(add func(scan func(...any) error) error) error {
		return q.Each(ctx, query, []any{board, window, last, rebuildPage}, add)
	}, func(rows []Row) error {
		last = rows[len(rows)-1].Player
		return fn(rows)
	})
}

// Count is the number of rows of a window, without those of hidden players.
func (e Entries) Count(ctx context.Context, q store.Queries, board, window string) (int64, error) {
	n, err := count(ctx, q, board, window, "", "1 = 1")
	if err != nil {
		return 0, fmt.Errorf("count entries: %w", err)
	}
	return n, nil
}

// point is a place in the ranking order of a window.
type point struct {
	standing, achieved int64 // achieved in ms
	player             string
}

func (r Row) point(order string) point {
	return point{standing(order, r.Score), r.AchievedAt.UnixMilli(), r.Player}
}

func (p point) before(o point) bool {
	return cmp.Or(cmp.Compare(p.standing, o.standing), cmp.Compare(p.achieved, o.achieved), strings.Compare(p.player, o.player)) < 0
}

// args are those of an OR of ranges that begins or ends at the point.
func (p point) args() []any { return []any{p.standing, p.standing, p.achieved, p.achieved, p.player} }

// place is the primary key of an entry.
type place struct{ board, window, player string }

func (s Score) place() place { return place{s.Board, s.Window, s.Player} }

func (p place) compare(o place) int {
	return cmp.Or(strings.Compare(p.board, o.board), strings.Compare(p.window, o.window), strings.Compare(p.player, o.player))
}

// read gives the rows of some keys, which are in order. The windows of a board mostly want the same players and then share one
// condition, which every database answers from the primary key: what it has to think about first grows with the conditions.
func (e Entries) read(ctx context.Context, q store.Queries, keys []place) (map[place]Row, error) {
	rows := make(map[place]Row, len(keys))
	var conditions []string
	var args []any
	for len(keys) > 0 {
		players := keys[:sameWindow(keys)]
		windows := 0
		args = append(args, keys[0].board)
		for samePlayers(players, keys) {
			args = append(args, keys[0].window)
			keys = keys[len(players):]
			windows++
		}
		for _, key := range players {
			args = append(args, key.player)
		}
		conditions = append(conditions,
			"(board = ? AND window_id IN "+q.Dialect.In(windows, 1)+" AND player_id IN "+q.Dialect.In(len(players), 1)+")")
		if len(args) < pageSize && len(keys) > 0 {
			continue
		}
		err := q.Each(ctx, entryRead+strings.Join(conditions, " OR "), args, func(scan func(...any) error) error {
			row, err := scanRow(scan)
			rows[place{row.Board, row.Window, row.Player}] = row
			return err
		})
		if err != nil {
			return nil, err
		}
		conditions, args = nil, nil
	}
	return rows, nil
}

// sameWindow is how many keys, at most a page, are of the window of the first.
func sameWindow(keys []place) int {
	n := 1
	for n < min(len(keys), pageSize) && keys[n].board == keys[0].board && keys[n].window == keys[0].window {
		n++
	}
	return n
}

// samePlayers says whether the keys begin with these players in one window of their board.
func samePlayers(players, keys []place) bool {
	return len(keys) >= len(players) && slices.EqualFunc(players, keys[:len(players)], func(a, b place) bool {
		return a.player == b.player && a.board == b.board && b.window == keys[0].window
	})
}

// pages reads page after page of size rows until one is not full. A page is read to its end before it is used, so that whoever
// uses it has the connection to himself.
func pages(
	size int, scanRow func(scan func(...any) error) (Row, error),
	read func(add func(scan func(...any) error) error) error, use func([]Row) error,
) error {
	full := 0
	for {
		page := make([]Row, 0, full)
		err := read(func(scan func(...any) error) error {
			row, err := scanRow(scan)
			page = append(page, row)
			return err
		})
		if err != nil {
			return fmt.Errorf("read entries: %w", err)
		}
		if len(page) > 0 {
			if err := use(page); err != nil {
				return err
			}
		}
		if len(page) < size {
			return nil
		}
		full = size
	}
}

func scanRow(scan func(...any) error) (Row, error) {
	var r Row
	var achieved int64
	err := scan(&r.Board, &r.Window, &r.Player, &r.Score, &r.Total, &achieved, &r.Seq, &r.EventID, &r.Metadata, &r.Version)
	r.AchievedAt = time.UnixMilli(achieved).UTC()
	return r, err
}
