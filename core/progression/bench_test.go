package progression_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// BenchmarkApply applies events nobody has seen: half XP, a quarter bosses, a quarter items, over a thousand players.
func BenchmarkApply(b *testing.B) {
	backends := map[string]func(testing.TB) *store.DB{"sqlite": storetest.SQLite}
	if server := os.Getenv("TEST_MYSQL_URL"); server != "" {
		backends["mysql"] = func(t testing.TB) *store.DB { return storetest.MySQL(t, server) }
	}
	for name, open := range backends {
		for _, size := range []int{1, 200, 500} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				l := ledgerOn(open(b), game())
				next := 0
				for b.Loop() {
					batch := make([]event.Accepted, size)
					for i := range batch {
						player, id := "player-"+strconv.Itoa(next%1000), "event-"+strconv.Itoa(next)
						switch next % 4 {
						case 0:
							batch[i] = killed(player, id, "rat")
						case 1:
							batch[i] = acquired(player, id, "axe", 1)
						default:
							batch[i] = gained(player, id, 15)
						}
						next++
					}
					_, err := l.Apply(b.Context(), batch, nil)
					require.NoError(b, err)
				}
				b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
