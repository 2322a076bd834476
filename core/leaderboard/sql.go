package leaderboard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
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
		if got.rows, err = in.rows(ctx, "1 = 1", nil, got.first, limit); err != nil || len(got.rows) == 0 {
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

// lookupSQL gives the rows of some players in ranking order. It goes over the window once, from one of them to the next.
func (w window) lookupSQL(ctx context.Context, db *store.DB, viewer string, players []string) (stretch, error) {
	var got stretch
	err := db.Snapshot(ctx, func(q store.Queries) error {
		in := reader{q, w, viewer}
		var err error
		if got.count, err = in.count(ctx, "1 = 1"); err != nil || len(players) == 0 {
			return err
		}
		of := make([]any, len(players))
		for i, player := range players {
			of[i] = player
		}
		if got.rows, err = in.rows(ctx, "player_id IN "+q.Dialect.In(len(of), 1), of, 0, len(of)); err != nil {
			return err
		}
		return in.rank(ctx, got.rows)
	})
	if err != nil {
		return stretch{}, fmt.Errorf("look up players in SQL: %w", err)
	}
	return got, nil
}

// rank gives rows in ranking order, not side by side, their ranks.
func (r reader) rank(ctx context.Context, rows []Ranked) error {
	var passed int64
	last := point{standing: math.MinInt64}
	pass := func(to point) error {
		n, err := r.count(ctx, "standing >= ? AND standing <= ? AND NOT "+notAfter+" AND "+notAfter,
			slices.Concat([]any{last.standing, to.standing}, last.args(), to.args())...)
		passed, last = passed+n, to
		return err
	}
	for i := range rows {
		row := &rows[i]
		if i > 0 && rows[i-1].Score == row.Score {
			row.TiedRank = rows[i-1].TiedRank
		} else {
			if err := pass(point{standing: standing(r.order, row.Score), achieved: -1}); err != nil {
				return err
			}
			row.TiedRank = passed + 1
		}
		if err := pass(point{standing(r.order, row.Score), row.AchievedAt.UnixMilli(), row.Player}); err != nil {
			return err
		}
		row.Rank = passed
	}
	return nil
}

// rankSQL says where a score would be that was reached now.
func (w window) rankSQL(ctx context.Context, db *store.DB, viewer string, score int64) (stretch, error) {
	row := Ranked{Score: score}
	var got stretch
	err := db.Snapshot(ctx, func(q store.Queries) error {
		in := reader{q, w, viewer}
		var err error
		if got.count, err = in.count(ctx, "1 = 1"); err != nil {
			return err
		}
		if row.Rank, err = in.count(ctx, "standing <= ?", standing(w.order, score)); err != nil {
			return err
		}
		row.TiedRank, err = in.count(ctx, "standing < ?", standing(w.order, score))
		return err
	})
	if err != nil {
		return stretch{}, fmt.Errorf("find the rank of a score in SQL: %w", err)
	}
	row.Rank++
	row.TiedRank++
	got.rows = []Ranked{row}
	return got, nil
}

// reader asks about one window, as its viewer sees it.
type reader struct {
	store.Queries
	window
	viewer string
}

// notAfter holds for the rows up to a point in the order. MySQL finds the range in an OR, and SQLite does too for a count.
const notAfter = "(standing < ? OR (standing = ? AND (achieved_at < ? OR (achieved_at = ? AND player_id <= ?))))"

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
		to := point{at.standing, achieved.UnixMilli(), player}
		passed, err := r.count(ctx, notAfter, to.args()...)
		if err != nil || at.from == after {
			return passed, limit, err
		}
		there, err := r.count(ctx, "standing = ? AND achieved_at = ? AND player_id = ?", to.standing, to.achieved, to.player)
		end := passed - there // the row itself is not before itself
		first = max(0, end-int64(limit))
		return first, int(end - first), err
	case around:
		to := point{player: at.player}
		err := r.Row(ctx, "SELECT standing, achieved_at FROM entry WHERE board = ? AND window_id = ? AND player_id = ? AND "+seen,
			[]any{r.board, r.id, at.player, r.viewer}, &to.standing, &to.achieved)
		if errors.Is(err, sql.ErrNoRows) {
			return -1, 0, nil
		}
		if err != nil {
			return 0, 0, err
		}
		passed, err := r.count(ctx, notAfter, to.args()...)
		return max(0, min(passed-1-int64(limit/2), count-int64(limit))), limit, err
	}
	return 0, limit, nil
}

// rows gives some rows that a condition holds for, from an index among them on, without their ranks.
func (r reader) rows(ctx context.Context, condition string, of []any, first int64, limit int) ([]Ranked, error) {
	var rows []Ranked
	query := "SELECT standing, achieved_at, player_id FROM entry WHERE board = ? AND window_id = ? AND " + condition + " AND " + seen +
		" ORDER BY standing, achieved_at, player_id LIMIT ? OFFSET ?"
	args := slices.Concat([]any{r.board, r.id}, of, []any{r.viewer, limit, first})
	err := r.Each(ctx, query, args, func(scan func(...any) error) error {
		var row Ranked
		var place, achieved int64
		err := scan(&place, &achieved, &row.Player)
		row.Score, row.AchievedAt = standing(r.order, place), time.UnixMilli(achieved).UTC()
		rows = append(rows, row)
		return err
	})
	if err != nil || !r.keeps || len(rows) == 0 {
		return rows, err
	}
	return rows, r.metadata(ctx, rows)
}

// metadata adds it to rows. It is in no index, so it is read of these rows alone and not of those that were skipped.
func (r reader) metadata(ctx context.Context, rows []Ranked) error {
	args := []any{r.board, r.id}
	for _, row := range rows {
		args = append(args, row.Player)
	}
	found := make(map[string]string, len(rows))
	query := "SELECT player_id, metadata FROM entry WHERE board = ? AND window_id = ? AND player_id IN " + r.Dialect.In(len(rows), 1)
	err := r.Each(ctx, query, args, func(scan func(...any) error) error {
		var player, metadata string
		err := scan(&player, &metadata)
		found[player] = metadata
		return err
	})
	for i := range rows {
		rows[i].Metadata = found[rows[i].Player]
	}
	return err
}
