package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/leaderboard"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// TestWorkersMeet has workers apply events at the same time, each in an order of his own. However they meet, every event has its
// effect once, and the transactions wait for each other rather than be broken off.
func TestWorkersMeet(t *testing.T) {
	t.Parallel()
	const workers, players, each = 6, 6, 24
	var events []event.Accepted
	for i := range players * each {
		player, id := fmt.Sprintf("p%d", i%players), fmt.Sprintf("e%d", i)
		switch i / players % 4 {
		case 0:
			events = append(events, xp(player, id, 50))
		case 1:
			events = append(events, accepted(player, id, event.ItemAcquired, noon, map[string]any{"item": "gem", "quantity": 1.0}))
		default:
			events = append(events, scored(player, id, 1, noon))
		}
	}
	all := func(int) []event.Accepted { return slices.Clone(events) }
	ofOnePlayer := func(worker int) []event.Accepted {
		return slices.DeleteFunc(all(worker), func(e event.Accepted) bool { return e.PlayerID != fmt.Sprintf("p%d", worker%players) })
	}
	for name, c := range map[string]struct {
		events func(worker int) []event.Accepted
		size   int // of a batch, at most
	}{
		"the same batch":      {all, len(events)},
		"overlapping batches": {all, len(events) / 3},
		"small batches":       {all, 4},
		"neighbouring rows":   {ofOnePlayer, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.EachSQLURL(t, func(t *testing.T, url string) {
				registry := prometheus.NewRegistry()
				db, err := store.Options{Registerer: registry}.Open(url)
				require.NoError(t, err)
				defer db.Close()
				_, err = db.Migrate(t.Context())
				require.NoError(t, err)
				rdb, _ := storetest.Miniredis(t)
				p := newPath(t, db, rdb)
				p.layOut(t)

				var batches [workers][][]bus.Message
				given, transactions := 0, 0
				for w := range workers {
					random, own := rand.New(rand.NewPCG(uint64(w), 31)), c.events(w)
					random.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
					given += len(own)
					for len(own) > 0 {
						n := min(len(own), c.size-random.IntN(c.size/2+1))
						batches[w] = append(batches[w], batch(t, own[:n]...))
						own = own[n:]
					}
					transactions += len(batches[w])
				}
				var working sync.WaitGroup
				failed := make(chan error, transactions)
				for w := range workers {
					working.Go(func() {
						for _, batch := range batches[w] {
							_, err := p.progression.Apply(t.Context(), batch)
							failed <- err
						}
					})
				}
				working.Wait()
				close(failed)
				for err := range failed {
					require.NoError(t, err)
				}

				metrics := p.metrics(t)
				require.Equal(t, len(events), metrics["progression_events_total result=applied"])
				require.Equal(t, given-len(events), metrics["progression_events_total result=repeated"])
				var accounts, items []string
				for i := range players {
					accounts = append(accounts, fmt.Sprintf("player: p%d | 300 | 3 | %d", i, each+each/4+1))
					items = append(items, fmt.Sprintf("item: p%d | gem | %d", i, each/4+2))
				}
				require.Equal(t, accounts, p.rows(t, "player"))
				require.Equal(t, items, p.rows(t, "item"))
				page, err := p.ranking.Top(t.Context(), leaderboard.Query{Board: "points", Window: "2026-11-22", Limit: 100})
				require.NoError(t, err)
				require.Len(t, page.Rows, players)
				for _, row := range page.Rows {
					require.Equal(t, int64(each/2), row.Score)
				}
				drifts, err := p.progression.Ledger.Drift(t.Context(), 10)
				require.NoError(t, err)
				require.Empty(t, drifts)

				retries := 0
				families, err := registry.Gather()
				require.NoError(t, err)
				for _, family := range families {
					for _, m := range family.GetMetric() {
						retries += int(m.GetCounter().GetValue())
					}
				}
				require.LessOrEqual(t, retries, 1+transactions/50, "transactions that were run again, of %d", transactions)
			})
		})
	}
}
