package leaderboard

import (
	"context"
	"errors"
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
	Viewer        string // who is asking: while hidden, he sees himself ranked, and the others behind him; "": nobody
	Limit         int
	Cursor        string // Next or Prev of another page of the window; "": from the first rank
}

// Page is a stretch of a window in ranking order.
type Page struct {
	Rows  []Ranked
	Count int64  // rows that the viewer sees in the whole window
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
		return r.page(ctx, w, q.Limit, spot{from: top, viewer: q.Viewer})
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
	from := after
	if at.before {
		from = before
	}
	return r.page(ctx, w, q.Limit, spot{from: from, viewer: q.Viewer, standing: standing(w.order, at.score), member: at.member})
}

// CursorWindow says which board and window a cursor is of. What was not made here is fault.MalformedCursor.
func (r *Ranking) CursorWindow(text string) (board, window string, err error) {
	at, err := r.cursors.open(text)
	return at.board, at.window, err
}

// Around gives the player's row with its neighbours, the player in the middle; near an end of the window there are more on
// the other side, so that there are as many rows as q's limit, or all there are. q's cursor is not used. A player who is absent,
// or hidden and not the viewer, is fault.NotRanked.
func (r *Ranking) Around(ctx context.Context, q Query, player string) (Page, error) {
	w, err := r.window(q.Board, q.Window)
	if err != nil {
		return Page{}, err
	}
	return r.page(ctx, w, q.Limit, spot{from: around, viewer: q.Viewer, player: player})
}

// Player gives one player's row, as Around does.
func (r *Ranking) Player(ctx context.Context, q Query, player string) (Ranked, error) {
	q.Limit = 1
	page, err := r.Around(ctx, q, player)
	if err != nil {
		return Ranked{}, err
	}
	return page.Rows[0], nil
}

// Count is the number of rows of a window, without those of hidden players.
func (r *Ranking) Count(ctx context.Context, board, window string) (int64, error) {
	w, err := r.window(board, window)
	if err != nil {
		return 0, err
	}
	reply, err := r.read(ctx, w, 0, spot{from: top})
	return reply.count, err
}

func (r *Ranking) page(ctx context.Context, w window, limit int, at spot) (Page, error) {
	got, err := r.read(ctx, w, max(1, min(limit, MaxLimit)), at)
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

// spot is where in the order of a window a read begins.
type spot struct {
	from     string
	viewer   string // "": nobody
	standing int64  // after, before: of the row there
	member   string // after, before: of the row there
	player   string // around
}

// The words for spot.from, which read.lua knows too.
const (
	top    = "top"
	after  = "after"
	before = "before"
	around = "around"
)

// args are the last arguments of read.lua.
func (s spot) args() []any {
	switch s.from {
	case after, before:
		return []any{s.standing, s.member}
	case around:
		return []any{s.player}
	}
	return nil
}

// stretch is a part of a window's order.
type stretch struct {
	count int64
	first int64 // index of the first row; -1: the player is not ranked
	rows  []Ranked
}

// read reads from Redis, and from SQL where Redis does not answer or the window is not complete soon enough. SQL takes a few
// reads at a time; the others are told to come again.
func (r *Ranking) read(ctx context.Context, w window, limit int, at spot) (stretch, error) {
	got, err := r.readRedis(ctx, w, limit, at)
	if !errors.Is(err, fault.RedisUnavailable) && !errors.Is(err, fault.Rebuilding) {
		return got, err
	}
	select {
	case r.sqlReads <- struct{}{}:
		defer func() { <-r.sqlReads }()
	default:
		return stretch{}, err
	}
	if got, failed := w.readSQL(ctx, r.DB, limit, at); failed == nil {
		if r.SQLReads != nil {
			r.SQLReads.Inc()
		}
		return got, nil
	} else if fault.KindOf(failed) == fault.Internal {
		return stretch{}, failed
	}
	return stretch{}, err
}

// readRedis runs read.lua, one round trip, and rebuilds the window first where it is not complete.
func (r *Ranking) readRedis(ctx context.Context, w window, limit int, at spot) (stretch, error) {
	if r.Patience > 0 {
		patient, stop := context.WithTimeout(ctx, r.Patience)
		defer stop()
		ctx = patient
	}
	for range readTries {
		reply, err := readScript.Run(ctx, r.Redis, w.keys()[:2], append([]any{w.form, limit, at.viewer, at.from}, at.args()...)...).Slice()
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
	better := head[2]
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
		got.rows = append(got.rows, Ranked{Player: player, Score: standing(w.order, int64(value)), AchievedAt: at})
	}
	got.number(better)
	return got, nil
}

// number gives the rows their ranks. better is how many rows of the window have a better score than the first one.
func (s stretch) number(better int64) {
	tied := better + 1
	for i := range s.rows {
		row := &s.rows[i]
		row.Rank = s.first + int64(i) + 1
		if i > 0 && s.rows[i-1].Score != row.Score {
			tied = row.Rank
		}
		row.TiedRank = tied
	}
}
