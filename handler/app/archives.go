package app

import (
	"net/http"
	"strconv"

	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/merkle"
	"liveops/core/season"
	"liveops/handler/web"
)

// archive is what is said of a closed window as a whole.
type archive struct {
	Sequence       int64       `json:"sequence"`
	Entries        int64       `json:"entries"`
	Kept           int64       `json:"kept"`
	ClosedAt       string      `json:"closed_at"`
	CatalogVersion int         `json:"catalog_version"`
	Mismatches     *int64      `json:"mismatches"`
	Root           merkle.Hash `json:"root"`
	Previous       string      `json:"previous"`
	Seal           string      `json:"seal"`
}

func describeArchive(h season.Header) *archive {
	return &archive{
		h.Sequence, h.Entries, h.Kept, timestamp(h.ClosedAt), h.CatalogVersion, h.Mismatches, h.Root, h.Previous, h.Seal,
	}
}

func final(rows ...season.Standing) []entry {
	out := make([]entry, len(rows))
	for i, row := range rows {
		out[i] = entry{row.Rank, row.TiedRank, row.Player, row.Score, timestamp(row.AchievedAt), object(row.Metadata)}
	}
	return out
}

// finalOrder answers places of an archived window.
func (a *App) finalOrder(h season.Header, rows ...season.Standing) ranking {
	return ranking{Board: h.Board, Window: a.describe(h.Window), Entries: final(rows...), Count: &h.Entries, Archive: describeArchive(h)}
}

// archivePage answers places of an archived window, from the one after a rank on.
func (a *App) archivePage(r *http.Request, in season.Window, after int64, n int) (ranking, error) {
	header, err := a.windows.Archive(r.Context(), in.Board, in.ID)
	if err != nil {
		return ranking{}, err
	}
	rows, err := a.windows.Page(r.Context(), in.Board, in.ID, after, n)
	if err != nil {
		return ranking{}, err
	}
	return a.finalOrder(header, rows...), nil
}

// archivedPlace answers a player's final place.
func (a *App) archivedPlace(r *http.Request, in season.Window, player string) (ranking, error) {
	standing, err := a.windows.Player(r.Context(), in.Board, in.ID, player)
	if err != nil {
		return ranking{}, err
	}
	header, err := a.windows.Archive(r.Context(), in.Board, in.ID)
	if err != nil {
		return ranking{}, err
	}
	answer := a.finalOrder(header, standing)
	share := leaderboard.Percentile(standing.Rank, header.Entries)
	answer.Percentile = &share
	return answer, nil
}

// archivedAround answers a player's final neighbours, he in the middle; near an end of the window there are more on the other
// side, as in a live one.
func (a *App) archivedAround(r *http.Request, in season.Window, player string, n int) (ranking, error) {
	place, err := a.archivedPlace(r, in, player)
	if err != nil {
		return ranking{}, err
	}
	before := max(0, min(place.Entries[0].Rank-1-int64(n/2), *place.Count-int64(n)))
	return a.archivePage(r, in, before, n)
}

// archivedLookup answers the final places of some players.
func (a *App) archivedLookup(r *http.Request, in season.Window, players []string) (ranking, error) {
	header, err := a.windows.Archive(r.Context(), in.Board, in.ID)
	if err != nil {
		return ranking{}, err
	}
	rows, err := a.windows.Lookup(r.Context(), in.Board, in.ID, players)
	if err != nil {
		return ranking{}, err
	}
	return a.finalOrder(header, rows...), nil
}

// archives answers the closed windows of a board, newest first.
func (a *App) archives(w http.ResponseWriter, r *http.Request, c caller) error {
	cadence, before, n, err := a.history(r, c)
	if err != nil {
		return err
	}
	headers, err := a.windows.Archives(r.Context(), r.PathValue("board"), cadence, before, n)
	if err != nil {
		return err
	}
	list := each(headers, func(h season.Header) map[string]any {
		return map[string]any{"window": a.describe(h.Window), "archive": describeArchive(h), "winner": winner(h)}
	})
	return web.JSON(w, http.StatusOK, map[string]any{"board": r.PathValue("board"), "archives": list, "next": older(headers, n)})
}

// winner is the first place of an archive, or null.
func winner(h season.Header) any {
	if h.Entries == 0 {
		return nil
	}
	return map[string]any{"player_id": h.TopPlayer, "score": h.TopScore}
}

// history reads what lists of closed windows are asked by: ?cadence=, and ?before=, the number of the last one of the page
// before.
func (a *App) history(r *http.Request, c caller) (cadence string, before int64, n int, err error) {
	board, known := a.catalog.Load().Boards[r.PathValue("board")]
	if !known {
		return "", 0, 0, fault.BoardNotFound.Errorf("there is no board %q", r.PathValue("board"))
	}
	if n, err = limit(r, c, 20); err != nil {
		return "", 0, 0, err
	}
	if before, err = count(r, "before"); err != nil {
		return "", 0, 0, err
	}
	cadence, err = oneOf(r, "cadence", board.Windows...)
	return cadence, before, n, err
}

// older is what ?before= reads on with; 0 when a list is at its end.
func older(headers []season.Header, n int) int64 {
	if len(headers) < n {
		return 0
	}
	return headers[len(headers)-1].Sequence
}

// archived answers a closed window's final order: the page after, or before, a rank.
func (a *App) archived(r *http.Request, c caller) (ranking, error) {
	n, err := limit(r, c, 10)
	if err != nil {
		return ranking{}, err
	}
	after, err := count(r, "after")
	if err != nil {
		return ranking{}, err
	}
	before, err := count(r, "before")
	if err != nil {
		return ranking{}, err
	}
	in := season.Window{Board: r.PathValue("board"), ID: r.PathValue("window")}
	if before == 0 {
		return a.archivePage(r, in, after, n)
	}
	header, err := a.windows.Archive(r.Context(), in.Board, in.ID)
	if err != nil {
		return ranking{}, err
	}
	rows, err := a.windows.PageBefore(r.Context(), in.Board, in.ID, before, n)
	if err != nil {
		return ranking{}, err
	}
	return a.finalOrder(header, rows...), nil
}

// count reads a parameter that is a number from 1, 0 when it is not sent.
func count(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, malformed(name, name+" is a number from 1")
	}
	return n, nil
}

// proof answers a player's final place with all that is needed to check it against the seal, offline: the file that `liveops verify
// archive` takes.
func (a *App) proof(w http.ResponseWriter, r *http.Request, _ caller) error {
	player, err := playerID(r)
	if err != nil {
		return err
	}
	proof, err := a.windows.Proof(r.Context(), r.PathValue("board"), r.PathValue("window"), player)
	if err != nil {
		return err
	}
	text, err := proof.Encode()
	if err != nil {
		return err
	}
	return web.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: text}.Send(w)
}

// hallOfFame answers the first places of closed windows, newest first, and the players who won most of them.
func (a *App) hallOfFame(w http.ResponseWriter, r *http.Request, c caller) error {
	cadence, before, n, err := a.history(r, c)
	if err != nil {
		return err
	}
	famous, err := a.windows.HallOfFame(r.Context(), r.PathValue("board"), cadence, before, n)
	if err != nil {
		return err
	}
	champions, err := a.windows.Champions(r.Context(), r.PathValue("board"), cadence, n)
	if err != nil {
		return err
	}
	headers := make([]season.Header, len(famous))
	for i, f := range famous {
		headers[i] = f.Header
	}
	return web.JSON(w, http.StatusOK, map[string]any{
		"board": r.PathValue("board"), "next": older(headers, n),
		"windows": each(famous, func(f season.Famous) map[string]any {
			return map[string]any{"window": a.describe(f.Window), "entries": f.Entries, "places": final(f.Places...)}
		}),
		"champions": each(champions, func(c season.Champion) map[string]any {
			return map[string]any{"player_id": c.Player, "wins": c.Wins, "first_win_at": timestamp(c.First), "last_win_at": timestamp(c.Last)}
		}),
	})
}

// export streams a closed window's whole final order: as NDJSON, sealed, the file that `liveops verify archive` takes, or with
// ?format=csv as a table for people.
func (a *App) export(w http.ResponseWriter, r *http.Request, _ caller) error {
	format, err := oneOf(r, "format", "ndjson", "csv")
	if err != nil {
		return err
	}
	header, err := a.windows.Archive(r.Context(), r.PathValue("board"), r.PathValue("window"))
	if err != nil {
		return err
	}
	answers, write := "application/x-ndjson", a.windows.Export
	if format == "csv" {
		answers, write = "text/csv; charset=utf-8", a.windows.ExportCSV
	} else {
		format = "ndjson"
	}
	w.Header().Set("Content-Type", answers)
	w.Header().Set("Content-Disposition", `attachment; filename="`+header.Board+"-"+header.ID+"."+format+`"`)
	return write(r.Context(), header, w)
}
