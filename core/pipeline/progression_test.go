package pipeline_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// late leaves out what depends on when a redelivery came: when a rejection was seen.
func late(rows []string) []string {
	rows = slices.Clone(rows)
	for i, row := range rows {
		if strings.HasPrefix(row, "rejected: ") {
			for range 2 {
				rows[i] = rows[i][:strings.LastIndex(rows[i], " | ")]
			}
		}
	}
	return rows
}

func TestProgressionAppliesABatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		p.at(noon.Add(3 * time.Second))
		events := append(batch(t, xp("ada", "x1", 100), scored("ada", "s1", 7, noon), scored("bob", "s2", 9, noon), scored("ada", "s3", 3, noon)),
			bus.Message{ID: "odd", Body: []byte("no event")}, message(t, xp("ada", "x1", 100)))
		outcome, err := p.progression.Apply(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, "[applied=4 repeated=1 invalid=1 ranked=4]", pipelineOutcome(outcome).String())

		require.Equal(t, []string{"player: ada | 100 | 2 | 4", "player: bob | 0 | 1 | 1"}, p.rows(t, "player"))
		require.Equal(t, []string{"item: ada | gem | 2"}, p.rows(t, "item"))
		require.Len(t, p.rows(t, "ledger"), 5)
		require.Equal(t, []string{"1 ada 10", "2 bob 9"}, p.ranks(t, "points", "2026-11-22"))
		require.Equal(t, []string{"1 bob 9", "2 ada 7"}, p.ranks(t, "best", "all_time"))
		require.Len(t, p.rows(t, "receipt"), 1, "only what granted something")

		stored, err := receipt.Get(t.Context(), db, "ada", "x1")
		require.NoError(t, err)
		claims, err := p.progression.Receipts().Verify(stored.Token)
		require.NoError(t, err)
		claims.ID = ""
		require.Equal(t, receipt.Claims{
			PlayerID: "ada", EventID: "x1", Type: "xp_gained", XP: 100, XPAfter: 100, LevelBefore: 1, LevelAfter: 2,
			Grants: []receipt.Grant{{Kind: "level:2:item:gem", Item: "gem", Quantity: 2}}, CatalogVersion: 3, IssuedAt: noon.Unix(),
		}, claims)

		list, _, err := p.rejected.List(t.Context(), rejected.Filter{Limit: 10})
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, []any{"progression", "odd", fault.MessageInvalid}, []any{list[0].Stage, list[0].MessageID, list[0].Code})
		require.Equal(t, map[string]int{
			"progression_events_total result=applied": 4, "progression_events_total result=repeated": 1, "progression_events_total result=invalid": 1,
			"dropped_events_total reason=message-invalid": 1, "receipts_issued_total": 1, "leaderboard_updates_total": 4, "event_to_rank_seconds": 3,
		}, noSweeps(p.metrics(t)))

		// The whole batch once more changes nothing but the counters.
		before := late(p.state(t))
		p.at(noon.Add(9 * time.Second))
		outcome, err = p.progression.Apply(t.Context(), events)
		require.NoError(t, err)
		require.Equal(t, "[applied=0 repeated=5 invalid=1 ranked=4]", pipelineOutcome(outcome).String())
		require.Equal(t, before, late(p.state(t)))
		require.Equal(t, []string{"1 ada 10", "2 bob 9"}, p.ranks(t, "points", "2026-11-22"))
		metrics := p.metrics(t)
		require.Equal(t, 3, metrics["event_to_rank_seconds"], "a repeat says nothing about freshness")
		require.Equal(t, 1, metrics["receipts_issued_total"])
		drifts, err := p.progression.Ledger.Drift(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, drifts)
	})
}

// noSweeps leaves out what laying out the windows counted.
func noSweeps(metrics map[string]int) map[string]int {
	maps.DeleteFunc(metrics, func(name string, _ int) bool {
		return name == "window_closes_total" || strings.HasPrefix(name, "windows ")
	})
	return metrics
}

// A batch that is cut after the commit has its effect; the redelivery brings the rankings up to it.
func TestProgressionIsCutBeforeTheRanking(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		_, err := p.progression.Apply(t.Context(), batch(t, scored("bob", "s0", 8, noon)))
		require.NoError(t, err)
		require.Equal(t, []string{"1 bob 8"}, p.ranks(t, "points", "2026-11-22"))

		events := append(batch(t, xp("ada", "x1", 100), scored("ada", "s1", 9, noon)), bus.Message{ID: "odd", Body: []byte("{}")})
		broken, err := leaderboard.NewRanking(deadRedis(t), db, p.progression.Entries, []byte(strings.Repeat("c", 32)))
		require.NoError(t, err)
		p.progression.Ranking = broken
		require.NoError(t, p.bus.Publish(t.Context(), "progression", events))
		require.ErrorIs(t, p.take(t, "progression", p.progression.Apply), fault.RedisUnavailable)
		require.Len(t, p.rows(t, "player"), 2, "the effect is there")
		require.Empty(t, p.rows(t, "rejected"))
		require.Equal(t, 3, p.metrics(t)["progression_events_total result=applied"], "what is committed is counted")
		require.Equal(t, []string{"1 bob 8"}, p.ranks(t, "points", "2026-11-22"))

		p.progression.Ranking = p.ranking
		before := p.rows(t, "entry")
		require.NoError(t, p.take(t, "progression", p.progression.Apply))
		require.Equal(t, []string{"1 ada 9", "2 bob 8"}, p.ranks(t, "points", "2026-11-22"))
		require.Equal(t, []string{"1 ada 9", "2 bob 8"}, p.ranks(t, "best", "all_time"))
		require.Equal(t, before, p.rows(t, "entry"))
		require.Len(t, p.rows(t, "rejected"), 1)
		metrics := p.metrics(t)
		require.Equal(t, 3, metrics["progression_events_total result=applied"])
		require.Equal(t, 2, metrics["progression_events_total result=repeated"])
		require.Equal(t, 1, metrics["receipts_issued_total"])
	})
}

func TestProgressionIsCutElsewhere(t *testing.T) {
	t.Parallel()
	events := func(t *testing.T) []bus.Message {
		t.Helper()
		return append(batch(t, xp("ada", "x1", 100), scored("ada", "s1", 9, noon)), bus.Message{ID: "odd", Body: []byte("{}")})
	}
	t.Run("no database", func(t *testing.T) {
		t.Parallel()
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.layOut(t)
		working := p.progression.Ledger.DB
		p.progression.Ledger.DB = deadDB(t)
		_, err := p.progression.Apply(t.Context(), events(t))
		require.ErrorIs(t, err, fault.DatabaseUnavailable)
		require.Empty(t, p.rows(t, "rejected"))
		require.Empty(t, noSweeps(p.metrics(t)), "nothing happened")
		p.progression.Ledger.DB = working
		_, err = p.progression.Apply(t.Context(), events(t))
		require.NoError(t, err)
		require.Equal(t, []string{"player: ada | 100 | 2 | 3"}, p.rows(t, "player"))
	})
	t.Run("no rejected store", func(t *testing.T) {
		t.Parallel()
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.layOut(t)
		p.progression.Rejected = failing{t}
		_, err := p.progression.Apply(t.Context(), events(t))
		require.ErrorIs(t, err, fault.DatabaseUnavailable, "a bad message must not be lost")
		p.progression.Rejected = p.rejected
		_, err = p.progression.Apply(t.Context(), events(t))
		require.NoError(t, err)
		require.Len(t, p.rows(t, "rejected"), 1)
		require.Equal(t, 1, p.metrics(t)["progression_events_total result=invalid"])
	})
	t.Run("a batch of nothing", func(t *testing.T) {
		t.Parallel()
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		_, err := p.progression.Apply(t.Context(), []bus.Message{{ID: "odd", Body: nil}})
		require.NoError(t, err)
		require.Len(t, p.rows(t, "rejected"), 1)
	})
}

// notes are those of an event's ledger row.
func (p *path) notes(t *testing.T, player, id string) []string {
	t.Helper()
	entries, err := p.progression.Ledger.Entries(t.Context(), player, id)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	notes := []string{}
	for _, n := range entries[0].Notes {
		notes = append(notes, fmt.Sprintf("%s %s %d", n.Code, n.Ref, n.Amount))
	}
	return notes
}

func TestClosedWindowsAreNoted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.at(time.Date(2026, 11, 19, 12, 0, 0, 0, time.UTC))
		p.layOut(t) // the season s1 is running
		p.at(noon)
		p.layOut(t) // it is over now, and so are three days
		yesterday, may := noon.Add(-24*time.Hour), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		_, err := p.progression.Apply(t.Context(), batch(t,
			scored("ada", "between", 1, noon),
			scored("ada", "yesterday", 1, yesterday),
			scored("ada", "season", 1, time.Date(2026, 11, 19, 12, 0, 0, 0, time.UTC)),
			scored("ada", "long-ago", 1, may)))
		require.NoError(t, err)
		require.Empty(t, p.notes(t, "ada", "between"), "between two seasons no season window is missed")
		require.Equal(t, []string{"window-closed points 1"}, p.notes(t, "ada", "yesterday"))
		require.Equal(t, []string{"window-closed points 2"}, p.notes(t, "ada", "season"), "the day and the season")
		require.Equal(t, []string{"window-closed points 1"}, p.notes(t, "ada", "long-ago"), "a day that never was a row is over all the same")
		require.Equal(t, []string{"1 ada 1"}, p.ranks(t, "points", "2026-11-22"), "a late score does not leak into today")
		require.Equal(t, []string{"1 ada 1"}, p.ranks(t, "best", "all_time"))
		metrics := p.metrics(t)
		require.Equal(t, 4, metrics["event_to_rank_seconds"], "all of them count in best")
	})
}

func TestAScoreThatIsRankedNowhere(t *testing.T) {
	t.Parallel()
	rdb, _ := storetest.Miniredis(t)
	p := newPath(t, storetest.SQLite(t), rdb)
	p.layOut(t)
	none := accepted("ada", "none", "score_submitted", noon, map[string]any{"board": "points"})
	unknown := accepted("ada", "unknown", "score_submitted", noon, map[string]any{"board": "gone", "score": 5.0})
	_, err := p.progression.Apply(t.Context(), batch(t, none, unknown))
	require.NoError(t, err)
	require.Equal(t, []string{"field-type score 0"}, p.notes(t, "ada", "none"))
	require.Empty(t, p.rows(t, "entry"), "a score that is not there is not 0")
	require.Zero(t, p.metrics(t)["event_to_rank_seconds"])
}

// TestAScoreForOneWindow counts a score that names a window in that one alone, or nowhere.
func TestAScoreForOneWindow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		in := func(id, window string, at time.Time) event.Accepted {
			return accepted("ada", id, event.ScoreSubmitted, at, map[string]any{"board": "points", "score": 1.0, event.WindowID: window})
		}
		season := time.Date(2026, 11, 19, 12, 0, 0, 0, time.UTC)
		p.at(season)
		p.layOut(t)
		_, err := p.progression.Apply(t.Context(), batch(t, in("day", "2026-11-19", season), in("season", "s1", season), in("all", "all_time", season)))
		require.NoError(t, err)
		require.Equal(t, []string{"window-closed best 1"}, p.notes(t, "ada", "day"))
		require.Equal(t, []string{"window-closed best 1"}, p.notes(t, "ada", "season"))
		require.Equal(t, []string{"window-closed points 1"}, p.notes(t, "ada", "all"))
		require.Equal(t, []string{"1 ada 1"}, p.ranks(t, "points", "2026-11-19"))
		require.Equal(t, []string{"1 ada 1"}, p.ranks(t, "points", "s1"))
		require.Equal(t, []string{"1 ada 1"}, p.ranks(t, "best", "all_time"))

		p.at(time.Date(2026, 11, 20, 0, 5, 0, 0, time.UTC)) // the day and the season are over, and take late scores for a while
		p.layOut(t)
		last := time.Date(2026, 11, 19, 23, 59, 59, 0, time.UTC)
		today := time.Date(2026, 11, 20, 0, 1, 0, 0, time.UTC)
		events := batch(t,
			in("late", "s1", last), in("too-late", "s1", today), in("next", "2026-11-20", last), in("none", "", today), in("never", "2026-W47", today))
		for range 2 { // delivered twice
			_, err = p.progression.Apply(t.Context(), events)
			require.NoError(t, err)
			require.Equal(t, []string{"window-closed best 1"}, p.notes(t, "ada", "late"))
			for _, id := range []string{"too-late", "next", "none", "never"} {
				require.Equal(t, []string{"window-closed best 1", "window-closed points 1"}, p.notes(t, "ada", id), id)
			}
			require.Equal(t, []string{"1 ada 2"}, p.ranks(t, "points", "s1"))
			require.Equal(t, []string{"1 ada 1"}, p.ranks(t, "points", "2026-11-19"))
			require.Empty(t, p.ranks(t, "points", "2026-11-20"), "it does not leak into another window")
		}

		p.at(noon)
		p.layOut(t)
		_, err = p.progression.Apply(t.Context(), batch(t, in("over", "s1", last)))
		require.NoError(t, err)
		require.Equal(t, []string{"window-closed best 1", "window-closed points 1"}, p.notes(t, "ada", "over"))
	})
}

// TestEntriesKeepFieldsOfTheirScore finds what an entry keeps where it is read and where it is archived.
func TestEntriesKeepFieldsOfTheirScore(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		text := strings.NewReplacer(
			"windows: [all_time]}", "windows: [all_time], entry: [won, hero, level]}",
			"boss_killed: {every: 10s}", `boss_killed: {every: 10s}
  score_submitted:
    fields:
      won: {type: boolean, optional: true}
      hero: {type: string, length: 64, optional: true}
      level: {optional: true}
      other: {optional: true}`).Replace(game)
		var err error
		p.game, err = catalog.Parse([]byte(text))
		require.NoError(t, err)
		p.layOut(t)
		played := func(player, id string, score float64, data map[string]any) event.Accepted {
			data["board"], data["score"] = "points", score
			return accepted(player, id, event.ScoreSubmitted, noon, data)
		}
		hostile := strings.Repeat("\u0001\"\\", 400)
		_, err = p.progression.Apply(t.Context(), batch(t,
			played("ada", "a1", 5, map[string]any{"hero": "mage:\"x\"\n", "level": 3.0, "won": false, "other": 1.0}),
			played("ada", "a2", 4, map[string]any{"hero": "rogue"}),
			played("bob", "b1", 3, map[string]any{"hero": nil, "level": 0.5, "won": []any{}, "other": 1.0}),
			played("cyd", "c1", 2, map[string]any{"level": -9007199254740991.0, "hero": "\u00fc"}),
			played("eve", "e1", 1, map[string]any{"hero": hostile, "won": true}),
		))
		require.NoError(t, err)
		want := []string{`{"won":false,"hero":"mage:\"x\"\n","level":3}`, "", `{"hero":"` + "\u00fc" + `","level":-9007199254740991}`, ""}
		without, err := leaderboard.NewRanking(deadRedis(t), db, p.ranking.Entries, []byte(strings.Repeat("c", 32)))
		require.NoError(t, err)
		for name, r := range map[string]*leaderboard.Ranking{"redis": p.ranking, "sql": without} {
			page, err := r.Top(t.Context(), leaderboard.Query{Board: "best", Window: "all_time", Limit: 9})
			require.NoError(t, err)
			var got []string
			for _, row := range page.Rows {
				got = append(got, row.Metadata)
			}
			require.Equal(t, want, got, name)
		}
		page, err := p.ranking.Top(t.Context(), leaderboard.Query{Board: "points", Window: "2026-11-22", Limit: 1})
		require.NoError(t, err)
		require.Empty(t, page.Rows[0].Metadata, "this board keeps nothing")
		var kept []string
		require.NoError(t, p.ranking.Entries.Each(t.Context(), db.Queries, "best", "all_time", func(row leaderboard.Row) error {
			kept = append(kept, row.Metadata)
			return nil
		}))
		require.Equal(t, want, kept)
	})
}
