package season

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"liveops/core/store"
)

// eraseChunk is how many rows of archives one transaction renames.
const eraseChunk = 200

// Personal tells what of the domain is about a player. The hall of fame is made of these.
func Personal() []store.Personal {
	return []store.Personal{
		{
			Kind: "archived_place", Table: "archive_entry", Key: []string{"board", "window_id"},
			Columns: []string{
				"board", "window_id", "position int", "tied_position int", "score int", "achieved_at time", "event_id", "metadata json",
			},
		},
		{
			Kind: "won_window", Table: "archive", Player: "top_player", Key: []string{"board", "window_id"},
			Columns: []string{"board", "window_id", "top_score int", "ends_at time"},
		},
	}
}

// All gives the windows of the set, in order of board and id.
func (s Set) All() []Window {
	var all []Window
	for _, board := range slices.Sorted(maps.Keys(s.boards)) {
		all = append(all, s.boards[board]...)
	}
	return all
}

// Erase gives a player's places in archives to an alias, who is nobody yet, and forgets what identifies him: the event id, the metadata, and
// the salt, in whose place stands the commitment. Every root, seal and proof holds as before, his place's too, and nobody can
// show any more whose place it is. It says whether there was anything.
//
// It may be cut anywhere and be repeated, with the same alias or another one. An archive that is being made may name him
// afterwards: its rows were read before.
func (w *Windows) Erase(ctx context.Context, player, alias string) (found bool, err error) {
	for n := eraseChunk; n == eraseChunk; {
		err := w.DB.Tx(ctx, func(tx *store.Tx) (err error) {
			n, err = eraseSome(ctx, tx, player, alias)
			return err
		})
		if err != nil {
			return found, fmt.Errorf("erase a player's archived places: %w", err)
		}
		found = found || n > 0
	}
	// After the places: an archive that is sealed between the two has its header by now.
	n, err := w.DB.Exec(ctx, "UPDATE archive SET top_player = ? WHERE top_player = ?", alias, player)
	if err != nil {
		return found, fmt.Errorf("erase a player's archived places: %w", err)
	}
	return found || n > 0, nil
}

func eraseSome(ctx context.Context, tx *store.Tx, player, alias string) (int, error) {
	type place struct {
		board, window string
		Row
	}
	var places []place
	query := `SELECT board, window_id, position, tied_position, score, achieved_at, event_id, metadata, COALESCE(salt, ''), COALESCE(commitment, '')
		FROM archive_entry WHERE player_id = ? ORDER BY board, window_id LIMIT ?` + tx.Dialect.ForUpdate()
	err := tx.Each(ctx, query, []any{player, eraseChunk}, func(scan func(...any) error) error {
		p := place{Row: Row{Standing: Standing{Player: player}}}
		var achieved int64
		err := scan(&p.board, &p.window, &p.Rank, &p.TiedRank, &p.Score, &achieved, &p.EventID, &p.Metadata, &p.Salt, &p.Commitment)
		p.AchievedAt = time.UnixMilli(achieved).UTC()
		places = append(places, p)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, p := range places {
		_, err := tx.Exec(ctx, `UPDATE archive_entry SET player_id = ?, event_id = '', metadata = '', commitment = ?, salt = NULL
			WHERE board = ? AND window_id = ? AND position = ?`, alias, p.commitment(), p.board, p.window, p.Rank)
		if err != nil {
			return 0, err
		}
	}
	return len(places), nil
}
