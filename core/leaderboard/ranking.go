package leaderboard

import (
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"liveops/core/fault"
	"liveops/core/store"
)

// Ranking is the projection of the entries into Redis, from which ranks are read. Three keys hold one window, in one slot:
//
//	rank:{board:window}:order    zset   score: the standing, less is better · member: achieved at, 12 hex digits of ms, and player
//	rank:{board:window}:players  hash   player → version:achieved at, and see projection.lua · "" → the form and the epoch, once every entry is there
//	rank:{board:window}:rebuild  string token of the rebuild, or refill, that is under way, until its lease ends
//	rank:epoch                   hash   the epoch, and the servers that held it
//
// Every entry has its place in the zset's own ascending order: score, who reached it first, player id. A hidden player has the
// score +inf there, behind everybody whom reads show, and his standing in the hash, for himself to be shown.
//
// Of a board with a size the zset holds the best entries only, at least size of them and at most a quarter more: always the exact
// beginning of the order. It ends at a floor; of an entry behind it only the version is kept, in the hash, so that what is old stays
// out and the count is exact. What needs rows from behind the floor is read from SQL. When fewer than size are left, a refill
// moves the floor back, while everything else goes on.
//
// A window whose hash does not name the form and the epoch, or whose keys differ in size, is not complete: nobody reads ranks
// from it, and whoever meets it rebuilds it from SQL; meanwhile SQL answers for it. A rank is therefore right or not given,
// whatever Redis has lost. Only a Redis that goes back to an older state of a whole window, as it may when it starts from a
// snapshot or a replica takes over, is found out no sooner than the next call of Epoch.
//
// A Ranking must not be copied.
type Ranking struct {
	Redis   redis.UniversalClient
	DB      *store.DB
	Entries Entries
	// Patience is how long a read waits for Redis, or for a rebuild, before it asks SQL. 0: until its context ends.
	Patience time.Duration
	// SQLReads counts the reads that SQL answered; nil: nobody does.
	SQLReads prometheus.Counter
	// Settle is how long a committed row may take to be projected before Compare calls it a drift; default 2s.
	Settle time.Duration
	// Served lists the windows that are not archived yet, for Hide, Show and Resume. One that takes no entry yet may be missing.
	Served func(context.Context) ([]Window, error)

	cursors  cursors
	rebuilds singleflight.Group
	epoch    atomic.Int64
	sqlReads chan struct{} // a place for each read that SQL may be at work on; nil: none
}

// Format prints no field: fmt would find the secret of the cursors.
func (*Ranking) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "ranking") }

const (
	scriptRows     = 500 // rows one script call writes, which takes a few milliseconds in which Redis does nothing else
	rebuildLease   = 10 * time.Second
	rebuildPoll    = 50 * time.Millisecond
	rebuildTimeout = 10 * time.Minute

	// sqlReads bounds the reads that SQL answers at a time: each counts rows, up to the whole window, on the database that
	// everything else needs.
	sqlReads = 4
)

//go:embed projection.lua
var projectionLua string

//go:embed view.lua
var viewLua string

//go:embed project.lua
var projectLua string

//go:embed begin.lua
var beginLua string

//go:embed end.lua
var endLua string

//go:embed read.lua
var readLua string

var (
	projectScript = redis.NewScript(projectionLua + projectLua)
	beginScript   = redis.NewScript(projectionLua + beginLua)
	endScript     = redis.NewScript(projectionLua + endLua)
	readScript    = redis.NewScript(projectionLua + viewLua + readLua)
)

// NewRanking makes a Ranking that signs its cursors with cursorKey, of at least 32 bytes. Every process that serves the same
// cursors needs the same key.
func NewRanking(rdb redis.UniversalClient, db *store.DB, entries Entries, cursorKey []byte) (*Ranking, error) {
	if len(cursorKey) < 32 {
		return nil, fmt.Errorf("the cursor key has %d bytes, at least 32 are needed", len(cursorKey))
	}
	return &Ranking{
		Redis: rdb, DB: db, Entries: entries, cursors: cursors{key: cursorKey}, sqlReads: make(chan struct{}, sqlReads),
	}, nil
}

// Project writes committed rows into Redis, those of hidden players as such. It may be repeated and come in any order, late or
// twice: a row replaces only an older version of itself. It never waits for a rebuild; where a window is not complete it writes
// what it was given and sets a rebuild going. Rows of a board that the catalog no longer has are left out, since nobody can read
// them. Rows of one window that stand side by side cost the least.
func (r *Ranking) Project(ctx context.Context, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	hidden, err := r.visibilities(ctx, players(rows)) // after the commit of the rows, and not in their transaction
	if err != nil {
		return fmt.Errorf("project rows: %w", err)
	}
	var calls []call
	for len(rows) > 0 {
		board, id, n := rows[0].Board, rows[0].Window, 1
		for n < min(len(rows), scriptRows) && rows[n].Board == board && rows[n].Window == id {
			n++
		}
		if w, err := r.window(board, id); err == nil {
			calls = append(calls, call{window: w, args: w.rowArgs("", nil, rows[:n], hidden)})
		}
		rows = rows[n:]
	}
	if len(calls) == 0 {
		return nil
	}
	if err := r.exchange(ctx, projectScript, calls); err != nil {
		return store.RedisError("project rows", err)
	}
	for _, c := range calls {
		switch state, err := c.reply.Int(); {
		case err != nil:
			return store.RedisError("project rows", err)
		case state == incomplete:
			r.repair(ctx, c.window)
		case state == short:
			r.replenish(ctx, c.window)
		}
	}
	return nil
}

// What project.lua says of a projection.
const (
	leaseLost  = -1
	incomplete = 0
	short      = 2 // it is complete, and the zset holds fewer rows than it should
)

// call is one run of a script on the keys of a window.
type call struct {
	window
	rows  []Row
	args  []any
	reply *redis.Cmd
}

// exchange runs a script for every call, all in one round trip, or two where Redis does not know the script.
func (r *Ranking) exchange(ctx context.Context, script *redis.Script, calls []call) error {
	pipelined := func(run func(p redis.Pipeliner, keys []string, args ...any) *redis.Cmd) error {
		_, err := r.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, c := range calls {
				calls[i].reply = run(p, c.keys(), c.args...)
			}
			return nil
		})
		return err
	}
	err := pipelined(func(p redis.Pipeliner, keys []string, args ...any) *redis.Cmd {
		return script.EvalSha(ctx, p, keys, args...)
	})
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = pipelined(func(p redis.Pipeliner, keys []string, args ...any) *redis.Cmd {
			return script.Eval(ctx, p, keys, args...)
		})
	}
	return err
}

// Rebuild makes a window's projection anew from SQL, even if it looks complete, and returns when it is. Until then its reads
// wait, or are fault.Rebuilding.
func (r *Ranking) Rebuild(ctx context.Context, board, windowID string) error {
	w, err := r.window(board, windowID)
	if err != nil {
		return err
	}
	if err := r.DB.Ping(ctx); err != nil { // what is there now is worth more than nothing
		return fmt.Errorf("rebuild ranking: %w", err)
	}
	return r.rebuild(ctx, w, true)
}

// Complete returns when the window's projection is complete, rebuilding it if it is not.
func (r *Ranking) Complete(ctx context.Context, board, windowID string) error {
	w, err := r.window(board, windowID)
	if err != nil {
		return err
	}
	return r.ensure(ctx, w)
}

// Drop removes a window's projection. A read of the window makes it again.
func (r *Ranking) Drop(ctx context.Context, board, windowID string) error {
	return store.RedisError("drop ranking", r.Redis.Unlink(ctx, window{id: windowID, board: board}.keys()...).Err())
}

// ensure waits until the window is complete.
func (r *Ranking) ensure(ctx context.Context, w window) error {
	select {
	case result := <-r.repair(ctx, w):
		return result.Err
	case <-ctx.Done():
		return rebuilding(ctx.Err())
	}
}

// repair rebuilds the window if it is not complete, once for all who ask in this process, and for longer than any one of
// them waits.
func (r *Ranking) repair(ctx context.Context, w window) <-chan singleflight.Result {
	return r.rebuilds.DoChan(w.tag(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebuildTimeout)
		defer cancel()
		return nil, r.rebuild(ctx, w, false)
	})
}

// rebuild empties the projection, copies every row from SQL and then marks it complete, all under a lease.
//
// Nothing is missing afterwards. Take any change of a row, or of its player's visibility: it is committed, then projected. If it
// was committed before the page it belongs to was read, the page has it. Otherwise it is projected after the projection was emptied, and stays. The
// order of the two writes does not matter, because the newer version wins. Pages go by player id, so that a row cannot slip
// from a page not yet read into one that was.
//
// Two rebuilds do not bless each other's half: whoever empties the projection takes the lease, every chunk and the marker
// need it, and the one that lost it waits for the other.
func (r *Ranking) rebuild(ctx context.Context, w window, always bool) error {
	token := uuid.NewString()
	for {
		force := ""
		if always {
			force = "1"
		}
		begun, err := beginScript.Run(ctx, r.Redis, w.keys(), w.form, token, rebuildLease.Milliseconds(), force).Int()
		switch {
		case err != nil:
			if ctx.Err() != nil { // it may have begun all the same
				r.giveUp(ctx, w, token)
			}
			return store.RedisError("rebuild ranking", err)
		case begun == 1:
			return nil
		case begun == 2:
			always = false
			done, err := r.fill(ctx, w, token)
			if err != nil {
				r.giveUp(ctx, w, token)
			}
			if err != nil || done {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return rebuilding(ctx.Err())
		case <-time.After(rebuildPoll):
		}
	}
}

// errLeaseLost ends a rebuild that another one took over.
var errLeaseLost = errors.New("another rebuild took over")

// fill copies every row of the window and marks it complete. It is false when another rebuild took over. The next page is
// read while one is written, so that SQL and Redis both work all the time; no more than three are held.
func (r *Ranking) fill(ctx context.Context, w window, token string) (bool, error) {
	type page struct {
		rows    []Row
		players map[string]visibility
	}
	copied, pages := 0, make(chan page, 1)
	group, copying := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(pages)
		return r.Entries.eachPage(copying, r.DB.Queries, w.board, w.id, func(rows []Row) error {
			players, err := r.visibilitiesFrom(copying, rows[0].Player, rows[len(rows)-1].Player)
			if err != nil {
				return err
			}
			select {
			case pages <- page{rows, players}:
				return nil
			case <-copying.Done():
				return copying.Err()
			}
		})
	})
	group.Go(func() error {
		for page := range pages {
			copied += len(page.rows)
			if err := r.copy(copying, w, token, page.rows, page.players); err != nil {
				return err
			}
		}
		return nil
	})
	err := group.Wait()
	switch {
	case err == nil:
		complete, err := endScript.Run(ctx, r.Redis, w.keys(), w.form, token, strconv.Itoa(copied)).Int()
		return complete == 1, store.RedisError("rebuild ranking", err)
	case errors.Is(err, errLeaseLost):
		return false, nil
	}
	return false, fmt.Errorf("rebuild ranking: %w", err)
}

// giveUp gives back the lease of a rebuild that failed, so that the next one need not wait for it to run out. Where it cannot, it
// does run out.
func (r *Ranking) giveUp(ctx context.Context, w window, token string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = endScript.Run(ctx, r.Redis, w.keys(), w.form, token, "").Err()
}

// copy writes a page of a rebuild in one round trip, in which others get their turn between the scripts.
func (r *Ranking) copy(ctx context.Context, w window, token string, rows []Row, players map[string]visibility) error {
	var calls []call
	for some := range slices.Chunk(rows, scriptRows) {
		calls = append(calls, call{window: w, args: w.rowArgs(token, nil, some, players)})
	}
	if err := r.exchange(ctx, projectScript, calls); err != nil {
		return store.RedisError("rebuild ranking", err)
	}
	for _, c := range calls {
		if state, err := c.reply.Int(); err != nil {
			return store.RedisError("rebuild ranking", err)
		} else if state == leaseLost {
			return errLeaseLost
		}
	}
	return nil
}

func rebuilding(cause error) error {
	return fault.Rebuilding.Wrap(cause, "the ranking is being rebuilt, try again").After(time.Second)
}

// window is one window of one board, as it is kept in Redis.
type window struct {
	board, id string
	order     string // the board's
	size      int    // the board's
	keeps     bool   // entries of the board have metadata
	form      string // what the marker of a complete projection says
}

func (r *Ranking) window(board, id string) (window, error) {
	b, ok := r.Entries.Boards(board)
	if !ok {
		return window{}, fault.BoardNotFound.Errorf("there is no board %q", board)
	}
	w := window{board: board, id: id, order: b.Order, size: b.Size, keeps: len(b.Entry) > 0, form: "3:desc:"}
	if standing(b.Order, 1) > 0 {
		w.form = "3:asc:"
	}
	w.form += strconv.FormatInt(r.epoch.Load(), 10)
	return w, nil
}

func (w window) tag() string { return "{" + w.board + ":" + w.id + "}" }

func (w window) keys() []string {
	prefix := "rank:" + w.tag()
	return []string{prefix + ":order", prefix + ":players", prefix + ":rebuild"}
}

// rowArgs are the arguments of project.lua. to is how far a refill has read; nil: this is none.
func (w window) rowArgs(token string, to *point, rows []Row, players map[string]visibility) []any {
	args := make([]any, 0, 6+4*len(rows))
	args = append(args, w.form, token, rebuildLease.Milliseconds(), w.size)
	if to != nil {
		args = append(args, to.standing, to.member())
	} else {
		args = append(args, "", "")
	}
	for _, row := range rows {
		args = w.appendRow(args, row, players[row.Player])
	}
	return args
}

// appendRow adds those of one row.
func (w window) appendRow(args []any, row Row, v visibility) []any {
	version, place := row.Version+v.changes, standing(w.order, row.Score)
	held := make([]byte, 0, 48+len(row.Metadata))
	held = strconv.AppendInt(held, version, 10)
	held = append(held, ':')
	held = appendTime(held, row.AchievedAt)
	if v.hidden {
		held = append(held, ':')
		held = strconv.AppendInt(held, place, 10)
	} else if row.Metadata != "" {
		held = append(held, ':')
	}
	if row.Metadata != "" {
		held = append(held, ':')
		held = append(held, row.Metadata...)
	}
	if v.hidden {
		return append(args, row.Player, version, "+inf", held)
	}
	return append(args, row.Player, version, place, held)
}

// timeWidth is the width of achieved-at in a member.
const timeWidth = 12

func member(at time.Time, player string) string {
	return string(append(appendTime(make([]byte, 0, timeWidth+len(player)), at), player...))
}

func appendTime(to []byte, at time.Time) []byte {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	return hex.AppendEncode(to, ms[len(ms)-timeWidth/2:])
}

func splitMember(member string) (time.Time, string, error) {
	if len(member) <= timeWidth {
		return time.Time{}, "", errors.New("a member is too short")
	}
	ms, err := strconv.ParseInt(member[:timeWidth], 16, 64)
	if err != nil {
		return time.Time{}, "", errors.New("a member does not begin with a time")
	}
	return time.UnixMilli(ms).UTC(), member[timeWidth:], nil
}
