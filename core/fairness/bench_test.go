package fairness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/store/storetest"
)

// arena is the example game, in which every rule has something to look at.
func arena(b *testing.B) *catalog.Catalog {
	c, err := catalog.Load("../../examples/arena/catalog.yaml")
	require.NoError(b, err)
	return c
}

// rounds makes the events of players who play the arena: a match, its XP and its score, a kill now and then.
type rounds struct{ n int }

func (r *rounds) next(player string) event.Accepted {
	n := r.n
	r.n++
	at, id := noon().Add(time.Duration(n/4*53+n%7)*time.Second), "0192e4a0-7c1f-7000-8000-"+fmt.Sprintf("%012x", n)
	switch n % 4 {
	case 0:
		return happened(player, id, "match_finished", at, map[string]any{"map": "harbor", "seconds": 120.0, "won": true})
	case 1:
		return happened(player, id, event.XPGained, at, map[string]any{"amount": float64(20 + n%30), "source": "match"})
	case 2:
		return happened(player, id, event.ScoreSubmitted, at, map[string]any{"board": "arena-score", "score": float64(2000 + n*37%1500)})
	}
	return happened(player, id, event.BossKilled, at, map[string]any{"boss": "gate-warden"})
}

// BenchmarkLadder judges batches of 500 events of 250 players, each known already, with everything in process: what the ladder
// itself costs. "rule" asks one rule about one event.
func BenchmarkLadder(b *testing.B) {
	c := arena(b)
	memory := NewMemory()
	l := &Ladder{States: memory, Baselines: memory, Catalog: func() *catalog.Catalog { return c }, Now: noon}
	players := make([]rounds, 250)
	batch := make([]event.Accepted, 500)
	fill := func() {
		for i := range batch {
			player := i % len(players)
			batch[i] = players[player].next("player" + strconv.Itoa(player))
		}
	}
	for range 20 {
		fill()
		_, err := l.Judge(b.Context(), batch)
		require.NoError(b, err)
	}
	b.Run("batch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			fill()
			b.StartTimer()
			if _, err := l.Judge(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
	})
	known, err := decode(memory.states["player0"])
	require.NoError(b, err)
	p := policyOf(c)
	views := p.views([]event.Accepted{players[0].next("player0"), players[0].next("player0"), players[0].next("player0"), players[0].next("player0")})
	for _, r := range p.rungs {
		b.Run("rule="+string(r.code), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				v := views[n%len(views)]
				v.known, v.rule = known, r.settings
				v.crowd = crowd{size: 1000, median: 7, away: .2}
				_ = r.judge(v)
				n++
			}
		})
	}
}

// BenchmarkRedisPerPlayer measures what a Redis server holds for each of PLAYERS players (100,000 unless it says otherwise) who
// sent 40 events each, so that everything that is bounded has reached its bound or what is normal.
func BenchmarkRedisPerPlayer(b *testing.B) {
	server := os.Getenv("TEST_REDIS_URL")
	if server == "" {
		b.Skip("needs a real server: TEST_REDIS_URL")
	}
	players, err := strconv.Atoi(os.Getenv("PLAYERS"))
	if err != nil {
		players = 100_000
	}
	rdb := storetest.Redis(b, server)
	c := arena(b)
	l := &Ladder{States: RedisStates{rdb}, Baselines: NewMemory(), Catalog: func() *catalog.Catalog { return c }, Now: noon}
	for b.Loop() {
		before := memoryOf(b, rdb)
		var batch []event.Accepted
		for player := range players {
			var r rounds
			for range 40 {
				batch = append(batch, r.next(fmt.Sprintf("player-%08d", player)))
			}
			if len(batch) >= 2000 || player == players-1 {
				_, err := l.Judge(b.Context(), batch)
				require.NoError(b, err)
				batch = batch[:0]
			}
		}
		n, err := rdb.DBSize(b.Context()).Result()
		require.NoError(b, err)
		require.GreaterOrEqual(b, n, int64(players))
		b.ReportMetric((memoryOf(b, rdb)-before)/float64(players), "B/player")
		b.ReportMetric(float64(players), "players")
	}
}

// memoryOf is what the server has allocated, in bytes.
func memoryOf(b *testing.B, rdb *redis.Client) float64 {
	info, err := rdb.Info(b.Context(), "memory").Result()
	require.NoError(b, err)
	for line := range strings.Lines(info) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); found {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			return n
		}
	}
	b.Fatal("the server does not say what it uses")
	return 0
}
