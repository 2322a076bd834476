package app

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

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

// boards answers the boards with their current windows.
func (a *App) boards(w http.ResponseWriter, r *http.Request, _ caller) error {
	game := a.catalog.Load()
	names := make([]string, 0, len(game.Boards))
	for name := range game.Boards {
		names = append(names, name)
	}
	slices.Sort(names)
	list := make([]map[string]any, 0, len(names))
	for _, name := range names {
		board := game.Boards[name]
		windows := []window{}
		for _, cadence := range board.Windows {
			current, err := a.windows.Current(r.Context(), name, cadence, a.options.Now())
			if errors.Is(err, fault.NotFound) {
				continue // between two seasons
			}
			if err != nil {
				return err
			}
			windows = append(windows, a.describe(current))
		}
		list = append(list, map[string]any{
			"board": name, "operator": board.Operator, "order": board.Order, "zone": board.Zone, "windows": windows,
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
	if slices.Contains(board.Windows, id) {
		return a.windows.Current(r.Context(), name, id, a.options.Now())
	}
	return a.windows.Get(r.Context(), name, id)
}

// entry is one ranked player.
type entry struct {
	Rank       int64  `json:"rank"`
	TiedRank   int64  `json:"tied_rank"`
	PlayerID   string `json:"player_id"`
	Score      int64  `json:"score"`
	AchievedAt string `json:"achieved_at"`
}

func entries(rows []leaderboard.Ranked) []entry {
	out := make([]entry, len(rows))
	for i, row := range rows {
		out[i] = entry{row.Rank, row.TiedRank, row.Player, row.Score, timestamp(row.AchievedAt)}
	}
	return out
}

func (a *App) standing(w http.ResponseWriter, r *http.Request, in season.Window, rows []entry, more map[string]any) error {
	answer := map[string]any{"board": r.PathValue("board"), "window": a.describe(in), "entries": rows}
	maps.Copy(answer, more)
	return web.JSON(w, http.StatusOK, answer)
}

// query asks for rows of the path's window as the player of ?viewer= sees them: while he is hidden, he is ranked for himself. An
// unsigned request may not name one: with him and without, it would tell anybody who is hidden.
func (a *App) query(r *http.Request, c caller, limit int) (season.Window, leaderboard.Query, error) {
	viewer, detail := r.URL.Query().Get("viewer"), ""
	switch {
	case viewer == "":
	case c.key.ID == "":
		detail = "viewer is for signed requests"
	case !event.ValidPlayerID(viewer):
		detail = "viewer is the id of a player"
	}
	if detail != "" {
		return season.Window{}, leaderboard.Query{}, &fault.Error{
			Code: fault.MalformedRequest, Detail: detail, Fields: []fault.Field{{Pointer: "/viewer", Code: fault.FieldRange}},
		}
	}
	in, err := a.find(r)
	return in, leaderboard.Query{Board: in.Board, Window: in.ID, Viewer: viewer, Limit: limit}, err
}

// board answers the top of a window, or the page after a cursor.
func (a *App) board(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 10)
	if err != nil {
		return err
	}
	in, q, err := a.query(r, c, n)
	if err != nil {
		return err
	}
	if in.State.Final() {
		if r.URL.Query().Get("cursor") != "" {
			return fault.CursorExpired.Errorf("the window is archived, read /v1/leaderboards/%s/archives/%s", in.Board, in.ID)
		}
		return a.archivePage(w, r, in, 0, n)
	}
	q.Cursor = r.URL.Query().Get("cursor")
	page, err := a.ranking.Page(r.Context(), q)
	if err != nil {
		return err
	}
	return a.standing(w, r, in, entries(page.Rows), map[string]any{"next": page.Next, "count": page.Count})
}

// ranked answers one player's place.
func (a *App) ranked(w http.ResponseWriter, r *http.Request, c caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	in, q, err := a.query(r, c, 1)
	if err != nil {
		return err
	}
	if in.State.Final() {
		standing, err := a.windows.Player(r.Context(), in.Board, in.ID, player)
		if err != nil {
			return err
		}
		return a.standing(w, r, in, final(standing), nil)
	}
	row, err := a.ranking.Player(r.Context(), q, player)
	if err != nil {
		return err
	}
	return a.standing(w, r, in, entries([]leaderboard.Ranked{row}), nil)
}

// around answers a player's neighbours.
func (a *App) around(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 11)
	if err != nil {
		return err
	}
	player, err := playerID(r)
	if err != nil {
		return err
	}
	in, q, err := a.query(r, c, n)
	if err != nil {
		return err
	}
	if in.State.Final() {
		standing, err := a.windows.Player(r.Context(), in.Board, in.ID, player)
		if err != nil {
			return err
		}
		header, err := a.windows.Archive(r.Context(), in.Board, in.ID)
		if err != nil {
			return err
		}
		// The player in the middle; near an end of the window there are more on the other side, as in a live one.
		before := max(0, min(standing.Rank-1-int64(n-1)/2, header.Entries-int64(n)))
		return a.archivePage(w, r, in, before, n)
	}
	page, err := a.ranking.Around(r.Context(), q, player)
	if err != nil {
		return err
	}
	return a.standing(w, r, in, entries(page.Rows), map[string]any{"count": page.Count})
}

// archived answers a closed window's final standings, from a rank on.
func (a *App) archived(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 10)
	if err != nil {
		return err
	}
	after, err := strconv.ParseInt("0"+r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		return fault.MalformedRequest.Errorf("after is the last rank of the page before")
	}
	in, err := a.windows.Get(r.Context(), r.PathValue("board"), r.PathValue("window"))
	if err != nil {
		return err
	}
	return a.archivePage(w, r, in, after, n)
}

func (a *App) archivePage(w http.ResponseWriter, r *http.Request, in season.Window, after int64, n int) error {
	header, err := a.windows.Archive(r.Context(), in.Board, in.ID)
	if err != nil {
		return err
	}
	rows, err := a.windows.Page(r.Context(), in.Board, in.ID, after, n)
	if err != nil {
		return err
	}
	return a.standing(w, r, in, final(rows...), map[string]any{
		"count": header.Entries, "closed_at": timestamp(header.ClosedAt), "root": header.Root, "catalog_version": header.CatalogVersion,
	})
}

func final(rows ...season.Standing) []entry {
	out := make([]entry, len(rows))
	for i, row := range rows {
		out[i] = entry{row.Rank, row.TiedRank, row.Player, row.Score, timestamp(row.AchievedAt)}
	}
	return out
}
