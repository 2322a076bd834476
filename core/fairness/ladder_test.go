package fairness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store/storetest"
)

// open gives a ladder that shares what it knows with others on the same Redis and memory.
func open(rdb *redis.Client, c *catalog.Catalog) *Ladder {
	return &Ladder{States: RedisStates{rdb}, Baselines: NewMemory(), Catalog: func() *catalog.Catalog { return c }, Now: noon}
}

// judgeEach judges each event in a batch of its own.
func judgeEach(t require.TestingT, l *Ladder, events []event.Accepted) []Decision {
	decisions := make([]Decision, len(events))
	for i := range events {
		got, err := l.Judge(context.Background(), events[i:i+1])
		require.NoError(t, err)
		decisions[i] = got[0]
	}
	return decisions
}

func verdicts(decisions []Decision) string {
	words := make([]string, len(decisions))
	for i, d := range decisions {
		words[i] = string(d.Verdict)
	}
	return strings.Join(words, " ")
}

func TestLimitsAtTheirBounds(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) time.Time { return noon().Add(d) }
	const ms, s, m = time.Millisecond, time.Second, time.Minute
	for name, test := range map[string]struct {
		events []event.Accepted
		want   string
	}{
		"interval kept exactly":       {[]event.Accepted{xp("a", at(0), 1), xp("b", at(2*s), 1)}, "allow allow"},
		"interval missed by 1 ms":     {[]event.Accepted{xp("a", at(0), 1), xp("b", at(2*s-ms), 1)}, "allow throttle"},
		"same instant":                {[]event.Accepted{xp("a", at(0), 1), xp("b", at(0), 1)}, "allow throttle"},
		"the throttled do not count":  {[]event.Accepted{xp("a", at(0), 1), xp("b", at(s), 1), xp("c", at(2*s), 1)}, "allow throttle allow"},
		"the denied do not count":     {[]event.Accepted{xp("a", at(0), 501), xp("b", at(0), 1)}, "deny allow"},
		"out of order, far enough":    {[]event.Accepted{xp("a", at(4*s), 1), xp("b", at(2*s), 1), xp("c", at(0), 1)}, "allow allow allow"},
		"out of order, too near":      {[]event.Accepted{xp("a", at(2*s), 1), xp("b", at(1*s), 1)}, "allow throttle"},
		"between two":                 {[]event.Accepted{xp("a", at(0), 1), xp("b", at(3*s), 1), xp("c", at(2*s), 1)}, "allow allow throttle"},
		"types do not mix":            {[]event.Accepted{xp("a", at(0), 1), happened("p", "b", event.BossKilled, at(0), nil)}, "allow allow"},
		"players do not mix":          {[]event.Accepted{xp("a", at(0), 1), happened("q", "a", event.XPGained, at(0), map[string]any{"amount": 1.0, "source": "match"})}, "allow allow"},
		"10 s: just the limit":        {[]event.Accepted{score("a", at(0), "arena", 60), score("b", at(s), "arena", 40)}, "allow allow"},
		"10 s: one more":              {[]event.Accepted{score("a", at(0), "arena", 60), score("b", at(s), "arena", 41)}, "allow deny"},
		"10 s: alone too much":        {[]event.Accepted{score("a", at(0), "arena", 101)}, "deny"},
		"10 s ago is out":             {[]event.Accepted{score("a", at(0), "arena", 100), score("b", at(10*s), "arena", 100)}, "allow allow"},
		"10 s ago less 1 ms is in":    {[]event.Accepted{score("a", at(0), "arena", 100), score("b", at(10*s-ms), "arena", 1)}, "allow deny"},
		"60 s: just the limit":        {[]event.Accepted{score("a", at(0), "arena", 100), score("b", at(20*s), "arena", 100), score("c", at(59*s), "arena", 100)}, "allow allow allow"},
		"60 s: one more":              {[]event.Accepted{score("a", at(0), "arena", 100), score("b", at(20*s), "arena", 100), score("c", at(40*s), "arena", 100), score("d", at(60*s-ms), "arena", 1)}, "allow allow allow deny"},
		"60 s ago is out":             {[]event.Accepted{score("a", at(0), "arena", 100), score("b", at(20*s), "arena", 100), score("c", at(40*s), "arena", 100), score("d", at(60*s), "arena", 100)}, "allow allow allow allow"},
		"1 h: just the limit":         {[]event.Accepted{score("a", at(0), "slow", 4), score("b", at(60*m-ms), "slow", 6)}, "allow allow"},
		"1 h: one more":               {[]event.Accepted{score("a", at(0), "slow", 4), score("b", at(60*m-ms), "slow", 7)}, "allow deny"},
		"1 h ago is out":              {[]event.Accepted{score("a", at(0), "slow", 10), score("b", at(60*m), "slow", 10)}, "allow allow"},
		"the denied score is no sum":  {[]event.Accepted{score("a", at(0), "slow", 11), score("b", at(s), "slow", 10)}, "deny allow"},
		"a loss makes no room":        {[]event.Accepted{score("a", at(0), "slow", -10), score("b", at(s), "slow", 11)}, "allow deny"},
		"boards do not mix":           {[]event.Accepted{score("a", at(0), "arena", 100), score("b", at(0), "slow", 10)}, "allow allow"},
		"later scores are no history": {[]event.Accepted{score("a", at(m), "slow", 10), score("b", at(0), "slow", 10)}, "allow allow"},
		"the same instant is history": {[]event.Accepted{score("a", at(0), "slow", 10), score("b", at(0), "slow", 1)}, "allow deny"},
		"a repeat gets what it got":   {[]event.Accepted{score("a", at(0), "slow", 10), score("b", at(0), "slow", 1), score("a", at(0), "slow", 10), score("b", at(0), "slow", 1)}, "allow deny allow deny"},
		"greatest numbers":            {[]event.Accepted{score("a", at(0), "huge", event.MaxInteger), score("b", at(s), "huge", 1)}, "allow deny"},
		"what the catalog lacks":      {[]event.Accepted{score("a", at(0), "none", 1e9), happened("p", "b", "none", at(0), nil)}, "allow allow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
				c := game()
				c.Boards["huge"] = catalog.Board{Velocity: catalog.Velocity{Per1h: event.MaxInteger}}
				got := judgeEach(t, open(rdb, c), test.events)
				require.Equal(t, test.want, verdicts(got))
				again, err := open(rdb, c).Judge(t.Context(), test.events)
				require.NoError(t, err)
				require.Equal(t, got, again)
			})
		})
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		l := open(rdb, game())
		batch := []event.Accepted{
			score("a", noon(), "arena", 90), xp("b", noon(), 1), xp("c", noon().Add(1500*time.Millisecond), 1),
			score("d", noon().Add(time.Second), "arena", 1001),
			happened("p", "e", event.XPGained, noon().Add(time.Minute), map[string]any{"amount": 3.0, "source": "\"\n<" + strings.Repeat("x", 100)}),
		}
		got, err := l.Judge(t.Context(), batch)
		require.NoError(t, err)
		require.Equal(t, "allow allow throttle deny deny", verdicts(got))
		require.Empty(t, got[0].Evidence)
		require.Empty(t, got[0].Rule)
		require.Zero(t, got[0].At)
		require.Equal(t, "p", got[2].PlayerID)
		require.Equal(t, "c", got[2].EventID)
		require.Equal(t, 7, got[2].CatalogVersion)
		require.Equal(t, []Finding{{Rule: "minimum-interval", Version: 1, Mode: "enforce", Verdict: Throttle, Measure: "interval_ms", Limit: 2000, Observed: 1500}}, got[2].Evidence)
		require.Equal(t, []Finding{
			{Rule: "impossible-value", Version: 1, Mode: "enforce", Verdict: Deny, Points: 5, Measure: "/data/score", Limit: 1000, Observed: 1001},
			{Rule: "score-velocity", Version: 2, Mode: "enforce", Verdict: Deny, Points: 5, Measure: "points", Window: 10_000, Limit: 100, Observed: 1091},
			{Rule: "score-velocity", Version: 2, Mode: "enforce", Verdict: Deny, Points: 5, Measure: "points", Window: 60_000, Limit: 300, Observed: 1091},
		}, got[3].Evidence)
		require.Equal(t, fault.ImpossibleValue, got[3].Code)
		require.Equal(t, noon(), got[3].At)
		require.Equal(t, "\"\n<"+strings.Repeat("x", 61), got[4].Evidence[0].Text)
		again, err := l.Judge(t.Context(), batch)
		require.NoError(t, err)
		require.Equal(t, got, again, "evidence is remembered as it was")
	})
}

func TestShadowChangesNothingAndOffAsksNothing(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		c := game()
		events := []event.Accepted{xp("a", noon(), 501), xp("b", noon().Add(time.Second), 1), score("c", noon(), "arena", 101)}
		c.Fairness.Rules["impossible-value"] = catalog.Rule{Mode: "shadow", Verdict: "deny"}
		c.Fairness.Rules["minimum-interval"] = catalog.Rule{Mode: "shadow", Verdict: "throttle"}
		c.Fairness.Rules["score-velocity"] = catalog.Rule{Mode: "enforce", Verdict: "flag"}
		got, err := open(rdb, c).Judge(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, "allow allow flag", verdicts(got))
		require.Equal(t, "impossible-value", got[0].Rule)
		require.Equal(t, "shadow", got[0].Mode)
		require.Equal(t, Deny, got[0].Evidence[0].Verdict)
		require.Equal(t, "minimum-interval", got[1].Rule, "the event in shadow counted for it")
		require.False(t, got[2].Drops())

		for name := range c.Fairness.Rules {
			if name != "regular-timing" {
				c.Fairness.Rules[name] = catalog.Rule{Mode: "off"}
			}
		}
		again, err := open(rdb, c).Judge(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, got, again, "a new catalog does not judge what was judged")

		c.Fairness.Rules["regular-timing"] = catalog.Rule{Mode: "off"}
		for i := range events {
			events[i].PlayerID = "q"
		}
		got, err = open(rdb, c).Judge(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, "allow allow allow", verdicts(got))
		require.Empty(t, got[0].Rule)
		n, err := rdb.Exists(t.Context(), keyOf("q")).Result()
		require.NoError(t, err)
		require.Zero(t, n, "nothing is kept for a ladder that is off")
	})
}

func keyOf(player string) string { return stateKey(tagOf(player), player) }

// stream is events of three players, out of order, some of them unfair.
func stream(t *rapid.T) []event.Accepted {
	n := rapid.IntRange(1, 40).Draw(t, "n")
	events := make([]event.Accepted, n)
	for i := range events {
		at := noon().Add(time.Duration(rapid.IntRange(0, 1199).Draw(t, "ds")) * 100 * time.Millisecond)
		id := fmt.Sprint("e", i)
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			events[i] = xp(id, at, float64(rapid.IntRange(490, 505).Draw(t, "amount")))
		case 1:
			events[i] = happened("", id, event.BossKilled, at, map[string]any{})
		default:
			events[i] = score(id, at, rapid.SampledFrom([]string{"arena", "slow", "free"}).Draw(t, "board"), float64(rapid.IntRange(-20, 60).Draw(t, "score")))
		}
		events[i].PlayerID = rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "player")
	}
	return events
}

// naive judges a stream as plainly as it can be written, and says how the sum of points may be taken: over the whole windows,
// or without what the ladder may have joined with points outside of them.
type naive struct {
	c       *catalog.Catalog
	counted []event.Accepted
}

func points(e event.Accepted) int64 { n, _ := e.Int("score"); return max(n, 0) }

func (n *naive) judge(e event.Accepted, known func(ago, window, late time.Duration) bool) Verdict {
	verdict := Allow
	every := time.Duration(n.c.Events[e.Type].Every)
	for _, o := range n.counted {
		if o.PlayerID == e.PlayerID && o.Type == e.Type && every > 0 && e.At.Sub(o.At).Abs() < every {
			verdict = Throttle
		}
	}
	if e.Type == event.ScoreSubmitted {
		v := n.c.Boards[e.Data["board"].(string)].Velocity
		for window, most := range map[time.Duration]int64{10 * time.Second: v.Per10s, time.Minute: v.Per60s, time.Hour: v.Per1h} {
			var earlier []event.Accepted
			late, total := time.Duration(0), points(e)
			for _, o := range n.counted {
				if o.PlayerID == e.PlayerID && o.Type == e.Type && o.Data["board"] == e.Data["board"] {
					earlier = append(earlier, o)
					late = max(late, o.At.Sub(e.At))
				}
			}
			for _, o := range earlier {
				if ago := e.At.Sub(o.At); ago >= 0 && ago < window && known(ago, window, late) {
					total += points(o)
				}
			}
			if most > 0 && total > most {
				verdict = Deny
			}
		}
		if points(e) > 1000 || e.Data["score"].(float64) < -10 {
			verdict = Deny
		}
	}
	if amount, ok := e.Int("amount"); ok && amount > 500 {
		verdict = Deny
	}
	return verdict
}

// hard is a game in which only the rules that drop events are on.
func hard() *catalog.Catalog {
	c := game()
	for _, statistic := range []string{"own-history", "population", "regular-timing"} {
		c.Fairness.Rules[statistic] = catalog.Rule{Mode: "off"}
	}
	return c
}

// The hard rules say what the naive judge says, but for what lies so close to either end of a window that it may have been joined with
// something outside: an eighth of how long ago it was when the latest score came.
func TestHardRulesAgainstANaiveJudge(t *testing.T) {
	t.Parallel()
	c := hard()
	rapid.Check(t, func(r *rapid.T) {
		l := Ladder{States: NewMemory(), Baselines: NewMemory(), Catalog: func() *catalog.Catalog { return c }, Now: noon}
		judge := naive{c: c}
		for i, e := range stream(r) {
			got := judgeEach(r, &l, []event.Accepted{e})[0].Verdict
			all := judge.judge(e, func(_, _, _ time.Duration) bool { return true })
			least := judge.judge(e, func(ago, window, late time.Duration) bool { return ago >= late/8 && ago < window-(window+late)/8 })
			require.Contains(r, []Verdict{all, least}, got, "event %d, %v", i, e)
			if !got.drops() {
				judge.counted = append(judge.counted, e)
			}
		}
	})
}

// plain is a state without what differs between two players who did the same: the salt, and how often it was saved.
func plain(t require.TestingT, rdb *redis.Client, player string) *features {
	text, err := rdb.Get(context.Background(), keyOf(player)).Bytes()
	if !errors.Is(err, redis.Nil) {
		require.NoError(t, err)
	}
	f, err := decode(text)
	require.NoError(t, err)
	f.mark, f.judged = mark{}, make([]byte, len(f.judged))
	for i := range f.notable {
		f.notable[i].digest = digest{}
	}
	return f
}

// A stream of batches, and the same with batches shuffled, events delivered again, and on one of two replicas: the same verdicts
// and the same statistics.
func TestRedeliveriesAndReplicasChangeNothing(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		once, _ := storetest.Miniredis(t)
		c := game()
		rapid.Check(t, func(r *rapid.T) {
			for _, on := range []*redis.Client{once, rdb} {
				require.NoError(r, on.Del(context.Background(), keyOf("p"), keyOf("q"), keyOf("r")).Err())
			}
			events := stream(r)
			single := open(once, c)
			replicas := []*Ladder{open(rdb, c), open(rdb, c)}
			first := map[string]Decision{}
			for done := 0; done < len(events); {
				n := rapid.IntRange(1, min(20, len(events)-done)).Draw(r, "batch")
				batch := events[done : done+n]
				got, err := single.Judge(context.Background(), batch)
				require.NoError(r, err)
				for i, d := range got {
					first[batch[i].Identity()] = d
				}
				again := slices.Clone(batch)
				for range rapid.IntRange(0, 10).Draw(r, "again") {
					again = append(again, events[rapid.IntRange(0, done+n-1).Draw(r, "which")])
				}
				again = rapid.Permutation(again).Draw(r, "shuffled")
				got, err = replicas[rapid.IntRange(0, 1).Draw(r, "replica")].Judge(context.Background(), again)
				require.NoError(r, err)
				for i, d := range got {
					require.Equal(r, first[again[i].Identity()], d)
				}
				done += n
			}
			for _, player := range []string{"p", "q", "r"} {
				require.Equal(r, plain(r, once, player), plain(r, rdb, player))
			}
		})
	})
}

func TestReplicasJudgeTheSameBatchAlike(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		rnd := rand.New(rand.NewPCG(1, 2))
		for round := range 10 {
			batch := make([]event.Accepted, 60)
			for i := range batch {
				batch[i] = score(fmt.Sprint(round, "-", i), noon().Add(time.Duration(round)*2*time.Hour+time.Duration(rnd.IntN(60_000))*time.Millisecond), "arena", float64(rnd.IntN(40)))
				batch[i].PlayerID = fmt.Sprint("player", i%3)
			}
			const replicas = 4
			results, failures := make([][]Decision, replicas), make([]error, replicas)
			var wg sync.WaitGroup
			for n := range replicas {
				wg.Go(func() {
					l := open(rdb, game())
					l.Now = func() time.Time { return noon().Add(time.Duration(n) * time.Second) }
					results[n], failures[n] = l.Judge(t.Context(), batch)
				})
			}
			wg.Wait()
			for n := range replicas {
				require.NoError(t, failures[n])
				require.Equal(t, results[0], results[n], "the decisions of whoever was first, his time included")
			}
			require.Contains(t, verdicts(results[0]), "deny")
			require.Contains(t, verdicts(results[0]), "allow")
		}
	})
}

// exchanges counts what goes over the wire.
type exchanges struct{ n atomic.Int64 }

func (x *exchanges) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (x *exchanges) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		x.n.Add(1)
		return next(ctx, cmd)
	}
}

func (x *exchanges) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		x.n.Add(1)
		return next(ctx, cmds)
	}
}

func TestTwoExchangesForABatch(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	var x exchanges
	rdb.AddHook(&x)
	l := open(rdb, game())
	batch := make([]event.Accepted, 500)
	for i := range batch {
		batch[i] = score(fmt.Sprint("e", i), noon(), "arena", 1)
		batch[i].PlayerID = fmt.Sprint("player", i/2)
	}
	first, err := l.Judge(t.Context(), batch) // connects, and sends the script
	require.NoError(t, err)
	before := x.n.Load()
	again, err := l.Judge(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, int64(1), x.n.Load()-before, "a batch that was judged is only read")
	for i := range batch {
		batch[i].ID += "-more"
	}
	_, err = l.Judge(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, int64(3), x.n.Load()-before)
	none, err := l.Judge(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	require.Equal(t, int64(3), x.n.Load()-before)

	require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
	for i := range batch {
		batch[i].ID += "-more"
	}
	_, err = l.Judge(t.Context(), batch)
	require.NoError(t, err, "a server that lost the script is sent it again")
	require.Equal(t, retention, server.TTL(keyOf("player0")))
}

// Whoever plays as much as the gate lets through, for days, is known by a few kilobytes. What was found on him comes on top.
func TestWhatIsKeptOfAPlayerIsBounded(t *testing.T) {
	t.Parallel()
	c := game()
	c.Boards["long"] = catalog.Board{Velocity: catalog.Velocity{Per10s: 1 << 40, Per60s: 1 << 40, Per1h: 1 << 40}}
	c.Events[event.XPGained] = catalog.EventType{Every: catalog.Duration(time.Millisecond)}
	memory := NewMemory()
	now := noon()
	l := &Ladder{States: memory, Baselines: memory, Catalog: func() *catalog.Catalog { return c }, Now: func() time.Time { return now }}
	most := 0
	c.Fairness.Rules["regular-timing"] = catalog.Rule{Mode: "off"}
	for start := 0; start < 20_000; start += 500 {
		var batch []event.Accepted
		for i := start; i < start+500; i++ {
			now = noon().Add(time.Duration(i) * 200 * time.Millisecond)
			batch = append(batch, score(fmt.Sprint("s", i), now, "long", 1), xp(fmt.Sprint("x", i), now, 1))
		}
		_, err := l.Judge(t.Context(), batch)
		require.NoError(t, err)
		most = max(most, len(memory.states["p"]))
	}
	require.Less(t, most, 5<<10)
	f, err := decode(memory.states["p"])
	require.NoError(t, err)
	require.Len(t, f.judged, rememberedMost*len(digest{}))
	require.LessOrEqual(t, len(f.look(subject{true, "long"}).cells), cellsMost)
	require.Len(t, f.look(subject{false, event.XPGained}).instants, instantsMost)

	now = now.Add(5 * time.Hour)
	for i := range rememberedLeast + 1 {
		_, err = l.Judge(t.Context(), []event.Accepted{score(fmt.Sprint("late", i), now.Add(time.Duration(i)*time.Hour), "long", 1)})
		require.NoError(t, err)
	}
	f, err = decode(memory.states["p"])
	require.NoError(t, err)
	require.LessOrEqual(t, len(f.look(subject{true, "long"}).cells), 3, "what no window can reach is forgotten")
}

// The sum over a window is never more than was gathered in it, and never less than in seven eighths of it.
func TestPointsOfAWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		var s series
		var gathered []cell
		at := int64(1_000_000_000)
		for range rapid.IntRange(1, 300).Draw(r, "n") {
			at += rapid.Int64Range(0, 120_000).Draw(r, "pause")
			points := rapid.Int64Range(0, 100).Draw(r, "points")
			s.gathered(at, points)
			gathered = append(gathered, cell{at, at, points})
			sum := func(window int64) (total int64) {
				for _, c := range gathered {
					if c.from > at-window {
						total += c.points
					}
				}
				return total
			}
			for _, window := range []int64{10_000, 60_000, 3_600_000} {
				got := within(s.cells, at, window)
				require.LessOrEqual(r, got, sum(window))
				require.GreaterOrEqual(r, got, sum(window*7/8))
			}
		}
		require.LessOrEqual(r, len(s.cells), cellsMost)
	})
}

func TestRedisDown(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	l := open(rdb, game())
	batch := []event.Accepted{score("a", noon(), "slow", 10), score("b", noon(), "slow", 1)}
	server.SetError("LOADING Redis is loading the dataset in memory")
	_, err := l.Judge(t.Context(), batch)
	require.ErrorIs(t, err, fault.RedisUnavailable)
	server.SetError("")
	got, err := l.Judge(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, "allow deny", verdicts(got))

	server.FlushAll()
	got, err = l.Judge(t.Context(), batch[1:])
	require.NoError(t, err)
	require.Equal(t, "allow", verdicts(got), "a lost Redis is less history")

	server.Close()
	_, err = l.Judge(t.Context(), batch)
	require.ErrorIs(t, err, fault.Unavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Judge(ctx, batch)
	require.Error(t, err)
}
