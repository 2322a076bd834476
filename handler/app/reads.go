package app

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/handler/web"
)

// player answers a player's progress.
func (a *App) player(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	state, err := a.ledger.Player(r.Context(), player)
	if err != nil {
		return err
	}
	type item struct {
		Item     string `json:"item"`
		Quantity int64  `json:"quantity"`
	}
	items := make([]item, len(state.Items))
	for i, held := range state.Items {
		items[i] = item{Item: held.Item, Quantity: held.Quantity}
	}
	answer := map[string]any{
		"player_id": player, "xp": state.XP, "level": state.Level, "items": items, "updated_at": timestamp(state.UpdatedAt),
	}
	if next, more := a.catalog.Load().XP.Next(state.Level); more {
		answer["next_level_xp"] = next
	}
	return web.JSON(w, http.StatusOK, answer)
}

// playerEvent answers what an accepted event did: its ledger rows, and what was cut and why.
func (a *App) playerEvent(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	entries, err := a.ledger.Entries(r.Context(), player, r.PathValue("event"))
	if err != nil {
		return err
	}
	rows := make([]map[string]any, len(entries))
	for i, e := range entries {
		rows[i] = map[string]any{
			"kind": e.Kind, "number": e.Number, "event_type": e.EventType, "item": e.Item, "delta": e.Delta, "balance": e.Balance,
			"level_before": e.LevelBefore, "level_after": e.LevelAfter, "catalog_version": e.CatalogVersion,
			"effective_at": timestamp(e.EffectiveAt), "recorded_at": timestamp(e.RecordedAt), "notes": e.Notes,
		}
	}
	return web.JSON(w, http.StatusOK, map[string]any{"player_id": player, "event_id": r.PathValue("event"), "entries": rows})
}

func playerID(r *http.Request) (string, error) {
	player := r.PathValue("player")
	if !event.ValidPlayerID(player) {
		return "", fault.PlayerNotFound.Errorf("%q is not a player id", player)
	}
	return player, nil
}

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
func (a *App) find(ctx context.Context, r *http.Request) (catalog.Board, season.Window, error) {
	name := r.PathValue("board")
	board, known := a.catalog.Load().Boards[name]
	if !known {
		return board, season.Window{}, fault.BoardNotFound.Errorf("there is no board %q", name)
	}
	id := r.URL.Query().Get("window")
	if id == "" {
		id = board.Windows[0]
	}
	if slices.Contains(board.Windows, id) {
		w, err := a.windows.Current(ctx, name, id, a.options.Now())
		return board, w, err
	}
	w, err := a.windows.Get(ctx, name, id)
	return board, w, err
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
	for k, v := range more {
		answer[k] = v
	}
	return web.JSON(w, http.StatusOK, answer)
}

// board answers the top of a window, or the page after a cursor.
func (a *App) board(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 10)
	if err != nil {
		return err
	}
	_, in, err := a.find(r.Context(), r)
	if err != nil {
		return err
	}
	if in.State == season.Archived {
		if r.URL.Query().Get("cursor") != "" {
			return fault.CursorExpired.Errorf("the window is archived, read /v1/leaderboards/%s/archives/%s", in.Board, in.ID)
		}
		return a.archivePage(w, r, in, 0, n)
	}
	page, err := a.ranking.Page(r.Context(), leaderboard.Query{
		Board: in.Board, Window: in.ID, Limit: n, Cursor: r.URL.Query().Get("cursor"),
	})
	if err != nil {
		return err
	}
	return a.standing(w, r, in, entries(page.Rows), map[string]any{"next": page.Next, "count": page.Count})
}

// ranked answers one player's place.
func (a *App) ranked(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	_, in, err := a.find(r.Context(), r)
	if err != nil {
		return err
	}
	if in.State == season.Archived {
		standing, err := a.windows.Player(r.Context(), in.Board, in.ID, player)
		if err != nil {
			return err
		}
		return a.standing(w, r, in, final(standing), nil)
	}
	row, err := a.ranking.Player(r.Context(), in.Board, in.ID, player)
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
	_, in, err := a.find(r.Context(), r)
	if err != nil {
		return err
	}
	if in.State == season.Archived {
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
	page, err := a.ranking.Around(r.Context(), in.Board, in.ID, player, n)
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
		"count": header.Entries, "closed_at": timestamp(header.ClosedAt), "digest": header.Digest, "catalog_version": header.CatalogVersion,
	})
}

func final(rows ...season.Standing) []entry {
	out := make([]entry, len(rows))
	for i, row := range rows {
		out[i] = entry{row.Rank, row.TiedRank, row.Player, row.Score, timestamp(row.AchievedAt)}
	}
	return out
}

// receipt answers the signed statement of what an event granted.
func (a *App) receipt(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	token, err := receipt.Get(r.Context(), a.db, player, r.PathValue("event"))
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]string{"player_id": player, "event_id": r.PathValue("event"), "receipt": token})
}

// verifyReceipt says whether a receipt was issued here and says what it says.
func (a *App) verifyReceipt(w http.ResponseWriter, _ *http.Request, c caller) error {
	var question struct {
		Receipt string `json:"receipt"`
	}
	if err := json.Unmarshal(c.request.Body, &question, json.RejectUnknownMembers(true)); err != nil {
		return fault.MalformedJSON.Wrap(err, `the body is {"receipt": "…"}`)
	}
	claims, err := a.receipts.Verify(question.Receipt)
	if errors.Is(err, fault.Invalid) {
		return web.JSON(w, http.StatusOK, map[string]any{"valid": false, "reason": fault.CodeOf(err)})
	}
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{"valid": true, "claims": claims})
}

// listRejected answers what had no effect, newest first.
func (a *App) listRejected(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	rows, next, err := a.rejected.List(r.Context(), rejected.Filter{After: r.URL.Query().Get("cursor"), Limit: n})
	if err != nil {
		return err
	}
	list := make([]map[string]any, len(rows))
	for i, row := range rows {
		list[i] = rejection(row)
	}
	return web.JSON(w, http.StatusOK, map[string]any{"rejected": list, "next": next})
}

// showRejected answers one rejected message with its bytes.
func (a *App) showRejected(w http.ResponseWriter, r *http.Request, _ caller) error {
	row, err := a.rejected.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	answer := rejection(row)
	answer["body"] = row.Body // base64: it may be anything
	return web.JSON(w, http.StatusOK, answer)
}

func rejection(row rejected.Rejection) map[string]any {
	return map[string]any{
		"id": row.ID, "stage": row.Stage, "message_id": row.MessageID, "player_id": row.PlayerID, "event_id": row.EventID,
		"code": row.Code, "detail": row.Detail, "first_at": timestamp(row.FirstAt), "last_at": timestamp(row.LastAt), "times": row.Times,
	}
}
