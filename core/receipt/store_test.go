package receipt_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/receipt"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		keep := func(receipts ...receipt.Issued) error {
			return db.Tx(t.Context(), func(tx *store.Tx) error { return receipt.Store(t.Context(), tx, receipts) })
		}
		of := func(player, event, token string) receipt.Issued {
			c := claims()
			c.PlayerID, c.EventID = player, event
			return receipt.Issued{Claims: c, Token: token}
		}
		stored := func(player, event string) string {
			stored, err := receipt.Get(t.Context(), db, player, event)
			require.NoError(t, err)
			require.Zero(t, stored.ReversedAt)
			return stored.Token
		}
		longest := strings.Repeat("a.", receipt.MaxToken/2)

		require.NoError(t, keep())
		require.NoError(t, keep(of("alice", "e1", "first"), of("alice", "e2", longest), of("Alice", "e1", "other player")))
		require.NoError(t, keep(of("alice", "e1", "second"), of("bob", "e1", "new"), of("bob", "e1", "newer")))
		require.Equal(t, "first", stored("alice", "e1"))
		require.Equal(t, longest, stored("alice", "e2"))
		require.Equal(t, "other player", stored("Alice", "e1"))
		require.Equal(t, "new", stored("bob", "e1"))

		var id string
		var issued int64
		require.NoError(t, db.Row(t.Context(), "SELECT receipt_id, issued_at FROM receipt WHERE player_id = 'bob'", nil, &id, &issued))
		require.Equal(t, receipt.ID("bob", "e1"), id)
		require.Equal(t, claims().IssuedAt*1000, issued)

		_, err := receipt.Get(t.Context(), db, "bob", "E1")
		require.ErrorIs(t, err, fault.ReceiptNotFound)

		undone := errors.New("undone")
		err = db.Tx(t.Context(), func(tx *store.Tx) error {
			require.NoError(t, receipt.Store(t.Context(), tx, []receipt.Issued{of("carol", "e1", "token")}))
			return undone
		})
		require.ErrorIs(t, err, undone)
		_, err = receipt.Get(t.Context(), db, "carol", "e1")
		require.ErrorIs(t, err, fault.NotFound)

		first, later := time.UnixMilli(1_764_000_000_123).UTC(), time.UnixMilli(1_764_000_001_000).UTC()
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error {
			require.NoError(t, receipt.Reverse(t.Context(), tx, "carol", "e1", first), "no receipt, nothing to mark")
			require.NoError(t, receipt.Reverse(t.Context(), tx, "alice", "e1", first))
			return receipt.Reverse(t.Context(), tx, "alice", "e1", later)
		}))
		reversed, err := receipt.Get(t.Context(), db, "alice", "e1")
		require.NoError(t, err)
		require.Equal(t, receipt.Stored{Token: "first", ReversedAt: first}, reversed)
		require.Equal(t, longest, stored("alice", "e2"))

		require.NoError(t, db.Close())
		require.ErrorIs(t, keep(of("dave", "e1", "token")), fault.Unavailable)
		_, err = receipt.Get(t.Context(), db, "alice", "e1")
		require.ErrorIs(t, err, fault.Unavailable)
	})
}
