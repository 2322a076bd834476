package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/journal"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func accepted(player, id string, received time.Time) event.Accepted {
	return event.Accepted{
		Event: event.Event{
			ID: id, Type: event.ScoreSubmitted, PlayerID: player, OccurredAt: received.Add(-time.Hour), SessionID: "s", Seq: 7,
			Data: map[string]any{"board": "points", "score": 12.0},
		},
		At: received.Add(-time.Hour), ReceivedAt: received, KeyID: "server",
	}
}

func names(t *testing.T, j *journal.Journal, from, to time.Time) []string {
	t.Helper()
	list := []string{}
	require.NoError(t, j.Each(t.Context(), from, to, func(e event.Accepted) error {
		list = append(list, e.Identity())
		return nil
	}))
	return list
}

func TestEventsComeBackAsTheyCame(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		j := &journal.Journal{DB: db}
		require.NoError(t, j.Record(t.Context(), nil))
		first := accepted("anna", "e1", noon.Add(123*time.Millisecond+456*time.Microsecond))
		second := accepted("Anna", "E1", noon.Add(123*time.Millisecond)) // another player
		third := accepted("bo", "e1", noon.Add(2*time.Second))
		third.Data["note"] = "é \x00 \u2028"
		require.NoError(t, j.Record(t.Context(), []event.Accepted{third, first, second, first}))
		require.NoError(t, j.Record(t.Context(), []event.Accepted{first}))
		var got []event.Accepted
		require.NoError(t, j.Each(t.Context(), noon, noon.Add(time.Minute), func(e event.Accepted) error {
			got = append(got, e)
			return nil
		}))
		require.Equal(t, []event.Accepted{second, first, third}, got)
	})
}

func TestARangeEndsBeforeItsEnd(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		j := &journal.Journal{DB: db}
		var events []event.Accepted
		for i := range 5 {
			events = append(events, accepted("p", fmt.Sprintf("e%d", i), noon.Add(time.Duration(i)*time.Millisecond)))
		}
		require.NoError(t, j.Record(t.Context(), events))
		require.Equal(t, []string{"p.e1", "p.e2"}, names(t, j, noon.Add(time.Millisecond), noon.Add(3*time.Millisecond)))
		require.Empty(t, names(t, j, noon.Add(time.Millisecond), noon.Add(time.Millisecond)))
		require.Empty(t, names(t, j, noon.Add(time.Hour), noon))
	})
}

// TestPages reads more than a page, much of it of one millisecond.
func TestPages(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		j := &journal.Journal{DB: db}
		var events []event.Accepted
		var want []string
		for i := range 1_700 {
			at := noon
			if i >= 1_200 {
				at = noon.Add(time.Duration(i/3) * time.Millisecond)
			}
			e := accepted(fmt.Sprintf("p%04d", i/7), fmt.Sprintf("e%d", i%7), at)
			events, want = append(events, e), append(want, e.Identity())
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		require.NoError(t, j.Record(t.Context(), events))
		require.Equal(t, want, names(t, j, noon, noon.Add(time.Hour)))
	})
}

// TestLargeEvents fills more statements than one.
func TestLargeEvents(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		j := &journal.Journal{DB: db}
		var events []event.Accepted
		for i := range 400 {
			e := accepted("p", fmt.Sprintf("e%03d", i), noon)
			e.Data["note"] = strings.Repeat("x", 30<<10)
			events = append(events, e)
		}
		require.NoError(t, j.Record(t.Context(), events))
		require.Empty(t, names(t, j, noon, noon.Add(1)))
		require.Len(t, names(t, j, noon, noon.Add(time.Second)), 400)
	})
}

// TestRecordedByTwo is a batch that two replicas have at the same time, each in its own order.
func TestRecordedByTwo(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		j := &journal.Journal{DB: db}
		var batch []event.Accepted
		for i := range 200 {
			batch = append(batch, accepted(fmt.Sprintf("p%d", i%9), fmt.Sprintf("e%d", i), noon.Add(time.Duration(i%5))))
		}
		var done sync.WaitGroup
		problems := make(chan error, 4)
		for n := range 4 {
			mine := append([]event.Accepted{}, batch...)
			rand.New(rand.NewPCG(3, uint64(n))).Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			done.Go(func() { problems <- j.Record(t.Context(), mine) })
		}
		done.Wait()
		for range 4 {
			require.NoError(t, <-problems)
		}
		require.Len(t, names(t, j, noon, noon.Add(time.Second)), 200)
	})
}

func TestPurge(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		j := &journal.Journal{DB: db}
		var events []event.Accepted
		for i := range 10 {
			events = append(events, accepted("p", fmt.Sprintf("e%d", i), noon.Add(time.Duration(i/5)*time.Second)))
		}
		require.NoError(t, j.Record(t.Context(), events))
		before := noon.Add(time.Second)
		for _, want := range []int{3, 2, 0} {
			n, err := j.Purge(t.Context(), before, 3)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		require.Equal(t, []string{"p.e5", "p.e6", "p.e7", "p.e8", "p.e9"}, names(t, j, noon, noon.Add(time.Hour)))
		n, err := j.Purge(t.Context(), before.Add(time.Millisecond), 4)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		require.Equal(t, []string{"p.e9"}, names(t, j, noon, noon.Add(time.Hour)), "the oldest go first")
	})
}

func TestWhatFnSaysEndsIt(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		j := &journal.Journal{DB: db}
		require.NoError(t, j.Record(t.Context(), []event.Accepted{accepted("p", "a", noon), accepted("p", "b", noon)}))
		enough, calls := errors.New("enough"), 0
		err := j.Each(t.Context(), noon, noon.Add(time.Second), func(event.Accepted) error {
			calls++
			// Nothing is locked while fn works.
			_, err := j.Purge(t.Context(), noon.Add(time.Second), 1)
			return errors.Join(err, enough)
		})
		require.ErrorIs(t, err, enough)
		require.Equal(t, 1, calls)
	})
}

// TestOneRange holds the reading and purging of a stretch of time to the key, without a look at the rest of the table.
func TestOneRange(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	for _, query := range []string{
		`SELECT body FROM journal WHERE received_at >= 1 AND received_at < 9 AND (received_at > 1 OR player_id > 'a') ORDER BY received_at, player_id, event_id LIMIT 5`,
		`DELETE FROM journal WHERE rowid IN (SELECT rowid FROM journal WHERE received_at < 9 ORDER BY received_at, player_id, event_id LIMIT 5)`,
	} {
		var plan []string
		require.NoError(t, db.Each(t.Context(), "EXPLAIN QUERY PLAN "+query, nil, func(scan func(...any) error) error {
			var id, parent, unused int
			var detail string
			err := scan(&id, &parent, &unused, &detail)
			plan = append(plan, detail)
			return err
		}))
		text := strings.Join(plan, "\n")
		require.Contains(t, text, "(received_at")
		require.NotContains(t, text, "SCAN")
		require.NotContains(t, text, "TEMP B-TREE")
	}
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	j := &journal.Journal{DB: db}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, j.Record(ctx, []event.Accepted{accepted("p", "a", noon)}), fault.Unavailable)
	require.ErrorIs(t, j.Each(ctx, noon, noon.Add(time.Second), func(event.Accepted) error { return nil }), fault.Unavailable)
	_, err := j.Purge(ctx, noon, 1)
	require.ErrorIs(t, err, fault.Unavailable)
}
