package progression_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// statements is how many a batch of n events takes, of players with two events each, by what the server counted from one batch to the next alike.
func statements(t *testing.T, l *progression.Ledger, run string, n int) int64 {
	t.Helper()
	var counts []int64
	for round := range 3 {
		var batch []event.Accepted
		for i := range n {
			player := fmt.Sprintf("%s-%d", run, i/2)
			if id := fmt.Sprintf("%d-%d", round, i); i%2 == 0 {
				batch = append(batch, killed(player, id, "rat"))
			} else {
				batch = append(batch, acquired(player, id, fmt.Sprintf("eco-%d", round), 1))
			}
		}
		_, err := l.Apply(t.Context(), batch, func(tx *store.Tx, _ []*progression.Effect) error {
			var name string
			var count int64
			err := tx.Row(t.Context(), "SHOW SESSION STATUS LIKE 'Questions'", nil, &name, &count)
			counts = append(counts, count)
			return err
		})
		require.NoError(t, err)
	}
	return counts[2] - counts[1]
}

// What a batch costs does not grow with it: one read and one write more where something is limited, and none for slots and conversions.
func TestStatementsOfABatch(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		if db.Dialect == store.SQLite {
			t.Skip("it counts no statements")
		}
		plain := game()
		plain.Bosses["rat"] = catalog.Worth{XP: 10, Items: map[string]int64{"gem": 2}}
		l := ledgerOn(db, plain)
		few := statements(t, l, "few", 2)
		require.Equal(t, few, statements(t, l, "many", 300))

		roomy := game()
		roomy.Bosses, roomy.Items = plain.Bosses, maps.Clone(plain.Items)
		roomy.Items["eco-*"] = catalog.Item{Slots: 2, Overflow: "mailbox"}
		roomy.Items["gem"] = catalog.Item{Stack: 3, Overflow: "convert", Convert: &catalog.Conversion{Item: "axe", Quantity: 2}}
		l = ledgerOn(db, roomy)
		require.Equal(t, few, statements(t, l, "roomy-few", 2))
		require.Equal(t, few, statements(t, l, "roomy-many", 300))

		limited := game()
		limited.Bosses = map[string]catalog.Worth{"rat": {XP: 10, Items: map[string]int64{"gem": 2}, Daily: 1000, Cooldown: 1}}
		limited.Events["boss_killed"] = catalog.EventType{Worth: catalog.Worth{Daily: 1000}}
		l = ledgerOn(db, limited)
		require.Equal(t, few+2, statements(t, l, "limited-few", 2))
		require.Equal(t, few+2, statements(t, l, "limited-many", 300))
	})
}
