package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/core/store/storetest"
)

var counter = store.Table{Name: "counter", Columns: []string{"name", "n", "note"}, Key: []string{"name"}, Keep: []string{"note"}}

func contents(t *testing.T, db *store.DB) []string {
	t.Helper()
	var all []string
	err := db.Each(t.Context(), "SELECT name, n, note FROM counter ORDER BY name", nil, func(scan func(...any) error) error {
		var name, note string
		var n int64
		err := scan(&name, &n, &note)
		all = append(all, fmt.Sprint(name, " ", n, " ", note))
		return err
	})
	require.NoError(t, err)
	return all
}

func TestTableWrites(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db)
		ctx := t.Context()
		require.NoError(t, counter.Insert(ctx, db.Queries, nil))
		require.NoError(t, counter.Insert(ctx, db.Queries, [][]any{{"a", 1, "first"}, {"b", 1, "first"}}))
		require.Equal(t, []string{"a 1 first", "b 1 first"}, contents(t, db))

		require.Error(t, counter.Insert(ctx, db.Queries, [][]any{{"c", 2, "second"}, {"b", 2, "second"}}))
		require.Equal(t, []string{"a 1 first", "b 1 first"}, contents(t, db), "nothing of the statement was added")

		require.NoError(t, counter.InsertMissing(ctx, db.Queries, [][]any{{"c", 3, "third"}, {"b", 3, "third"}, {"c", 4, "twice"}}))
		require.Equal(t, []string{"a 1 first", "b 1 first", "c 3 third"}, contents(t, db))

		require.NoError(t, counter.Upsert(ctx, db.Queries, [][]any{{"b", 5, "fifth"}, {"d", 5, "fifth"}, {"d", 6, "twice"}}))
		require.Equal(t, []string{"a 1 first", "b 5 first", "c 3 third", "d 6 fifth"}, contents(t, db))
	})
}

func TestTableWritesMoreThanAStatementHolds(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db)
		const n = 2*(16_000/3) + 1 // three statements, the last with one row
		rows := make([][]any, n)
		for i := range rows {
			rows[i] = []any{fmt.Sprintf("%05d", i), i, ""}
		}
		err := db.Tx(t.Context(), func(tx *store.Tx) error { return counter.Insert(t.Context(), tx.Queries, rows) })
		require.NoError(t, err)
		err = db.Tx(t.Context(), func(tx *store.Tx) error { return counter.Upsert(t.Context(), tx.Queries, rows) })
		require.NoError(t, err)
		var got, sum int64
		require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*), SUM(n) FROM counter", nil, &got, &sum))
		require.EqualValues(t, n, got)
		require.EqualValues(t, n*(n-1)/2, sum)
	})
}

func TestIn(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db)
		require.NoError(t, counter.Insert(t.Context(), db.Queries, [][]any{{"a", 1, ""}, {"b", 2, ""}, {"c", 3, ""}}))
		for _, test := range []struct {
			left  string
			width int
			args  []any
			want  int
		}{
			{"name", 1, []any{"a"}, 1},
			{"name", 1, []any{"a", "c", "x"}, 2},
			{"(name, n)", 2, []any{"a", 1}, 1},
			{"(name, n)", 2, []any{"a", 1, "b", 1, "c", 3, "x", 1}, 2},
			{"(name, n, note)", 3, []any{"a", 1, "", "b", 2, "no"}, 1},
		} {
			var got int
			query := "SELECT COUNT(*) FROM counter WHERE " + test.left + " IN " + db.Dialect.In(len(test.args)/test.width, test.width)
			require.NoError(t, db.Row(t.Context(), query, test.args, &got), query)
			require.Equal(t, test.want, got, query)
		}
	})
}

func TestLocksAreOnlyForMySQL(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db, "a")
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error {
			var n int
			if err := tx.Row(t.Context(), "SELECT n FROM counter"+tx.Dialect.ForShare(), nil, &n); err != nil {
				return err
			}
			return tx.Row(t.Context(), "SELECT n FROM counter"+tx.Dialect.ForUpdate(), nil, &n)
		}))
	})
	require.Empty(t, store.SQLite.ForUpdate()+store.SQLite.ForShare())
	require.Equal(t, " FOR UPDATE", store.MySQL.ForUpdate())
}
