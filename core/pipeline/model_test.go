package pipeline_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// result is what a player has in one window, as somebody with pencil and paper would keep it.
type result struct {
	window, player string
	score          int
	at             time.Time
	id             string
}

// byHand plays the game on paper, each event once, and lists what every table and ranking must say. Nothing in it depends on the order of
// the events: whatever they give is never negative, and of a full stack only the overflow is lost.
func byHand(events []event.Accepted) (balances []string, results []result) {
	xp, gems := map[string]int{}, map[string]int{}
	best := map[[2]string]result{}
	for _, e := range events {
		xp[e.PlayerID] += 0 // whoever did anything has an account
		switch e.Type {
		case "xp_gained":
			xp[e.PlayerID] += int(e.Data["amount"].(float64))
		case "boss_killed":
			if e.Data["boss"] == "rat" {
				xp[e.PlayerID] += 5
			}
		case "item_acquired":
			if e.Data["item"] == "gem" {
				gems[e.PlayerID] += int(e.Data["quantity"].(float64))
			}
		case "score_submitted":
			score := result{player: e.PlayerID, score: int(e.Data["score"].(float64)), at: e.At, id: e.ID}
			score.window = "best all_time"
			held, ok := best[[2]string{score.window, score.player}]
			if !ok || cmp.Or(cmp.Compare(held.score, score.score), score.at.Compare(held.at), strings.Compare(score.id, held.id)) < 0 {
				best[[2]string{score.window, score.player}] = score
			}
			if day := e.At.Format(time.DateOnly); day >= "2026-11-21" { // the day before had closed
				score.window = "points " + day
				if held, ok := best[[2]string{score.window, score.player}]; ok {
					score.score += held.score
					if cmp.Or(held.at.Compare(score.at), strings.Compare(held.id, score.id)) > 0 {
						score.at, score.id = held.at, held.id
					}
				}
				best[[2]string{score.window, score.player}] = score
			}
		}
	}
	for _, player := range slices.Sorted(maps.Keys(xp)) {
		level := 1
		if xp[player] >= 100 {
			level, gems[player] = 2, gems[player]+2
		}
		if xp[player] >= 300 {
			level = 3
		}
		balances = append(balances, fmt.Sprintf("%s has %d XP, level %d, %d gems", player, xp[player], level, min(10, gems[player])))
	}
	results = slices.SortedFunc(maps.Values(best), func(a, b result) int {
		return cmp.Or(strings.Compare(a.window, b.window), b.score-a.score, a.at.Compare(b.at), strings.Compare(a.player, b.player))
	})
	return balances, results
}

// onRecord reads what byHand foretells: from the accounts, from the sums of the ledger, from the entries and from the rankings.
func (p *path) onRecord(t *testing.T) (accounts, ledger []string, entries, ranking []result) {
	t.Helper()
	list := func(query string) (lines []string) {
		require.NoError(t, p.db.Each(t.Context(), query, nil, func(scan func(...any) error) error {
			var player string
			var xp, level, gems int
			err := scan(&player, &xp, &level, &gems)
			lines = append(lines, fmt.Sprintf("%s has %d XP, level %d, %d gems", player, xp, level, gems))
			return err
		}))
		return lines
	}
	accounts = list(`SELECT p.player_id, p.xp, p.level, COALESCE(i.quantity, 0) FROM player p
		LEFT JOIN item i ON i.player_id = p.player_id AND i.item_id = 'gem' ORDER BY p.player_id`)
	ledger = list(`SELECT player_id, SUM(CASE WHEN kind = 'xp' THEN delta ELSE 0 END), MAX(level_after),
		SUM(CASE WHEN item_id = 'gem' THEN delta ELSE 0 END) FROM ledger GROUP BY player_id ORDER BY player_id`)
	windows := map[[2]string]bool{}
	require.NoError(t, p.db.Each(t.Context(),
		`SELECT board, window_id, player_id, score, achieved_at, event_id FROM entry ORDER BY board, window_id, standing, achieved_at, player_id`, nil,
		func(scan func(...any) error) error {
			var board, window string
			var r result
			var at int64
			err := scan(&board, &window, &r.player, &r.score, &at, &r.id)
			r.window, r.at = board+" "+window, time.UnixMilli(at).UTC()
			entries = append(entries, r)
			windows[[2]string{board, window}] = true
			return err
		}))
	for _, w := range slices.SortedFunc(maps.Keys(windows), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		page, err := p.ranking.Top(t.Context(), leaderboard.Query{Board: w[0], Window: w[1], Limit: leaderboard.MaxLimit})
		require.NoError(t, err)
		for i, row := range page.Rows {
			require.Equal(t, int64(i+1), row.Rank)
			ranking = append(ranking, result{window: w[0] + " " + w[1], player: row.Player, score: int(row.Score), at: row.AchievedAt})
		}
	}
	return accounts, ledger, entries, ranking
}

// empty makes the path forget everything but its windows.
func (p *path) empty(t *testing.T) {
	t.Helper()
	require.NoError(t, p.db.Tx(t.Context(), func(tx *store.Tx) error {
		for _, table := range []string{"player", "ledger", "item", "receipt", "entry"} {
			if _, err := tx.Exec(t.Context(), "DELETE FROM "+table); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, p.redis.FlushDB(t.Context()).Err())
}

func anyEvents(t *rapid.T) []event.Accepted {
	count := map[string]int{}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event.Accepted {
		kind := rapid.SampledFrom([]string{"xp_gained", "boss_killed", "item_acquired", "score_submitted", "score_submitted"}).Draw(t, "type")
		at := noon.Add(-time.Duration(rapid.IntRange(0, 2).Draw(t, "days"))*24*time.Hour + time.Duration(rapid.IntRange(0, 2).Draw(t, "ms"))*time.Millisecond)
		data := map[string]any{}
		switch kind {
		case "xp_gained":
			data["amount"], data["source"] = float64(rapid.IntRange(1, 90).Draw(t, "amount")), "match"
		case "boss_killed":
			data["boss"] = rapid.SampledFrom([]string{"rat", "nobody"}).Draw(t, "boss")
		case "item_acquired":
			data["item"], data["quantity"] = rapid.SampledFrom([]string{"gem", "nothing"}).Draw(t, "item"), float64(rapid.IntRange(1, 6).Draw(t, "quantity"))
		default:
			data["board"], data["score"] = "points", float64(rapid.IntRange(0, 3).Draw(t, "score"))
		}
		player := rapid.SampledFrom([]string{"ada", "Ada", "bob", "-"}).Draw(t, "player")
		count[player]++ // ids are unique per player only
		return accepted(player, fmt.Sprintf("e%d", count[player]), kind, at, data)
	}), 1, 40).Draw(t, "events")
}

// TestAgainstPlayingByHand plays any events in any batches, some more than once, out of order and by two workers at a time, while batches
// fail before and after their commit and Redis loses everything. What is on record in the end is what playing by hand gives.
func TestAgainstPlayingByHand(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.at(noon.Add(-24 * time.Hour))
		p.layOut(t)
		p.at(noon)
		healthy, early, late := *p.progression, *p.progression, *p.progression
		ledger := *p.progression.Ledger
		ledger.DB = deadDB(t)
		early.Ledger = &ledger
		broken, err := leaderboard.NewRanking(deadRedis(t), db, p.progression.Entries, []byte(strings.Repeat("c", 32)))
		require.NoError(t, err)
		late.Ranking = broken

		rapid.Check(t, func(r *rapid.T) {
			p.empty(t)
			events := anyEvents(r)
			deliveries := slices.Clone(events)
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(events)-1), 0, 20).Draw(r, "repeats") {
				deliveries = append(deliveries, events[i])
			}
			deliveries = rapid.Permutation(deliveries).Draw(r, "order")
			var queue [][]bus.Message
			for len(deliveries) > 0 {
				n := rapid.IntRange(1, len(deliveries)).Draw(r, "batch")
				queue = append(queue, batch(t, deliveries[:n]...))
				deliveries = deliveries[n:]
			}
			for len(queue) > 0 {
				next := queue[0]
				queue = queue[1:]
				switch rapid.IntRange(0, 5).Draw(r, "fate") {
				case 0:
					_, err := early.Apply(t.Context(), next)
					require.ErrorIs(r, err, fault.DatabaseUnavailable)
					queue = append(queue, next)
				case 1:
					if _, err := late.Apply(t.Context(), next); err != nil { // there was something to rank
						require.ErrorIs(r, err, fault.RedisUnavailable)
						queue = append(queue, next)
					}
				case 2:
					require.NoError(r, rdb.FlushDB(t.Context()).Err())
					queue = append(queue, next)
				case 3:
					other := append(slices.Clone(next), slices.Concat(queue...)...) // the rest at once, and once more later
					slices.Reverse(other)
					var workers sync.WaitGroup
					var failed [2]error
					for i, batch := range [][]bus.Message{next, other} {
						workers.Go(func() { _, failed[i] = healthy.Apply(t.Context(), batch) })
					}
					workers.Wait()
					require.Equal(r, [2]error{}, failed)
				default:
					_, err := healthy.Apply(t.Context(), next)
					require.NoError(r, err)
				}
			}
			balances, results := byHand(events)
			accounts, sums, entries, ranking := p.onRecord(t)
			require.Equal(r, balances, accounts)
			require.Equal(r, balances, sums)
			require.Equal(r, results, entries)
			for i := range results {
				results[i].id = "" // a ranking does not say
			}
			require.Equal(r, results, ranking)
		})
	})
}
