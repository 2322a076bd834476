package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/erasure"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/leaderboard"
	"liveops/core/pipeline"
	"liveops/core/progression"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/session"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

// champion stands between others in the order of ids, and has one that nothing else contains.
const champion = "m-champion-0f3a"

// contest is a path whose boards keep a field of the score, and whose days have winners.
func contest(t *testing.T, db *store.DB, rdb *redis.Client) *path {
	t.Helper()
	p := newPath(t, db, rdb)
	text := strings.NewReplacer(
		"windows: [daily, season]}", "windows: [daily, season], entry: [hero], hall_of_fame: 3, rewards: {daily: [{rank: 1, xp: 120, items: {gem: 3}, claim: true}, {percent: 100, xp: 5}]}}",
		"windows: [all_time]}", "windows: [all_time], entry: [hero]}",
		"boss_killed: {every: 10s}", "boss_killed: {every: 10s}\n  score_submitted: {fields: {hero: {type: string, length: 64, optional: true}}}",
	).Replace(game)
	var err error
	p.game, err = catalog.Parse([]byte(text))
	require.NoError(t, err)
	p.serve(p.ranking)
	p.archive.Windows.Rewards = p.rewards
	sanctions := &pipeline.Sanctions{Records: p.archive.Erasures.Records, Gate: p.gate, Rankings: p.ranking}
	p.archive.Restore.Sanctions, p.cases.Sanctions = sanctions, sanctions
	p.layOut(t)
	return p
}

// play submits a score, all of them in the same millisecond of the day.
func (p *path) play(t *testing.T, player, id string, score int, at time.Time) {
	t.Helper()
	e := accepted(player, id, event.ScoreSubmitted, at, map[string]any{"board": "points", "score": float64(score), "hero": "hero-of-" + player})
	_, err := p.progression.Apply(t.Context(), batch(t, e))
	require.NoError(t, err)
}

func (p *path) exports() *pipeline.Exports {
	return &pipeline.Exports{
		DB: p.db, Entries: p.ranking.Entries, Gate: p.gate, States: fairness.RedisStates{Redis: p.redis}, Now: p.now,
	}
}

// export gives an export's lines as they are and their counts by kind.
func (p *path) export(t *testing.T, player string) (text string, counts map[string]int, err error) {
	t.Helper()
	var out bytes.Buffer
	if err := p.exports().Write(t.Context(), player, &out); err != nil {
		require.Empty(t, out.String())
		return "", nil, err
	}
	counts = map[string]int{}
	var end struct {
		Counts map[string]int `json:"counts"`
	}
	for line := range strings.Lines(out.String()) {
		var one struct {
			Kind string          `json:"kind"`
			Data json.RawMessage `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &one), line)
		if counts[one.Kind]++; one.Kind == "end" {
			require.NoError(t, json.Unmarshal(one.Data, &end))
		}
	}
	require.True(t, counts["header"] == 1 && counts["end"] == 1)
	delete(counts, "header")
	delete(counts, "end")
	require.Equal(t, counts, end.Counts)
	return out.String(), counts, nil
}

// tables gives the columns of every table.
func tables(t *testing.T, db *store.DB) map[string][]string {
	t.Helper()
	query := "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid"
	if db.Dialect == store.MySQL {
		query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
	}
	found := map[string][]string{}
	require.NoError(t, db.Each(t.Context(), query, nil, func(scan func(...any) error) error {
		var table, column string
		err := scan(&table, &column)
		found[table] = append(found[table], column)
		return err
	}))
	return found
}

// everything is every value of the database and every key and value of Redis.
func everything(t *testing.T, db *store.DB, rdb *redis.Client) []string {
	t.Helper()
	var all []string
	for table, columns := range tables(t, db) {
		for _, column := range columns {
			require.NoError(t, db.Each(t.Context(), "SELECT "+column+" FROM "+table, nil, func(scan func(...any) error) error {
				var value []byte
				err := scan(&value)
				all = append(all, table+"."+column+": "+string(value))
				return err
			}))
		}
	}
	keys, err := rdb.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		kind, err := rdb.Type(t.Context(), key).Result()
		require.NoError(t, err)
		var value any
		switch kind {
		case "string":
			value, err = rdb.Get(t.Context(), key).Result()
		case "hash":
			value, err = rdb.HGetAll(t.Context(), key).Result()
		case "zset":
			value, err = rdb.ZRange(t.Context(), key, 0, -1).Result()
		default:
			require.Fail(t, "a key of an unknown type", "%s: %s", key, kind)
		}
		require.NoError(t, err)
		all = append(all, fmt.Sprintf("%s: %q", key, value))
	}
	return all
}

// requireNowhere searches every byte that is kept.
func requireNowhere(t *testing.T, p *path, words ...string) {
	t.Helper()
	for _, one := range everything(t, p.db, p.redis) {
		for _, word := range words {
			require.NotContains(t, one, word)
		}
	}
}

// erase asks, lets the grace pass and has everything done, the last pass too.
func (p *path) erase(t *testing.T, player string) {
	t.Helper()
	_, err := p.archive.Erasures.Requests.Ask(t.Context(), player, "server", "he asked")
	require.NoError(t, err)
	p.at(p.now().Add(p.game.Privacy.Grace.Std()))
	p.sweepAt(t, 0)
	p.forget(t)
}

// forget sweeps until every erasure is forgotten.
func (p *path) forget(t *testing.T) {
	t.Helper()
	for range 40 {
		p.sweepAt(t, time.Hour)
		if len(p.everyErasure(t)) == 0 {
			return
		}
	}
	require.Fail(t, "an erasure is not forgotten", "%v", p.everyErasure(t))
}

func (p *path) everyErasure(t *testing.T) []string {
	t.Helper()
	var players []string
	require.NoError(t, p.db.Each(t.Context(), "SELECT player_id FROM erasure", nil, func(scan func(...any) error) error {
		var player string
		err := scan(&player)
		players = append(players, player)
		return err
	}))
	return players
}

func (p *path) sweepAt(t *testing.T, later time.Duration) {
	t.Helper()
	p.at(p.now().Add(later))
	_, err := p.archive.Sweep(t.Context())
	require.NoError(t, err)
}

// verify holds every archive of points against its seal, and everybody's proof but of those who are left out, and gives the exported files.
func (p *path) verify(t *testing.T, but ...string) map[string]string {
	t.Helper()
	w, files := p.archive.Windows, map[string]string{}
	headers, err := w.Archives(t.Context(), "points", "", 0, 100)
	require.NoError(t, err)
	require.NotEmpty(t, headers)
	var seals []string
	for _, h := range slices.Backward(headers) {
		seals = append(seals, h.Seal)
		var file, table bytes.Buffer
		require.NoError(t, w.Export(t.Context(), h, &file))
		require.NoError(t, w.ExportCSV(t.Context(), h, &table))
		files[h.ID] = file.String() + table.String()
		_, err := season.VerifyFile(w.Sealer.PublicKeys(), &file)
		require.NoError(t, err)
		rows, err := w.Page(t.Context(), "points", h.ID, 0, 100)
		require.NoError(t, err)
		for _, row := range rows {
			proof, err := w.Proof(t.Context(), "points", h.ID, row.Player)
			require.NoError(t, err)
			text, err := proof.Encode()
			require.NoError(t, err)
			_, err = season.VerifyFile(w.Sealer.PublicKeys(), bytes.NewReader(text))
			require.NoError(t, err)
		}
	}
	_, err = season.VerifyChain(w.Sealer.PublicKeys(), seals)
	require.NoError(t, err)
	for _, file := range files {
		for _, word := range but {
			require.NotContains(t, file, word)
		}
	}
	return files
}

// places is a list of ranks in which whoever is no player is nobody in particular.
func places(rows []leaderboard.Ranked) []string {
	var list []string
	for _, r := range rows {
		if !event.ValidPlayerID(r.Player) || r.Player == champion {
			r.Player = "?"
		}
		list = append(list, fmt.Sprintf("%d %d %s %d %s", r.Rank, r.TiedRank, r.Player, r.Score, r.AchievedAt))
	}
	return list
}

// standing is a live window as Redis and as SQL show it.
func (p *path) standing(t *testing.T, board, window string) (fromRedis, fromSQL []string) {
	t.Helper()
	without, err := leaderboard.NewRanking(deadRedis(t), p.db, p.ranking.Entries, []byte(strings.Repeat("c", 32)))
	require.NoError(t, err)
	query := leaderboard.Query{Board: board, Window: window, Limit: 100}
	page, err := p.ranking.Top(t.Context(), query)
	require.NoError(t, err)
	other, err := without.Top(t.Context(), query)
	require.NoError(t, err)
	return places(page.Rows), places(other.Rows)
}

func (p *path) archivedOrder(t *testing.T, window string) []string {
	t.Helper()
	rows, err := p.archive.Windows.Page(t.Context(), "points", window, 0, 100)
	require.NoError(t, err)
	ranked := make([]leaderboard.Ranked, len(rows))
	for i, r := range rows {
		ranked[i] = leaderboard.Ranked{Player: r.Player, Score: r.Score, Rank: r.Rank, TiedRank: r.TiedRank, AchievedAt: r.AchievedAt}
	}
	return places(ranked)
}

// won has the champion win a day of ties, with something of his in every table, and play on in the live windows, tied too.
func (p *path) won(t *testing.T) {
	t.Helper()
	others := []string{"m-champion-0f39", "m-champion-0f3b", "a-first", "z-last", "n-else"}
	for i, player := range append(others, champion) {
		p.play(t, player, "won-"+player, 7, noon)
		p.play(t, player, "also-"+player, i%2, noon.Add(-time.Second))
	}
	_, err := p.progression.Apply(t.Context(), batch(t, xp(champion, "xp-"+champion, 100)))
	require.NoError(t, err)
	p.at(noon.Add(13 * time.Hour))
	p.sweepAt(t, 0)
	for _, player := range append(others, champion) {
		p.play(t, player, "next-"+player, 5, p.now())
	}
	ctx := t.Context()
	require.NoError(t, p.fairness.Journal.Record(ctx, []event.Accepted{xp(champion, "journal-"+champion, 1)}))
	require.NoError(t, p.rejected.Put(ctx, []rejected.Rejection{
		{Stage: "fairness", MessageID: champion + ".x", PlayerID: champion, EventID: "x-" + champion, Code: fault.MessageInvalid, Body: []byte(`{"player_id":"` + champion + `"}`)},
		{Stage: "fairness", MessageID: "y", Code: fault.MessageInvalid, Body: []byte(`{"player_id" : "` + champion + `", "at":`)},
		{Stage: "fairness", MessageID: "z", Code: fault.MessageInvalid, Body: []byte(`{"player_id":"a-first"}`)},
	}))
	records := p.archive.Erasures.Records
	_, err = records.Record(ctx, []fairness.Decision{{
		ID: fairness.DecisionID(champion, "d-"+champion), PlayerID: champion, EventID: "d-" + champion, Verdict: fairness.Flag, Rule: "history", Code: "history", At: noon,
		Evidence: []fairness.Finding{{Rule: "history"}},
	}}, p.game.Fairness)
	require.NoError(t, err)
	_, _, err = records.Open(ctx, champion, fairness.Order{Actor: "admin", Key: "1", Text: "look at " + champion})
	require.NoError(t, err)
	require.NoError(t, p.ranking.Hide(ctx, champion))
	require.NoError(t, p.ranking.Show(ctx, champion))
	_, err = p.gate.Enter(ctx, gate.Entry{
		KeyID: "server", Nonce: "nonce-nonce-nonce", Scope: "POST /v1/events", IdempotencyKey: "i",
		Players: []gate.Player{{ID: champion, Events: []gate.Event{{ID: "e", Type: event.XPGained}}}}, Sent: 1,
	})
	require.NoError(t, err)
	require.NoError(t, p.gate.Leave(ctx, gate.Pass{}, gate.Leaving{Accepted: []gate.Player{{ID: champion, Events: []gate.Event{{ID: "e"}}}}}))
	_, err = p.fairness.Ladder.States.Save(ctx, []fairness.Change{{Player: champion, After: []byte("state")}})
	require.NoError(t, err)
	_, err = p.progression.Players.Player(ctx, champion)
	require.NoError(t, err)
	_, err = (&session.Generations{DB: p.db, Now: p.now}).Revoke(ctx, champion, session.Order{Actor: "server", Key: "r1", Reason: "lost his phone"})
	require.NoError(t, err)
	_, err = p.progression.Apply(ctx, batch(t, xp(champion, "taken-"+champion, 1)))
	require.NoError(t, err)
	_, err = p.reversals.Reverse(ctx, progression.Order{Player: champion, EventID: "taken-" + champion, Actor: "admin", Reason: "by mistake of " + champion})
	require.NoError(t, err)
	_, err = p.db.Exec(ctx, "INSERT INTO tally (player_id, subject, period, amount) VALUES (?, 'boss:rat', '2026-11-22', 1)", champion)
	require.NoError(t, err)
}

// TestErasedChampion has somebody who won a day of ties forgotten. Nothing that others can check changes, and no byte of him is left.
func TestErasedChampion(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := contest(t, db, rdb)
		p.won(t)
		p.verify(t)
		archived := p.archivedOrder(t, "2026-11-22")
		require.Contains(t, archived[0], "1 1 ? 8")
		require.Contains(t, archived[1], "2 1 m-champion-0f3b 8")
		live := map[[2]string][]string{}
		for _, w := range [][2]string{{"points", "2026-11-23"}, {"best", "all_time"}} {
			fromRedis, fromSQL := p.standing(t, w[0], w[1])
			require.Equal(t, fromSQL, fromRedis)
			require.Len(t, fromSQL, 6)
			live[w] = fromSQL
		}
		text, counts, err := p.export(t, champion)
		require.NoError(t, err)
		require.Equal(t, map[string]int{
			"player": 1, "item": 1, "ledger": counts["ledger"], "tally": 1, "receipt": counts["receipt"], "mail": 1, "visibility": 1, "archived_place": 1, "won_window": 1,
			"rejected_event": 1, "recorded_event": 1, "decision": 1, "conduct": 1, "case": 1, "case_action": 1, "session": 1, "session_revocation": 1, "reversal": 1,
			"entry": 2, "gate": 2, "play_statistics": 1,
		}, counts)
		require.Contains(t, text, "hero-of-"+champion)
		require.NotContains(t, text, "a-first")

		// Straight away, while all windows are open, and later, when they are archived.
		_, err = p.archive.Erasures.Requests.Ask(t.Context(), champion, "server", "he asked "+champion)
		require.NoError(t, err)
		_, err = db.Exec(t.Context(), "UPDATE erasure SET due_at = 0, next_at = 0")
		require.NoError(t, err)
		p.sweepAt(t, 0)
		require.Equal(t, archived, p.archivedOrder(t, "2026-11-22"))
		for w, want := range live {
			fromRedis, fromSQL := p.standing(t, w[0], w[1])
			require.Equal(t, want, fromSQL)
			require.Equal(t, want, fromRedis)
		}
		_, counts, err = p.export(t, champion)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"session": 1, "session_revocation": 1, "erasure": 1}, counts, "until the last pass")
		q, err := p.archive.Erasures.Requests.Get(t.Context(), champion)
		require.NoError(t, err)
		require.Equal(t, erasure.Erased, q.State)
		require.Empty(t, q.Actor+q.Reason)
		_, err = p.progression.Players.Player(t.Context(), champion)
		require.ErrorIs(t, err, fault.PlayerNotFound)

		require.NoError(t, rdb.FlushDB(t.Context()).Err())
		for w, want := range live {
			require.NoError(t, p.ranking.Rebuild(t.Context(), w[0], w[1]))
			fromRedis, _ := p.standing(t, w[0], w[1])
			require.Equal(t, want, fromRedis)
		}
		// An event of his was still on its way.
		p.play(t, champion, "late-"+champion, 9, p.now())
		p.forget(t)
		require.Equal(t, archived, p.archivedOrder(t, "2026-11-22"))
		p.verify(t, champion, "won-m-champion-0f3a")
		requireNowhere(t, p, champion)
		_, _, err = p.export(t, champion)
		require.ErrorIs(t, err, fault.PlayerNotFound)
		drifts, err := p.archive.Ledger.Drift(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, drifts)
		famous, err := p.archive.Windows.HallOfFame(t.Context(), "points", "", 0, 10)
		require.NoError(t, err)
		require.NotEmpty(t, famous)
		require.Equal(t, 1, p.metrics(t)["erasures_total result=erased"])
		require.Equal(t, 1, p.metrics(t)["erasures_total result=forgotten"])
		require.Contains(t, strings.Join(p.rows(t, "rejected"), "\n"), "a-first")
	})
}

// TestErasureCut cuts an erasure at every point where anything looks at its context. The next pass does the rest.
func TestErasureCut(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := contest(t, db, rdb)
		p.won(t)
		archived := p.archivedOrder(t, "2026-11-22")
		_, live := p.standing(t, "points", "2026-11-23")
		_, err := p.archive.Erasures.Requests.Ask(t.Context(), champion, "server", "he asked")
		require.NoError(t, err)
		for looks, done := 0, false; !done; looks++ {
			require.Less(t, looks, 2000)
			_, err := db.Exec(t.Context(), "UPDATE erasure SET next_at = 0")
			require.NoError(t, err)
			_, err = p.archive.Erasures.Run(cutAfter(t.Context(), looks))
			done = err == nil
			require.NoError(t, rdb.Unlink(t.Context(), "rank:{points:2026-11-23}:rebuild").Err(), "a lease runs out; the embedded Redis has no clock")
			drifts, err := p.archive.Ledger.Drift(t.Context(), 10)
			require.NoError(t, err)
			require.Empty(t, drifts, looks)
			_, fromSQL := p.standing(t, "points", "2026-11-23")
			require.Equal(t, live, fromSQL, looks)
			require.Equal(t, archived, p.archivedOrder(t, "2026-11-22"))
		}
		require.NoError(t, p.ranking.Complete(t.Context(), "points", "2026-11-23"))
		fromRedis, _ := p.standing(t, "points", "2026-11-23")
		require.Equal(t, live, fromRedis)
		p.verify(t)
		p.forget(t)
		requireNowhere(t, p, champion)
	})
}

// cut is a context that ends after it was looked at a number of times.
type cut struct {
	context.Context
	mutex sync.Mutex
	left  int
	done  chan struct{}
	over  bool
}

func cutAfter(parent context.Context, looks int) *cut {
	return &cut{Context: parent, left: looks, done: make(chan struct{})}
}

func (c *cut) Done() <-chan struct{} {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.left--; c.left < 0 && !c.over {
		c.over = true
		close(c.done)
	}
	return c.done
}

func (c *cut) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// TestErasedWhileHePlays erases while batches of his and others' events go through, and while his windows are archived.
func TestErasedWhileHePlays(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := contest(t, db, rdb)
		p.won(t)
		_, err := p.archive.Erasures.Requests.Ask(t.Context(), champion, "server", "he asked")
		require.NoError(t, err)
		midnight := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
		_, err = db.Exec(t.Context(), "UPDATE erasure SET due_at = 0, next_at = 0")
		require.NoError(t, err)
		var group sync.WaitGroup
		failures := make(chan error, 100)
		group.Go(func() {
			for i := range 20 {
				_, err := p.progression.Apply(t.Context(), batch(t, scored(champion, fmt.Sprintf("during-%d", i), i, p.now()),
					scored("a-first", fmt.Sprintf("during-%d", i), i, p.now()), xp(champion, fmt.Sprintf("during-xp-%d", i), 1)))
				failures <- err
				if i == 10 {
					p.at(midnight.Add(20 * time.Minute))
				}
			}
		})
		group.Go(func() {
			for range 10 {
				_, err := p.archive.Sweep(t.Context())
				failures <- err
				_, err = db.Exec(t.Context(), "UPDATE erasure SET next_at = 0")
				failures <- err
			}
		})
		group.Wait()
		close(failures)
		for err := range failures {
			require.NoError(t, err)
		}
		p.forget(t)
		requireNowhere(t, p, champion)
		p.verify(t)
		drifts, err := p.archive.Ledger.Drift(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, drifts)
		for _, w := range [][2]string{{"best", "all_time"}} {
			require.NoError(t, p.ranking.Complete(t.Context(), w[0], w[1]))
			fromRedis, fromSQL := p.standing(t, w[0], w[1])
			require.Equal(t, fromSQL, fromRedis)
		}
	})
}

// TestErasureOfSomebodyBanned: he was nowhere to be seen, and neither is his alias. The ban goes with the id.
func TestErasureOfSomebodyBanned(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := contest(t, db, rdb)
		p.won(t)
		cases, _, err := p.archive.Erasures.Records.Cases(t.Context(), fairness.CaseFilter{Player: champion})
		require.NoError(t, err)
		_, err = p.cases.Act(t.Context(), cases[0].ID, fairness.Order{Actor: "admin", Key: "2", Kind: fairness.ActionBan, Text: "cheats"})
		require.NoError(t, err)
		_, want := p.standing(t, "points", "2026-11-23")
		require.Len(t, want, 5)
		_, err = p.archive.Erasures.Requests.Ask(t.Context(), champion, "server", "he asked")
		require.NoError(t, err)
		_, err = db.Exec(t.Context(), "UPDATE erasure SET due_at = 0, next_at = 0")
		require.NoError(t, err)
		p.sweepAt(t, 0)
		fromRedis, fromSQL := p.standing(t, "points", "2026-11-23")
		require.Equal(t, want, fromSQL)
		require.Equal(t, want, fromRedis)
		_, banned, err := p.archive.Erasures.Records.Banned(t.Context(), champion)
		require.NoError(t, err)
		require.False(t, banned)
		kept := p.rows(t, "case_action")
		require.Len(t, kept, 2, "what operators did stays")
		require.NotContains(t, strings.Join(kept, "\n"), "cheats")
		p.forget(t)
		requireNowhere(t, p, champion)
	})
}

// TestErasureCanBeCancelled: in the grace everything goes on, and once it began there is no way back.
func TestErasureCanBeCancelled(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		p := contest(t, db, rdb)
		p.won(t)
		requests, ctx := p.archive.Erasures.Requests, t.Context()
		require.ErrorIs(t, requests.Cancel(ctx, champion), fault.ErasureNotFound)
		first, err := requests.Ask(ctx, champion, "server", "he asked")
		require.NoError(t, err)
		require.Equal(t, p.now().Add(720*time.Hour), first.DueAt)
		p.sweepAt(t, time.Hour)
		p.play(t, champion, "plays-on", 1, p.now())
		again, err := requests.Ask(ctx, champion, "admin", "again")
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.NoError(t, requests.Cancel(ctx, champion))
		require.ErrorIs(t, requests.Cancel(ctx, champion), fault.ErasureNotFound)
		p.sweepAt(t, 721*time.Hour)
		state, err := p.archive.Ledger.Player(ctx, champion)
		require.NoError(t, err)
		require.NotZero(t, state.XP)

		p.erase(t, champion)
		requireNowhere(t, p, champion)
		p.erase(t, champion) // of whom nothing is known
		p.erase(t, "nobody-ever")
		requireNowhere(t, p, champion, "nobody-ever")
		_, err = requests.Ask(ctx, "somebody", "server", "x")
		require.NoError(t, err)
		p.sweepAt(t, 721*time.Hour)
		require.ErrorIs(t, requests.Cancel(ctx, "somebody"), fault.ErasureNotFound)
	})
}

// TestLargePlayersAreErasedInChunks: after every transaction the ledger adds up.
func TestLargePlayersAreErasedInChunks(t *testing.T) {
	t.Parallel()
	storetest.EachSQL(t, func(t *testing.T, db *store.DB) {
		rdb, _ := storetest.Miniredis(t)
		p := newPath(t, db, rdb)
		for i := range 5 {
			var events []event.Accepted
			for j := range 500 {
				events = append(events, xp(champion, fmt.Sprintf("e-%d-%d", i, j), 1))
			}
			_, err := p.archive.Ledger.Apply(t.Context(), events, nil)
			require.NoError(t, err)
		}
		for looks, done := 0, false; !done; looks++ {
			_, err := p.archive.Ledger.Erase(cutAfter(t.Context(), looks), champion, erasure.Alias())
			done = err == nil
			drifts, err := p.archive.Ledger.Drift(t.Context(), 10)
			require.NoError(t, err)
			require.Empty(t, drifts)
		}
		var rows, sum int64
		require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*), SUM(delta) FROM ledger WHERE item_id = ''", nil, &rows, &sum))
		require.Equal(t, []int64{2500, 2500}, []int64{rows, sum})
	})
}

// TestNoTableIsForgotten finds every table that names players in the schema itself. Each must have rows of the champion in this
// test, which export counts and erase removes: whoever adds a table comes by here.
func TestNoTableIsForgotten(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	rdb, _ := storetest.Miniredis(t)
	p := contest(t, db, rdb)
	p.won(t)
	cases, _, err := p.archive.Erasures.Records.Cases(t.Context(), fairness.CaseFilter{Player: champion})
	require.NoError(t, err)
	_, err = p.cases.Act(t.Context(), cases[0].ID, fairness.Order{Actor: "admin", Key: "2", Kind: fairness.ActionShadowBan, Text: "cheats"})
	require.NoError(t, err)
	_, err = p.archive.Erasures.Requests.Ask(t.Context(), champion, "server", "he asked")
	require.NoError(t, err)

	told := map[string]bool{"entry": true} // by Entries.Held
	for _, rows := range pipeline.Personal() {
		told[rows.Table] = true
	}
	for table, columns := range tables(t, db) {
		for _, column := range columns {
			if !strings.Contains(column, "player") {
				continue
			}
			require.True(t, told[table], "no export tells of %s.%s", table, column)
			var n int
			require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM "+table+" WHERE "+column+" = ?", []any{champion}, &n))
			require.Positive(t, n, "add a row to %s.%s, and see that it is erased", table, column)
		}
	}
	_, counts, err := p.export(t, champion)
	require.NoError(t, err)
	for _, rows := range pipeline.Personal() {
		require.Positive(t, counts[rows.Kind], "%s of %s", rows.Kind, rows.Table)
	}
	_, err = db.Exec(t.Context(), "UPDATE erasure SET due_at = 0, next_at = 0")
	require.NoError(t, err)
	p.sweepAt(t, 0)
	p.forget(t)
	requireNowhere(t, p, champion)
}

// TestErasureWithoutRedis waits for it, and tells nobody whom it is about.
func TestErasureWithoutRedis(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	rdb, _ := storetest.Miniredis(t)
	p := contest(t, db, rdb)
	p.won(t)
	_, err := p.archive.Erasures.Requests.Ask(t.Context(), champion, "server", "he asked")
	require.NoError(t, err)
	p.at(p.now().Add(721 * time.Hour))
	away := *p.archive.Erasures
	away.Gate = &gate.Gate{Redis: deadRedis(t), Catalog: p.gate.Catalog}
	_, err = away.Run(t.Context())
	require.ErrorIs(t, err, fault.RedisUnavailable)
	require.NotContains(t, err.Error(), champion)
	erased, err := p.archive.Erasures.Run(t.Context())
	require.NoError(t, err)
	require.Zero(t, erased, "it waits")
	p.at(p.now().Add(erasure.Retry))
	erased, err = p.archive.Erasures.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, erased)
}

// TestErasureWaitsForAnArchive leaves what an archive may be reading, and somebody banned as hidden as he was, until it is made.
func TestErasureWaitsForAnArchive(t *testing.T) {
	t.Parallel()
	for name, banned := range map[string]bool{"seen": false, "banned": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
				p := contest(t, db, rdb)
				p.won(t)
				ctx, records := t.Context(), p.archive.Erasures.Records
				if banned {
					cases, _, err := records.Cases(ctx, fairness.CaseFilter{Player: champion})
					require.NoError(t, err)
					_, err = p.cases.Act(ctx, cases[0].ID, fairness.Order{Actor: "admin", Key: "2", Kind: fairness.ActionBan, Text: "cheats"})
					require.NoError(t, err)
				}
				_, want := p.standing(t, "points", "2026-11-23")
				_, err := db.Exec(ctx, "UPDATE board_window SET state = 'frozen' WHERE board = 'points' AND window_id = '2026-11-23'")
				require.NoError(t, err)
				_, err = p.archive.Erasures.Requests.Ask(ctx, champion, "server", "he asked")
				require.NoError(t, err)
				_, err = db.Exec(ctx, "UPDATE erasure SET due_at = 0, next_at = 0")
				require.NoError(t, err)
				erased, err := p.archive.Erasures.Run(ctx)
				require.NoError(t, err)
				require.Zero(t, erased)
				require.Equal(t, 1, p.metrics(t)["erasures_total result=left"])
				_, is, err := records.Banned(ctx, champion)
				require.NoError(t, err)
				require.Equal(t, banned, is)
				_, fromSQL := p.standing(t, "points", "2026-11-23")
				require.Equal(t, want, fromSQL)

				p.sweepAt(t, 24*time.Hour)
				require.Equal(t, want, p.archivedOrder(t, "2026-11-23"))
				p.forget(t)
				require.Equal(t, want, p.archivedOrder(t, "2026-11-23"))
				p.verify(t, champion)
				requireNowhere(t, p, champion)
			})
		})
	}
}
