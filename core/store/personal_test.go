package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestPersonalRows(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		_, err := db.Exec(ctx, `CREATE TABLE thing (player_id VARCHAR(63) NOT NULL, a VARCHAR(8) NOT NULL, b BIGINT NOT NULL, f DOUBLE, at BIGINT,
			j TEXT, raw BLOB, PRIMARY KEY (player_id, a, b))`)
		require.NoError(t, err)
		table := store.Table{Name: "thing", Columns: []string{"player_id", "a", "b", "f", "at", "j", "raw"}}
		var rows [][]any
		for i := range 1203 {
			rows = append(rows, []any{"ada", fmt.Sprintf("k%d", i%7), i, 0.5, 1, `{"x":1}`, []byte{0, 255}})
		}
		rows = append(rows, []any{"bob", "k", 0, nil, nil, nil, nil})
		require.NoError(t, table.Insert(ctx, db.Queries, rows))
		things := store.Personal{Kind: "thing", Table: "thing", Key: []string{"a", "b"}, Columns: []string{"a", "b int", "f float", "at time", "j json", "raw bytes"}}

		seen := map[int64]bool{}
		var first []store.Member
		require.NoError(t, things.Each(ctx, db.Queries, "ada", func(row []store.Member) error {
			if first == nil {
				first = row
			}
			seen[row[1].Value.(int64)] = true
			return db.Ping(ctx)
		}))
		require.Len(t, seen, 1203)
		require.Equal(t, []store.Member{
			{Name: "a", Value: "k0"},
			{Name: "b", Value: int64(0)},
			{Name: "f", Value: 0.5},
			{Name: "at", Value: time.UnixMilli(1).UTC()},
			{Name: "j", Value: store.JSON(`{"x":1}`)},
			{Name: "raw", Value: []byte{0, 255}},
		}, first)
		stop := errors.New("stop")
		require.ErrorIs(t, things.Each(ctx, db.Queries, "ada", func([]store.Member) error { return stop }), stop)
		n, err := things.Delete(ctx, db, "ada")
		require.NoError(t, err)
		require.Equal(t, 1203, n)
		n, err = things.Delete(ctx, db, "ada")
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, things.Each(ctx, db.Queries, "bob", func(row []store.Member) error {
			require.Equal(t, []any{"k", int64(0), nil, nil}, []any{row[0].Value, row[1].Value, row[3].Value, row[4].Value})
			return nil
		}))
	})
}
