package fairness

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// eachStates runs a test on everything that keeps states.
func eachStates(t *testing.T, test func(t *testing.T, states States)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, NewMemory())
	})
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) { test(t, RedisStates{rdb}) })
}

// state is a state with a mark.
func state(salt string, saves byte, text string) []byte {
	return append(append([]byte(salt), 0, 0, 0, saves), text...)
}

func TestStates(t *testing.T) {
	t.Parallel()
	eachStates(t, func(t *testing.T, states States) {
		load := func(players ...string) []string {
			got, err := states.Load(t.Context(), players)
			require.NoError(t, err)
			texts := make([]string, len(got))
			for i, text := range got {
				texts[i] = string(text)
			}
			return texts
		}
		save := func(changes ...Change) []bool {
			saved, err := states.Save(t.Context(), changes)
			require.NoError(t, err)
			return saved
		}
		require.Equal(t, []string{"", ""}, load("p", "q"))
		one, two, other := state("saltsalt", 1, "one"), state("saltsalt", 2, "two"), state("pepperpe", 1, "other")
		require.Equal(t, []bool{true}, save(Change{"p", nil, one}))
		require.Equal(t, []bool{false, true}, save(Change{"p", nil, other}, Change{"q", nil, other}), "somebody was first")
		require.Equal(t, []string{string(other), string(one), ""}, load("q", "p", "r"))
		require.Equal(t, []bool{true}, save(Change{"p", one, two}))
		require.Equal(t, []bool{false}, save(Change{"p", one, other}), "read before somebody else saved")
		require.Equal(t, []bool{false}, save(Change{"r", one, two}), "lost since it was read")
		require.Equal(t, []string{string(two), ""}, load("p", "r"))
		require.Empty(t, save())
		require.Empty(t, load())

		many := make([]Change, 1000)
		for i := range many {
			many[i] = Change{Player: "many-" + strconv.Itoa(i), After: state("saltsalt", 1, strconv.Itoa(i))}
		}
		for _, saved := range save(many...) {
			require.True(t, saved)
		}
		require.Equal(t, []string{string(many[999].After), string(many[0].After)}, load("many-999", "many-0"))
	})
}

// The client library sends a command again when its answer is lost.
func TestSavingTwiceIsSavingOnce(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		states := RedisStates{rdb}
		change := []Change{{"p", nil, state("saltsalt", 1, "one")}}
		for range 2 {
			saved, err := states.Save(t.Context(), change)
			require.NoError(t, err)
			require.Equal(t, []bool{true}, saved)
		}
		ttl, err := rdb.PTTL(t.Context(), keyOf("p")).Result()
		require.NoError(t, err)
		require.InDelta(t, retention, ttl, float64(time.Minute))
	})
}

// eachBaselines runs a test on everything that keeps baselines; again gives another replica's view of the same.
func eachBaselines(t *testing.T, test func(t *testing.T, baselines, again Baselines)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		memory := NewMemory()
		test(t, memory, memory)
	})
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		test(t, StoredBaselines{rdb, db}, StoredBaselines{rdb, db})
	})
}

func TestBaselines(t *testing.T) {
	t.Parallel()
	eachBaselines(t, func(t *testing.T, baselines, again Baselines) {
		rating, points := Past{"#rating", 1440, 1440}, Past{"#points", 1440, 1440}
		require.NoError(t, baselines.Count(t.Context(), map[Past]Histogram{rating: {-3: 1, 730: 2}, points: {0: 5}}))
		require.NoError(t, again.Count(t.Context(), map[Past]Histogram{rating: {730: 1}}))
		require.NoError(t, again.Count(t.Context(), nil))
		ended, err := again.Ended(t.Context(), []Past{rating, {"#rating", 0, 1440}, {"#rating", 1440, 60}})
		require.NoError(t, err)
		require.Equal(t, Histogram{-3: 1, 730: 3}, ended[rating])
		require.Empty(t, ended[Past{"#rating", 0, 1440}])
		require.Len(t, ended, 3)

		require.NoError(t, baselines.Count(t.Context(), map[Past]Histogram{rating: {730: 100}, points: {0: 1}, {"#rating", 0, 1440}: {1: 1}}))
		late, err := baselines.Ended(t.Context(), []Past{points, rating, {"#rating", 0, 1440}})
		require.NoError(t, err)
		require.Equal(t, ended[rating], late[rating], "what ended stays as it ended")
		require.Equal(t, Histogram{0: 6}, late[points])
		require.Empty(t, late[Past{"#rating", 0, 1440}])
		none, err := baselines.Ended(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, none)
	})
}

// Replicas that end the same periods at once agree on how they ended.
func TestReplicasEndAPeriodAlike(t *testing.T) {
	t.Parallel()
	eachBaselines(t, func(t *testing.T, baselines, again Baselines) {
		pasts := make([]Past, 28)
		for i := range pasts {
			pasts[i] = Past{"#rating", int64(i) * 1440, 1440}
			require.NoError(t, baselines.Count(t.Context(), map[Past]Histogram{pasts[i]: {i: 1}}))
		}
		var wg sync.WaitGroup
		results, failures := make([]map[Past]Histogram, 4), make([]error, 4)
		for n := range results {
			wg.Go(func() {
				if failures[n] = again.Count(t.Context(), map[Past]Histogram{pasts[n]: {n: 1}}); failures[n] == nil {
					results[n], failures[n] = again.Ended(t.Context(), pasts)
				}
			})
		}
		wg.Wait()
		for n := range results {
			require.NoError(t, failures[n])
			require.Equal(t, results[0], results[n])
		}
		require.Len(t, results[0], len(pasts))
	})
}

// What ended survives the loss of Redis, what runs does not.
func TestBaselinesWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	baselines := StoredBaselines{rdb, storetest.SQLite(t)}
	yesterday, today := Past{"#rating", 0, 1440}, Past{"#rating", 1440, 1440}
	require.NoError(t, baselines.Count(t.Context(), map[Past]Histogram{yesterday: {1: 1}, today: {2: 1}}))
	_, err := baselines.Ended(t.Context(), []Past{yesterday})
	require.NoError(t, err)
	require.False(t, server.Exists(yesterday.key()), "its row holds it")
	server.FlushAll()
	ended, err := baselines.Ended(t.Context(), []Past{yesterday, today})
	require.NoError(t, err)
	require.Equal(t, Histogram{1: 1}, ended[yesterday])
	require.Empty(t, ended[today])
}

// crowded is a game with a short baseline, of which 10 players are enough.
func crowded() *catalog.Catalog {
	c := game()
	c.Fairness.Rules["population"] = catalog.Rule{Mode: "enforce", Verdict: "flag", Points: 1, Limit: 3.5, After: 10}
	return c
}

func TestThePopulationOfDaysBefore(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		c := crowded()
		ladder := func() *Ladder {
			return &Ladder{States: RedisStates{rdb}, Baselines: StoredBaselines{rdb, db}, Catalog: func() *catalog.Catalog { return c }, Now: noon}
		}
		day := func(d, players int) (events []event.Accepted) {
			for i := range players {
				for game := range 3 { // of which the first and the second have a say
					e := score(fmt.Sprint("d", d, "-", game), noon().AddDate(0, 0, d).Add(time.Duration(game)*time.Minute), "free", float64(1000+10*i))
					e.PlayerID = fmt.Sprint("player", i)
					events = append(events, e)
				}
			}
			return events
		}
		cheat := func(d int) event.Accepted {
			return score(fmt.Sprint("cheat", d), noon().AddDate(0, 0, d), "free", 50_000)
		}
		// A batch may span the days that it is judged by.
		batch := append(append(day(0, 9), cheat(0), cheat(1)), day(1, 9)...)
		batch = append(batch, cheat(2))
		got, err := ladder().Judge(t.Context(), batch)
		require.NoError(t, err)
		flags := map[string]Finding{}
		for _, d := range got {
			if d.Verdict != Allow {
				flags[d.EventID] = d.Evidence[0]
			}
		}
		require.Len(t, flags, 2)
		require.Equal(t, int64(19), flags["cheat1"].Baseline, "the cheat has a say too")
		require.Equal(t, int64(19), flags["cheat2"].Baseline, "the day before is enough")
		require.Equal(t, "population", flags["cheat2"].Rule)

		got, err = ladder().Judge(t.Context(), []event.Accepted{cheat(3), cheat(2), cheat(30)})
		require.NoError(t, err)
		require.Equal(t, "flag flag allow", verdicts(got), "after three days nobody is compared with what was then")
		require.Equal(t, flags["cheat2"], got[1].Evidence[0], "a restart changes nothing")
		again, err := ladder().Judge(t.Context(), batch)
		require.NoError(t, err)
		for _, d := range again {
			if d.Verdict != Allow {
				require.Equal(t, flags[d.EventID], d.Evidence[0])
			}
		}
	})
}

// However batches meet on several replicas, no two events count that are too close, and an event gets one decision.
func TestReplicasNeverLetTooMuchPass(t *testing.T) {
	t.Parallel()
	eachStates(t, func(t *testing.T, states States) {
		c := game()
		var mu sync.Mutex
		passed, decided := map[string][]time.Time{}, map[string]Decision{}
		var wg sync.WaitGroup
		failures := make([]error, 4)
		for n := range failures {
			l := &Ladder{States: states, Baselines: NewMemory(), Catalog: func() *catalog.Catalog { return c }, Now: noon}
			wg.Go(func() {
				for round := range 15 {
					var batch []event.Accepted
					for i := range 20 {
						e := xp(fmt.Sprintf("%d-%d-%d", n/2, round, i), noon().Add(time.Duration((round*7919+i*577+n/2*311)%30_000)*time.Millisecond), 1)
						e.PlayerID = fmt.Sprint("player", i%3)
						batch = append(batch, e)
					}
					got, err := l.Judge(context.WithoutCancel(t.Context()), batch)
					if err != nil {
						failures[n] = err
						return
					}
					mu.Lock()
					for i, d := range got {
						if before, known := decided[d.ID]; known {
							if fmt.Sprint(before) != fmt.Sprint(d) {
								failures[n] = fmt.Errorf("event %s was %v and is %v", d.EventID, before, d)
							}
							continue
						}
						decided[d.ID] = d
						if !d.Drops() {
							passed[d.PlayerID] = append(passed[d.PlayerID], batch[i].At)
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for _, err := range failures {
			require.NoError(t, err)
		}
		require.Len(t, passed, 3)
		for player, times := range passed {
			for i, a := range times {
				for _, b := range times[:i] {
					require.GreaterOrEqual(t, a.Sub(b).Abs(), 2*time.Second, player)
				}
			}
		}
	})
}

func someFeatures(r *rapid.T) *features {
	f := &features{
		hour: rapid.Int64Range(0, 1<<40).Draw(r, "hour"), lately: [2]int{rapid.IntRange(0, 512).Draw(r, "a"), rapid.IntRange(0, 512).Draw(r, "b")},
		judged: []byte{}, notable: []remembered{}, series: []series{},
	}
	copy(f.mark[:], rapid.SliceOfN(rapid.Byte(), len(f.mark), len(f.mark)).Draw(r, "mark"))
	number := func(name string) int64 { return rapid.Int64Range(-1<<53, 1<<53).Draw(r, name) }
	for i := range rapid.IntRange(0, 20).Draw(r, "judged") {
		d := f.digest(strconv.Itoa(i))
		f.judged = append(f.judged, d[:]...)
		if rapid.Bool().Draw(r, "notable") {
			f.notable = append(f.notable, remembered{
				digest: d, at: number("at"), version: rapid.IntRange(1, 1000).Draw(r, "version"),
				findings: []Finding{{Rule: "own-history", Observed: 6.125, Limit: 6, Text: rapid.String().Draw(r, "text")}},
			})
		}
	}
	for i := range rapid.IntRange(0, 5).Draw(r, "series") {
		s := series{subject: subject{rapid.Bool().Draw(r, "board"), fmt.Sprint("s", i)}}
		for range rapid.IntRange(0, 3).Draw(r, "n") {
			s.instants = append(s.instants, number("instant"))
			s.cells = append(s.cells, cell{number("from"), number("to"), number("points")})
		}
		if rapid.Bool().Draw(r, "rest") {
			s.habit = habit{rapid.Int64Range(1, 1000).Draw(r, "n"), rapid.Float32().Draw(r, "mean"), rapid.Float32().Draw(r, "variance")}
			s.rhythm = rhythm{number("last"), number("n"), rapid.Float32().Draw(r, "mean"), rapid.Float32().Draw(r, "away")}
			s.voted, s.scores, s.told, s.toldAt = rapid.Int64Range(1, 1<<40).Draw(r, "voted"), number("scores"), number("told"), 1
			if s.told == 0 {
				s.toldAt = 0
			}
		}
		f.series = append(f.series, s)
	}
	return f
}

func TestEncodedFeaturesAreReadAsTheyWere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		f := someFeatures(r)
		got, err := decode(f.encode())
		require.NoError(r, err)
		require.Equal(r, f.mark[:saltSize], got.mark[:saltSize])
		require.NotEqual(r, f.mark, got.mark)
		for i := range got.notable {
			known, again := got.recall(got.notable[i].digest)
			require.True(r, again)
			require.Equal(r, f.notable[i].findings, known.findings)
		}
		require.Equal(r, f.encode()[len(mark{}):], got.encode()[len(mark{}):])
		f.mark, f.notable, got.notable = got.mark, nil, nil
		require.Equal(r, f, got)
	})
	f, err := decode(nil)
	require.NoError(t, err)
	other, err := decode(nil)
	require.NoError(t, err)
	require.NotEqual(t, f.mark, other.mark)
	require.NotEqual(t, f.digest("e"), other.digest("e"), "nobody can know the digest of an event")
	for _, bad := range [][]byte{{1}, make([]byte, 13), append(f.encode(), 0), f.encode()[:20]} {
		_, err := decode(bad)
		require.ErrorIs(t, err, errState)
	}
}

func FuzzDecode(f *testing.F) {
	known := &features{}
	known.of(subject{true, "arena"}).gathered(1, 2)
	known.remember(remembered{findings: []Finding{{Rule: "own-history"}}}, noon())
	f.Add(known.encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := decode(text)
		if err != nil || len(text) == 0 {
			return
		}
		again, err := decode(got.encode())
		require.NoError(t, err)
		require.Equal(t, got.encode()[len(mark{}):], again.encode()[len(mark{}):])
	})
}
