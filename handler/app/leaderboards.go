package app

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/season"
	"liveops/handler/web"
)

// window is how every leaderboard answer describes its window.
type window struct {
	ID          string `json:"id"`
	Cadence     string `json:"cadence"`
	StartsAt    string `json:"starts_at,omitempty"`
	EndsAt      string `json:"ends_at,omitempty"`
	State       string `json:"state"`
	SecondsLeft *int64 `json:"seconds_left,omitempty"`
}

func (a *App) describe(w season.Window) window {
	out := window{ID: w.ID, Cadence: w.Cadence, State: string(w.State)}
	if !w.Starts.IsZero() && w.Starts.Unix() > 0 {
		out.StartsAt = timestamp(w.Starts)
	}
	if !w.Ends.IsZero() {
		out.EndsAt = timestamp(w.Ends)
		left := max(0, int64(w.Ends.Sub(a.options.Now())/time.Second))
		out.SecondsLeft = &left
	}
	return out
}

// ranking is what reads of a board answer: a stretch of one window's order, and as much around it as they know.
type ranking struct {
	Board      string   `json:"board"`
	Window     window   `json:"window"`
	Entries    []entry  `json:"entries"`
	Count      *int64   `json:"count,omitempty"`      // of the entries of the window
	Next       *string  `json:"next,omitempty"`       // cursor of the page after; empty: there is none
	Prev       *string  `json:"prev,omitempty"`       // cursor of the page before
	Rank       *int64   `json:"rank,omitempty"`       // of a score that was asked for
	TiedRank   *int64   `json:"tied_rank,omitempty"`  // the same
	Percentile *float64 `json:"percentile,omitempty"` // of one player, or of a score
	Archive    *archive `json:"archive,omitempty"`    // of a window that is closed
}

// entry is one ranked player.
type entry struct {
	Rank       int64          `json:"rank"`
	TiedRank   int64          `json:"tied_rank"`
	PlayerID   string         `json:"player_id"`
	Score      int64          `json:"score"`
	AchievedAt string         `json:"achieved_at"`
	Metadata   jsontext.Value `json:"metadata,omitzero"`
}

func entries(rows []leaderboard.Ranked) []entry {
	out := make([]entry, len(rows))
	for i, row := range rows {
		out[i] = entry{row.Rank, row.TiedRank, row.Player, row.Score, timestamp(row.AchievedAt), object(row.Metadata)}
	}
	return out
}

// object is JSON text, nil where it is empty.
func object(text string) jsontext.Value {
	if text == "" {
		return nil
	}
	return jsontext.Value(text)
}

// boards answers the boards with their current windows.
func (a *App) boards(w http.ResponseWriter, r *http.Request, _ caller) error {
	now := a.options.Now()
	served, err := a.windows.Served(r.Context(), now)
	if err != nil {
		return err
	}
	current := map[string][]window{}
	for _, in := range served {
		if in.Contains(now) {
			current[in.Board] = append(current[in.Board], a.describe(in))
		}
	}
	game := a.catalog.Load()
	list := make([]map[string]any, 0, len(game.Boards))
	for _, name := range slices.Sorted(maps.Keys(game.Boards)) {
		board := game.Boards[name]
		windows := current[name]
		slices.SortStableFunc(windows, func(a, b window) int {
			return slices.Index(board.Windows, a.Cadence) - slices.Index(board.Windows, b.Cadence)
		})
		list = append(list, map[string]any{
			"board": name, "operator": board.Operator, "order": board.Order, "zone": board.Zone, "public": board.Public,
			"metadata": board.Metadata, "entry": board.Entry, "windows": windows,
		})
	}
	return web.JSON(w, http.StatusOK, map[string]any{"boards": list})
}

// find resolves the board of the path and the window of the query: a cadence means its current window, anything else is
// a window's id; the board's first cadence when nothing is said.
func (a *App) find(r *http.Request) (season.Window, error) {
	name := r.PathValue("board")
	board, known := a.catalog.Load().Boards[name]
	if !known {
		return season.Window{}, fault.BoardNotFound.Errorf("there is no board %q", name)
	}
	id := r.URL.Query().Get("window")
	if id == "" {
		id = board.Windows[0]
	}
	now := a.options.Now()
	if in, ok := a.openWindows.find(name, id, now); ok {
		return in, nil
	}
	var in season.Window
	var err error
	if slices.Contains(board.Windows, id) {
		in, err = a.windows.Current(r.Context(), name, id, now)
	} else {
		in, err = a.windows.Get(r.Context(), name, id)
	}
	if err == nil && a.lasts(in) {
		a.openWindows.add(name, id, in)
	}
	return in, err
}

// lasts says whether a window will stay as it is for longer than anybody believes in it: it is open and not about to end, and if
// an operator ends it, the grace is still to come.
func (a *App) lasts(in season.Window) bool {
	left, ends := in.Left(a.options.Now())
	return in.State == season.Open && (!ends || left > 2*believed) && a.windows.Grace() > 2*believed
}

// believed is how long a process believes that an open window is open without asking the database.
const believed = time.Second

// openWindows remembers windows that were open a moment ago.
type openWindows struct {
	mu    sync.Mutex
	found map[[2]string]openWindow // by board and what was asked for
}

type openWindow struct {
	season.Window
	until time.Time // by the clock of this machine
}

func (o *openWindows) find(board, asked string, now time.Time) (season.Window, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	in, ok := o.found[[2]string{board, asked}]
	return in.Window, ok && time.Now().Before(in.until) && in.Contains(now)
}

func (o *openWindows) add(board, asked string, in season.Window) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found == nil || len(o.found) > 1000 {
		o.found = map[[2]string]openWindow{}
	}
	o.found[[2]string{board, asked}] = openWindow{in, time.Now().Add(believed)}
}

// live reads a window from the rankings, or says that it is final: a window may be archived between the look at its state and the
// read, and then its rows are gone.
func (a *App) live(r *http.Request, in *season.Window, read func() error) (final bool, err error) {
	if in.State.Final() {
		return true, nil
	}
	err = read()
	if a.lasts(*in) {
		return false, err
	}
	now, lost := a.windows.Get(r.Context(), in.Board, in.ID)
	if lost != nil {
		return false, errors.Join(lost, err)
	}
	*in = now
	return in.State.Final(), err
}

// query asks for rows of the path's window as the player of ?viewer= sees them: while he is hidden, he is ranked for himself. An
// unsigned request may not name one, and a session's key only its own: with another and without, it would tell anybody who is hidden.
func (a *App) query(r *http.Request, c caller, limit int) (season.Window, leaderboard.Query, error) {
	viewer, detail := r.URL.Query().Get("viewer"), ""
	switch {
	case viewer == "":
	case c.key.ID == "":
		detail = "viewer is for signed requests"
	case !event.ValidPlayerID(viewer):
		detail = "viewer is the id of a player"
	case !c.speaksFor(viewer):
		return season.Window{}, leaderboard.Query{}, fault.OutOfScope.Errorf("the key speaks for another player than viewer")
	}
	if detail != "" {
		return season.Window{}, leaderboard.Query{}, malformed("viewer", detail)
	}
	in, err := a.find(r)
	return in, leaderboard.Query{Board: in.Board, Window: in.ID, Viewer: viewer, Limit: limit}, err
}

// page answers the top of a window, or the page next to a cursor. A cursor knows its window, so that a client that reads on need
// not name one, and is told when it has closed.
func (a *App) page(r *http.Request, c caller) (ranking, error) {
	n, err := limit(r, c, 10)
	if err != nil {
		return ranking{}, err
	}
	cursor := r.URL.Query().Get("cursor")
	if cursor != "" && !r.URL.Query().Has("window") {
		board, id, err := a.ranking.CursorWindow(cursor)
		if err == nil && board != r.PathValue("board") {
			err = fault.MalformedCursor.Errorf("the cursor is of another board")
		}
		if err != nil {
			return ranking{}, err
		}
		query := r.URL.Query()
		query.Set("window", id)
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
	}
	in, q, err := a.query(r, c, n)
	if err != nil {
		return ranking{}, err
	}
	q.Cursor = cursor
	var page leaderboard.Page
	final, err := a.live(r, &in, func() (err error) {
		page, err = a.ranking.Page(r.Context(), q)
		return err
	})
	switch {
	case final && cursor != "":
		return ranking{}, rolledOver(in.Board, in.ID)
	case final:
		return a.archivePage(r, in, 0, n)
	case errors.Is(err, fault.CursorExpired):
		_, id, _ := a.ranking.CursorWindow(cursor) // it was read before
		return ranking{}, rolledOver(in.Board, id)
	case err != nil:
		return ranking{}, err
	}
	return ranking{
		Board: in.Board, Window: a.describe(in), Entries: entries(page.Rows), Count: &page.Count, Next: &page.Next, Prev: &page.Prev,
	}, nil
}

// rolledOver tells whose cursor is of a window that is over where its final order is, or will be.
func rolledOver(board, id string) error {
	place := "/v1/leaderboards/" + url.PathEscape(board) + "/archives/" + url.PathEscape(id)
	expired := fault.CursorExpired.Errorf("the cursor is of window %s, whose final order is at %s", id, place)
	expired.Extra = map[string]any{"window": id, "archive": place}
	return expired
}

// ranked answers one player's place.
func (a *App) ranked(r *http.Request, c caller) (ranking, error) {
	player, err := playerID(r)
	if err != nil {
		return ranking{}, err
	}
	in, q, err := a.query(r, c, 1)
	if err != nil {
		return ranking{}, err
	}
	var page leaderboard.Page
	final, err := a.live(r, &in, func() (err error) {
		page, err = a.ranking.Around(r.Context(), q, player)
		return err
	})
	if final {
		return a.archivedPlace(r, in, player)
	}
	if err != nil {
		return ranking{}, err
	}
	share := leaderboard.Percentile(page.Rows[0].Rank, page.Count)
	return ranking{Board: in.Board, Window: a.describe(in), Entries: entries(page.Rows), Count: &page.Count, Percentile: &share}, nil
}

// around answers a player's neighbours.
func (a *App) around(r *http.Request, c caller) (ranking, error) {
	n, err := limit(r, c, 11)
	if err != nil {
		return ranking{}, err
	}
	player, err := playerID(r)
	if err != nil {
		return ranking{}, err
	}
	in, q, err := a.query(r, c, n)
	if err != nil {
		return ranking{}, err
	}
	var page leaderboard.Page
	final, err := a.live(r, &in, func() (err error) {
		page, err = a.ranking.Around(r.Context(), q, player)
		return err
	})
	if final {
		return a.archivedAround(r, in, player, n)
	}
	if err != nil {
		return ranking{}, err
	}
	return ranking{
		Board: in.Board, Window: a.describe(in), Entries: entries(page.Rows), Count: &page.Count, Next: &page.Next, Prev: &page.Prev,
	}, nil
}

// lookup answers the places of the players of ?id=, those that have one, in ranking order.
func (a *App) lookup(r *http.Request, c caller) (ranking, error) {
	var players []string
	for _, list := range r.URL.Query()["id"] {
		players = append(players, strings.Split(list, ",")...)
	}
	slices.Sort(players)
	players = slices.Compact(players)
	if len(players) == 0 || len(players) > leaderboard.MaxLookup || !all(players, event.ValidPlayerID) {
		return ranking{}, malformed("id", "id is the ids of 1 to "+strconv.Itoa(leaderboard.MaxLookup)+" players, with commas between")
	}
	in, q, err := a.query(r, c, len(players))
	if err != nil {
		return ranking{}, err
	}
	var rows []leaderboard.Ranked
	var count int64
	final, err := a.live(r, &in, func() (err error) {
		rows, count, err = a.ranking.Lookup(r.Context(), q, players)
		return err
	})
	if final {
		return a.archivedLookup(r, in, players)
	}
	if err != nil {
		return ranking{}, err
	}
	return ranking{Board: in.Board, Window: a.describe(in), Entries: entries(rows), Count: &count}, nil
}

// rankOf answers the rank that the score of ?score= would have if it was reached now.
func (a *App) rankOf(r *http.Request, c caller) (ranking, error) {
	score, err := strconv.ParseInt(r.URL.Query().Get("score"), 10, 64)
	if err != nil || score > event.MaxInteger || score < -event.MaxInteger {
		return ranking{}, malformed("score", "score is an integer from -(2^53-1) to 2^53-1")
	}
	in, q, err := a.query(r, c, 1)
	if err != nil {
		return ranking{}, err
	}
	var place leaderboard.Ranked
	var count int64
	final, err := a.live(r, &in, func() (err error) {
		place, count, err = a.ranking.RankOf(r.Context(), q, score)
		return err
	})
	switch {
	case final:
		return ranking{}, fault.WindowClosed.Errorf("nothing can be reached any more in window %s of board %s", in.ID, in.Board)
	case err != nil:
		return ranking{}, err
	}
	share := leaderboard.Percentile(place.Rank, count+1) // the score would be one more entry
	return ranking{
		Board: in.Board, Window: a.describe(in), Entries: []entry{}, Count: &count, Rank: &place.Rank, TiedRank: &place.TiedRank, Percentile: &share,
	}, nil
}

func all[T any](values []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(values, func(value T) bool { return !holds(value) })
}
