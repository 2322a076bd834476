package receipt

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"liveops/core/fault"
	"liveops/core/store"
)

// Issued is a receipt to be kept: what was signed, and the outcome.
type Issued struct {
	Claims Claims
	Token  string
}

// Store keeps receipts in the table receipt, which only this package touches, as part of the transaction that grants what
// they state. The first receipt of an event stays: the event has the same bytes ever after.
func Store(ctx context.Context, tx *store.Tx, receipts []Issued) error {
	table := store.Table{
		Name:    "receipt",
		Columns: []string{"player_id", "event_id", "receipt_id", "token", "issued_at"},
		Key:     []string{"player_id", "event_id"},
	}
	var rows [][]any
	for _, r := range receipts {
		c := r.Claims
		rows = append(rows, []any{c.PlayerID, c.EventID, ID(c.PlayerID, c.EventID), r.Token, c.IssuedAt * 1000})
	}
	slices.SortFunc(rows, func(a, b []any) int { // by key, as every table is written
		return cmp.Or(strings.Compare(a[0].(string), b[0].(string)), strings.Compare(a[1].(string), b[1].(string)))
	})
	if err := table.InsertMissing(ctx, tx.Queries, rows); err != nil {
		return fmt.Errorf("store receipts: %w", err)
	}
	return nil
}

// Get gives the receipt of an event, fault.ReceiptNotFound if it has none.
func Get(ctx context.Context, db *store.DB, playerID, eventID string) (string, error) {
	var token string
	err := db.Row(ctx, "SELECT token FROM receipt WHERE player_id = ? AND event_id = ?", []any{playerID, eventID}, &token)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", fault.ReceiptNotFound.Errorf("event %q of player %q has no receipt", eventID, playerID)
	case err != nil:
		return "", fmt.Errorf("read receipt: %w", err)
	}
	return token, nil
}
