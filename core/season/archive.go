package season

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"liveops/core/fault"
	"liveops/core/store"
)

// Standing is one player's final place. Ranks are unique and count from 1; TiedRank is the rank of the first player with
// the same score. AchievedAt has milliseconds.
type Standing struct {
	Rank       int64
	TiedRank   int64
	Player     string
	Score      int64
	AchievedAt time.Time
	EventID    string
}

// Standings is the final order of a frozen window.
type Standings interface {
	// EachStanding calls each for every ranked entry of a window, read through q, in order of Rank from 1 without a gap.
	// It gives the same standings every time, may hold only a part of them in memory, and returns the error of each as it
	// is. each writes to the database in transactions of its own.
	EachStanding(ctx context.Context, q store.Queries, board, window string, each func(Standing) error) error
}

// Header is what the archive says about a window as a whole.
type Header struct {
	Window
	Entries        int64
	TopPlayer      string // the winner; empty without entries
	TopScore       int64
	ClosedAt       time.Time // when the archive was made
	CatalogVersion int
	Digest         string // hex SHA-256 over the canonical rows in order of rank
}

// canonical appends the row as the digest reads it: rank, tied rank, player, score, achieved at in ms and event id, tabs
// between, a line feed behind. No id may hold either.
func (s Standing) canonical(to []byte) []byte {
	to = append(strconv.AppendInt(to, s.Rank, 10), '\t')
	to = append(strconv.AppendInt(to, s.TiedRank, 10), '\t')
	to = append(append(to, s.Player...), '\t')
	to = append(strconv.AppendInt(to, s.Score, 10), '\t')
	to = append(strconv.AppendInt(to, s.AchievedAt.UnixMilli(), 10), '\t')
	return append(append(to, s.EventID...), '\n')
}

func (w *Windows) chunk() int64 {
	if w.Chunk <= 0 {
		return 1000
	}
	return int64(w.Chunk)
}

// archive writes the entries of a frozen window, chunk by chunk, and leaves the header for the transaction that changes
// the state. What an earlier try left behind is removed first; it is not visible, because readers start from the header.
func (w *Windows) archive(ctx context.Context, l *lease) (func(tx *store.Tx) error, error) {
	if err := w.clear(ctx, l); err != nil {
		return nil, fmt.Errorf("clear what an earlier try left: %w", err)
	}
	entries := store.Table{
		Name:    "archive_entry",
		Columns: []string{"board", "window_id", "position", "tied_position", "player_id", "score", "achieved_at", "event_id"},
	}
	var header Header
	var rows [][]any
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		err := l.tx(ctx, func(tx *store.Tx) error { return entries.Insert(ctx, tx.Queries, rows) })
		rows = rows[:0]
		return err
	}
	digest := sha256.New()
	var line []byte
	err := w.Standings.EachStanding(ctx, w.DB.Queries, l.Board, l.ID, func(s Standing) error {
		header.Entries++
		if s.Rank != header.Entries {
			return fmt.Errorf("standings are not in order: rank %d at place %d", s.Rank, header.Entries)
		}
		if s.Rank == 1 {
			header.TopPlayer, header.TopScore = s.Player, s.Score
		}
		line = s.canonical(line[:0])
		digest.Write(line)
		rows = append(rows, []any{l.Board, l.ID, s.Rank, s.TiedRank, s.Player, s.Score, s.AchievedAt.UnixMilli(), s.EventID})
		if int64(len(rows)) < w.chunk() {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return nil, fmt.Errorf("archive entries: %w", err)
	}
	return func(tx *store.Tx) error {
		headers := store.Table{
			Name:    "archive",
			Columns: []string{"board", "window_id", "entries", "top_player", "top_score", "closed_at", "catalog_version", "digest"},
		}
		return headers.Insert(ctx, tx.Queries, [][]any{{
			l.Board, l.ID, header.Entries, header.TopPlayer, header.TopScore, w.Now().UnixMilli(), w.CatalogVersion(), hex.EncodeToString(digest.Sum(nil)),
		}})
	}, nil
}

// clear removes the entries of a window from the last one down, a chunk at a time.
func (w *Windows) clear(ctx context.Context, l *lease) error {
	for {
		var last sql.NullInt64
		err := l.tx(ctx, func(tx *store.Tx) error {
			err := tx.Row(ctx, `SELECT MAX(position) FROM archive_entry WHERE board = ? AND window_id = ?`, []any{l.Board, l.ID}, &last)
			if err != nil || !last.Valid {
				return err
			}
			_, err = tx.Exec(ctx, `DELETE FROM archive_entry WHERE board = ? AND window_id = ? AND position > ?`, l.Board, l.ID, last.Int64-w.chunk())
			return err
		})
		if err != nil || !last.Valid {
			return err
		}
	}
}

// Archive gives the header of an archived window. One that is not archived yet is fault.NotArchived, an unknown one
// fault.WindowNotFound.
func (w *Windows) Archive(ctx context.Context, board, window string) (Header, error) {
	var h Header
	var closed int64
	var err error
	if h.Window, err = w.Get(ctx, board, window); err != nil {
		return Header{}, err
	}
	err = w.DB.Row(ctx, `SELECT entries, top_player, top_score, closed_at, catalog_version, digest FROM archive WHERE board = ? AND window_id = ?`,
		[]any{board, window}, &h.Entries, &h.TopPlayer, &h.TopScore, &closed, &h.CatalogVersion, &h.Digest)
	if errors.Is(err, sql.ErrNoRows) {
		return Header{}, fault.NotArchived.Errorf("window %s of board %s is %s", window, board, h.State)
	}
	if err != nil {
		return Header{}, fmt.Errorf("read archive: %w", err)
	}
	h.ClosedAt = time.UnixMilli(closed).UTC()
	return h, nil
}

// Page gives at most limit standings of an archived window, from the rank after afterRank on; 0 begins at the top. A page
// past the end is empty. limit ≥ 0. Errors are those of Archive.
func (w *Windows) Page(ctx context.Context, board, window string, afterRank int64, limit int) ([]Standing, error) {
	page, err := w.standings(ctx, `e.position > ? ORDER BY e.position LIMIT ?`, board, window, afterRank, limit)
	if err == nil && len(page) == 0 {
		_, err = w.Archive(ctx, board, window)
	}
	return page, err
}

// Player gives a player's final place in an archived window, or fault.NotRanked. Other errors are those of Archive.
func (w *Windows) Player(ctx context.Context, board, window, player string) (Standing, error) {
	found, err := w.standings(ctx, `e.player_id = ?`, board, window, player)
	if err != nil {
		return Standing{}, err
	}
	if len(found) == 0 {
		if _, err := w.Archive(ctx, board, window); err != nil {
			return Standing{}, err
		}
		return Standing{}, fault.NotRanked.Errorf("player %s is not ranked in window %s of board %s", player, window, board)
	}
	return found[0], nil
}

// standings reads entries, if there is a header: without one they are what a try in progress wrote so far.
func (w *Windows) standings(ctx context.Context, which, board, window string, args ...any) ([]Standing, error) {
	var standings []Standing
	query := `SELECT e.position, e.tied_position, e.player_id, e.score, e.achieved_at, e.event_id
		FROM archive a JOIN archive_entry e ON e.board = a.board AND e.window_id = a.window_id
		WHERE a.board = ? AND a.window_id = ? AND ` + which
	err := w.DB.Each(ctx, query, append([]any{board, window}, args...), func(scan func(...any) error) error {
		var s Standing
		var achieved int64
		err := scan(&s.Rank, &s.TiedRank, &s.Player, &s.Score, &achieved, &s.EventID)
		s.AchievedAt = time.UnixMilli(achieved).UTC()
		standings = append(standings, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read archived standings: %w", err)
	}
	return standings, nil
}
