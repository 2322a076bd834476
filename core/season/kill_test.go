package season_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// failing is a context that ends after it was looked at a number of times: at every point where anything asks it.
type failing struct {
	context.Context
	left atomic.Int64
	done chan struct{}
	once sync.Once
}

func failAfter(parent context.Context, looks int) *failing {
	f := &failing{Context: parent, done: make(chan struct{})}
	f.left.Store(int64(looks))
	return f
}

func (f *failing) Done() <-chan struct{} {
	if f.left.Add(-1) < 0 {
		f.once.Do(func() { close(f.done) })
	}
	return f.done
}

func (f *failing) Err() error {
	select {
	case <-f.done:
		return context.Canceled
	default:
		return nil
	}
}

// lives is two boards whose days are taken from open to the very end: keeps keeps its archives, purges a hall of fame of two.
// Their standings differ from day to day, and some days nobody plays. What winners were given and which entries are still
// there is remembered outside of the database, as other domains do.
type lives struct {
	db        *store.DB
	clock     *clock
	game      *catalog.Catalog
	rewards   *granted
	mutex     sync.Mutex
	forgotten map[string]int // times something of a window was forgotten
	days      []string
}

func newLives(t *testing.T, db *store.DB) *lives {
	t.Helper()
	l := &lives{db: db, clock: &clock{}, rewards: &granted{}, forgotten: map[string]int{}}
	tiers := map[string][]catalog.Tier{season.Daily: {{Rank: 1, XP: 100}, {Percent: 50, Items: map[string]int64{"gem": 1, "crown": 2}, Claim: true}}}
	l.game = game(map[string]catalog.Board{
		"keeps":  {Zone: "UTC", Windows: []string{season.Daily}, Rewards: tiers, HallOfFame: 2},
		"purges": {Zone: "UTC", Windows: []string{season.Daily}, Rewards: tiers, HallOfFame: 2, Retention: catalog.Duration(time.Hour)},
	})
	return l
}

// standings are those of a day.
func (l *lives) standings(id string) []season.Standing {
	day, _ := time.Parse(time.DateOnly, id)
	return ranked(day.YearDay() * 3 % 7)
}

func (l *lives) EachStanding(_ context.Context, _ store.Queries, board, window string, each func(season.Standing) error) (*int64, error) {
	l.mutex.Lock()
	gone := l.forgotten[board+"/"+window] > 0
	l.mutex.Unlock()
	if gone {
		return nil, errors.New("the entries are gone")
	}
	for _, s := range l.standings(window) {
		if err := each(s); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (l *lives) Forget(ctx context.Context, board, window string) (bool, error) {
	if err := l.db.Ping(ctx); err != nil { // whoever forgets looks at the context
		return false, err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.forgotten[board+"/"+window]++
	return l.forgotten[board+"/"+window] < 3, nil
}

func (l *lives) windows(t *testing.T, ahead time.Duration) *season.Windows {
	t.Helper()
	w := windows(t, l.db, l.clock, l)
	w.Now = func() time.Time { return l.clock.Now().Add(ahead) }
	w.Catalog, w.Rewards = func() *catalog.Catalog { return l.game }, l.rewards
	return w
}

// next lays out windows and lets a day end, so that all steps of it are due for both boards.
func (l *lives) next(t *testing.T) string {
	t.Helper()
	if len(l.days) == 0 {
		l.clock.Set(t, "2022-11-22T12:00:00Z")
	}
	_, err := l.windows(t, 0).Materialise(t.Context(), l.game)
	require.NoError(t, err)
	day := l.clock.Now().Format(time.DateOnly)
	l.days = append(l.days, day)
	at, err := time.Parse(time.DateOnly, day)
	require.NoError(t, err)
	l.clock.Set(t, at.Add(36*time.Hour).Format(time.RFC3339))
	return day
}

// check says whether a day is at its end as if nothing had ever gone wrong.
func (l *lives) check(t *testing.T, day string) {
	t.Helper()
	w, want := l.windows(t, 0), l.standings(day)
	header, all := archived(t, w, "keeps", day)
	require.Equal(t, want, append([]season.Standing{}, all...), day)
	require.Equal(t, season.Rewarded, header.State)
	verified(t, w, "keeps", day)

	header, err := w.Archive(t.Context(), "purges", day)
	require.NoError(t, err)
	require.EqualValues(t, len(want), header.Entries)
	require.Equal(t, season.Purged, header.State)
	kept := min(2, len(want))
	require.EqualValues(t, kept, header.Kept)
	all, err = w.Page(t.Context(), "purges", day, 0, 100)
	require.NoError(t, err)
	require.Equal(t, want[:kept], append([]season.Standing{}, all...))
	statement, err := season.VerifySeal(w.Sealer.PublicKeys(), header.Seal)
	require.NoError(t, err)
	for i, s := range want {
		proof, err := w.Proof(t.Context(), "purges", day, s.Player)
		if i >= kept {
			require.ErrorIs(t, err, fault.ArchivePurged)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, s, proof.Standing)
		require.NoError(t, season.VerifyRow(statement, proof.Row, proof.Path))
	}
	var rows, blocks int
	require.NoError(t, l.db.Row(t.Context(), "SELECT COUNT(*) FROM archive_entry WHERE board = 'purges' AND window_id = ?", []any{day}, &rows))
	require.NoError(t, l.db.Row(t.Context(), "SELECT COUNT(*) FROM archive_block WHERE board = 'purges' AND window_id = ?", []any{day}, &blocks))
	require.Equal(t, kept, rows)
	if kept < len(want) {
		require.Zero(t, blocks)
	}

	for _, board := range []string{"keeps", "purges"} {
		wins := l.rewards.of(board, day)
		require.Len(t, wins, (len(want)+1)/2, day)
		for i, win := range wins {
			number := min(i+1, 2)
			require.Equal(t, season.Win{Standing: want[i], Tier: l.game.Boards[board].Rewards[season.Daily][number-1], TierNumber: number}, win)
		}
		require.GreaterOrEqual(t, l.forgotten[board+"/"+day], 3)
	}
}

// chain checks the archives of a board from the first to the last, of which there is one for every day.
func (l *lives) chain(t *testing.T, board string) {
	t.Helper()
	w := l.windows(t, 0)
	list, err := w.Archives(t.Context(), board, season.Daily, 0, 10_000)
	require.NoError(t, err)
	require.Len(t, list, len(l.days))
	var seals []string
	for _, h := range slices.Backward(list) {
		seals = append(seals, h.Seal)
	}
	chain, err := season.VerifyChain(w.Sealer.PublicKeys(), seals)
	require.NoError(t, err)
	require.EqualValues(t, 1, chain[0].Sequence)
}

// TestSweepEndsAnywhereAndGoesOn ends a sweep at every point where it looks at its context, which is before, within and behind
// every statement and transaction: in turn so that it can give back its lease, and as if it had been killed.
func TestSweepEndsAnywhereAndGoesOn(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := newLives(t, db)
		w := l.windows(t, 0)
		step := 1
		if db.Dialect == store.SQLite { // it is slow under the race detector, and no transaction is looked at less than twice
			step = 2
		}
		for looks := 0; ; looks += step {
			require.Less(t, looks, 5000, "a sweep never got to its end")
			day := l.next(t)
			report, err := w.Sweep(failAfter(t.Context(), looks))
			whole := err == nil && report.Purged == 1
			if looks/step%2 == 1 {
				_, err := db.Exec(t.Context(), "UPDATE board_window SET lease_until = ? WHERE state IN ('frozen', 'archived', 'rewarded') AND window_id = ? AND fence > 0",
					l.clock.Now().Add(time.Minute).UnixMilli(), day)
				require.NoError(t, err)
			}
			l.clock.Add(time.Minute) // where the lease was not given back, it runs out
			report, err = w.Sweep(t.Context())
			require.NoError(t, err)
			require.Zero(t, report.Failed+report.Held)
			l.check(t, day)
			if whole {
				require.Zero(t, report.Archived+report.Rewarded+report.Purged)
				require.Greater(t, looks, 50)
				t.Logf("%d points", looks)
				break
			}
		}
		l.chain(t, "keeps")
		l.chain(t, "purges")
	})
}

// TestSweepKilledInAPort kills the process where it is inside of another domain, and looks that nothing happens before the lease
// has run out.
func TestSweepKilledInAPort(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := newLives(t, db)
		w := l.windows(t, 0)
		for rank := range int64(7) { // 0 is behind the last standing
			day := l.next(t)
			killed := l.windows(t, 0)
			killed.Standings = finals{Default: l.standings(day), before: func(_ string, at int64) error {
				if at == rank {
					die()
				}
				return nil
			}, forget: func(board, window string) (bool, error) { return l.Forget(t.Context(), board, window) }}
			l.killed(t, w, killed, day, season.Frozen)
		}
		for range 7 {
			day := l.next(t)
			killed := l.windows(t, 0)
			killed.Rewards = &granted{before: func(season.Header, int64) error { die(); return nil }}
			l.killed(t, w, killed, day, season.Archived)
		}
		for calls := range 3 {
			day := l.next(t)
			killed := l.windows(t, 0)
			forgets := 0
			killed.Standings = finals{Default: l.standings(day), forget: func(string, string) (bool, error) {
				if forgets++; forgets > calls {
					die()
				}
				return true, nil
			}}
			l.killed(t, w, killed, day, season.Archived)
		}
		l.chain(t, "keeps")
		l.chain(t, "purges")
	})
}

// killed runs a sweep that dies and another one behind it.
func (l *lives) killed(t *testing.T, w, killed *season.Windows, day string, at season.State) {
	t.Helper()
	dying(func() { _, _ = killed.Sweep(t.Context()) })
	if before := state(t, w, "keeps", day); before == at {
		if at == season.Frozen {
			_, err := w.Archive(t.Context(), "keeps", day)
			require.ErrorIs(t, err, fault.NotArchived)
		}
		l.clock.Add(time.Minute - time.Millisecond)
		report, err := w.Sweep(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, report.Held)
		l.clock.Add(time.Millisecond)
	}
	_, err := w.Sweep(t.Context())
	require.NoError(t, err)
	l.check(t, day)
}

// TestSweepersWithWrongClocks runs three sweepers at once, one of them ten minutes ahead and one ten minutes behind, lets them
// jump between sweeps, and cuts some of them anywhere. Days pass meanwhile, some of them while nobody sweeps.
func TestSweepersWithWrongClocks(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := newLives(t, db)
		for round := range 12 {
			l.next(t)
			if round%3 == 2 {
				continue // everything is down
			}
			var group sync.WaitGroup
			for i := range 3 {
				jump := time.Duration((i+round)%3-1) * 10 * time.Minute
				w := l.windows(t, jump)
				group.Go(func() {
					random := rand.New(rand.NewPCG(uint64(round), uint64(i)))
					for range 6 {
						_, _ = w.Sweep(failAfter(t.Context(), random.IntN(600)))
					}
				})
			}
			group.Wait()
		}
		l.clock.Add(time.Hour)
		_, err := l.windows(t, -10*time.Minute).Sweep(t.Context())
		require.NoError(t, err)
		for _, day := range l.days {
			l.check(t, day)
		}
		l.chain(t, "keeps")
		l.chain(t, "purges")
	})
}

// TestTwoArchivesOfOneBoardAtOnce lets sweepers archive many windows of one board side by side: none may name the same one as the
// one before.
func TestTwoArchivesOfOneBoardAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := newLives(t, db)
		for range 16 {
			l.next(t)
		}
		var group sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			w := l.windows(t, 0)
			group.Go(func() {
				for held := 1; held > 0 && errs[i] == nil; {
					var report season.Report
					report, errs[i] = w.Sweep(t.Context())
					held = report.Held
				}
			})
		}
		group.Wait()
		require.Equal(t, make([]error, 4), errs)
		for _, day := range l.days {
			l.check(t, day)
		}
		l.chain(t, "keeps")
		l.chain(t, "purges")
	})
}

func TestSweepRefusesWithoutItsPorts(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	for name, lack := range map[string]func(w *season.Windows){
		"catalog": func(w *season.Windows) { w.Catalog = nil }, "standings": func(w *season.Windows) { w.Standings = nil },
		"rewards": func(w *season.Windows) { w.Rewards = nil }, "sealer": func(w *season.Windows) { w.Sealer = nil },
	} {
		w := windows(t, db, &clock{}, finals{})
		lack(w)
		_, err := w.Sweep(t.Context())
		require.ErrorContains(t, err, "a sweep needs", name)
	}
}

// The tiers of an archive are those of the catalog it was made under, whatever the catalog says when they are granted.
func TestRewardsAreThoseOfTheArchive(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		l := newLives(t, db)
		day := l.next(t)
		w := l.windows(t, 0)
		down := errors.New("the ledger is down")
		l.rewards.before = func(h season.Header, rank int64) error {
			if rank == 1 {
				return nil
			}
			return down
		}
		report, err := w.Sweep(t.Context())
		require.ErrorIs(t, err, down)
		require.ErrorContains(t, err, "archived → rewarded: grant rewards from rank 3 on")
		require.NotZero(t, report.Archived)
		require.Equal(t, season.Archived, state(t, w, "keeps", day))

		l.rewards.before = nil
		before := l.game
		changed := *before
		changed.Version, changed.Boards = 8, map[string]catalog.Board{"purges": before.Boards["purges"]}
		l.game = &changed // keeps is gone
		_, err = w.Sweep(t.Context())
		require.NoError(t, err)
		l.game = before
		l.check(t, day)
		header, err := w.Archive(t.Context(), "keeps", day)
		require.NoError(t, err)
		require.Equal(t, 7, header.CatalogVersion)
		require.Equal(t, before.Boards["keeps"].Rewards[season.Daily], header.Tiers)
	})
}
