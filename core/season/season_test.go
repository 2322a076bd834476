package season_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/season"
	"liveops/core/store"
)

// clock is a time that only moves when a test says so.
type clock struct {
	mutex sync.Mutex
	now   time.Time
}

func (c *clock) Now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.now
}

func (c *clock) Set(t testing.TB, text string) {
	t.Helper()
	at := utc(t, text)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.now = at
}

func (c *clock) Add(d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.now = c.now.Add(d)
}

// finals are standings from memory: those of a window, or else Default. before, when set, runs ahead of the standing with
// that rank, and once more with 0 behind the last one.
type finals struct {
	Default    []season.Standing
	Of         map[string][]season.Standing
	mismatches *int64
	before     func(board string, rank int64) error
	forget     func(board, window string) (left bool, err error)
}

func (f finals) Forget(_ context.Context, board, window string) (bool, error) {
	if f.forget == nil {
		return false, nil
	}
	return f.forget(board, window)
}

func (f finals) EachStanding(_ context.Context, _ store.Queries, board, window string, each func(season.Standing) error) (*int64, error) {
	standings, ok := f.Of[board+"/"+window]
	if !ok {
		standings = f.Default
	}
	for _, s := range append(standings[:len(standings):len(standings)], season.Standing{}) {
		if f.before != nil {
			if err := f.before(board, s.Rank); err != nil {
				return nil, err
			}
		}
		if s.Rank == 0 {
			break
		}
		if err := each(s); err != nil {
			return nil, err
		}
	}
	return f.mismatches, nil
}

var _ season.Standings = finals{}

// granted is rewards that are remembered. A place that is granted again must be the same, and places come in order.
type granted struct {
	mutex  sync.Mutex
	wins   map[string][]season.Win // by board and window, in order of rank
	calls  int
	before func(h season.Header, rank int64) error
}

func (g *granted) Grant(_ context.Context, h season.Header, wins []season.Win) error {
	if g.before != nil {
		if err := g.before(h, wins[0].Rank); err != nil {
			return err
		}
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.wins == nil {
		g.wins = map[string][]season.Win{}
	}
	g.calls++
	window := h.Board + "/" + h.ID
	for _, win := range wins {
		known := g.wins[window]
		switch {
		case win.Rank > int64(len(known)+1) || h.State != season.Archived:
			return fmt.Errorf("rank %d of %s comes after rank %d, in state %s", win.Rank, window, len(known), h.State)
		case win.Rank == int64(len(known)+1):
			g.wins[window] = append(known, win)
		case !reflect.DeepEqual(known[win.Rank-1], win):
			return fmt.Errorf("rank %d of %s was granted otherwise", win.Rank, window)
		}
	}
	return nil
}

func (g *granted) of(board, window string) []season.Win {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.wins[board+"/"+window]
}

var secret = bytes.Repeat([]byte("s"), 32)

func sealer(t testing.TB, secret []byte, retired ...[]byte) *season.Sealer {
	t.Helper()
	var keys []season.Key
	for _, r := range retired {
		keys = append(keys, season.Key{Secret: r})
	}
	s, err := season.NewSealer(season.Key{Secret: secret}, keys...)
	require.NoError(t, err)
	return s
}

// ranked makes n standings in which every third shares its score with the two behind it.
func ranked(n int) []season.Standing {
	start := time.Date(2022, 11, 22, 10, 0, 0, 0, time.UTC)
	standings := make([]season.Standing, n)
	for i := range standings {
		standings[i] = season.Standing{
			Rank: int64(i + 1), TiedRank: int64(i/3*3 + 1), Player: fmt.Sprintf("player-%05d", (i*7919)%100_003), Score: int64(1_000_000 - i/3*10),
			AchievedAt: start.Add(time.Duration(i) * time.Millisecond), EventID: fmt.Sprintf("event-%d", i),
		}
		if i%2 == 1 {
			standings[i].Metadata = fmt.Sprintf(`{"hero":"h%d"}`, i)
		}
	}
	return standings
}

// windows have a catalog of no boards until one is set.
func windows(t testing.TB, db *store.DB, c *clock, standings season.Standings) *season.Windows {
	t.Helper()
	none := game(nil)
	return &season.Windows{
		DB: db, Now: c.Now, Grace: func() time.Duration { return 10 * time.Minute }, Catalog: func() *catalog.Catalog { return none },
		Standings: standings, Rewards: &granted{}, Sealer: sealer(t, secret), Owner: "test", Lease: time.Minute, Chunk: 2,
	}
}

func game(boards map[string]catalog.Board, seasons ...catalog.Season) *catalog.Catalog {
	return &catalog.Catalog{Version: 7, Boards: boards, Seasons: seasons}
}

func daily(names ...string) *catalog.Catalog {
	boards := map[string]catalog.Board{}
	for _, name := range names {
		boards[name] = catalog.Board{Zone: "UTC", Windows: []string{season.Daily}}
	}
	return game(boards)
}

func materialise(t testing.TB, w *season.Windows, c *catalog.Catalog, want int) {
	t.Helper()
	added, err := w.Materialise(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, want, added)
}

func sweep(t testing.TB, w *season.Windows, want season.Report) {
	t.Helper()
	got, err := w.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, counts(t, got))
}

// counts is a report without its list, which must be as long as it says.
func counts(t testing.TB, r season.Report) season.Report {
	t.Helper()
	require.Subset(t, []season.State{season.Archived, season.Rewarded, season.Purged}, states(r.Done))
	require.Len(t, r.Done, max(r.Archived, r.Rewarded))
	r.Done = nil
	return r
}

func state(t testing.TB, w *season.Windows, board, id string) season.State {
	t.Helper()
	window, err := w.Get(t.Context(), board, id)
	require.NoError(t, err)
	return window.State
}

func states(windows []season.Window) []season.State {
	states := []season.State{}
	for _, w := range windows {
		states = append(states, w.State)
	}
	return states
}

func ids(windows []season.Window) []string {
	var ids []string
	for _, w := range windows {
		ids = append(ids, w.ID)
	}
	return ids
}

// archived reads a whole archive.
func archived(t testing.TB, w *season.Windows, board, id string) (season.Header, []season.Standing) {
	t.Helper()
	header, err := w.Archive(t.Context(), board, id)
	require.NoError(t, err)
	var all []season.Standing
	for {
		page, err := w.Page(t.Context(), board, id, int64(len(all)), 777)
		require.NoError(t, err)
		all = append(all, page...)
		if len(page) < 777 {
			return header, all
		}
	}
}

// dying runs fn where fn may end its goroutine, as a killed process would: nothing behind that point happens.
func dying(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

func die() { runtime.Goexit() }
