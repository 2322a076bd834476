package session_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/session"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func open(db *store.DB) *session.Generations {
	return &session.Generations{DB: db, Now: func() time.Time { return noon }}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		g, ctx := open(db), t.Context()
		generation, err := g.Current(ctx, "eve")
		require.NoError(t, err)
		require.Zero(t, generation)

		order := session.Order{Actor: "studio", Key: "1", Reason: "his phone was stolen"}
		first := session.Revocation{Player: "eve", Generation: 1, At: noon, Actor: "studio", Reason: order.Reason}
		for range 2 {
			done, err := g.Revoke(ctx, "eve", order)
			require.NoError(t, err)
			require.Equal(t, first, done)
		}
		g.Now = func() time.Time { return noon.Add(time.Hour) }
		for i, next := range []session.Order{{Actor: "studio", Key: "2"}, {Actor: "ops", Key: "1"}} {
			done, err := g.Revoke(ctx, "eve", next)
			require.NoError(t, err)
			require.EqualValues(t, i+2, done.Generation)
		}
		done, err := g.Revoke(ctx, "eve", order)
		require.NoError(t, err)
		require.Equal(t, first, done, "a repeat gives what is on record, however late")

		_, err = g.Revoke(ctx, "bob", order)
		require.ErrorIs(t, err, fault.IdempotencyReused)
		order.Reason = "another"
		_, err = g.Revoke(ctx, "eve", order)
		require.ErrorIs(t, err, fault.IdempotencyReused)
		_, err = g.Revoke(ctx, "eve", session.Order{Actor: "ops", Key: "9", Reason: strings.Repeat("é", 1001)})
		require.ErrorIs(t, err, fault.RequestInvalid)

		for player, want := range map[string]int64{"eve": 3, "bob": 0} {
			generation, err := g.Current(ctx, player)
			require.NoError(t, err)
			require.Equal(t, want, generation)
		}
		for at, want := range map[time.Time]map[string]int64{
			noon: {"eve": 3}, noon.Add(time.Hour): {"eve": 3}, noon.Add(time.Hour + time.Millisecond): {},
		} {
			recent, err := g.Since(ctx, at)
			require.NoError(t, err)
			require.Equal(t, want, recent)
		}
	})
}

// Every order counts once, however many repeat it at the same time.
func TestRevokeAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		g := open(db)
		var all sync.WaitGroup
		errs := make(chan error, 12)
		for i := range 12 {
			all.Go(func() {
				_, err := g.Revoke(t.Context(), "eve", session.Order{Actor: "studio", Key: strconv.Itoa(i % 4)})
				errs <- err
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
		generation, err := g.Current(t.Context(), "eve")
		require.NoError(t, err)
		require.EqualValues(t, 4, generation)
	})
}
