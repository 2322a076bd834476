package leaderboard

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"liveops/core/event"
	"liveops/core/store"
)

//go:embed erase.lua
var eraseLua string

var eraseScript = redis.NewScript(projectionLua + eraseLua)

// Personal tells what of the domain is about a player, but for his entries: see Entries.Held. What Redis holds is a copy of it.
func Personal() []store.Personal {
	return []store.Personal{{
		Kind: "visibility", Table: "visibility", Key: []string{"player_id"}, Columns: []string{"hidden int", "changes int", "projected int"},
	}}
}

// Held calls fn for every entry of a player, also in windows that are not open, in order of board and window.
func (e Entries) Held(ctx context.Context, q store.Queries, player string, fn func(Row) error) error {
	rows, err := e.of(ctx, q, player)
	if err != nil {
		return fmt.Errorf("read a player's entries: %w", err)
	}
	for _, row := range rows {
		if err := fn(row); err != nil {
			return err
		}
	}
	return nil
}

// of gives a player's entries. The windows that have any are found by skipping through the primary key, which does not begin with
// the player: an index that does would cost every score.
func (e Entries) of(ctx context.Context, q store.Queries, player string) ([]Row, error) {
	var keys []place
	err := q.Each(ctx, "SELECT DISTINCT board, window_id FROM entry ORDER BY board, window_id", nil, func(scan func(...any) error) error {
		key := place{player: player}
		err := scan(&key.board, &key.window)
		keys = append(keys, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	found, err := e.read(ctx, q, keys)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, key := range keys {
		if row, ok := found[key]; ok {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// Erased is what became of an entry: Row is the alias's, with the same score and time. Of a player who was hidden, whose entry
// counted for nobody, it is Gone.
type Erased struct {
	Row
	Gone bool
}

// Erase gives a player's entries in the windows that take entries to aliases, who are nobody yet, and forgets what identifies
// him: event id, sequence and metadata. The ranks of all others stay: an alias is made so that it stands where he stood even among
// those who reached the same score in the same millisecond, and is the one that is given where that stands there. Where he was
// hidden his entries are deleted. That he was is forgotten with his last entry.
//
// left says that there are entries in other windows, which an archive may be reading: they are renamed there, or are gone, when it
// is made. The caller holds the player's lock, and one on the windows, and then has Ranking.Erase follow. It may be repeated.
func (e Entries) Erase(ctx context.Context, tx *store.Tx, player, alias string, taking []Window) (erased []Erased, left bool, err error) {
	var hidden bool
	var changes int64
	err = tx.Row(ctx, "SELECT hidden, changes FROM visibility WHERE player_id = ?"+tx.Dialect.ForUpdate(), []any{player}, &hidden, &changes)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, false, fmt.Errorf("erase entries: %w", err)
	}
	rows, err := e.of(ctx, tx.Queries, player)
	if err != nil {
		return nil, false, fmt.Errorf("erase entries: %w", err)
	}
	for _, row := range rows {
		if !slices.Contains(taking, Window{Board: row.Board, ID: row.Window}) {
			left = true
			continue
		}
		one := Erased{Row: row, Gone: hidden}
		if hidden {
			_, err = tx.Exec(ctx, "DELETE FROM entry WHERE board = ? AND window_id = ? AND player_id = ?", row.Board, row.Window, player)
		} else {
			one.Row, err = e.rename(ctx, tx, row, alias, row.Version+changes+1) // newer than any projection of his
		}
		if err != nil {
			return nil, false, fmt.Errorf("erase entries: %w", err)
		}
		erased = append(erased, one)
	}
	if !left {
		if _, err := tx.Exec(ctx, "DELETE FROM visibility WHERE player_id = ?", player); err != nil {
			return nil, false, fmt.Errorf("erase entries: %w", err)
		}
	}
	return erased, left, nil
}

func (e Entries) rename(ctx context.Context, tx *store.Tx, row Row, alias string, version int64) (Row, error) {
	var below, above sql.NullString
	query := `SELECT
		(SELECT MAX(o.player_id) FROM entry o WHERE o.board = e.board AND o.window_id = e.window_id AND o.standing = e.standing
			AND o.achieved_at = e.achieved_at AND o.player_id < e.player_id),
		(SELECT MIN(o.player_id) FROM entry o WHERE o.board = e.board AND o.window_id = e.window_id AND o.standing = e.standing
			AND o.achieved_at = e.achieved_at AND o.player_id > e.player_id)
		FROM entry e WHERE e.board = ? AND e.window_id = ? AND e.player_id = ?`
	if err := tx.Row(ctx, query, []any{row.Board, row.Window, row.Player}, &below, &above); err != nil {
		return Row{}, err
	}
	player := row.Player
	row.Player, row.Seq, row.EventID, row.Metadata, row.Version = fitting(below.String, above.String, alias), 0, "", "", version
	_, err := tx.Exec(ctx, `UPDATE entry SET player_id = ?, seq = 0, event_id = '', metadata = '', version = ?
		WHERE board = ? AND window_id = ? AND player_id = ?`, row.Player, row.Version, row.Board, row.Window, player)
	return row, err
}

// fitting is an alias between two ids, byte by byte; an empty one is no limit. It is the given one if that is there, and otherwise
// shares with them what it must and not more. No player's id is a "!" or "~" in it, which come before and after all that ids are
// made of.
func fitting(below, above, alias string) string {
	fits := func(id string) bool { return id > below && (above == "" || id < above) }
	if fits(alias) {
		return alias
	}
	common := 0
	for common < min(len(below), len(above)) && below[common] == above[common] {
		common++
	}
	var begin string
	switch {
	case above == "":
		begin = "~"
	case common == len(below):
		begin = above[:common] + "!"
	default:
		begin = below[:common+1] + "~"
	}
	// Beside another alias of the kind it takes some luck.
	for range 100 {
		var random [16]byte
		_, _ = rand.Read(random[:]) // it never fails
		made := begin + base64.RawURLEncoding.EncodeToString(random[:])
		if made = made[:min(len(made), event.MaxPlayerID)]; fits(made) {
			return made
		}
	}
	return alias // he and those of the same millisecond may change places
}

// Erase brings to Redis what Entries.Erase committed, and rebuilds each window that names the player all the same: one that was
// cut between the two, or into which somebody projected later what he had read before. It may be repeated; afterwards Redis
// names the player nowhere, unless that happens again.
func (r *Ranking) Erase(ctx context.Context, player string, erased []Erased) error {
	for _, one := range erased {
		w, err := r.window(one.Board, one.Window)
		if err != nil { // the catalog has no such board
			if err := r.Drop(ctx, one.Board, one.Window); err != nil {
				return err
			}
			continue
		}
		heir := one.Player
		if one.Gone {
			heir = ""
		}
		if err := eraseScript.Run(ctx, r.Redis, w.keys(), player, heir).Err(); err != nil {
			return store.RedisError("erase a player", err)
		}
		if !one.Gone {
			if err := r.Project(ctx, []Row{one.Row}); err != nil {
				return err
			}
		}
	}
	windows, err := r.Served(ctx)
	if err != nil {
		return err
	}
	for _, one := range erased {
		windows = append(windows, Window{Board: one.Board, ID: one.Window})
	}
	slices.SortFunc(windows, func(a, b Window) int { return cmp.Or(strings.Compare(a.Board, b.Board), strings.Compare(a.ID, b.ID)) })
	named, err := r.naming(ctx, player, slices.Compact(windows))
	if err != nil {
		return err
	}
	for _, w := range named {
		if _, known := r.Entries.Boards(w.Board); !known {
			err = r.Drop(ctx, w.Board, w.ID)
		} else {
			err = r.Rebuild(ctx, w.Board, w.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// naming gives those of some windows that name a player in Redis: by his entry, or where the ranking ends.
func (r *Ranking) naming(ctx context.Context, player string, windows []Window) ([]Window, error) {
	replies := make([]*redis.SliceCmd, len(windows))
	_, err := r.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, w := range windows {
			replies[i] = p.HMGet(ctx, window{board: w.Board, id: w.ID}.keys()[1], player, ":floor", ":mark")
		}
		return nil
	})
	if err != nil {
		return nil, store.RedisError("look for a player", err)
	}
	var named []Window
	for i, reply := range replies {
		held := reply.Val()
		if held[0] != nil || endsAt(held[1], player) || endsAt(held[2], player) {
			named = append(named, windows[i])
		}
	}
	return named, nil
}

// endsAt says whether a place, as the hash holds it, is a player's: the end of it is a member.
func endsAt(held any, player string) bool {
	text, _ := held.(string)
	member := text[strings.LastIndexByte(text, ':')+1:]
	return len(member) > timeWidth && member[timeWidth:] == player
}
