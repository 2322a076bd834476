package erasure_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/erasure"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestAnErasureFromTheRequestToTheEnd(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		now := noon
		r := &erasure.Requests{DB: db, Now: func() time.Time { return now }, Grace: func() time.Duration { return time.Hour }}
		ctx := t.Context()
		state := func() erasure.State {
			t.Helper()
			q, err := r.Get(ctx, "ada")
			require.NoError(t, err)
			return q.State
		}
		due := func() []string {
			t.Helper()
			players, err := r.Due(ctx, 10)
			require.NoError(t, err)
			return players
		}
		require.Equal(t, erasure.None, state())
		first, err := r.Ask(ctx, "ada", "server", "asked")
		require.NoError(t, err)
		require.Equal(t, erasure.Request{PlayerID: "ada", State: erasure.Waiting, RequestedAt: noon, DueAt: noon.Add(time.Hour), Actor: "server", Reason: "asked"}, first)
		now = noon.Add(time.Minute)
		again, err := r.Ask(ctx, "ada", "admin", "again")
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.Empty(t, due())
		begun, _, err := r.Begin(ctx, "ada")
		require.NoError(t, err)
		require.False(t, begun, "it is not due")
		require.NoError(t, r.Cancel(ctx, "ada"))
		require.ErrorIs(t, r.Cancel(ctx, "ada"), fault.ErasureNotFound)
		require.Equal(t, erasure.None, state())

		_, err = r.Ask(ctx, "ada", "server", "asked")
		require.NoError(t, err)
		now = now.Add(time.Hour)
		require.Equal(t, []string{"ada"}, due())
		require.Equal(t, erasure.Waiting, state())
		for range 2 { // the second time the first was cut
			begun, last, err := r.Begin(ctx, "ada")
			require.NoError(t, err)
			require.Equal(t, []bool{true, false}, []bool{begun, last})
		}
		require.Equal(t, erasure.Erasing, state())
		require.ErrorIs(t, r.Cancel(ctx, "ada"), fault.ErasureNotFound)
		pass := func(left, last bool) [2]bool {
			t.Helper()
			first, forgotten, err := r.Passed(ctx, "ada", left, last)
			require.NoError(t, err)
			return [2]bool{first, forgotten}
		}
		require.Equal(t, [2]bool{}, pass(true, false))
		require.Equal(t, erasure.Erasing, state())
		require.Empty(t, due())
		now = now.Add(erasure.Retry)
		require.Equal(t, []string{"ada"}, due())
		require.NoError(t, r.Postpone(ctx, "ada"))
		require.Empty(t, due())
		now = now.Add(erasure.Retry)
		require.Equal(t, [2]bool{true, false}, pass(false, false))
		require.Equal(t, erasure.Erased, state())
		q, err := r.Get(ctx, "ada")
		require.NoError(t, err)
		require.Empty(t, q.Actor+q.Reason)
		require.Equal(t, now, q.ErasedAt)
		again, err = r.Ask(ctx, "ada", "server", "again")
		require.NoError(t, err)
		require.Equal(t, q, again, "it is under way")
		now = now.Add(erasure.Repeat)
		require.Equal(t, [2]bool{false, false}, pass(false, false))

		now = q.ErasedAt.Add(erasure.Last)
		begun, last, err := r.Begin(ctx, "ada")
		require.NoError(t, err)
		require.Equal(t, []bool{true, true}, []bool{begun, last})
		require.Equal(t, [2]bool{}, pass(true, true), "something is left")
		require.Equal(t, erasure.Erased, state())
		require.Equal(t, [2]bool{false, true}, pass(false, true))
		require.Equal(t, erasure.None, state())
		require.Equal(t, [2]bool{}, pass(false, true), "another sweep was faster")
	})
}

func TestAliasesAreNobody(t *testing.T) {
	t.Parallel()
	require.False(t, event.ValidPlayerID(erasure.Alias()))
	require.LessOrEqual(t, len(erasure.Alias()), event.MaxPlayerID)
	one := erasure.Alias()
	require.NotEqual(t, one, erasure.Alias())
}
