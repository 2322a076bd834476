package leaderboard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"liveops/core/store"
)

// visibility is whether a player is hidden, and how often that has changed. The table visibility has a row of everybody who was
// ever hidden; Ranking is its only writer. Its column projected is the number of changes that Redis is known to have in every
// window.
//
// Nobody is locked, neither by those who write entries nor by those who hide players. A projection has the version of its entry
// plus the number of changes: either only grows. Whoever changes one of the two commits and then reads the other, so of two at the
// same time one at least sees what both committed, and projects it; no other projection has a version as high.
type visibility struct {
	hidden  bool
	changes int64
}

// Which entries a viewer sees, who is the parameter of both; "" is nobody. MySQL and SQLite look entry by entry, along whatever
// index the rest of a statement makes them take, and in its order.
const (
	seen   = "player_id NOT IN (SELECT player_id FROM visibility WHERE hidden = 1 AND player_id <> ?)"
	unseen = "player_id IN (SELECT player_id FROM visibility WHERE hidden = 1 AND player_id <> ?)"
)

// count counts the entries of a window that a viewer sees and that a condition holds for: all of them, but for the few that are
// hidden from him, each of which is found by primary key. To look for every one among the hidden would take three times as long.
func count(ctx context.Context, q store.Queries, board, window, viewer, condition string, args ...any) (int64, error) {
	const of = "(SELECT COUNT(*) FROM entry WHERE board = ? AND window_id = ? AND "
	all := append([]any{board, window}, args...)
	but := append([]any{board, window, viewer}, args...)
	var n int64
	err := q.Row(ctx, "SELECT "+of+condition+") - "+of+unseen+" AND "+condition+")", append(all, but...), &n)
	return n, err
}

// Hide takes a player out of the rankings. When it returns, no read through any process shows or counts him, unless he is its
// viewer, and the ranks of the others are as if he had no entries; archives that are begun from then on lack him too. His
// entries stay, and go on changing.
//
// It may be repeated. When it failed, he may be hidden from reads of SQL and not yet of Redis: a repeat does the rest, and so
// does Resume.
func (r *Ranking) Hide(ctx context.Context, player string) error {
	err := r.DB.Tx(ctx, func(tx *store.Tx) error {
		table := store.Table{Name: "visibility", Columns: []string{"player_id", "hidden", "changes", "projected"}, Key: []string{"player_id"}}
		if err := table.InsertMissing(ctx, tx.Queries, [][]any{{player, 0, 0, 0}}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE visibility SET hidden = 1, changes = changes + 1 WHERE player_id = ? AND hidden = 0", player)
		return err
	})
	if err == nil {
		err = r.finish(ctx, player)
	}
	if err != nil {
		return fmt.Errorf("hide player: %w", err)
	}
	return nil
}

// Show takes a player's Hide back: when it returns, he is where his entries put him. It may be repeated, and so may one of a
// player who was never hidden. A repeat, or Resume, does what is left when it failed.
func (r *Ranking) Show(ctx context.Context, player string) error {
	_, err := r.DB.Exec(ctx, "UPDATE visibility SET hidden = 0, changes = changes + 1 WHERE player_id = ? AND hidden = 1", player)
	if err == nil {
		err = r.finish(ctx, player)
	}
	if err != nil {
		return fmt.Errorf("show player: %w", err)
	}
	return nil
}

// Hidden lists the players who are hidden, in order.
func (r *Ranking) Hidden(ctx context.Context) ([]string, error) {
	players, err := r.listed(ctx, "hidden = 1")
	if err != nil {
		return nil, fmt.Errorf("list hidden players: %w", err)
	}
	return players, nil
}

// Resume finishes every Hide and Show that was cut between SQL and Redis.
func (r *Ranking) Resume(ctx context.Context) error {
	players, err := r.listed(ctx, "projected < changes")
	if err != nil {
		return fmt.Errorf("find players to hide or show: %w", err)
	}
	var problems []error
	for _, player := range players {
		if err := r.finish(ctx, player); err != nil {
			problems = append(problems, fmt.Errorf("hide or show a player: %w", err))
		}
	}
	return errors.Join(problems...)
}

// listed gives the players of the table's rows that a condition holds for. The table is read as a whole: few are ever hidden.
func (r *Ranking) listed(ctx context.Context, condition string) ([]string, error) {
	var players []string
	err := r.DB.Each(ctx, "SELECT player_id FROM visibility WHERE "+condition+" ORDER BY player_id", nil, func(scan func(...any) error) error {
		var player string
		err := scan(&player)
		players = append(players, player)
		return err
	})
	return players, err
}

// finish brings what was committed about a player to Redis, if it is not there yet.
func (r *Ranking) finish(ctx context.Context, player string) error {
	var changes, projected int64
	err := r.DB.Row(ctx, "SELECT changes, projected FROM visibility WHERE player_id = ?", []any{player}, &changes, &projected)
	if errors.Is(err, sql.ErrNoRows) || err == nil && projected == changes {
		return nil
	}
	if err != nil {
		return err
	}
	// A window that is missing here has no entry that was committed before the change, and later ones know of it.
	windows, err := r.Served(ctx)
	if err != nil {
		return err
	}
	keys := make([]place, len(windows))
	for i, w := range windows {
		keys[i] = place{w.Board, w.ID, player}
	}
	slices.SortFunc(keys, place.compare)
	entries, err := r.Entries.read(ctx, r.DB.Queries, slices.Compact(keys))
	if err != nil {
		return err
	}
	var rows []Row
	for key, row := range entries {
		if _, known := r.Entries.Boards(key.board); known {
			rows = append(rows, row)
		} else if err := r.Drop(ctx, key.board, key.window); err != nil { // a process with another catalog may read it
			return err
		}
	}
	if err := r.Project(ctx, rows); err != nil {
		return err
	}
	_, err = r.DB.Exec(ctx, "UPDATE visibility SET projected = ? WHERE player_id = ? AND projected < ?", changes, player, changes)
	return err
}

// visibilities gives what the table says of some players; one who was never hidden is missing.
func (r *Ranking) visibilities(ctx context.Context, players []string) (map[string]visibility, error) {
	found := map[string]visibility{}
	for some := range slices.Chunk(players, pageSize) {
		args := make([]any, len(some))
		for i, player := range some {
			args[i] = player
		}
		if err := r.look(ctx, found, "player_id IN "+r.DB.Dialect.In(len(some), 1), args...); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// visibilitiesFrom gives what the table says of the players from the first to the last.
func (r *Ranking) visibilitiesFrom(ctx context.Context, first, last string) (map[string]visibility, error) {
	found := map[string]visibility{}
	return found, r.look(ctx, found, "player_id >= ? AND player_id <= ?", first, last)
}

// look adds what the table's rows say that a condition holds for.
func (r *Ranking) look(ctx context.Context, found map[string]visibility, condition string, args ...any) error {
	query := "SELECT player_id, hidden, changes FROM visibility WHERE " + condition
	err := r.DB.Each(ctx, query, args, func(scan func(...any) error) error {
		var player string
		var v visibility
		err := scan(&player, &v.hidden, &v.changes)
		found[player] = v
		return err
	})
	if err != nil {
		return fmt.Errorf("look for hidden players: %w", err)
	}
	return nil
}

// players lists the players of some rows, each once.
func players(rows []Row) []string {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.Player
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
