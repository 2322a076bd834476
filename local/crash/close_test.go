package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"liveops/core/bus"
	"liveops/core/progression"
	"liveops/core/season"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/local/host"
	"liveops/local/oracle"
)

// TestKilledClosingAWindow kills the handler after every step that the timer function takes to close a window, and before every
// commit, and requires each time that whoever comes next brings the window to the same end: the same archive, which its seal
// proves, the same rewards, once, and nothing left of what was live. The same must come of it when another handler does all the
// rest while one stands still, when three ticks come at once, and when Redis is emptied meanwhile.
func TestKilledClosingAWindow(t *testing.T) {
	t.Parallel()
	servers(t)
	c := newCloser(t)
	calm := c.calm([]string{
		"mysql UPDATE board_window", "redis EVALSHA rank:", "mysql INSERT archive_entry", "mysql INSERT archive_block", "mysql INSERT archive",
		"mysql UPDATE archive_chain", "mysql INSERT mail", "mysql INSERT ledger", "mysql INSERT item", "mysql INSERT receipt", "redis UNLINK player:",
		"mysql DELETE entry", "redis UNLINK rank:",
	}, func() passage { return c.watch(&watcher{}) })
	require.Equal(t, closed, calm.outcome)
	t.Run("killed", func(t *testing.T) {
		c.t = t
		kills := 0
		for i, step := range calm.steps {
			if strings.HasPrefix(step, "mysql SET") { // it is about the connection and goes with it
				continue
			}
			moments := []string{after}
			if strings.HasPrefix(step, "mysql COMMIT") {
				moments = []string{before, after}
			}
			for _, when := range moments {
				point := c.watch(&watcher{at: &kill{step: i, when: when}})
				require.True(t, point.killed, "%s %s: the step was not reached, steps were %q", when, step, point.steps)
				require.Equal(t, calm.outcome, point.outcome, "killed %s %s", when, step)
				t.Logf("killed %-6s %2d %-32s same outcome", when, i+1, step)
				kills++
			}
		}
		t.Logf("%d kills", kills)
	})
	c.t = t
	other := c.start("2", []string{"fairness", "progression"})
	c.quiet()
	t.Run("overtaken", func(t *testing.T) {
		c.t = t
		for i, step := range calm.steps {
			if inTransaction(calm.steps[:i+1]) { // the other one would wait for its end
				continue
			}
			overtook := errors.New("the step was not reached")
			point := c.watch(&watcher{at: &kill{step: i, when: after}, then: func() { overtook = c.finish(other) }})
			require.NoError(t, overtook, "after %s, steps were %q", step, point.steps)
			require.Equal(t, calm.outcome, point.outcome, "overtaken after %s", step)
			t.Logf("overtaken after %2d %-32s same outcome", i+1, step)
		}
	})
	t.Run("at once", func(t *testing.T) {
		c.t = t
		for range 5 {
			c.play(c.open()...)
			c.end(time.Hour)
			var all errgroup.Group
			for _, h := range []*host.Host{c.host, c.host, other} {
				all.Go(func() error { return h.Trigger(t.Context(), "archive") })
			}
			require.NoError(t, all.Wait(), "to find another one at work is no error")
			require.NoError(t, c.finish(c.host))
			require.Equal(t, calm.outcome, c.outcome())
		}
	})
	t.Run("Redis emptied", func(t *testing.T) {
		c.t = t
		scores := c.open()
		c.play(scores[1:]...)
		c.end(time.Second)
		require.NoError(t, c.host.Trigger(t.Context(), "archive"))
		c.in(season.Closing)
		require.NoError(t, c.redis.FlushAll(t.Context()).Err())
		c.play(scores[0]) // late, and in time
		c.end(time.Hour)
		require.NoError(t, c.finish(c.host))
		require.Equal(t, calm.outcome, c.outcome())
	})
	c.t = t
	c.chain()
}

// closed is what is there of a window when it is closed. Of the players ann is ahead. Cid and bob have the same score, and cid
// had it first; so have dan and eve, at the same time. Guy, who has the best one, is hidden. What ann wins brings a level, and with it
// a crown too many.
const closed = `archive season 8 8 ann 90 1 mismatches 0 [{"rank":1,"xp":60,"items":{"crown":1,"cup":1}},{"rank":3,"xp":10,"items":{"coin":2},"claim":true},{"percent":60,"xp":5,"items":{"coin":1}}]
block 0
item ann coin 3
item ann crown 1
item ann cup 1
item dan coin 1
item eve coin 1
ledger ann item:crown crown 1 1 1 2
ledger ann item:cup cup 1 1 1 2
ledger ann level:2:item:coin coin 3 3 1 2
ledger ann xp  60 105 1 2 [{"code":"stack-full","ref":"level:2:item:crown","amount":1}]
ledger dan item:coin coin 1 1 1 1
ledger dan xp  5 5 1 1
ledger eve item:coin coin 1 1 1 1
ledger eve xp  5 5 1 1
mail bob window 3 2 10 {"coin":2} 2592000000
mail cid window 2 2 10 {"coin":2} 2592000000
place 1 1 ann 90 1795197544000 score8
place 2 2 cid 70 1795197540000 score1
place 3 2 bob 70 1795197542000 score4
place 4 4 dan 50 1795197541000 score3
place 5 4 eve 50 1795197541000 score2
place 6 6 fay 30 1795197542000 score5
place 7 7 gus 10 1795197543000 score7
place 8 8 hal 5 1795197540000 score0
player ann 105 2 7
player bob 0 1 1
player cid 0 1 1
player dan 5 1 3
player eve 5 1 3
player fay 0 1 1
player gus 0 1 1
player hal 0 1 1
receipt ann
receipt dan
receipt eve
window season rewarded  0`

// closer is a system that closes windows of the board cup, one after the other.
type closer struct {
	*stageUnderTest
	redis  *redis.Client // past the wire
	keys   jose.JSONWebKeySet
	prefix string   // of the players of the window that is closed now
	all    []string // windows so far
}

const hidden = "guy"

func newCloser(t *testing.T) *closer {
	t.Helper()
	c := &closer{stageUnderTest: newStage(t)}
	options, err := redis.ParseURL(c.cache.URL)
	require.NoError(t, err)
	c.redis = redis.NewClient(options)
	t.Cleanup(func() { _ = c.redis.Close() })
	require.NoError(t, c.api.get(t.Context(), "/v1/receipts/keys", &c.keys))
	var opened struct {
		Case string `json:"case_id"`
	}
	c.order("/v1/operations/cases", map[string]any{"player_id": hidden, "reason": "to see what becomes of it"}, &opened)
	c.order("/v1/operations/cases/"+opened.Case+"/shadow-ban", map[string]any{"reason": "to see what becomes of it"}, new(any))
	return c
}

// order has an operator do something.
func (c *closer) order(path string, body, into any) {
	c.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(c.t, err)
	status, answer, err := c.api.do(c.t.Context(), http.MethodPost, path, text, signing.NewNonce())
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, status, "%s", answer)
	require.NoError(c.t, json.Unmarshal(answer, into))
}

// window is the one that is closed now.
func (c *closer) window() string { return strings.TrimSuffix(c.prefix, "-") }

// open opens another window and gives the events that count in it.
func (c *closer) open() []accepted {
	c.t.Helper()
	c.prefix = c.next("cup")
	c.all = append(c.all, c.window())
	windows := store.Table{Name: "board_window", Columns: []string{
		"board", "window_id", "cadence", "starts_at", "ends_at", "state", "changed_at", "lease_owner", "lease_until", "fence",
	}}
	require.NoError(c.t, windows.Insert(c.t.Context(), c.db.Queries, [][]any{{
		"cup", c.window(), season.Season, start.Add(-2 * time.Hour).UnixMilli(), start.Add(24 * time.Hour).UnixMilli(), string(season.Open),
		start.UnixMilli(), "", 0, 0,
	}}))
	var events []accepted
	for i, s := range []struct {
		player string
		points int64
	}{{"hal", 5}, {"cid", 70}, {"eve", 50}, {"dan", 50}, {"bob", 70}, {"fay", 30}, {"ann", 80}, {"gus", 10}, {"ann", 90}} {
		events = append(events, cup(c.prefix+s.player, fmt.Sprint("score", i), s.points, i/2))
	}
	return append(events, cup(hidden, c.window(), 100, 0), xp(c.prefix+"ann", "before", 45))
}

// cup is a score at a second.
func cup(player, id string, points int64, second int) accepted {
	e := made(player, id, "score_submitted", map[string]any{"board": "cup", "score": points})
	e.At = oracle.Timestamp(start.Add(time.Duration(second-60) * time.Second))
	return e
}

// play brings events to their effect, and waits until nobody is at work.
func (c *closer) play(events ...accepted) {
	c.t.Helper()
	messages := make([]bus.Message, len(events))
	for i, e := range events {
		messages[i] = c.message(e)
	}
	c.publish(progressionQueue, messages...)
	c.handled()
	c.quiet()
}

// end has the window have ended some time ago.
func (c *closer) end(ago time.Duration) {
	c.t.Helper()
	_, err := c.db.Exec(c.t.Context(), "UPDATE board_window SET ends_at = ? WHERE board = 'cup' AND window_id = ?", c.now().Add(-ago).UnixMilli(), c.window())
	require.NoError(c.t, err)
}

func (c *closer) state() (state season.State, err error) {
	err = c.db.Row(c.t.Context(), "SELECT state FROM board_window WHERE board = 'cup' AND window_id = ?", []any{c.window()}, &state)
	return state, err
}

// in requires the window to be in a state.
func (c *closer) in(want season.State) {
	c.t.Helper()
	state, err := c.state()
	require.NoError(c.t, err)
	require.Equal(c.t, want, state)
}

// watch closes a window by the timer function under the eyes of a watcher, and has it finished when that was cut off.
func (c *closer) watch(w *watcher) passage {
	c.t.Helper()
	c.play(c.open()...)
	c.end(time.Hour)
	w.site, w.seen, w.more = c.site, map[string]int{}, func() {}
	w.path = path{first: "mysql START TRANSACTION", last: "redis INFO server"} // before it looks what is due, and with the last whether Redis was lost
	c.watcher.Store(w)
	err := c.host.Trigger(c.t.Context(), "archive")
	c.watcher.Store(nil)
	if w.at == nil || w.then != nil {
		require.NoError(c.t, err)
		c.in(season.Rewarded)
	}
	require.NoError(c.t, c.api.get(c.t.Context(), "/readyz", new(any)))
	require.NoError(c.t, c.finish(c.host))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcome = c.outcome()
	return w.passage
}

// finish has the timer function of a host tick until the window is closed. The lease of whoever was at work on it has run out.
func (c *closer) finish(h *host.Host) (err error) {
	late := await(c.t.Context(), "the window is closed", time.Minute, func() bool {
		var state season.State
		if state, err = c.state(); err != nil || state == season.Rewarded {
			return true
		}
		if _, err = c.db.Exec(c.t.Context(), "UPDATE board_window SET lease_until = 0 WHERE board = 'cup' AND window_id = ?", c.window()); err == nil {
			_ = h.Trigger(c.t.Context(), "archive") // what it could not do the next tick does
		}
		return err != nil
	})
	return errors.Join(err, late)
}

// inTransaction says whether a transaction is under way after some steps.
func inTransaction(steps []string) bool {
	for _, step := range slices.Backward(steps) {
		switch name, _, _ := strings.Cut(step, " #"); name {
		case "mysql SET TRANSACTION", "mysql START TRANSACTION":
			return true
		case "mysql COMMIT":
			return false
		}
	}
	return false
}

// outcome is all that there is of the window and its players, without their prefix.
func (c *closer) outcome() string {
	c.t.Helper()
	lines, reward := []string{}, progression.RewardID("cup", c.window())
	for _, q := range []struct {
		query string
		args  []any
	}{
		{"SELECT CONCAT_WS(' ', 'window', cadence, state, lease_owner, lease_until) FROM board_window WHERE board = 'cup' AND window_id = ?", []any{c.window()}},
		{`SELECT CONCAT_WS(' ', 'archive', cadence, entries, kept, top_player, top_score, catalog_version, 'mismatches', mismatches, tiers) FROM archive
			WHERE board = 'cup' AND window_id = ?`, []any{c.window()}},
		{`SELECT CONCAT_WS(' ', 'place', position, tied_position, player_id, score, achieved_at, event_id, NULLIF(metadata, '')) FROM archive_entry
			WHERE board = 'cup' AND window_id = ?`, []any{c.window()}},
		{"SELECT CONCAT_WS(' ', 'block', block) FROM archive_block WHERE board = 'cup' AND window_id = ?", []any{c.window()}},
		{"SELECT CONCAT_WS(' ', 'entry', player_id, score) FROM entry WHERE board = 'cup' AND window_id = ?", []any{c.window()}},
		{`SELECT CONCAT_WS(' ', 'ledger', player_id, kind, item_id, delta, balance, level_before, level_after, notes)
			FROM ledger WHERE event_id = ?`, []any{reward}},
		{"SELECT CONCAT_WS(' ', 'player', player_id, xp, level, entries) FROM player WHERE player_id LIKE ?", []any{c.prefix + "%"}},
		{"SELECT CONCAT_WS(' ', 'item', player_id, item_id, quantity) FROM item WHERE player_id LIKE ?", []any{c.prefix + "%"}},
		{"SELECT CONCAT_WS(' ', 'receipt', player_id) FROM receipt WHERE event_id = ?", []any{reward}},
		{`SELECT CONCAT_WS(' ', 'mail', player_id, source, position, tied_position, xp, items, expires_at - sent_at, claimed_at) FROM mail
			WHERE mail_id = ?`, []any{reward}},
	} {
		lines = append(lines, c.rows(q.query, q.args...)...)
	}
	keys, err := c.redis.Keys(c.t.Context(), "rank:{cup:"+c.window()+"}*").Result()
	require.NoError(c.t, err)
	lines = append(lines, keys...)
	slices.Sort(lines)
	c.verify()
	return strings.ReplaceAll(strings.Join(lines, "\n"), c.prefix, "")
}

// verify checks the archive as anybody does who has the public keys.
func (c *closer) verify() {
	c.t.Helper()
	status, file, err := c.api.do(c.t.Context(), http.MethodGet, "/v1/leaderboards/cup/archives/"+c.window()+"/export", nil, "")
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, status, "%s", file)
	verified, err := season.VerifyFile(c.keys, bytes.NewReader(file))
	require.NoError(c.t, err)
	require.Equal(c.t, c.window(), verified.Window)
	seals := c.rows("SELECT seal FROM archive WHERE board = 'cup' AND window_id = ?", c.window())
	require.Equal(c.t, []string{verified.Seal}, seals)
}

// chain checks that the archives of all windows follow each other as these were closed.
func (c *closer) chain() {
	c.t.Helper()
	statements, err := season.VerifyChain(c.keys, c.rows("SELECT seal FROM archive WHERE board = 'cup' ORDER BY sequence"))
	require.NoError(c.t, err)
	var chained []string
	for i, s := range statements {
		require.EqualValues(c.t, i+1, s.Sequence)
		chained = append(chained, s.Window)
	}
	require.Equal(c.t, c.all, chained)
}
