package progression_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestTheLedgerIsListedNewestFirst(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		apply(t, l, gained("p", "e1", 100))
		apply(t, l, acquired("p", "e2", "axe", 2))
		apply(t, l, killed("p", "e3", "rat"))
		apply(t, l, gained("q", "e9", 100))
		pages := func(f progression.Filter) (kinds []string) {
			t.Helper()
			f.Player = "p"
			for {
				entries, next, err := l.List(t.Context(), f)
				require.NoError(t, err)
				for _, e := range entries {
					kinds = append(kinds, e.EventID+" "+e.Kind)
				}
				if next == "" {
					return kinds
				}
				require.Len(t, entries, f.Limit)
				f.After = next
			}
		}
		all := []string{"e3 item:tail", "e3 xp", "e2 item:axe", "e2 xp", "e1 level:2:item:gem", "e1 xp"}
		for _, limit := range []int{1, 2, 4, 6, 7} {
			require.Equal(t, all, pages(progression.Filter{Limit: limit}), limit)
		}
		require.Equal(t, []string{"e1 level:2:item:gem"}, pages(progression.Filter{Limit: 1, Item: "gem"}))
		require.Equal(t, all[2:4], pages(progression.Filter{Limit: 1, Type: event.ItemAcquired}))
		require.Empty(t, pages(progression.Filter{Limit: 1, Type: event.ItemAcquired, Item: "gem"}))

		_, next, err := l.List(t.Context(), progression.Filter{Player: "p", Limit: 2})
		require.NoError(t, err)
		apply(t, l, killed("p", "e4", "rat"))
		entries, _, err := l.List(t.Context(), progression.Filter{Player: "p", Limit: 1, After: next})
		require.NoError(t, err)
		require.Equal(t, "item:axe", entries[0].Kind, "what is new moves no page")
		entries, next, err = l.List(t.Context(), progression.Filter{Player: "nobody"})
		require.NoError(t, err)
		require.Empty(t, entries)
		require.Empty(t, next)
	})
}

func TestTheInventoryIsListedInOrderOfItem(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		for i, item := range []string{"eco-b", "eco-_", "axe", "eco-Z", "eco-", "crown", "tail"} {
			apply(t, l, acquired("p", "e"+string(rune('a'+i)), item, 1))
		}
		apply(t, l, acquired("p", "gone", "crown", -1))
		apply(t, l, acquired("q", "e", "fang", 1))
		for prefix, want := range map[string][]string{
			"": {"axe", "eco-", "eco-Z", "eco-_", "eco-b", "tail"}, "eco-": {"eco-", "eco-Z", "eco-_", "eco-b"}, "ec": {"eco-", "eco-Z", "eco-_", "eco-b"},
			"eco-b": {"eco-b"}, "crown": nil, "%": nil,
		} {
			for _, limit := range []int{1, 3, 6, 100} {
				var got []string
				f := progression.Filter{Player: "p", Prefix: prefix, Limit: limit}
				for more := true; more; more = f.After != "" {
					held, next, err := l.Inventory(t.Context(), f)
					require.NoError(t, err)
					for _, h := range held {
						got = append(got, h.Item)
						require.EqualValues(t, 1, h.Quantity)
					}
					f.After = next
				}
				require.Equal(t, want, got, "%q by %d", prefix, limit)
			}
		}
	})
}

func TestCursorsThatWereNotGivenOut(t *testing.T) {
	t.Parallel()
	l := ledgerOn(storetest.SQLite(t), game())
	apply(t, l, killed("p", "e1", "rat"))
	apply(t, l, acquired("p", "e2", "axe", 1))
	_, entry, err := l.List(t.Context(), progression.Filter{Player: "p", Limit: 1})
	require.NoError(t, err)
	_, item, err := l.Inventory(t.Context(), progression.Filter{Player: "p", Limit: 1})
	require.NoError(t, err)
	for _, bad := range []string{"x", "=", entry + "=", entry + "\n", "ZW50cnk6MDE", "ZW50cnk6YQ", "aXRlbTo", "aXRlbTolJQ", strings.Repeat("A", 5000)} {
		_, _, err := l.List(t.Context(), progression.Filter{Player: "p", After: bad})
		require.ErrorIs(t, err, fault.MalformedCursor, bad)
		_, _, err = l.Inventory(t.Context(), progression.Filter{Player: "p", After: bad})
		require.ErrorIs(t, err, fault.MalformedCursor, bad)
	}
	_, _, err = l.List(t.Context(), progression.Filter{Player: "p", After: item})
	require.ErrorIs(t, err, fault.MalformedCursor)
	_, _, err = l.Inventory(t.Context(), progression.Filter{Player: "p", After: entry})
	require.ErrorIs(t, err, fault.MalformedCursor)
}
