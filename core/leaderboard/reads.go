package leaderboard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

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
	Metadata   string // what the entry keeps of the event of its score, as a JSON object; "": nothing, or the board keeps none
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
	if got.first == notRanked {
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
	index    int64  // index: of the first row
}

// The words for spot.from, which read.lua knows too.
const (
	top    = "top"
	index  = "index" // SQL is not read from one
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
	case index:
		return []any{s.index}
	}
	return nil
}

// stretch is a part of a window's order.
type stretch struct {
	count int64
	first int64 // index of the first row, or one of the below
	rows  []Ranked
}

// What scripts say instead of an index.
const (
	notRanked   = -1 // the player is not
	behindFloor = -2 // Redis does not hold the rows
)

// read gives rows from Redis or SQL.
func (r *Ranking) read(ctx context.Context, w window, limit int, at spot) (stretch, error) {
	return r.answer(ctx, func(ctx context.Context) (stretch, error) {
		return r.readRedis(ctx, w, limit, at)
	}, func() (stretch, error) {
		return w.readSQL(ctx, r.DB, limit, at)
	})
}

// answer asks Redis, and SQL where Redis does not answer, lacks the rows, or the window is not complete soon enough. SQL takes
// a few reads at a time; the others are told to come again.
func (r *Ranking) answer(ctx context.Context, redis func(context.Context) (stretch, error), sql func() (stretch, error)) (stretch, error) {
	patient, stop := ctx, func() {}
	if r.Patience > 0 {
		patient, stop = context.WithTimeout(ctx, r.Patience)
	}
	got, err := redis(patient)
	stop()
	busy := errors.Is(err, fault.RankingBusy)
	if !busy && !errors.Is(err, fault.RedisUnavailable) && !errors.Is(err, fault.Rebuilding) {
		return got, err
	}
	select {
	case r.sqlReads <- struct{}{}:
		defer func() { <-r.sqlReads }()
	default:
		return stretch{}, err
	}
	if got, failed := sql(); failed == nil {
		if r.SQLReads != nil {
			r.SQLReads.Inc()
		}
		return got, nil
	} else if busy || fault.KindOf(failed) == fault.Internal {
		return stretch{}, failed
	}
	return stretch{}, err
}

// readRedis runs read.lua.
func (r *Ranking) readRedis(ctx context.Context, w window, limit int, at spot) (stretch, error) {
	keep := ""
	if w.keeps {
		keep = "1"
	}
	reply, err := r.ask(ctx, w, readScript, append([]any{w.form, at.viewer, limit, keep, at.from}, at.args()...)...)
	if err != nil {
		return stretch{}, err
	}
	return w.parse(reply)
}

// ask runs a script that reads, one round trip, and rebuilds the window first where it is not complete.
func (r *Ranking) ask(ctx context.Context, w window, script *redis.Script, args ...any) ([]any, error) {
	for range readTries {
		reply, err := script.Run(ctx, r.Redis, w.keys()[:2], args...).Slice()
		switch {
		case err != nil:
			return nil, store.RedisError("read ranking", err)
		case len(reply) == 1:
			return nil, fmt.Errorf("read ranking: unexpected reply %v", reply)
		case len(reply) > 1 && reply[1] == int64(behindFloor):
			return nil, fault.RankingBusy.Errorf("the rows are so far down that the database must count, and it has enough to do: try again").After(time.Second)
		case len(reply) > 1:
			return reply, nil
		}
		if err := r.ensure(ctx, w); err != nil {
			return nil, err
		}
	}
	return nil, rebuilding(nil)
}

// parse reads the reply of read.lua.
func (w window) parse(reply []any) (stretch, error) {
	got, better, err := head(reply)
	if err != nil {
		return stretch{}, err
	}
	width := 2
	if w.keeps {
		width = 3
	}
	for values := range slices.Chunk(reply[3:], width) {
		row, err := w.row(values)
		if err != nil {
			return stretch{}, err
		}
		got.rows = append(got.rows, row)
	}
	got.number(better)
	return got, nil
}

// head reads the three numbers that a reply begins with: how many rows there are, an index, and how many rows are better.
func head(reply []any) (got stretch, better int64, err error) {
	var numbers [3]int64
	for i := range numbers {
		n, is := int64(0), false
		if i < len(reply) {
			n, is = reply[i].(int64)
		}
		if !is {
			return stretch{}, 0, fmt.Errorf("read ranking: unexpected reply of %d values", len(reply))
		}
		numbers[i] = n
	}
	return stretch{count: numbers[0], first: numbers[1]}, numbers[2], nil
}

// row reads member, score and perhaps metadata.
func (w window) row(values []any) (Ranked, error) {
	texts := [3]string{}
	for i, value := range values {
		texts[i], _ = value.(string)
	}
	at, player, err := splitMember(texts[0])
	if err != nil {
		return Ranked{}, fmt.Errorf("read ranking: %w", err)
	}
	// Redis writes a score as 9007199254740991 or 9.007199254740991e+15; a double holds either exactly.
	value, err := strconv.ParseFloat(texts[1], 64)
	if err != nil {
		return Ranked{}, fmt.Errorf("read ranking: %w", err)
	}
	row := Ranked{Player: player, Score: standing(w.order, int64(value)), AchievedAt: at}
	if w.keeps {
		row.Metadata = texts[2]
	}
	return row, nil
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
