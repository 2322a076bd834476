package fairness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
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

func open(rdb *redis.Client, c *catalog.Catalog) *Ladder {
	return &Ladder{Redis: rdb, Catalog: func() *catalog.Catalog { return c }, Now: noon}
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
				got, err := open(rdb, c).Judge(t.Context(), test.events)
				require.NoError(t, err)
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
		got, err := l.Judge(t.Context(), []event.Accepted{
			score("a", noon(), "arena", 90), xp("b", noon(), 1), xp("c", noon().Add(1500*time.Millisecond), 1),
			score("d", noon().Add(time.Second), "arena", 1001),
			happened("p", "e", event.XPGained, noon().Add(time.Minute), map[string]any{"amount": 3.0, "source": "\"\n<" + strings.Repeat("x", 100)}),
		})
		require.NoError(t, err)
		require.Equal(t, "allow allow throttle deny deny", verdicts(got))
		require.Empty(t, got[0].Evidence)
		require.Empty(t, got[0].Rule)
		require.Equal(t, "p", got[2].PlayerID)
		require.Equal(t, "c", got[2].EventID)
		require.Equal(t, []Finding{{Rule: "minimum-interval", Version: 1, Mode: "enforce", Verdict: Throttle, Measure: "interval_ms", Limit: 2000, Observed: 1500}}, got[2].Evidence)
		require.Equal(t, []Finding{
			{Rule: "impossible-value", Version: 1, Mode: "enforce", Verdict: Deny, Measure: "/data/score", Limit: 1000, Observed: 1001},
			{Rule: "score-velocity", Version: 1, Mode: "enforce", Verdict: Deny, Measure: "points", Window: 10_000, Limit: 100, Observed: 1091},
			{Rule: "score-velocity", Version: 1, Mode: "enforce", Verdict: Deny, Measure: "points", Window: 60_000, Limit: 300, Observed: 1091},
		}, got[3].Evidence)
		require.Equal(t, fault.ImpossibleValue, got[3].Code)
		require.Equal(t, noon(), got[3].At)
		require.Equal(t, "\"\n<"+strings.Repeat("x", 61), got[4].Evidence[0].Text)
	})
}

func TestShadowChangesNothingAndOffAsksNothing(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		c := game()
		events := []event.Accepted{xp("a", noon(), 501), xp("b", noon().Add(time.Second), 1), score("c", noon(), "arena", 101)}
		c.Fairness.Rules = map[string]catalog.Rule{
			"impossible-value": {Mode: "shadow"}, "minimum-interval": {Mode: "shadow"}, "score-velocity": {Mode: "enforce", Verdict: "flag"},
		}
		got, err := open(rdb, c).Judge(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, "allow allow flag", verdicts(got))
		require.Equal(t, "impossible-value", got[0].Rule)
		require.Equal(t, "shadow", got[0].Mode)
		require.Equal(t, Deny, got[0].Evidence[0].Verdict)
		require.Equal(t, "minimum-interval", got[1].Rule, "the event in shadow counted for it")
		require.False(t, got[2].Drops())

		c.Fairness.Rules = map[string]catalog.Rule{"impossible-value": {Mode: "off"}, "minimum-interval": {Mode: "off"}, "score-velocity": {Mode: "off"}}
		again, err := open(rdb, c).Judge(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, got, again, "a new catalog does not judge what was judged")
		for i := range events {
			events[i].PlayerID = "q"
		}
		got, err = open(rdb, c).Judge(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, "allow allow allow", verdicts(got))
		require.Empty(t, got[0].Rule)
		n, err := rdb.Exists(t.Context(), "fairness:{q}").Result()
		require.NoError(t, err)
		require.Zero(t, n, "nothing is counted for a rule that is off")
	})
}

// stream is events of three players, out of order, some of them unfair.
func stream(t *rapid.T) []event.Accepted {
	n := rapid.IntRange(1, 40).Draw(t, "n")
	events := make([]event.Accepted, n)
	for i := range events {
		at := noon().Add(time.Duration(rapid.IntRange(0, 6000).Draw(t, "ds")) * 100 * time.Millisecond)
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

// naive judges a stream as plainly as it can be written.
func naive(events []event.Accepted, c *catalog.Catalog) []Verdict {
	var counted []event.Accepted
	out := make([]Verdict, len(events))
	for i, e := range events {
		out[i] = Allow
		every := time.Duration(c.Events[e.Type].Every)
		points := func(e event.Accepted) int64 { n, _ := e.Int("score"); return max(n, 0) }
		sum := func(window time.Duration) int64 {
			total := points(e)
			for _, o := range counted {
				if o.PlayerID == e.PlayerID && o.Type == e.Type && o.Data["board"] == e.Data["board"] && !o.At.After(e.At) && e.At.Sub(o.At) < window {
					total += points(o)
				}
			}
			return total
		}
		for _, o := range counted {
			if o.PlayerID == e.PlayerID && o.Type == e.Type && every > 0 && e.At.Sub(o.At).Abs() < every {
				out[i] = Throttle
			}
		}
		if e.Type == event.ScoreSubmitted {
			v := c.Boards[e.Data["board"].(string)].Velocity
			for window, most := range map[time.Duration]int64{10 * time.Second: v.Per10s, time.Minute: v.Per60s, time.Hour: v.Per1h} {
				if most > 0 && sum(window) > most {
					out[i] = Deny
				}
			}
			if points(e) > 1000 || e.Data["score"].(float64) < -10 {
				out[i] = Deny
			}
		}
		if n, ok := e.Int("amount"); ok && n > 500 {
			out[i] = Deny
		}
		if out[i] == Allow {
			counted = append(counted, e)
		}
	}
	return out
}

// A stream judged event by event, and judged in random batches with random redeliveries, gets the same verdicts and leaves
// the same statistics; and they are those of the naive judge.
func TestRedeliveriesChangeNothing(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		once, _ := storetest.Miniredis(t)
		c := game()
		rapid.Check(t, func(r *rapid.T) {
			events := stream(r)
			want := naive(events, c)
			clear := func(on *redis.Client) {
				require.NoError(r, on.Del(context.Background(), "fairness:{p}", "fairness:{q}", "fairness:{r}").Err())
			}
			clear(once)
			clear(rdb)
			first := make([]Decision, len(events))
			for i, e := range events {
				got, err := open(once, c).Judge(context.Background(), []event.Accepted{e})
				require.NoError(r, err)
				first[i] = got[0]
				require.Equal(r, want[i], got[0].Verdict, "event %d of %v", i, events)
			}
			for done := 0; done < len(events); {
				var batch []event.Accepted
				var places []int
				for range rapid.IntRange(1, 20).Draw(r, "batch") {
					place := done
					if done == len(events) || done > 0 && rapid.Bool().Draw(r, "again") {
						place = rapid.IntRange(0, done-1).Draw(r, "which")
					} else {
						done++
					}
					batch, places = append(batch, events[place]), append(places, place)
				}
				got, err := open(rdb, c).Judge(context.Background(), batch)
				require.NoError(r, err)
				for i, d := range got {
					require.Equal(r, first[places[i]], d)
				}
			}
			for _, player := range []string{"p", "q", "r"} {
				one, err := once.HGetAll(context.Background(), "fairness:{"+player+"}").Result()
				require.NoError(r, err)
				many, err := rdb.HGetAll(context.Background(), "fairness:{"+player+"}").Result()
				require.NoError(r, err)
				require.Equal(r, one, many)
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

func TestOneExchangeForABatch(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	var x exchanges
	rdb.AddHook(&x)
	l := open(rdb, game())
	batch := make([]event.Accepted, 200)
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
	require.Equal(t, int64(1), x.n.Load()-before)
	none, err := l.Judge(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	require.Equal(t, int64(1), x.n.Load()-before)

	unlimited, err := l.Judge(t.Context(), []event.Accepted{score("f", noon(), "free", 1)})
	require.NoError(t, err)
	require.Equal(t, "allow", verdicts(unlimited))
	require.Equal(t, noon(), unlimited[0].At)
	require.Equal(t, int64(2), x.n.Load()-before)
	require.False(t, server.Exists("fairness:{p}"), "there is nothing to remember")

	require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
	again, err = l.Judge(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, first, again, "a server that lost the script is sent it again")

	require.Equal(t, 25*time.Hour, server.TTL("fairness:{player0}"))
}

func TestWhatIsKeptOfAPlayerIsBounded(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		c := game()
		c.Boards["long"] = catalog.Board{Velocity: catalog.Velocity{Per1h: 650}}
		c.Events[event.XPGained] = catalog.EventType{Every: catalog.Duration(time.Millisecond)}
		l := open(rdb, c)
		denied := 0
		for start := 0; start < 700; start += 50 {
			var batch []event.Accepted
			for i := start; i < start+50; i++ {
				at := noon().Add(time.Duration(i) * 5 * time.Second)
				batch = append(batch, score(fmt.Sprint("s", i), at, "long", 1), xp(fmt.Sprint("x", i), at, 1))
			}
			got, err := l.Judge(t.Context(), batch)
			require.NoError(t, err)
			for i, d := range got {
				if d.Verdict == Deny {
					denied++
					require.GreaterOrEqual(t, i/2+start, 650)
				}
			}
		}
		require.Equal(t, 50, denied, "the hour knows all its points, however they are kept")
		all, err := rdb.HGetAll(t.Context(), "fairness:{p}").Result()
		require.NoError(t, err)
		require.Len(t, all, 512*2+3)
		require.LessOrEqual(t, strings.Count(all["points:long"], ";")+1, 512)
		require.Equal(t, 63, strings.Count(all["gap:"+event.XPGained], ";"))

		_, err = l.Judge(t.Context(), []event.Accepted{score("late", noon().Add(5*time.Hour), "long", 1)})
		require.NoError(t, err)
		kept, err := rdb.HGet(t.Context(), "fairness:{p}", "points:long").Result()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%d,1", noon().Add(5*time.Hour).UnixMilli()), kept, "what no window can reach is forgotten")
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

func BenchmarkJudge200(b *testing.B) {
	rdb, _ := storetest.Miniredis(b)
	l := open(rdb, game())
	batch := make([]event.Accepted, 200)
	n := 0
	for b.Loop() {
		for i := range batch {
			n++
			batch[i] = score(fmt.Sprint("e", n), noon().Add(time.Duration(n)*time.Second), "arena", 1)
			batch[i].PlayerID = fmt.Sprint("player", i)
		}
		if _, err := l.Judge(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
