package progression

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"liveops/core/store"
)

// eraseChunk is how many rows of the ledger one transaction renames.
const eraseChunk = 1000

// Hold locks a player's row, if he has one, until the transaction ends: what happens to him then happens before or after it.
func (l *Ledger) Hold(ctx context.Context, tx *store.Tx, player string) error {
	var xp int64
	err := tx.Row(ctx, "SELECT xp FROM player WHERE player_id = ?"+tx.Dialect.ForUpdate(), []any{player}, &xp)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("lock player: %w", err)
	}
	return nil
}

// Erase gives everything the ledger has of a player to an alias, who is nobody yet, and forgets what identifies him: rows of the ledger keep their number
// and amounts, and have the number for an event id and no notes; what was tallied, and who ordered a reversal and why, is deleted. It says whether there was anything.
//
// A player with many rows is renamed over several transactions, each of which moves what its rows amount to from his balances to the alias's:
// Σ ledger = balance holds for both all the while. It may be cut anywhere and be repeated, with the same alias or another one.
func (l *Ledger) Erase(ctx context.Context, player, alias string) (found bool, err error) {
	for left := true; left; {
		err := l.DB.Tx(ctx, func(tx *store.Tx) (err error) {
			var some bool
			some, left, err = eraseSome(ctx, tx, player, alias)
			found = found || some
			return err
		})
		if err != nil {
			return found, fmt.Errorf("erase a player's ledger: %w", err)
		}
	}
	return found, nil
}

func eraseSome(ctx context.Context, tx *store.Tx, player, alias string) (found, left bool, err error) {
	var level, created, updated, last int64
	err = tx.Row(ctx, "SELECT level, created_at, updated_at FROM player WHERE player_id = ?"+tx.Dialect.ForUpdate(), []any{player}, &level, &created, &updated)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, false, err
	}
	found = err == nil
	rest, of := "", []any{player}
	err = tx.Row(ctx, "SELECT entry_no FROM ledger WHERE player_id = ? ORDER BY entry_no LIMIT 1 OFFSET ?", []any{player, eraseChunk - 1}, &last)
	switch {
	case err == nil:
		left, rest, of = true, " AND entry_no <= ?", []any{player, last}
	case !errors.Is(err, sql.ErrNoRows):
		return false, false, err
	}
	type sum struct {
		item  string
		delta int64
	}
	var sums []sum
	var entries int64
	query := "SELECT item_id, SUM(delta), MAX(entry_no) FROM ledger WHERE player_id = ?" + rest + " GROUP BY item_id ORDER BY item_id"
	err = tx.Each(ctx, query, of, func(scan func(...any) error) error {
		var s sum
		var n int64
		err := scan(&s.item, &s.delta, &n)
		sums, entries = append(sums, s), max(entries, n)
		return err
	})
	if err != nil {
		return false, false, err
	}
	if len(sums) > 0 {
		found = true
		if err := players().InsertMissing(ctx, tx.Queries, [][]any{{alias, 0, max(1, level), 0, created, updated}}); err != nil {
			return false, false, err
		}
		if _, err := tx.Exec(ctx, "UPDATE player SET entries = ? WHERE player_id = ?", entries, alias); err != nil {
			return false, false, err
		}
		query := "UPDATE ledger SET player_id = ?, event_id = entry_no, notes = NULL WHERE player_id = ?" + rest
		if _, err := tx.Exec(ctx, query, append([]any{alias}, of...)...); err != nil {
			return false, false, err
		}
	}
	for _, s := range sums {
		if err := move(ctx, tx, s.item, s.delta, player, alias); err != nil {
			return false, false, err
		}
	}
	if left {
		return found, true, nil
	}
	for _, table := range []string{"item", "tally", "reversal", "player"} {
		n, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE player_id = ?", player)
		if err != nil {
			return false, false, err
		}
		found = found || n > 0
	}
	return found, false, nil
}

// move moves an amount of a balance from a player to his alias. An empty item is XP.
func move(ctx context.Context, tx *store.Tx, item string, amount int64, player, alias string) error {
	table, column, where, args := "player", "xp", "player_id = ?", []any{}
	if item != "" {
		table, column, where, args = "item", "quantity", "item_id = ? AND player_id = ?", []any{item}
		items := store.Table{Name: "item", Columns: []string{"player_id", "item_id", "quantity"}, Key: []string{"player_id", "item_id"}}
		if err := items.InsertMissing(ctx, tx.Queries, [][]any{{alias, item, 0}}); err != nil {
			return err
		}
	}
	for id, delta := range map[string]int64{player: -amount, alias: amount} {
		query := "UPDATE " + table + " SET " + column + " = " + column + " + ? WHERE " + where
		if _, err := tx.Exec(ctx, query, append(append([]any{delta}, args...), id)...); err != nil {
			return err
		}
	}
	return nil
}
