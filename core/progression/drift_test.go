package progression_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func sampled(t *testing.T, l *progression.Ledger, from string, limit int) progression.Sample {
	t.Helper()
	s, err := l.Sample(t.Context(), from, limit)
	require.NoError(t, err)
	return s
}

func TestSampleSeesEverybodyInTurn(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		require.Equal(t, progression.Sample{}, sampled(t, l, "", 10), "nobody yet")
		var batch []event.Accepted
		for _, player := range []string{"a", "b", "c", "d", "e"} {
			batch = append(batch, gained(player, "e1", 150), acquired(player, "e2", "axe", 3))
		}
		_, err := l.Apply(t.Context(), batch, nil)
		require.NoError(t, err)
		for _, statement := range []string{
			"UPDATE player SET xp = 151 WHERE player_id = 'a'",
			"UPDATE item SET quantity = 0 WHERE player_id = 'd' AND item_id = 'axe'",
			"DELETE FROM ledger WHERE player_id = 'e' AND event_id = 'e1'",
		} {
			_, err := db.Exec(t.Context(), statement)
			require.NoError(t, err)
		}
		a := progression.Drift{PlayerID: "a", Balance: 151, Ledger: 150}
		d := progression.Drift{PlayerID: "d", Item: "axe", Balance: 0, Ledger: 3}
		e := []progression.Drift{{PlayerID: "e", Balance: 150}, {PlayerID: "e", Item: "gem", Balance: 1}}
		require.Equal(t, progression.Sample{Players: []string{"a", "b"}, Drifts: []progression.Drift{a}, Next: "b"}, sampled(t, l, "", 2))
		require.Equal(t, progression.Sample{Players: []string{"c", "d"}, Drifts: []progression.Drift{d}, Next: "d"}, sampled(t, l, "b", 2))
		require.Equal(t, progression.Sample{Players: []string{"e"}, Drifts: e}, sampled(t, l, "d", 2))
		require.Equal(t, progression.Sample{}, sampled(t, l, "e", 2))
		require.Equal(t, []string{"b", "c", "d", "e"}, sampled(t, l, "a-", 9).Players, "from a player who is not there")

		// Whoever has a long ledger is compared with nobody else.
		_, err = db.Exec(t.Context(), "UPDATE player SET entries = 100000 WHERE player_id = 'b'")
		require.NoError(t, err)
		require.Equal(t, progression.Sample{Players: []string{"a"}, Drifts: []progression.Drift{a}, Next: "a"}, sampled(t, l, "", 5))
		require.Equal(t, progression.Sample{Players: []string{"b"}, Next: "b"}, sampled(t, l, "a", 5))

		require.NoError(t, db.Close())
		_, err = l.Sample(t.Context(), "", 5)
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = l.Anywhere(t.Context())
		require.ErrorIs(t, err, fault.Unavailable)
	})
}

// TestSampleUnderWrites takes samples while the balances of the sampled players change.
func TestSampleUnderWrites(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := ledgerOn(db, game())
		var writers sync.WaitGroup
		var done atomic.Bool
		errs := make([]error, 3)
		for w := range errs {
			writers.Go(func() {
				for i := 0; i < 40 && errs[w] == nil; i++ {
					var batch []event.Accepted
					for p := range 5 {
						batch = append(batch, killed(fmt.Sprint("p", p), fmt.Sprintf("e%d-%d", w, i), "rat"))
					}
					_, errs[w] = l.Apply(t.Context(), batch, nil)
				}
			})
		}
		go func() { writers.Wait(); done.Store(true) }()
		for last := false; !last; {
			last = done.Load()
			s := sampled(t, l, "", 10)
			require.Empty(t, s.Drifts)
			if last {
				require.Len(t, s.Players, 5)
			}
		}
		for _, err := range errs {
			require.NoError(t, err)
		}
	})
}

func TestAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		players func(i int) string
		least   int // different players that follow 200 places
	}{
		"numbered":     {func(i int) string { return fmt.Sprintf("player-%04d", i) }, 100},
		"hexadecimal":  {func(i int) string { return fmt.Sprintf("%08x-4", uint32(i)*2654435761) }, 100},
		"of any width": {func(i int) string { return fmt.Sprint("p", i) }, 100},
		"like a name":  {func(i int) string { return strings.Repeat("Z", i%40+1) + "_" + fmt.Sprint(i) }, 5},
		"one":          {func(int) string { return "only" }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
				l := ledgerOn(db, game())
				from, err := l.Anywhere(t.Context())
				require.NoError(t, err)
				require.Empty(t, from, "nobody yet")
				var rows [][]any
				for i := range 1000 {
					rows = append(rows, []any{c.players(i), 0, 1, 0, 0, 0})
				}
				players := store.Table{
					Name: "player", Columns: []string{"player_id", "xp", "level", "entries", "created_at", "updated_at"}, Key: []string{"player_id"},
				}
				require.NoError(t, players.InsertMissing(t.Context(), db.Queries, rows))
				followers := map[string]bool{}
				for range 200 {
					from, err := l.Anywhere(t.Context())
					require.NoError(t, err)
					if s := sampled(t, l, from, 1); len(s.Players) > 0 {
						followers[s.Players[0]] = true
					}
				}
				require.GreaterOrEqual(t, len(followers), c.least)
			})
		})
	}
}
