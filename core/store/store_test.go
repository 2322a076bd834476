package store_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// counters has a row of its own for each name.
func counters(t *testing.T, db *store.DB, names ...string) {
	t.Helper()
	_, err := db.Exec(t.Context(), `CREATE TABLE counter (name VARCHAR(64) NOT NULL PRIMARY KEY, n BIGINT NOT NULL, note VARCHAR(64) NOT NULL)
		/*! ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin */`)
	require.NoError(t, err)
	for _, name := range names {
		_, err = db.Exec(t.Context(), "INSERT INTO counter VALUES (?, 0, '')", name)
		require.NoError(t, err)
	}
}

func count(t *testing.T, db *store.DB, name string) int64 {
	t.Helper()
	var n int64
	require.NoError(t, db.Row(t.Context(), "SELECT n FROM counter WHERE name = ?", []any{name}, &n))
	return n
}

func add(ctx context.Context, q store.Queries, name string) error {
	_, err := q.Exec(ctx, "UPDATE counter SET n = n + 1 WHERE name = ?", name)
	return err
}

func TestTxCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db, "a")
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error { return add(t.Context(), tx.Queries, "a") }))
		require.EqualValues(t, 1, count(t, db, "a"))

		stop := errors.New("changed my mind")
		err := db.Tx(t.Context(), func(tx *store.Tx) error {
			require.NoError(t, add(t.Context(), tx.Queries, "a"))
			return stop
		})
		require.Equal(t, stop, err, "not the database's error, so not its fault")
		require.EqualValues(t, 1, count(t, db, "a"))

		require.PanicsWithValue(t, "oh", func() {
			_ = db.Tx(t.Context(), func(tx *store.Tx) error {
				require.NoError(t, add(t.Context(), tx.Queries, "a"))
				panic("oh")
			})
		})
		require.EqualValues(t, 1, count(t, db, "a"), "and nothing is left locked")
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error { return add(t.Context(), tx.Queries, "a") }))
	})
}

func TestASnapshotSeesOneMoment(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db, "a")
		n := func(q store.Queries) (n int64) {
			require.NoError(t, q.Row(t.Context(), "SELECT n FROM counter WHERE name = 'a'", nil, &n))
			return n
		}
		require.NoError(t, db.Snapshot(t.Context(), func(q store.Queries) error {
			require.EqualValues(t, 0, n(q))
			require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error { return add(t.Context(), tx.Queries, "a") }), "nobody waits for a reader")
			require.EqualValues(t, 1, n(db.Queries))
			require.EqualValues(t, 0, n(q), "its moment has not passed")
			return nil
		}))
		stop := errors.New("seen enough")
		require.Equal(t, stop, db.Snapshot(t.Context(), func(store.Queries) error { return stop }))
		if db.Dialect == store.MySQL {
			require.Error(t, db.Snapshot(t.Context(), func(q store.Queries) error { return add(t.Context(), q, "a") }), "it only reads")
		}
	})
}

func TestTxPassesFaultsOn(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		runs := 0
		want := fault.StackFull.Errorf("no room")
		err := db.Tx(t.Context(), func(*store.Tx) error {
			runs++
			return want
		})
		require.Same(t, want, err)
		require.Equal(t, 1, runs)
	})
}

func TestReadModifyWriteLosesNothing(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db, "a")
		const workers, each = 8, 10
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					err := db.Tx(t.Context(), func(tx *store.Tx) error {
						var n int64
						query := "SELECT n FROM counter WHERE name = ?" + tx.Dialect.ForUpdate()
						if err := tx.Row(t.Context(), query, []any{"a"}, &n); err != nil {
							return err
						}
						_, err := tx.Exec(t.Context(), "UPDATE counter SET n = ? WHERE name = ?", n+1, "a")
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, workers*each, count(t, db, "a"))
	})
}

// TestDeadlockIsRunAgain has two transactions lock the same two rows in opposite order, each waiting for the other to hold
// its first. SQLite's transactions exclude each other and cannot.
func TestDeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	storetest.EachSQLURL(t, func(t *testing.T, url string) {
		registry := prometheus.NewRegistry()
		db := opened(t, url, store.Options{Registerer: registry})
		if db.Dialect == store.SQLite {
			t.Skip("no deadlocks here")
		}
		counters(t, db, "a", "b")
		var both, wg sync.WaitGroup
		both.Add(2)
		var mu sync.Mutex
		runs := 0
		for _, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
			wg.Go(func() {
				first := true
				err := db.Tx(t.Context(), func(tx *store.Tx) error {
					mu.Lock()
					runs++
					mu.Unlock()
					if err := add(t.Context(), tx.Queries, names[0]); err != nil {
						return err
					}
					if first {
						first = false
						both.Done()
						both.Wait()
					}
					return add(t.Context(), tx.Queries, names[1])
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 3, runs, "one of the two was broken off, once")
		require.Equal(t, map[string]int{"deadlock": 1, "lock_wait": 0}, retries(t, registry))
		require.EqualValues(t, 2, count(t, db, "a"))
		require.EqualValues(t, 2, count(t, db, "b"))
	})
}

func TestTxGivesUp(t *testing.T) {
	t.Parallel()
	deadlock := &mysql.MySQLError{Number: 1213, Message: "Deadlock found"}
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		runs := 0
		err := db.Tx(t.Context(), func(*store.Tx) error {
			runs++
			return deadlock
		})
		require.ErrorIs(t, err, fault.DatabaseUnavailable)
		require.ErrorIs(t, err, deadlock)
		require.Equal(t, 8, runs)

		ctx, cancel := context.WithCancel(t.Context())
		runs = 0
		err = db.Tx(ctx, func(*store.Tx) error {
			runs++
			cancel()
			return deadlock
		})
		require.ErrorIs(t, err, fault.Unavailable)
		require.Equal(t, 1, runs)
	})
}

func TestRowAndEach(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db, "a", "A", "b", "é")
		var n int64
		require.Equal(t, sql.ErrNoRows, db.Row(t.Context(), "SELECT n FROM counter WHERE name = ?", []any{"nobody"}, &n))
		found, err := db.Exec(t.Context(), "UPDATE counter SET n = n WHERE name IN ('a', 'b', 'x')")
		require.NoError(t, err)
		require.EqualValues(t, 2, found, "rows found, changed or not")

		var names []string
		err = db.Each(t.Context(), "SELECT name FROM counter ORDER BY name", nil, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			names = append(names, name)
			return err
		})
		require.NoError(t, err)
		require.Equal(t, []string{"A", "a", "b", "é"}, names, "ids differ and sort byte by byte")

		stop := errors.New("enough")
		seen := 0
		err = db.Each(t.Context(), "SELECT name FROM counter", nil, func(func(...any) error) error {
			seen++
			return stop
		})
		require.Equal(t, stop, err)
		require.Equal(t, 1, seen)
	})
}

func TestAStatementThatIsRefusedIsOurMistake(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		counters(t, db, "a")
		for _, statement := range []string{"SELECT nothing", "INSERT INTO counter VALUES ('a', 1, '')", "DELETE FROM no_such_table", "no SQL"} {
			_, err := db.Exec(t.Context(), statement)
			require.Error(t, err, statement)
			require.Equal(t, fault.Internal, fault.KindOf(err), statement)
		}
		err := db.Row(t.Context(), "SELECT nothing", nil)
		require.Error(t, err)
		require.Equal(t, fault.Internal, fault.KindOf(err))
	})
}

// everything asks a database in every way there is.
func everything(ctx context.Context, db *store.DB) map[string]error {
	var n int
	_, exec := db.Exec(ctx, "DELETE FROM player")
	_, migrate := db.Migrate(ctx)
	_, pending := db.Pending(ctx)
	return map[string]error{
		"exec": exec, "migrate": migrate, "pending": pending, "ping": db.Ping(ctx),
		"row":  db.Row(ctx, "SELECT 1", nil, &n),
		"each": db.Each(ctx, "SELECT 1", nil, func(func(...any) error) error { return nil }),
		"tx":   db.Tx(ctx, func(*store.Tx) error { return nil }),
	}
}

func TestAClosedDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Close())
		for how, err := range everything(t.Context(), db) {
			require.ErrorIs(t, err, fault.DatabaseUnavailable, how)
		}
	})
}

func TestADatabaseOutOfReachIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"nobody listens": "mysql://root:secret@127.0.0.1:1/liveops",
		"no socket":      "mysql://root:secret@localhost/liveops?socket=/no/such/socket",
		"no directory":   "sqlite:" + filepath.Join(t.TempDir(), "no", "such", "directory", "test.db"),
	} {
		db, err := store.Open(url)
		require.NoError(t, err, "it connects when first used")
		for how, err := range everything(t.Context(), db) {
			require.ErrorIs(t, err, fault.DatabaseUnavailable, "%s: %s", name, how)
			require.NotContains(t, err.Error(), "secret")
		}
		require.NoError(t, db.Close())
	}
}

func TestALostConnectionIsUnavailableAndReplaced(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		if db.Dialect == store.SQLite {
			t.Skip("no connection to lose")
		}
		counters(t, db, "a")
		err := db.Tx(t.Context(), func(tx *store.Tx) error {
			var id int64
			if err := tx.Row(t.Context(), "SELECT CONNECTION_ID()", nil, &id); err != nil {
				return err
			}
			if _, err := db.Exec(t.Context(), "KILL ?", id); err != nil {
				return err
			}
			return add(t.Context(), tx.Queries, "a")
		})
		require.ErrorIs(t, err, fault.DatabaseUnavailable)
		require.Zero(t, count(t, db, "a"))
		require.NoError(t, db.Tx(t.Context(), func(tx *store.Tx) error { return add(t.Context(), tx.Queries, "a") }))
		require.EqualValues(t, 1, count(t, db, "a"))
	})
}

func TestADeadlineEndsAWait(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		if db.Dialect == store.SQLite {
			t.Skip("nothing to wait for")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		var n int
		err := db.Row(ctx, "SELECT SLEEP(60)", nil, &n)
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                              "neither mysql nor sqlite",
		"postgres://u:secret@h/db":      "neither mysql nor sqlite",
		"mysql://u:secret@host:port/db": "not a URL",
		"mysql://u:sec%zzret@host/db":   "not a URL",
	} {
		_, err := store.Open(url)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "sec")
	}
}
