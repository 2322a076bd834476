package rejected_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/rejected"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// open gives a store and the means to move its clock.
func open(db *store.DB) (*rejected.Store, func(time.Duration)) {
	now := noon()
	return &rejected.Store{DB: db, Now: func() time.Time { return now }}, func(d time.Duration) { now = now.Add(d) }
}

func TestARejectionIsKeptAsItCame(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, _ := open(db)
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		for _, r := range []rejected.Rejection{
			{Stage: "fairness", MessageID: "p.e", PlayerID: "p", EventID: "e", Code: fault.ImpossibleValue, Detail: "äöü 'quoted' \\ ;", Body: every},
			{Stage: "progression", MessageID: "empty", Code: fault.MessageInvalid},
			{Stage: "redrive", MessageID: "large", Code: fault.DeliveriesSpent, Body: bytes.Repeat([]byte{0xff, 0}, 120<<10)},
		} {
			require.NoError(t, s.Put(t.Context(), []rejected.Rejection{r}))
			list, next, err := s.List(t.Context(), rejected.Filter{Limit: 1000})
			require.NoError(t, err)
			require.Empty(t, next)
			var got rejected.Rejection
			for _, listed := range list {
				require.Empty(t, listed.Body, "bodies are not listed")
				if listed.MessageID == r.MessageID {
					got, err = s.Get(t.Context(), listed.ID)
					require.NoError(t, err)
				}
			}
			require.Len(t, got.ID, 32)
			require.Equal(t, string(r.Body), string(got.Body))
			r.ID, r.FirstAt, r.LastAt, r.Times, r.Body = got.ID, noon(), noon(), 1, got.Body
			require.Equal(t, r, got)
		}
	})
}

func TestARepeatUpdates(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, pass := open(db)
		r := rejected.Rejection{Stage: "redrive", MessageID: "m", Code: fault.DeliveriesSpent, Detail: "first", Body: []byte("1")}
		require.NoError(t, s.Put(t.Context(), []rejected.Rejection{r, r}), "twice in one batch is once")
		pass(time.Minute)
		r.Detail, r.Code = "second", fault.MessageInvalid
		other := r
		other.Stage = "fairness"
		require.NoError(t, s.Put(t.Context(), []rejected.Rejection{other, r}))
		list, _, err := s.List(t.Context(), rejected.Filter{Limit: 10})
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, "fairness", list[0].Stage, "newest first")
		got := list[1]
		require.Equal(t, "second", got.Detail)
		require.Equal(t, fault.MessageInvalid, got.Code)
		require.Equal(t, 2, got.Times)
		require.Equal(t, noon(), got.FirstAt)
		require.Equal(t, noon().Add(time.Minute), got.LastAt)
	})
}

func TestMessagesWithoutAnIDAreKnownByTheirBytes(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, _ := open(db)
		for _, body := range []string{"a", "b", "a"} {
			require.NoError(t, s.Put(t.Context(), []rejected.Rejection{{Stage: "fairness", Body: []byte(body)}}))
		}
		list, _, err := s.List(t.Context(), rejected.Filter{Limit: 10})
		require.NoError(t, err)
		require.Len(t, list, 2)
	})
}

func TestTextIsMadeToFit(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, _ := open(db)
		require.NoError(t, s.Put(t.Context(), []rejected.Rejection{
			{Stage: "fairness", MessageID: "a\xff" + strings.Repeat("é", 200), Detail: "\xfe" + strings.Repeat("日", 2000)},
		}))
		list, _, err := s.List(t.Context(), rejected.Filter{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, "a\uFFFD"+strings.Repeat("é", 126), list[0].MessageID)
		require.Equal(t, "\uFFFD"+strings.Repeat("日", 999), list[0].Detail)
	})
}

func TestPagingGivesEveryRowOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, pass := open(db)
		const n = 50
		for i := range n {
			if i%7 == 0 {
				pass(time.Second) // several share an instant
			}
			require.NoError(t, s.Put(t.Context(), []rejected.Rejection{{Stage: "fairness", MessageID: fmt.Sprint(i)}}))
		}
		seen := map[string]bool{}
		last := noon().Add(time.Hour)
		after, pages := "", 0
		for {
			list, next, err := s.List(t.Context(), rejected.Filter{After: after, Limit: 10})
			require.NoError(t, err)
			pages++
			for _, r := range list {
				require.False(t, seen[r.ID])
				require.False(t, r.FirstAt.After(last))
				seen[r.ID], last = true, r.FirstAt
			}
			if pages == 2 { // what comes while somebody pages does not disturb him
				require.NoError(t, s.Put(t.Context(), []rejected.Rejection{{Stage: "fairness", MessageID: "new"}, {Stage: "fairness", MessageID: "3"}}))
			}
			if next == "" {
				break
			}
			after = next
		}
		require.Len(t, seen, n)
		require.Equal(t, n/10, pages)
		for _, bad := range []string{"x", "1.", "1.zz", ".00000000000000000000000000000000", "1.0'; DROP TABLE rejected"} {
			_, _, err := s.List(t.Context(), rejected.Filter{After: bad, Limit: 10})
			require.ErrorIs(t, err, fault.MalformedCursor, bad)
		}
	})
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, _ := open(db)
		_, err := s.Get(t.Context(), "nothing")
		require.ErrorIs(t, err, fault.RejectedNotFound)
		list, next, err := s.List(t.Context(), rejected.Filter{})
		require.NoError(t, err)
		require.Empty(t, list)
		require.Empty(t, next)
		require.NoError(t, s.Put(t.Context(), nil))
	})
}

// Several replicas get the same batch; a large one needs several statements.
func TestConcurrentReplicasAndLargeBatches(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, _ := open(db)
		batch := make([]rejected.Rejection, 60)
		for i := range batch {
			batch[i] = rejected.Rejection{Stage: "fairness", MessageID: fmt.Sprint(i), Body: bytes.Repeat([]byte{byte(i)}, 200<<10)}
		}
		const replicas = 4
		failures := make([]error, replicas)
		var wg sync.WaitGroup
		for n := range replicas {
			wg.Go(func() { failures[n] = s.Put(t.Context(), batch) })
		}
		wg.Wait()
		for _, err := range failures {
			require.NoError(t, err)
		}
		list, _, err := s.List(t.Context(), rejected.Filter{Limit: 100})
		require.NoError(t, err)
		require.Len(t, list, len(batch))
		for _, r := range list {
			require.Equal(t, replicas, r.Times)
		}
		got, err := s.Get(t.Context(), list[0].ID)
		require.NoError(t, err)
		require.Len(t, got.Body, 200<<10)
	})
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	db, err := store.Open("mysql://user:password@127.0.0.1:1/none")
	require.NoError(t, err)
	s, _ := open(db)
	require.ErrorIs(t, s.Put(t.Context(), []rejected.Rejection{{Stage: "fairness"}}), fault.Unavailable)
	_, err = s.Get(t.Context(), "x")
	require.ErrorIs(t, err, fault.Unavailable)
	_, _, err = s.List(t.Context(), rejected.Filter{})
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = s.MarkReleased(t.Context(), "x", "events", "k")
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, s.MarkBatchReleased(t.Context(), []rejected.Rejection{{Stage: "redrive", MessageID: "m"}}, "events", "k"), fault.Unavailable)
}

func TestAReleaseIsMarkedOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, pass := open(db)
		r := rejected.Rejection{Stage: "fairness", MessageID: "p.e", PlayerID: "p", EventID: "e", Code: fault.ImpossibleValue, Body: []byte("as it came")}
		other := rejected.Rejection{Stage: "fairness", MessageID: "p.f"}
		require.NoError(t, s.Put(t.Context(), []rejected.Rejection{r, other}))
		list, _, err := s.List(t.Context(), rejected.Filter{Limit: 10})
		require.NoError(t, err)
		var id string
		for _, listed := range list {
			require.Zero(t, listed.Release, "nobody released it")
			if listed.MessageID == r.MessageID {
				id = listed.ID
			}
		}

		by := strings.Repeat("k", 64)       // the longest id of a key
		queue := strings.Repeat("q/", 130)  // and of a queue
		pass(time.Minute + time.Nanosecond) // kept in milliseconds
		marked, err := s.MarkReleased(t.Context(), id, queue, by)
		require.NoError(t, err)
		want := rejected.Release{Queue: queue, At: noon().Add(time.Minute), By: by}
		require.Equal(t, want, marked.Release)
		require.Equal(t, "as it came", string(marked.Body))

		pass(time.Minute)
		marked, err = s.MarkReleased(t.Context(), id, "elsewhere", "somebody else")
		require.NoError(t, err)
		require.Equal(t, want, marked.Release, "the first mark stays")

		require.NoError(t, s.Put(t.Context(), []rejected.Rejection{r, other}))
		got, err := s.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, got.Release, "rejecting it again does not undo it")
		require.Equal(t, 2, got.Times)
		require.Equal(t, noon().Add(2*time.Minute), got.LastAt)
		list, _, err = s.List(t.Context(), rejected.Filter{Limit: 10})
		require.NoError(t, err)
		require.Len(t, list, 2)
		for _, listed := range list {
			if listed.ID == id {
				require.Equal(t, want, listed.Release)
			} else {
				require.Zero(t, listed.Release)
			}
		}

		_, err = s.MarkReleased(t.Context(), "nothing", "events", "k")
		require.ErrorIs(t, err, fault.RejectedNotFound)
		var marks int
		require.NoError(t, db.Each(t.Context(), "SELECT COUNT(*) FROM rejected_release", nil, func(scan func(...any) error) error { return scan(&marks) }))
		require.Equal(t, 1, marks)
	})
}

func TestABatchIsMarkedOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, pass := open(db)
		batch := make([]rejected.Rejection, 300)
		for i := range batch {
			queue := []string{"events", "progression"}[i%2]
			batch[i] = rejected.Rejection{Stage: "redrive", Queue: queue, MessageID: fmt.Sprint(i / 2), Detail: queue}
		}
		batch = append(batch, batch[0], rejected.Rejection{Stage: "redrive", Queue: "events", Body: []byte("no id")})
		kept := append(slices.Clone(batch), rejected.Rejection{Stage: "redrive", Queue: "others", MessageID: "1", Detail: "others"})
		require.NoError(t, s.Put(t.Context(), kept))
		require.NoError(t, s.MarkBatchReleased(t.Context(), nil, "nowhere", "redrive"))
		require.NoError(t, s.MarkBatchReleased(t.Context(), batch, "back", "redrive"))
		pass(time.Minute)
		require.NoError(t, s.MarkBatchReleased(t.Context(), batch, "elsewhere", "operator"))

		released, _, err := s.List(t.Context(), rejected.Filter{Limit: 1000, State: rejected.Released})
		require.NoError(t, err)
		require.Len(t, released, 301)
		for _, r := range released {
			require.Equal(t, rejected.Release{Queue: "back", At: noon(), By: "redrive"}, r.Release, "the first mark stays")
		}
		open, _, err := s.List(t.Context(), rejected.Filter{Limit: 10, State: rejected.Open})
		require.NoError(t, err)
		require.Len(t, open, 1)
		require.Equal(t, "others", open[0].Detail)
	})
}

func TestConcurrentReleasesAgree(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, _ := open(db)
		require.NoError(t, s.Put(t.Context(), []rejected.Rejection{{Stage: "fairness", MessageID: "m"}}))
		list, _, err := s.List(t.Context(), rejected.Filter{Limit: 1})
		require.NoError(t, err)
		const operators = 8
		marked, failures := make([]rejected.Rejection, operators), make([]error, operators)
		var wg sync.WaitGroup
		for n := range operators {
			wg.Go(func() { marked[n], failures[n] = s.MarkReleased(t.Context(), list[0].ID, "events", fmt.Sprint("k", n)) })
		}
		wg.Wait()
		for n := range operators {
			require.NoError(t, failures[n])
			require.Equal(t, marked[0].Release, marked[n].Release)
		}
		require.Equal(t, noon(), marked[0].Release.At)
	})
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		s, pass := open(db)
		stages := []string{"fairness", "redrive"}
		for i := range 12 {
			if i%5 == 0 {
				pass(time.Second) // several share an instant
			}
			require.NoError(t, s.Put(t.Context(), []rejected.Rejection{{Stage: stages[i%2], MessageID: fmt.Sprint(i)}}))
		}
		all, _, err := s.List(t.Context(), rejected.Filter{Limit: 100})
		require.NoError(t, err)
		require.Len(t, all, 12)
		for i, r := range all {
			if i%3 == 0 {
				_, err := s.MarkReleased(t.Context(), r.ID, "events", "k")
				require.NoError(t, err)
			}
		}
		for _, state := range []rejected.State{"", rejected.Open, rejected.Released} {
			for _, stage := range []string{"", "fairness", "redrive", "progression"} {
				var want, got []string
				for i, r := range all {
					released := i%3 == 0
					if (stage == "" || r.Stage == stage) && (state == "" || released == (state == rejected.Released)) {
						want = append(want, r.MessageID)
					}
				}
				for after := ""; ; { // page by page, so that the cursor and the filter are seen together
					list, next, err := s.List(t.Context(), rejected.Filter{Stage: stage, State: state, Limit: 2, After: after})
					require.NoError(t, err)
					for _, r := range list {
						got = append(got, r.MessageID)
					}
					if after = next; next == "" {
						break
					}
				}
				require.Equal(t, want, got, "%s %s", state, stage)
			}
		}
	})
}
