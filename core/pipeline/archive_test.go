package pipeline_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/leaderboard"
	"liveops/core/pipeline"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func TestArchiveKeepsTheRanking(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.serve(p.ranking)
		outcome, err := p.archive.Sweep(t.Context())
		require.NoError(t, err)
		// Three days, the season to come, and all time.
		require.Equal(t, "[windows_added=5 windows_closed=0 windows_frozen=0 windows_archived=0 windows_rewarded=0 windows_purged=0 events_purged=0 mails_purged=0 players_erased=0 windows_failed=0 players_compared=0 players_drifted=0 entries_compared=0 entries_drifted=0]", pipelineOutcome(outcome).String())
		_, err = p.progression.Apply(t.Context(), batch(t,
			scored("ada", "a", 5, noon.Add(time.Second)), scored("bob", "b", 5, noon), scored("cyd", "c", 9, noon), scored("dan", "d", 1, noon)))
		require.NoError(t, err)
		want := p.ranks(t, "points", "2026-11-22")
		require.Equal(t, []string{"1 cyd 9", "2 bob 5", "3 ada 5", "4 dan 1"}, want)

		midnight := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		for _, step := range []struct {
			at    time.Duration
			state season.State
			total int
		}{{-time.Millisecond, season.Open, 0}, {0, season.Closing, 1}, {10*time.Minute - time.Millisecond, season.Closing, 1}, {10 * time.Minute, season.Rewarded, 4}, {11 * time.Minute, season.Rewarded, 4}} {
			p.at(midnight.Add(step.at))
			_, err := p.archive.Sweep(t.Context())
			require.NoError(t, err)
			w, err := p.archive.Windows.Get(t.Context(), "points", "2026-11-22")
			require.NoError(t, err)
			require.Equal(t, step.state, w.State, "%s after midnight", step.at)
			require.Equal(t, step.total, p.metrics(t)["window_closes_total"], "%s after midnight", step.at)
			require.Positive(t, p.metrics(t)["windows state="+string(step.state)], "%s after midnight", step.at)
			require.Zero(t, p.metrics(t)["window_close_overdue_seconds"], "%s after midnight", step.at)
			require.Zero(t, p.metrics(t)["season_ends_timestamp_seconds"], "%s after midnight", step.at)
		}
		p.at(time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC))
		p.layOut(t)
		require.EqualValues(t, time.Date(2026, 12, 25, 0, 0, 0, 0, time.UTC).Unix(), p.metrics(t)["season_ends_timestamp_seconds"])
		header, err := p.archive.Windows.Archive(t.Context(), "points", "2026-11-22")
		require.NoError(t, err)
		require.Equal(t, int64(4), header.Entries)
		require.Equal(t, 3, header.CatalogVersion)
		page, err := p.archive.Windows.Page(t.Context(), "points", "2026-11-22", 0, 10)
		require.NoError(t, err)
		var got []string
		var tied []int64
		for _, s := range page {
			got = append(got, fmt.Sprintf("%d %s %d", s.Rank, s.Player, s.Score))
			tied = append(tied, s.TiedRank)
		}
		require.Equal(t, want, got)
		require.Equal(t, []int64{1, 2, 2, 4}, tied)

		keys, err := rdb.Keys(t.Context(), "rank:{points:2026-11-22}*").Result()
		require.NoError(t, err)
		require.Empty(t, keys, "the projection is gone")
		keys, err = rdb.Keys(t.Context(), "rank:{best:all_time}*").Result()
		require.NoError(t, err)
		require.NotEmpty(t, keys, "and only that one")
		require.Len(t, p.rows(t, "archive_entry"), 4)
		for _, row := range p.rows(t, "entry") {
			require.NotContains(t, row, "2026-11-22", "the archive has it")
		}
		require.Len(t, p.rows(t, "entry"), 4, "of all time")
	})
}

// served is rankings as Redis holds them when they are complete: the players in order of their members. It compares the player
// and the score of every row.
type served struct {
	redis *redis.Client
	calls atomic.Int64
	err   error
	stays error // of Drop
}

// serve has ranks served from rankings until the archive answers.
func (p *path) serve(from pipeline.Rankings) {
	standings := p.archive.Windows.Standings.(pipeline.Standings)
	standings.Rankings, standings.Log = from, p.archive.Log
	p.archive.Windows.Standings = standings
}

func (s *served) Agree(ctx context.Context, board, window string, from int64, rows []leaderboard.Row) (int64, bool, error) {
	s.calls.Add(1)
	if s.err != nil || len(rows) > 1000 {
		return 0, false, s.err
	}
	order, err := s.redis.ZRangeWithScores(ctx, fmt.Sprintf("rank:{%s:%s}:order", board, window), from, from+int64(len(rows))-1).Result()
	if err != nil || from == 0 && len(order) == 0 {
		return 0, false, err
	}
	mismatches := int64(0)
	for i, row := range rows {
		if i >= len(order) || !strings.HasSuffix(order[i].Member.(string), row.Player) || int64(math.Abs(order[i].Score)) != row.Score {
			mismatches++
		}
	}
	return mismatches, true, nil
}

func (s *served) Drop(ctx context.Context, board, window string) error {
	if s.stays != nil {
		return s.stays
	}
	return s.redis.Del(ctx, fmt.Sprintf("rank:{%s:%s}:order", board, window)).Err()
}

func TestArchiveIsComparedWithTheRanking(t *testing.T) {
	t.Parallel()
	order := "rank:{points:2026-11-22}:order"
	for name, test := range map[string]struct {
		tamper     func(t *testing.T, p *path, s *served)
		mismatches string // as the header has it
		gauge      int
		log        string
	}{
		"the same": {func(*testing.T, *path, *served) {}, "0", 0, ""},
		"a wrong score": {func(t *testing.T, p *path, _ *served) {
			require.NoError(t, p.redis.ZIncrBy(t.Context(), order, -1, p.redis.ZRange(t.Context(), order, 0, 0).Val()[0]).Err())
		}, "1", 1, "level=WARN msg=\"archive mismatch\" board=points window=2026-11-22 entries=1 of=1500\n"},
		"one is missing": {func(t *testing.T, p *path, _ *served) {
			require.NoError(t, p.redis.ZRem(t.Context(), order, p.redis.ZRange(t.Context(), order, 1400, 1400).Val()[0]).Err())
		}, "100", 100, "level=WARN msg=\"archive mismatch\" board=points window=2026-11-22 entries=100 of=1500\n"},
		"all is gone": {func(t *testing.T, p *path, _ *served) {
			require.NoError(t, p.redis.Del(t.Context(), order).Err())
		}, "none", 0, "level=WARN msg=\"an archive is not compared with the ranking\" board=points window=2026-11-22 from=0\n"},
		"Redis is down": {func(_ *testing.T, _ *path, s *served) {
			s.err = fault.RedisUnavailable.Errorf("gone")
		}, "none", 0, "level=WARN msg=\"an archive is not compared with the ranking\" board=points window=2026-11-22 from=0 error=\"redis-unavailable: gone\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
				p := newPath(t, db, rdb)
				p.layOut(t)
				s := &served{redis: rdb}
				var log bytes.Buffer
				p.archive.Log = slog.New(slog.NewTextHandler(&log, nil))
				p.serve(s)
				for from := 0; from < 1500; from += 500 {
					var events []event.Accepted
					for i := from; i < from+500; i++ {
						events = append(events, scored(fmt.Sprintf("p%04d", i), "e", i/3+1, noon.Add(time.Duration(i)*time.Millisecond)))
					}
					_, err := p.progression.Apply(t.Context(), batch(t, events...))
					require.NoError(t, err)
				}
				test.tamper(t, p, s)
				p.at(time.Date(2026, 11, 23, 0, 10, 0, 0, time.UTC))
				_, err := p.archive.Sweep(t.Context())
				require.NoError(t, err)

				header, err := p.archive.Windows.Archive(t.Context(), "points", "2026-11-22")
				require.NoError(t, err)
				require.EqualValues(t, 1500, header.Entries)
				require.Equal(t, season.Rewarded, header.State)
				got := "none"
				if header.Mismatches != nil {
					got = fmt.Sprint(*header.Mismatches)
				}
				require.Equal(t, test.mismatches, got)
				require.Equal(t, test.gauge, p.gauge(t, "archive_mismatch_entries"))
				_, told, _ := strings.Cut(strings.TrimSuffix(log.String(), "\n"), " ") // without the time
				require.Equal(t, strings.TrimSuffix(test.log, "\n"), told)
				want := int64(2)
				if test.mismatches == "none" {
					want = 1 // and no page is tried after one that failed
				}
				require.Equal(t, want, s.calls.Load())
			})
		})
	}
}

// TestRankingGoesInTheEnd has a ranking stay because Redis is down when its window is archived: it goes with a later sweep, and only
// then is the window done with.
func TestRankingGoesInTheEnd(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := newPath(t, db, rdb)
		p.layOut(t)
		s := &served{redis: rdb, stays: fault.RedisUnavailable.Errorf("gone")}
		p.serve(s)
		_, err := p.progression.Apply(t.Context(), batch(t, scored("ada", "a", 5, noon)))
		require.NoError(t, err)
		p.at(time.Date(2026, 11, 23, 0, 10, 0, 0, time.UTC))
		const order = "rank:{points:2026-11-22}:order"
		for range 2 {
			_, err = p.archive.Sweep(t.Context())
			require.ErrorIs(t, err, fault.Unavailable)
			header, places := p.archived(t, "points", "2026-11-22")
			require.Equal(t, season.Archived, header.State)
			require.Equal(t, []string{"1 1 ada 5"}, places)
			require.EqualValues(t, 1, rdb.Exists(t.Context(), order).Val())
		}
		s.stays = nil
		_, err = p.archive.Sweep(t.Context())
		require.NoError(t, err)
		header, _ := p.archived(t, "points", "2026-11-22")
		require.Equal(t, season.Rewarded, header.State)
		require.Zero(t, rdb.Exists(t.Context(), order).Val())
	})
}

// TestArchiveAfterRedisWasLost closes a day on a Redis that is emptied while the day is closing, and again while it is frozen,
// beside one that never lost anything: the archive and what is granted are the same.
func TestArchiveAfterRedisWasLost(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		whole, _ := storetest.Miniredis(t)
		var archives, grants []any
		for lost, p := range map[bool]*path{false: newPath(t, storetest.SQLite(t), whole), true: newPath(t, db, rdb)} {
			p.game.Boards["points"] = prizes(p.game.Boards["points"])
			p.layOut(t)
			_, err := p.progression.Apply(t.Context(), batch(t,
				scored("ada", "a", 5, noon.Add(time.Second)), scored("bob", "b", 5, noon), scored("cyd", "c", 9, noon), scored("dan", "d", 1, noon)))
			require.NoError(t, err)
			for _, at := range []time.Duration{0, 5 * time.Minute, 10*time.Minute - time.Millisecond, 10 * time.Minute, 11 * time.Minute} {
				p.at(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC).Add(at))
				if lost {
					require.NoError(t, p.redis.FlushDB(t.Context()).Err())
				}
				_, err := p.archive.Sweep(t.Context())
				require.NoError(t, err)
				if at == 5*time.Minute { // late, and in time
					_, err := p.progression.Apply(t.Context(), batch(t, scored("dan", "d2", 5, noon)))
					require.NoError(t, err)
				}
			}
			header, order := p.archived(t, "points", "2026-11-22")
			require.Equal(t, []string{"1 1 cyd 9", "2 2 dan 6", "3 3 bob 5", "4 3 ada 5"}, order)
			statement, err := season.VerifySeal(p.archive.Windows.Sealer.PublicKeys(), header.Seal)
			require.NoError(t, err)
			v := season.NewVerifier(statement)
			require.NoError(t, p.archive.Windows.EachRow(t.Context(), "points", "2026-11-22", v.Row))
			require.NoError(t, v.End())
			archives = append(archives, append(p.rows(t, "archive"), p.rows(t, "archive_entry")...))
			grants = append(grants, p.winners.granted)
			require.Equal(t, map[string]string{
				"points 2026-11-22 cyd": "rank 1 tier 1", "points 2026-11-22 dan": "rank 2 tier 2",
			}, p.winners.granted)
			require.Equal(t, 1, p.winners.calls)
		}
		require.Equal(t, archives[0], archives[1])
		require.Equal(t, grants[0], grants[1])
	})
}

// prizes gives a board tiers for its days.
func prizes(b catalog.Board) catalog.Board {
	b.Rewards = map[string][]catalog.Tier{season.Daily: {{Rank: 1, XP: 10}, {Percent: 50, XP: 5}}}
	return b
}

// What stands in the way of one part of a tick is told, and what can be done is done.
func TestArchiveInTrouble(t *testing.T) {
	t.Parallel()
	t.Run("no Redis", func(t *testing.T) {
		t.Parallel()
		rdb, server := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.layOut(t)
		p.at(noon.Add(24 * time.Hour))
		server.SetError("LOADING gone")
		_, err := p.archive.Sweep(t.Context())
		require.ErrorIs(t, err, fault.RedisUnavailable)
		w, err := p.archive.Windows.Get(t.Context(), "points", "2026-11-22")
		require.NoError(t, err)
		require.Equal(t, season.Rewarded, w.State, "the archive needs no Redis")
		require.Equal(t, 4, p.metrics(t)["window_closes_total"])
	})
	t.Run("no database", func(t *testing.T) {
		t.Parallel()
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.archive.Windows.DB = deadDB(t)
		_, err := p.archive.Sweep(t.Context())
		require.ErrorIs(t, err, fault.DatabaseUnavailable)
	})
	t.Run("one window cannot be archived", func(t *testing.T) {
		t.Parallel()
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, storetest.SQLite(t), rdb)
		p.layOut(t)
		delete(p.game.Boards, "best") // keeps the windows of points
		_, err := p.db.Exec(t.Context(), "INSERT INTO board_window (board, window_id, cadence, starts_at, ends_at, state, changed_at, lease_owner, lease_until, fence) VALUES ('gone', '2026-11-22', 'daily', 0, 1, 'open', 0, '', 0, 0)")
		require.NoError(t, err)
		p.at(noon.Add(24 * time.Hour))
		_, err = p.archive.Sweep(t.Context())
		require.ErrorContains(t, err, "board gone")
		w, err := p.archive.Windows.Get(t.Context(), "points", "2026-11-22")
		require.NoError(t, err)
		require.Equal(t, season.Rewarded, w.State)
		metrics := p.metrics(t)
		require.Equal(t, 1, metrics["window_close_failures_total"])
		require.Equal(t, 1, metrics["windows state=frozen"], "the one that is stuck is told of, though the sweep failed")
		require.Equal(t, int(p.now().Sub(time.UnixMilli(1).Add(10*time.Minute)).Seconds()), metrics["window_close_overdue_seconds"])
	})
}

// drifting is a path with the entries of three players on three windows, whose archive compares all of them every tick.
func drifting(t *testing.T, db *store.DB, rdb *redis.Client) (*path, *bytes.Buffer) {
	t.Helper()
	p := newPath(t, db, rdb)
	var log bytes.Buffer
	p.archive.Log = slog.New(slog.NewTextHandler(&log, nil))
	p.ranking.Settle = time.Millisecond
	p.layOut(t)
	_, err := p.progression.Apply(t.Context(), batch(t, scored("ada", "a", 5, noon), scored("bob", "b", 5, noon), scored("cyd", "c", 9, noon), xp("ada", "x", 7)))
	require.NoError(t, err)
	require.Equal(t, []string{"1 cyd 9", "2 ada 5", "3 bob 5"}, p.ranks(t, "points", "2026-11-22"))
	require.Equal(t, []string{"1 cyd 9", "2 ada 5", "3 bob 5"}, p.ranks(t, "best", "all_time"))
	require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t))
	require.Empty(t, log.String())
	return p, &log
}

// drifts sweeps and gives what was found.
func (p *path) drifts(t *testing.T) string {
	t.Helper()
	outcome, err := p.archive.Sweep(t.Context())
	require.NoError(t, err)
	_, found, _ := strings.Cut(strings.Trim(pipelineOutcome(outcome).String(), "[]"), "windows_failed=0 ")
	return found
}

// gauge is the value of a gauge, which must be registered.
func (p *path) gauge(t *testing.T, name string) int {
	t.Helper()
	families, err := p.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return int(family.GetMetric()[0].GetGauge().GetValue())
		}
	}
	require.Fail(t, "no metric "+name)
	return 0
}

func TestArchiveFindsBalanceDrift(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p, log := drifting(t, db, rdb)
		require.Zero(t, p.gauge(t, "ledger_drift_players"))
		for _, statement := range []string{"UPDATE player SET xp = 8 WHERE player_id = 'ada'", "INSERT INTO item (player_id, item_id, quantity) VALUES ('ada', 'gem', 2), ('bob', 'gem', 1)"} {
			_, err := db.Exec(t.Context(), statement)
			require.NoError(t, err)
		}
		for range 2 { // it is told until somebody puts it right
			log.Reset()
			require.Equal(t, "players_compared=3 players_drifted=2 entries_compared=6 entries_drifted=0", p.drifts(t))
			require.Equal(t, 2, p.gauge(t, "ledger_drift_players"))
			require.Equal(t, 3, strings.Count(log.String(), "level=WARN msg=\"balance drift\""))
			require.Contains(t, log.String(), "player_id=ada item=\"\" balance=8 ledger=7\n")
			require.Contains(t, log.String(), "player_id=bob item=gem balance=1 ledger=0\n")
		}
		for _, statement := range []string{"UPDATE player SET xp = 7 WHERE player_id = 'ada'", "DELETE FROM item"} {
			_, err := db.Exec(t.Context(), statement)
			require.NoError(t, err)
		}
		require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t))
		require.Zero(t, p.gauge(t, "ledger_drift_players"))
	})
}

func TestArchiveRebuildsADriftedRanking(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p, log := drifting(t, db, rdb)
		p.serve(p.ranking)
		const order = "rank:{best:all_time}:order"
		want, err := rdb.ZRangeWithScores(t.Context(), order, 0, -1).Result()
		require.NoError(t, err)
		cyd := want[0].Member.(string)

		for name, tamper := range map[string]func() error{
			"another score": func() error { return rdb.ZIncrBy(t.Context(), order, 100, cyd).Err() },
			"no member":     func() error { return rdb.ZRem(t.Context(), order, cyd).Err() },
		} {
			log.Reset()
			require.NoError(t, tamper(), name)
			require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=1", p.drifts(t), name)
			require.Equal(t, 1, p.gauge(t, "leaderboard_drift_entries"), name)
			require.Contains(t, log.String(), "level=WARN msg=\"ranking drift\" board=best window=all_time entries=1 player_id=cyd\n", name)
			got, err := rdb.ZRangeWithScores(t.Context(), order, 0, -1).Result()
			require.NoError(t, err)
			require.Equal(t, want, got, name)
			require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t), name)
			require.Zero(t, p.gauge(t, "leaderboard_drift_entries"), name)
		}

		require.NoError(t, rdb.Del(t.Context(), rdb.Keys(t.Context(), "rank:{*").Val()...).Err())
		require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=6", p.drifts(t))
		require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t))

		p.at(time.Date(2026, 11, 23, 0, 5, 0, 0, time.UTC)) // the day is closing
		require.NoError(t, rdb.Del(t.Context(), rdb.Keys(t.Context(), "rank:{points*").Val()...).Err())
		require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=3", p.drifts(t))
		p.at(time.Date(2026, 11, 23, 0, 15, 0, 0, time.UTC)) // archived
		require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=3 entries_drifted=0", p.drifts(t))
		require.Empty(t, rdb.Keys(t.Context(), "rank:{points*").Val())
	})
}

// TestArchiveUnderWrites compares while everything that is compared changes.
func TestArchiveUnderWrites(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p, _ := drifting(t, db, rdb)
		p.ranking.Settle = 3 * time.Second // busy machines are slow between a commit and its projection
		var writers sync.WaitGroup
		errs := make([]error, 3)
		batches := make([][][]bus.Message, len(errs))
		for w := range batches {
			for i := range 30 {
				batches[w] = append(batches[w], batch(t,
					scored("ada", fmt.Sprintf("s%d-%d", w, i), i, noon), scored("bob", fmt.Sprintf("s%d-%d", w, i), i, noon),
					xp("cyd", fmt.Sprintf("x%d-%d", w, i), 1)))
			}
		}
		for w := range batches {
			writers.Go(func() {
				for _, b := range batches[w] {
					if _, errs[w] = p.progression.Apply(t.Context(), b); errs[w] != nil {
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { writers.Wait(); close(done) }()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			require.Equal(t, "players_compared=3 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t))
		}
		require.Equal(t, make([]error, len(errs)), errs)
		require.Zero(t, p.gauge(t, "ledger_drift_players"))
		require.Zero(t, p.gauge(t, "leaderboard_drift_entries"))
	})
}

// A sample is bounded, and the next tick goes on where it ended, also after a Redis that was away.
func TestArchiveComparesEverybodyInTurn(t *testing.T) {
	t.Parallel()
	rdb, server := storetest.Miniredis(t)
	p, _ := drifting(t, storetest.SQLite(t), rdb)
	var rows [][]any
	for i := range 250 {
		rows = append(rows, []any{fmt.Sprintf("p%03d", i), i % 200 / 199, 1, 0, 0, 0}) // p199 has 1 XP from nowhere
	}
	players := store.Table{Name: "player", Columns: []string{"player_id", "xp", "level", "entries", "created_at", "updated_at"}, Key: []string{"player_id"}}
	require.NoError(t, players.InsertMissing(t.Context(), p.db.Queries, rows))
	_, err := p.progression.Apply(t.Context(), batch(t, scored("p150", "s", 1, noon)))
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, "players_compared=100 players_drifted=0 entries_compared=6 entries_drifted=0", p.drifts(t))
		server.SetError("LOADING gone")
		_, err := p.archive.Sweep(t.Context())
		require.ErrorIs(t, err, fault.RedisUnavailable)
		server.SetError("")
		require.Equal(t, "players_compared=100 players_drifted=0 entries_compared=2 entries_drifted=0", p.drifts(t))
		require.Equal(t, "players_compared=53 players_drifted=1 entries_compared=0 entries_drifted=0", p.drifts(t))
	}
}
