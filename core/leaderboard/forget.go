package leaderboard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"liveops/core/store"
)

// Forget removes at most a page of the entries of a window that nobody reads or writes any more, of hidden players too, and says
// whether any may be left.
func (e Entries) Forget(ctx context.Context, db *store.DB, board, window string) (left bool, err error) {
	rest, args := "", []any{board, window}
	var end string
	err = db.Row(ctx, "SELECT player_id FROM entry WHERE board = ? AND window_id = ? ORDER BY player_id LIMIT 1 OFFSET ?",
		[]any{board, window, pageSize - 1}, &end)
	switch {
	case err == nil:
		left, rest, args = true, " AND player_id <= ?", append(args, end)
	case !errors.Is(err, sql.ErrNoRows):
		return false, fmt.Errorf("forget entries: %w", err)
	}
	err = db.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM entry WHERE board = ? AND window_id = ?"+rest, args...)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("forget entries: %w", err)
	}
	return left, nil
}
