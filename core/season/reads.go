package season

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/merkle"
	"liveops/core/store"
)

const headerColumns = `a.board, a.window_id, a.cadence, a.starts_at, a.ends_at, b.state, a.entries, a.kept, a.top_player, a.top_score,
	a.closed_at, a.catalog_version, a.tiers, a.mismatches, a.root, a.sequence, a.previous, a.seal
	FROM archive a JOIN board_window b ON b.board = a.board AND b.window_id = a.window_id`

func readHeaders(ctx context.Context, q store.Queries, rest string, args ...any) ([]Header, error) {
	var headers []Header
	err := q.Each(ctx, `SELECT `+headerColumns+` WHERE `+rest, args, func(scan func(...any) error) error {
		var h Header
		var starts, ends, closed int64
		var mismatches sql.NullInt64
		var tiers, root []byte
		err := scan(&h.Board, &h.ID, &h.Cadence, &starts, &ends, &h.State, &h.Entries, &h.Kept, &h.TopPlayer, &h.TopScore,
			&closed, &h.CatalogVersion, &tiers, &mismatches, &root, &h.Sequence, &h.Previous, &h.Seal)
		if err != nil {
			return err
		}
		h.Starts, h.Ends, h.ClosedAt = time.UnixMilli(starts).UTC(), time.UnixMilli(ends).UTC(), time.UnixMilli(closed).UTC()
		if mismatches.Valid {
			h.Mismatches = &mismatches.Int64
		}
		err = errors.Join(json.Unmarshal(tiers, &h.Tiers), h.Root.UnmarshalText(root))
		headers = append(headers, h)
		return err
	})
	return headers, err
}

func header(ctx context.Context, q store.Queries, board, window string) (Header, error) {
	found, err := readHeaders(ctx, q, `a.board = ? AND a.window_id = ?`, board, window)
	if err != nil {
		return Header{}, fmt.Errorf("read archive: %w", err)
	}
	if len(found) == 0 {
		w, err := get(ctx, q, board, window)
		if err != nil {
			return Header{}, err
		}
		return Header{}, fault.NotArchived.Errorf("window %s of board %s is %s", window, board, w.State)
	}
	return found[0], nil
}

// Archive gives the header of an archived window. One that is not archived yet is fault.NotArchived, an unknown one
// fault.WindowNotFound.
func (w *Windows) Archive(ctx context.Context, board, window string) (Header, error) {
	return header(ctx, w.DB.Queries, board, window)
}

// Archives lists at most limit archives of a board, newest first, of one cadence or, where that is empty, of all. before is the
// Sequence of the last one of the page before; 0 begins with the newest. limit ≥ 0.
func (w *Windows) Archives(ctx context.Context, board, cadence string, before int64, limit int) ([]Header, error) {
	rest, args := `a.board = ?`, []any{board}
	if cadence != "" {
		rest, args = rest+` AND a.cadence = ?`, append(args, cadence)
	}
	if before != 0 {
		rest, args = rest+` AND a.sequence < ?`, append(args, before)
	}
	list, err := readHeaders(ctx, w.DB.Queries, rest+` ORDER BY a.sequence DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list archives: %w", err)
	}
	return list, nil
}

// readRows reads entries that the archive still has, if there is a header: without one they are what a try in progress wrote
// so far.
func readRows(ctx context.Context, q store.Queries, which, board, window string, args ...any) ([]Row, error) {
	var rows []Row
	query := `SELECT e.position, e.tied_position, e.player_id, e.score, e.achieved_at, e.event_id, e.metadata,
		COALESCE(e.salt, ''), COALESCE(e.commitment, '')
		FROM archive a JOIN archive_entry e ON e.board = a.board AND e.window_id = a.window_id
		WHERE a.board = ? AND a.window_id = ? AND e.position <= a.kept AND ` + which
	err := q.Each(ctx, query, append([]any{board, window}, args...), func(scan func(...any) error) error {
		var r Row
		var achieved int64
		err := scan(&r.Rank, &r.TiedRank, &r.Player, &r.Score, &achieved, &r.EventID, &r.Metadata, &r.Salt, &r.Commitment)
		r.AchievedAt = time.UnixMilli(achieved).UTC()
		rows = append(rows, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read archived standings: %w", err)
	}
	return rows, nil
}

func (h Header) purged() error {
	return fault.ArchivePurged.Errorf("of window %s of board %s the first %d of %d places are kept", h.ID, h.Board, h.Kept, h.Entries)
}

// Page gives at most limit standings of an archived window, from the rank after afterRank on; 0 begins at the top. A page
// past the end is empty, one past the places that are kept is fault.ArchivePurged. limit ≥ 0. Other errors are those of Archive.
func (w *Windows) Page(ctx context.Context, board, window string, afterRank int64, limit int) ([]Standing, error) {
	rows, err := readRows(ctx, w.DB.Queries, `e.position > ? ORDER BY e.position LIMIT ?`, board, window, afterRank, limit)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		h, err := w.Archive(ctx, board, window)
		if err == nil && limit > 0 && h.Kept <= afterRank && afterRank < h.Entries {
			err = h.purged()
		}
		return nil, err
	}
	return standings(rows), nil
}

// PageBefore gives the at most limit standings of an archived window that end before a rank, in order of rank. It is otherwise
// as Page.
func (w *Windows) PageBefore(ctx context.Context, board, window string, beforeRank int64, limit int) ([]Standing, error) {
	h, err := w.Archive(ctx, board, window)
	if err != nil {
		return nil, err
	}
	last := max(0, min(beforeRank-1, h.Entries))
	after := max(0, last-int64(limit))
	return w.Page(ctx, board, window, after, int(last-after))
}

// Player gives a player's final place in an archived window, or fault.NotRanked; fault.ArchivePurged where he may have had one
// that is not kept. Other errors are those of Archive.
func (w *Windows) Player(ctx context.Context, board, window, player string) (Standing, error) {
	_, row, err := find(ctx, w.DB.Queries, board, window, player)
	return row.Standing, err
}

// Lookup gives the final places of some players, those that have one that is kept, in order of rank.
func (w *Windows) Lookup(ctx context.Context, board, window string, players []string) ([]Standing, error) {
	if len(players) == 0 {
		return nil, nil
	}
	args := make([]any, len(players))
	for i, player := range players {
		args[i] = player
	}
	rows, err := readRows(ctx, w.DB.Queries, `e.player_id IN `+w.DB.Dialect.In(len(players), 1)+` ORDER BY e.position`, board, window, args...)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return standings(rows), nil
}

func standings(rows []Row) []Standing {
	list := make([]Standing, len(rows))
	for i, r := range rows {
		list[i] = r.Standing
	}
	return list
}

// find gives a player's row and the header of its archive.
func find(ctx context.Context, q store.Queries, board, window, player string) (Header, Row, error) {
	h, err := header(ctx, q, board, window)
	if err != nil {
		return Header{}, Row{}, err
	}
	found, err := readRows(ctx, q, `e.player_id = ?`, board, window, player)
	switch {
	case err != nil:
	case len(found) > 0:
		return h, found[0], nil
	case h.Kept < h.Entries:
		err = h.purged()
	default:
		err = fault.NotRanked.Errorf("the player is not ranked in window %s of board %s", window, board)
	}
	return Header{}, Row{}, err
}

// Proof is all that is needed, beside the public keys, to see that a row is in a sealed archive: VerifySeal gives the statement
// for VerifyRow.
type Proof struct {
	Row
	Path []merkle.Hash // from below; len ≤ 53
	Seal string
}

// Proof gives a player's final place and the proof of it. It reads one block of the archive and the roots of all, as of one
// moment. Errors are those of Player.
func (w *Windows) Proof(ctx context.Context, board, window, player string) (Proof, error) {
	var p Proof
	err := w.DB.Snapshot(ctx, func(q store.Queries) error {
		h, row, err := find(ctx, q, board, window, player)
		if err != nil {
			return err
		}
		p = Proof{Row: row, Seal: h.Seal}
		if p.Path, err = h.path(ctx, q, row.Rank-1); err != nil {
			return fmt.Errorf("read path: %w", err)
		}
		return VerifyRow(h.Statement(), p.Row, p.Path) // a proof that proves nothing is not handed out
	})
	return p, err
}

// path leads from the row with an index, from 0, to the root.
func (h Header) path(ctx context.Context, q store.Queries, index int64) ([]merkle.Hash, error) {
	if h.Kept == h.Entries {
		b, err := h.branch(ctx, q, index)
		if err != nil {
			return nil, err
		}
		return b.path(index), nil
	}
	var text string
	err := q.Row(ctx, `SELECT path FROM archive_entry WHERE board = ? AND window_id = ? AND position = ?`, []any{h.Board, h.ID, index + 1}, &text)
	if err != nil {
		return nil, err
	}
	return readPath(text)
}

// EachRow calls fn for every row of an archive, in order of rank. It reads them in pages and holds no connection while fn
// works. An error of fn ends it. An archive that does not have all its rows any more, or loses some meanwhile, is
// fault.ArchivePurged; other errors are those of Archive.
func (w *Windows) EachRow(ctx context.Context, board, window string, fn func(Row) error) error {
	h, err := w.Archive(ctx, board, window)
	if err != nil {
		return err
	}
	if h.Kept < h.Entries {
		return h.purged()
	}
	for at := int64(0); at < h.Entries; {
		rows, err := readRows(ctx, w.DB.Queries, `e.position > ? ORDER BY e.position LIMIT ?`, board, window, at, w.chunk())
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return h.purged()
		}
		for _, r := range rows {
			if err := fn(r); err != nil {
				return err
			}
		}
		at = rows[len(rows)-1].Rank
	}
	return nil
}

// Famous is the first places of one archived window.
type Famous struct {
	Header
	Places []Standing
}

// HallOfFame gives the first places of at most limit archived windows of a board, as many of each as the catalog remembers,
// newest first, of one cadence or, where that is empty, of all. before is the Sequence of the last one of the page before; 0
// begins with the newest. limit ≥ 0.
func (w *Windows) HallOfFame(ctx context.Context, board, cadence string, before int64, limit int) ([]Famous, error) {
	headers, err := w.Archives(ctx, board, cadence, before, limit)
	if err != nil || len(headers) == 0 {
		return nil, err
	}
	famous, at, args := make([]Famous, len(headers)), map[string]int{}, []any{board}
	for i, h := range headers {
		famous[i].Header, at[h.ID] = h, i
		args = append(args, h.ID)
	}
	query := `SELECT e.window_id, e.position, e.tied_position, e.player_id, e.score, e.achieved_at, e.event_id, e.metadata
		FROM archive a JOIN archive_entry e ON e.board = a.board AND e.window_id = a.window_id
		WHERE a.board = ? AND a.window_id IN ` + w.DB.Dialect.In(len(headers), 1) + ` AND e.position <= a.kept AND e.position <= ?
		ORDER BY e.window_id, e.position`
	args = append(args, w.Catalog().Boards[board].HallOfFame)
	err = w.DB.Each(ctx, query, args, func(scan func(...any) error) error {
		var window string
		var s Standing
		var achieved int64
		err := scan(&window, &s.Rank, &s.TiedRank, &s.Player, &s.Score, &achieved, &s.EventID, &s.Metadata)
		s.AchievedAt = time.UnixMilli(achieved).UTC()
		f := &famous[at[window]]
		f.Places = append(f.Places, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read hall of fame: %w", err)
	}
	return famous, nil
}

// Champion is a player who won windows.
type Champion struct {
	Player string
	Wins   int64
	First  time.Time // when the first window that he won ended
	Last   time.Time
}

// Champions gives at most limit players of a board by the number of archived windows of a cadence that they won; of those with
// as many, who won first comes first. An empty cadence is all of them. limit ≥ 0.
func (w *Windows) Champions(ctx context.Context, board, cadence string, limit int) ([]Champion, error) {
	where, args := `board = ? AND entries > 0`, []any{board}
	if cadence != "" {
		where, args = where+` AND cadence = ?`, append(args, cadence)
	}
	var champions []Champion
	query := `SELECT top_player, COUNT(*), MIN(ends_at), MAX(ends_at) FROM archive WHERE ` + where + `
		GROUP BY top_player ORDER BY COUNT(*) DESC, MIN(ends_at), top_player LIMIT ?`
	err := w.DB.Each(ctx, query, append(args, limit), func(scan func(...any) error) error {
		var c Champion
		var first, last int64
		err := scan(&c.Player, &c.Wins, &first, &last)
		c.First, c.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		champions = append(champions, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read champions: %w", err)
	}
	return champions, nil
}
