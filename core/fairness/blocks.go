package fairness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"liveops/core/store"
)

// Block keeps a player out until an instant.
type Block struct {
	PlayerID   string
	DecisionID string
	Reason     string // a fault.Code
	At         time.Time
	Until      time.Time
}

// Blocks is the list of blocked players, from which the gate's own can be made again. It owns the table player_block, one
// row for each player who was ever blocked.
type Blocks struct {
	DB *store.DB
}

func blockTable() store.Table {
	return store.Table{
		Name: "player_block", Columns: []string{"player_id", "decision_id", "reason", "blocked_at", "until_at"}, Key: []string{"player_id"},
	}
}

// Record blocks players. Of several blocks of one player, now or earlier, the one with the latest Until stays.
func (b *Blocks) Record(ctx context.Context, blocks []Block) error {
	latest := map[string]Block{}
	for _, one := range blocks {
		if known, ok := latest[one.PlayerID]; !ok || one.Until.After(known.Until) {
			latest[one.PlayerID] = one
		}
	}
	if len(latest) == 0 {
		return nil
	}
	rows := make([][]any, 0, len(latest))
	players := make([]any, 0, len(latest))
	for player, one := range latest {
		rows = append(rows, []any{player, one.DecisionID, one.Reason, one.At.UnixMilli(), one.Until.UnixMilli()})
		players = append(players, player)
	}
	slices.SortFunc(rows, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) }) //nolint:forcetypeassert // set above
	err := b.DB.Tx(ctx, func(tx *store.Tx) error {
		// Inserting first makes every row exist, and locks it, so that the comparison below holds until the commit.
		if err := blockTable().InsertMissing(ctx, tx.Queries, rows); err != nil {
			return err
		}
		until := map[string]int64{}
		query := "SELECT player_id, until_at FROM player_block WHERE player_id IN " + tx.Dialect.In(len(players), 1) + tx.Dialect.ForUpdate()
		err := tx.Each(ctx, query, players, func(scan func(...any) error) error {
			var player string
			var at int64
			err := scan(&player, &at)
			until[player] = at
			return err
		})
		if err != nil {
			return err
		}
		var longer [][]any
		for _, row := range rows {
			if row[4].(int64) > until[row[0].(string)] { //nolint:forcetypeassert // set above
				longer = append(longer, row)
			}
		}
		return blockTable().Upsert(ctx, tx.Queries, longer)
	})
	if err != nil {
		return fmt.Errorf("block %d players: %w", len(rows), err)
	}
	return nil
}

// Active lists the blocks that last beyond now, in order of player id.
func (b *Blocks) Active(ctx context.Context, now time.Time) ([]Block, error) {
	var active []Block
	query := "SELECT player_id, decision_id, reason, blocked_at, until_at FROM player_block WHERE until_at > ? ORDER BY player_id"
	err := b.DB.Each(ctx, query, []any{now.UnixMilli()}, func(scan func(...any) error) error {
		var one Block
		var at, until int64
		err := scan(&one.PlayerID, &one.DecisionID, &one.Reason, &at, &until)
		one.At, one.Until = time.UnixMilli(at).UTC(), time.UnixMilli(until).UTC()
		active = append(active, one)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	return active, nil
}
