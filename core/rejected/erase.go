package rejected

import (
	"context"
	"fmt"
	"regexp"

	"liveops/core/store"
)

// eraseChunk is how many rejections one transaction deletes. Their bodies may be large.
const eraseChunk = 200

// Personal tells what of the domain is about a player. Messages that could not be read are not among it, though one of them may
// name him.
func Personal() []store.Personal {
	return []store.Personal{{
		Kind: "rejected_event", Table: "rejected", Key: []string{"id"},
		Columns: []string{
			"id", "stage", "message_id", "event_id", "code", "detail", "first_at time", "last_at time", "times int", "body bytes",
		},
	}}
}

// Erase deletes a player's rejected messages, and those nobody could read that give his id as player_id all the same. It says whether
// there was anything. It may be cut anywhere and be repeated.
func (s *Store) Erase(ctx context.Context, player string) (found bool, err error) {
	for n := eraseChunk; n == eraseChunk; {
		err := s.DB.Tx(ctx, func(tx *store.Tx) error {
			ids, err := listed(ctx, tx.Queries, nil, "player_id = ? ORDER BY id LIMIT ?", player, eraseChunk)
			n = len(ids)
			if err != nil {
				return err
			}
			return remove(ctx, tx, ids)
		})
		if err != nil {
			return found, fmt.Errorf("erase rejected messages: %w", err)
		}
		found = found || n > 0
	}
	names := regexp.MustCompile(`"player_id"\s*:\s*"` + regexp.QuoteMeta(player) + `"`)
	for n := eraseChunk; n == eraseChunk; {
		err := s.DB.Tx(ctx, func(tx *store.Tx) error {
			// The statement finds candidates: a message with the id in quotes may mean something else by it.
			var ids []any
			ids, err := listed(ctx, tx.Queries, names, "player_id = '' AND INSTR(body, ?) > 0 ORDER BY id", []byte(`"`+player+`"`))
			if err != nil {
				return err
			}
			ids = ids[:min(len(ids), eraseChunk)]
			n = len(ids)
			return remove(ctx, tx, ids)
		})
		if err != nil {
			return found, fmt.Errorf("erase rejected messages: %w", err)
		}
		found = found || n > 0
	}
	return found, nil
}

// listed gives the ids of rejections whose body an expression matches, nil: all.
func listed(ctx context.Context, q store.Queries, matching *regexp.Regexp, where string, args ...any) ([]any, error) {
	var ids []any
	column := "''"
	if matching != nil {
		column = "body"
	}
	err := q.Each(ctx, "SELECT id, "+column+" FROM rejected WHERE "+where, args, func(scan func(...any) error) error {
		var id string
		var body []byte
		err := scan(&id, &body)
		if matching == nil || matching.Match(body) {
			ids = append(ids, id)
		}
		return err
	})
	return ids, err
}

// remove deletes rejections and their releases.
func remove(ctx context.Context, tx *store.Tx, ids []any) error {
	if len(ids) == 0 {
		return nil
	}
	for _, table := range []string{"rejected_release", "rejected"} {
		if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE id IN "+tx.Dialect.In(len(ids), 1), ids...); err != nil {
			return err
		}
	}
	return nil
}
