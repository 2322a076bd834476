package leaderboard

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestForgetsAWindowPageByPage(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		e := Entries{}
		var rows [][]any
		for i := range 2*pageSize + 1 {
			rows = append(rows, []any{"best", "w", fmt.Sprintf("p%05d", i), 1, 1, -1, 0, 0, "e", "", 1})
		}
		for _, other := range [][]any{{"best", "v"}, {"best", "x"}, {"other", "w"}} {
			rows = append(rows, append(other, "p00000", 1, 1, -1, 0, 0, "e", "", 1))
		}
		require.NoError(t, entryTable().Insert(t.Context(), db.Queries, rows))
		for _, want := range []struct {
			left bool
			rows int64
		}{{true, pageSize + 1}, {true, 1}, {false, 0}, {false, 0}} {
			left, err := e.Forget(t.Context(), db, "best", "w")
			require.NoError(t, err)
			require.Equal(t, want.left, left)
			n, err := e.Count(t.Context(), db.Queries, "best", "w")
			require.NoError(t, err)
			require.Equal(t, want.rows, n)
		}
		var kept int
		require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM entry", nil, &kept))
		require.Equal(t, 3, kept)
	})
}
