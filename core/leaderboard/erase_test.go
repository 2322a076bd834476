package leaderboard

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestAliasesStandWhereTheirPlayerStood(t *testing.T) {
	t.Parallel()
	const alias = "erased~0123456789abcdefghijkl"
	for _, test := range []struct{ below, above, begins string }{
		{"", "", "erased~"},
		{"ann", "zed", "erased~"},
		{"", "zed", "erased~"},
		{"ann", "", "erased~"},
		{"fox", "", "~"},
		{"", "ann", "!"},
		{"ann", "bob", "a~"},
		{"p1", "p3", "p1~"},
		{"bo", "bob", "bo!"},
		{"ab", "abcd", "ab!"},
		{"p1~x", "p3", "p1~"},
	} {
		got := fitting(test.below, test.above, alias)
		require.True(t, strings.HasPrefix(got, test.begins), "%v: %s", test, got)
		require.True(t, got > test.below && (test.above == "" || got < test.above), "%v: %s", test, got)
	}
	long := strings.Repeat("a", 63)
	require.Len(t, fitting(long[:62]+"1", long, alias), 29, "there is no room between them")
}

// TestAliasesFit: whatever the ids are, an alias is between them and is no player's id.
func TestAliasesFit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[-0-9A-Z_a-z]{1,12}`)
		below, player, above := id.Draw(t, "below"), id.Draw(t, "player"), id.Draw(t, "above")
		if below >= player || player >= above {
			t.Skip()
		}
		got := fitting(below, above, "erased~0123456789abcdefghijkl")
		require.True(t, below < got && got < above, got)
		require.NotEqual(t, player, got[:strings.IndexAny(got, "!~")])
		require.True(t, strings.ContainsAny(got, "!~"))
	})
}

// erase does what the pipeline does.
func erase(t *testing.T, r *Ranking, player string, taking ...Window) []Erased {
	t.Helper()
	var erased []Erased
	require.NoError(t, r.DB.Tx(t.Context(), func(tx *store.Tx) (err error) {
		erased, _, err = r.Entries.Erase(t.Context(), tx, player, "erased~"+rand.Text()[:22], taking)
		return err
	}))
	require.NoError(t, r.Erase(t.Context(), player, erased))
	return erased
}

// TestEraseFromProjections erases players from rankings that hold all and that hold some: in front of the floor, at it and behind it. Nobody else moves.
func TestEraseFromProjections(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		windows := []Window{{Board: "hundred", ID: "w"}, {Board: "few", ID: "w"}, {Board: "few-of-latest", ID: "w"}}
		r.Served = func(context.Context) ([]Window, error) { return windows, nil }
		for _, w := range windows {
			rows := mergeScores(t, db, tied(w.Board, w.ID, 40)...)
			require.NoError(t, r.Rebuild(t.Context(), w.Board, w.ID))
			want := ranked(w.Board, rows)
			for i, place := range []int{0, 1, 3, 4, 5, 6, 8, 11, 12, 20, 39} {
				player := want[place].Player
				if i%4 == 3 {
					require.NoError(t, r.Hide(t.Context(), player))
				}
				erased := erase(t, r, player, w)
				require.Len(t, erased, 1)
				require.Equal(t, i%4 == 3, erased[0].Gone)
				if erased[0].Gone {
					want[place].Player = ""
				} else {
					want[place].Player, want[place].Metadata = erased[0].Player, ""
				}
				held(t, r, w.Board, w.ID)
				checkProjection(t, r, w.Board, w.ID)
				for key, values := range map[string]string{
					"players": fmt.Sprint(rdb.HGetAll(t.Context(), "rank:{"+w.Board+":"+w.ID+"}:players").Val()),
					"order":   fmt.Sprint(rdb.ZRange(t.Context(), "rank:{"+w.Board+":"+w.ID+"}:order", 0, -1).Val()),
				} {
					require.NotRegexp(t, player+`\b`, values, key)
				}
			}
			var got, left []string
			for _, row := range want {
				if row.Player != "" {
					left = append(left, row.Player)
				}
			}
			for _, row := range paged(t, r, w.Board, w.ID, 7) {
				got = append(got, row.Player)
			}
			require.Equal(t, left, got, w.Board)
			checkAgreement(t, r, w.Board, w.ID, allRows(t, db, w.Board, w.ID))
		}
	})
}

// TestEraseFindsWhoCameBack: a projection of what was read before the erasure puts the player back, and the next pass finds him.
func TestEraseFindsWhoCameBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		w := Window{Board: "few", ID: "w"}
		r.Served = func(context.Context) ([]Window, error) { return []Window{w}, nil }
		rows := mergeScores(t, db, tied(w.Board, w.ID, 3)...)
		require.NoError(t, r.Rebuild(t.Context(), w.Board, w.ID))
		player := rows[1].Player
		erase(t, r, player, w)
		require.NoError(t, r.Project(t.Context(), rows))
		require.NotEmpty(t, rdb.HGet(t.Context(), "rank:{few:w}:players", player).Val())
		require.Empty(t, erase(t, r, player, w))
		require.Empty(t, rdb.HGet(t.Context(), "rank:{few:w}:players", player).Val())
		checkAgreement(t, r, w.Board, w.ID, allRows(t, db, w.Board, w.ID))

		// What is not taking entries stays, and so does its being hidden.
		require.NoError(t, r.Hide(t.Context(), rows[0].Player))
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error {
			erased, left, err := r.Entries.Erase(t.Context(), tx, rows[0].Player, "erased~y", nil)
			require.Empty(t, erased)
			require.True(t, left)
			return err
		}))
		hidden, err := r.Hidden(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{rows[0].Player}, hidden)
	})
}
