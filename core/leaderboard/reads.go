package leaderboard

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"liveops/core/fault"
	"liveops/core/store"
)

// MaxLimit is the most rows one read gives; a greater limit is read as this one, one below 1 as 1.
const MaxLimit = 1000

// readTries bounds how often a read finds its window lost again just after it was rebuilt.
const readTries = 3

// Ranked is a row with its rank.
type Ranked struct {
	Rank       int64 // from 1; no two rows share one
	TiedRank   int64 // 1 + the number of rows with a better score
	Player     string
	Score      int64
	AchievedAt time.Time
}

// Query asks for a page of a window.
type Query struct {
	Board, Window string
	Limit         int
	Cursor        string // Next or Prev of another page of the window; "": from the first rank
}

// Page is a stretch of a window in ranking order.
type Page struct {
	Rows  []Ranked
	Count int64  // rows the whole window has
	Next  string // cursor of the rows after these; "": there are none
	Prev  string // cursor of the rows before these; "": there are none
}

// Top gives the first rows of a window, whatever the cursor of q.
func (r *Ranking) Top(ctx context.Context, q Query) (Page, error) {
	q.Cursor = ""
	return r.Page(ctx, q)
}

// Page gives the rows next to q's cursor. A cursor is a place in the order, not a number of rows to skip: reading on and on
// gives every row that does not move meanwhile once, and the last page costs what the first does. A cursor that was not made
// here, or is of another board, is fault.MalformedCursor; one of another window of the board is fault.CursorExpired and names it.
func (r *Ranking) Page(ctx context.Context, q Query) (Page, error) {
	w, err := r.window(q.Board, q.Window)
	if err != nil {
		return Page{}, err
	}
	if q.Cursor == "" {
		return r.page(ctx, w, q.Limit, "top")
	}
	at, err := r.cursors.open(q.Cursor)
	switch {
	case err != nil:
		return Page{}, err
	case at.board != q.Board:
		return Page{}, fault.MalformedCursor.Errorf("the cursor is of another board")
	case at.window != q.Window:
		expired := fault.CursorExpired.Errorf("the cursor is of window %s", at.window)
		expired.Extra = map[string]any{"window": at.window}
		return Page{}, expired
	}
	from := "after"
	if at.before {
		from = "before"
	}
	return r.page(ctx, w, q.Limit, from, standing(w.order, at.score), at.member)
}

// CursorWindow says which board and window a cursor is of. What was not made here is fault.MalformedCursor.
func (r *Ranking) CursorWindow(text string) (board, window string, err error) {
	at, err := r.cursors.open(text)
	return at.board, at.window, err
}

// Around gives the player's row with its neighbours, the player in the middle; near an end of the window there are more on
// the other side, so that there are as many rows as the limit, or all there are. An absent player is fault.NotRanked.
func (r *Ranking) Around(ctx context.Context, board, window, player string, limit int) (Page, error) {
	w, err := r.window(board, window)
	if err != nil {
		return Page{}, err
	}
	return r.page(ctx, w, limit, "around", player)
}

// Player gives one player's row. An absent one is fault.NotRanked.
func (r *Ranking) Player(ctx context.Context, board, window, player string) (Ranked, error) {
	page, err := r.Around(ctx, board, window, player, 1)
	if err != nil {
		return Ranked{}, err
	}
	return page.Rows[0], nil
}

// Count is the number of rows of a window.
func (r *Ranking) Count(ctx context.Context, board, window string) (int64, error) {
	w, err := r.window(board, window)
	if err != nil {
		return 0, err
	}
	reply, err := r.read(ctx, w, 0, "top")
	return reply.count, err
}

func (r *Ranking) page(ctx context.Context, w window, limit int, from string, args ...any) (Page, error) {
	got, err := r.read(ctx, w, max(1, min(limit, MaxLimit)), from, args...)
	if err != nil {
		return Page{}, err
	}
	if got.first < 0 {
		return Page{}, fault.NotRanked.Errorf("the player has no score in this window")
	}
	page := Page{Rows: got.rows, Count: got.count}
	if n := len(got.rows); n > 0 {
		if got.first > 0 {
			page.Prev = r.cursor(w, got.rows[0], true)
		}
		if got.first+int64(n) < got.count {
			page.Next = r.cursor(w, got.rows[n-1], false)
		}
	}
	return page, nil
}

func (r *Ranking) cursor(w window, row Ranked, before bool) string {
	return r.cursors.seal(cursor{
		board: w.board, window: w.id, before: before,
		score: row.Score, member: member(row.AchievedAt, row.Player),
	})
}

// stretch is the reply of read.lua.
type stretch struct {
	count int64
	first int64 // index of the first row; -1: the player is not ranked
	rows  []Ranked
}

// read runs read.lua, one round trip, and rebuilds the window first where it is not complete.
func (r *Ranking) read(ctx context.Context, w window, limit int, from string, args ...any) (stretch, error) {
	for range readTries {
		reply, err := readScript.Run(ctx, r.Redis, w.keys()[:2], append([]any{w.form, limit, from}, args...)...).Slice()
		if err != nil {
			return stretch{}, store.RedisError("read ranking", err)
		}
		if len(reply) > 0 {
			return w.parse(reply)
		}
		if err := r.ensure(ctx, w); err != nil {
			return stretch{}, err
		}
	}
	return stretch{}, rebuilding(nil)
}

func (w window) parse(reply []any) (stretch, error) {
	unexpected := fmt.Errorf("read ranking: unexpected reply of %d values", len(reply))
	var head [3]int64
	if len(reply) < len(head) || len(reply)%2 == 0 {
		return stretch{}, unexpected
	}
	for i := range head {
		n, ok := reply[i].(int64)
		if !ok {
			return stretch{}, unexpected
		}
		head[i] = n
	}
	got := stretch{count: head[0], first: head[1]}
	tied := head[2] + 1
	for i := len(head); i < len(reply); i += 2 {
		place, _ := reply[i].(string)
		at, player, err := splitMember(place)
		if err != nil {
			return stretch{}, fmt.Errorf("read ranking: %w", err)
		}
		// Redis writes a score as 9007199254740991 or 9.007199254740991e+15; a double holds either exactly.
		text, _ := reply[i+1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return stretch{}, fmt.Errorf("read ranking: %w", err)
		}
		row := Ranked{Rank: got.first + int64(len(got.rows)) + 1, Player: player, Score: standing(w.order, int64(value)), AchievedAt: at}
		if n := len(got.rows); n > 0 && got.rows[n-1].Score != row.Score {
			tied = row.Rank
		}
		row.TiedRank = tied
		got.rows = append(got.rows, row)
	}
	return got, nil
}
