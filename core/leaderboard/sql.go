package leaderboard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"liveops/core/store"
)

// readSQL gives what read.lua gives, from the entries as of one moment. It reads nothing but the index in ranking order, from
// its beginning: the further down the rows, the more it costs.
func (w window) readSQL(ctx context.Context, db *store.DB, limit int, at spot) (stretch, error) {
	var got stretch
	err := db.Snapshot(ctx, func(q store.Queries) error {
		in := reader{q, w, at.viewer}
		var err error
		if got.count, err = in.count(ctx, "1 = 1"); err != nil {
			return err
		}
		if got.first, limit, err = in.begin(ctx, got.count, limit, at); err != nil || got.first < 0 || limit < 1 {
			return err
		}
		if got.rows, err = in.rows(ctx, got.first, limit); err != nil || len(got.rows) == 0 {
			return err
		}
		better, err := in.count(ctx, "standing < ?", standing(w.order, got.rows[0].Score))
		got.number(better)
		return err
	})
	if err != nil {
		return stretch{}, fmt.Errorf("read ranking from SQL: %w", err)
	}
	return got, nil
}

// reader asks about one window, as its viewer sees it.
type reader struct {
	store.Queries
	window
	viewer string
}

// notAfter holds for the rows up to a place in the order. MySQL finds the range in an OR, and SQLite does too for a count.
const notAfter = "(standing < ? OR (standing = ? AND (achieved_at < ? OR (achieved_at = ? AND player_id <= ?))))"

func notAfterArgs(standing, achievedAt int64, player string) []any {
	return []any{standing, standing, achievedAt, achievedAt, player}
}

func (r reader) count(ctx context.Context, condition string, args ...any) (int64, error) {
	return count(ctx, r.Queries, r.board, r.id, r.viewer, condition, args...)
}

// begin gives the index of the first row of a read, −1 when its player is not ranked, and how many rows follow at most.
func (r reader) begin(ctx context.Context, count int64, limit int, at spot) (first int64, rows int, err error) {
	switch at.from {
	case after, before:
		achieved, player, err := splitMember(at.member)
		if err != nil {
			return 0, 0, err
		}
		passed, err := r.count(ctx, notAfter, notAfterArgs(at.standing, achieved.UnixMilli(), player)...)
		if err != nil || at.from == after {
			return passed, limit, err
		}
		there, err := r.count(ctx, "standing = ? AND achieved_at = ? AND player_id = ?", at.standing, achieved.UnixMilli(), player)
		end := passed - there // the row itself is not before itself
		first = max(0, end-int64(limit))
		return first, int(end - first), err
	case around:
		var place, achieved int64
		err := r.Row(ctx, "SELECT standing, achieved_at FROM entry WHERE board = ? AND window_id = ? AND player_id = ? AND "+seen,
			[]any{r.board, r.id, at.player, r.viewer}, &place, &achieved)
		if errors.Is(err, sql.ErrNoRows) {
			return -1, 0, nil
		}
		if err != nil {
			return 0, 0, err
		}
		passed, err := r.count(ctx, notAfter, notAfterArgs(place, achieved, at.player)...)
		return max(0, min(passed-1-int64(limit/2), count-int64(limit))), limit, err
	}
	return 0, limit, nil
}

// rows gives some rows from an index on, without their ranks.
func (r reader) rows(ctx context.Context, first int64, limit int) ([]Ranked, error) {
	var rows []Ranked
	query := "SELECT standing, achieved_at, player_id FROM entry WHERE board = ? AND window_id = ? AND " + seen +
		" ORDER BY standing, achieved_at, player_id LIMIT ? OFFSET ?"
	err := r.Each(ctx, query, []any{r.board, r.id, r.viewer, limit, first}, func(scan func(...any) error) error {
		var row Ranked
		var place, achieved int64
		err := scan(&place, &achieved, &row.Player)
		row.Score, row.AchievedAt = standing(r.order, place), time.UnixMilli(achieved).UTC()
		rows = append(rows, row)
		return err
	})
	return rows, err
}
