package receipt

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// Stored is a receipt as it is kept.
type Stored struct {
	Token      string
	ReversedAt time.Time // when what it states was taken back; zero: it stands
}

// Get gives the receipt of an event, fault.ReceiptNotFound if it has none.
func Get(ctx context.Context, db *store.DB, playerID, eventID string) (Stored, error) {
	var s Stored
	var reversed int64
	query := "SELECT token, COALESCE(reversed_at, 0) FROM receipt WHERE player_id = ? AND event_id = ?"
	err := db.Row(ctx, query, []any{playerID, eventID}, &s.Token, &reversed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Stored{}, fault.ReceiptNotFound.Errorf("the event has no receipt")
	case err != nil:
		return Stored{}, fmt.Errorf("read receipt: %w", err)
	}
	if reversed != 0 {
		s.ReversedAt = time.UnixMilli(reversed).UTC()
	}
	return s, nil
}

// Reverse marks the receipt of an event, if it has one, as taken back at an instant, as part of the transaction that takes back what it
// states. The first mark stays. The bytes of the receipt do not change, and it still verifies: that it was reversed is known
// only here.
func Reverse(ctx context.Context, tx *store.Tx, playerID, eventID string, at time.Time) error {
	query := "UPDATE receipt SET reversed_at = ? WHERE player_id = ? AND event_id = ? AND reversed_at IS NULL"
	if _, err := tx.Exec(ctx, query, at.UnixMilli(), playerID, eventID); err != nil {
		return fmt.Errorf("mark receipt as reversed: %w", err)
	}
	return nil
}
