package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/erasure"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/gate"
	"liveops/core/journal"
	"liveops/core/leaderboard"
	"liveops/core/mailbox"
	"liveops/core/pipeline"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/signing"
	"liveops/core/store"
)

// noon lies between two seasons of the game.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// game is small enough to follow by hand. What is submitted to points counts on best too.
const game = `
version: 3
name: test
events:
  xp_gained: {fields: {amount: {min: 1, max: 100}, source: {enum: [match, quest]}}}
  boss_killed: {every: 10s}
xp: {table: [0, 100, 300]}
rewards: {levels: {2: {items: {gem: 2}}}}
bosses: {rat: {xp: 5}}
items: {gem: {stack: 10}}
boards:
  points: {operator: sum, order: desc, zone: UTC, windows: [daily, season]}
  best: {from: points, operator: best, order: desc, zone: UTC, windows: [all_time]}
seasons:
  - {id: s1, starts: 2026-11-01, ends: 2026-11-20}
  - {id: s2, starts: 2026-11-25, ends: 2026-12-25}
fairness:
  burst: {events: 5, per: 1s}
  sustained: {events: 100, per: 60s}
  block: 10m
  grace: 10m
`

// path is the whole path of an event on given stores, with a clock that stands until it is moved.
type path struct {
	clock    atomic.Pointer[time.Time]
	db       *store.DB
	redis    *redis.Client
	bus      *bus.Memory
	game     *catalog.Catalog
	registry *prometheus.Registry
	gate     *gate.Gate
	ranking  *leaderboard.Ranking
	rejected *rejected.Store
	hidden   *hidden
	winners  *winners

	gateway     *pipeline.Gateway
	fairness    *pipeline.Fairness
	progression *pipeline.Progression
	archive     *pipeline.Archive
	rewards     *pipeline.Rewards
	reversals   *pipeline.Reversals
	redrive     *pipeline.Redrive
	cases       *pipeline.Cases
}

// hidden is rankings that know whom they hide and nothing else.
type hidden struct {
	mu      sync.Mutex
	players map[string]bool
	err     error
	calls   int // of Hide and Show
}

func (h *hidden) set(player string, hide bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	if h.players == nil {
		h.players = map[string]bool{}
	}
	h.calls++
	if h.players[player] = hide; !hide {
		delete(h.players, player)
	}
	return nil
}

func (h *hidden) Hide(_ context.Context, player string) error { return h.set(player, true) }

func (h *hidden) Show(_ context.Context, player string) error { return h.set(player, false) }

func (h *hidden) Hidden(context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.players)), h.err
}

// winners remembers what was granted, and refuses to grant a place twice otherwise than before.
type winners struct {
	mu      sync.Mutex
	granted map[string]string // board, window and player to rank and tier
	calls   int
}

func (r *winners) Grant(_ context.Context, h season.Header, wins []season.Win) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.granted == nil {
		r.granted = map[string]string{}
	}
	r.calls++
	for _, w := range wins {
		key, win := h.Board+" "+h.ID+" "+w.Player, fmt.Sprintf("rank %d tier %d", w.Rank, w.TierNumber)
		if before, again := r.granted[key]; again && before != win {
			return fmt.Errorf("%s had %s and is to have %s", key, before, win)
		}
		r.granted[key] = win
	}
	return nil
}

// newPath wires a path. The broker detects no duplicates, so that what comes twice is seen to come twice.
func newPath(t testing.TB, db *store.DB, rdb *redis.Client) *path {
	t.Helper()
	p := &path{db: db, redis: rdb, registry: prometheus.NewRegistry()}
	p.at(noon)
	var err error
	p.game, err = catalog.Parse([]byte(game))
	require.NoError(t, err)
	p.bus = bus.NewMemory(p.now, bus.Queue{Name: "events", MaxDeliveryCount: 2}, bus.Queue{Name: "progression", MaxDeliveryCount: 2})
	current := func() *catalog.Catalog { return p.game }
	metrics := pipeline.NewMetrics(p.registry, "events", "progression")
	p.gate = &gate.Gate{Redis: rdb, Catalog: current, Now: p.now}
	p.rejected = &rejected.Store{DB: db, Now: p.now}
	entries := leaderboard.Entries{Boards: func(name string) (catalog.Board, bool) { return p.game.Board(name) }}
	p.ranking, err = leaderboard.NewRanking(rdb, db, entries, []byte(strings.Repeat("c", 32)))
	require.NoError(t, err)
	receipts, err := receipt.NewKeys(receipt.Key{ID: "r1", Secret: []byte(strings.Repeat("r", 32))})
	require.NoError(t, err)
	sealer, err := season.NewSealer(season.Key{Secret: []byte(strings.Repeat("a", 32))})
	require.NoError(t, err)
	p.winners = &winners{}
	windows := &season.Windows{
		DB: db, Now: p.now, Grace: func() time.Duration { return p.game.Fairness.Grace.Std() }, Catalog: current,
		Standings: pipeline.Standings{Entries: entries, DB: db, Log: slog.New(slog.DiscardHandler)}, Rewards: p.winners, Sealer: sealer, Owner: "test",
	}

	p.ranking.Served = pipeline.Served(windows)

	p.gateway = &pipeline.Gateway{
		Catalog: current, Gate: p.gate, Bus: p.bus, Queue: "events", Now: p.now, Log: slog.New(slog.DiscardHandler),
	}
	records := &fairness.Records{DB: db, Now: p.now}
	p.hidden = &hidden{}
	sanctions := &pipeline.Sanctions{Records: records, Gate: p.gate, Rankings: p.hidden}
	p.cases = &pipeline.Cases{Records: records, Sanctions: sanctions, Metrics: metrics}
	p.fairness = &pipeline.Fairness{
		Catalog: current,
		Ladder: &fairness.Ladder{
			States: fairness.RedisStates{Redis: rdb}, Baselines: fairness.StoredBaselines{Redis: rdb, DB: db}, Catalog: current, Now: p.now,
		},
		Records: records, Sanctions: sanctions, Journal: &journal.Journal{DB: db},
		Rejected: p.rejected, Bus: p.bus, Queue: "progression", Metrics: metrics,
		Log: slog.New(slog.DiscardHandler),
	}
	ledger := &progression.Ledger{DB: db, Catalog: current, Now: p.now}
	mailbox := &mailbox.Mailbox{DB: db, Now: p.now}
	p.progression = &pipeline.Progression{
		Catalog: current, Ledger: ledger, Players: &progression.Cache{Redis: rdb, Ledger: ledger}, Mailbox: mailbox, Receipts: func() *receipt.Keys { return receipts }, Windows: windows,
		Entries: entries, Ranking: p.ranking, Rejected: p.rejected, Metrics: metrics, Now: p.now, Log: slog.New(slog.DiscardHandler),
	}
	p.rewards = &pipeline.Rewards{
		Catalog: current, Ledger: ledger, Players: p.progression.Players, Receipts: func() *receipt.Keys { return receipts }, Mailbox: mailbox,
		Metrics: metrics, Now: p.now,
	}
	p.reversals = &pipeline.Reversals{
		Ledger: ledger, Players: p.progression.Players, Receipts: func() *receipt.Keys { return receipts }, Mailbox: mailbox, Metrics: metrics,
	}
	p.archive = &pipeline.Archive{
		Catalog: current, Windows: windows, Ledger: ledger, Ranking: p.ranking, Metrics: metrics,
		Journal: p.fairness.Journal, Mailbox: p.rewards.Mailbox, Log: slog.New(slog.DiscardHandler),
		Restore: &pipeline.Restore{
			Catalog: current, Windows: windows, Ranking: p.ranking, Sanctions: sanctions, Now: p.now, Log: slog.New(slog.DiscardHandler),
		},
	}
	p.archive.Erasures = &pipeline.Erasures{
		DB: db, Requests: &erasure.Requests{DB: db, Now: p.now, Grace: func() time.Duration { return p.game.Privacy.Grace.Std() }},
		Ledger: ledger, Players: p.progression.Players, Windows: windows, Entries: entries, Ranking: p.ranking, Rejected: p.rejected, Records: records,
		States: fairness.RedisStates{Redis: rdb}, Gate: p.gate, Metrics: metrics, Log: slog.New(slog.DiscardHandler),
	}
	p.redrive = &pipeline.Redrive{
		Bus: p.bus, Queues: []string{"events", "progression"}, Rejected: p.rejected, Metrics: metrics, Wait: 300 * time.Millisecond,
	}
	return p
}

func (p *path) now() time.Time { return *p.clock.Load() }

func (p *path) at(now time.Time) { p.clock.Store(&now) }

// stage is one of the stages behind a queue.
type stage func(ctx context.Context, batch []bus.Message) (pipeline.Outcome, error)

// take gives a stage everything its queue holds, as the Functions host does: the batch is completed when the stage succeeds
// and given back when it fails.
func (p *path) take(t *testing.T, queue string, run stage) error {
	t.Helper()
	counts, err := p.bus.Counts(queue)
	require.NoError(t, err)
	if counts.Active == 0 {
		return nil
	}
	deliveries, err := p.bus.Receive(t.Context(), queue, 1000)
	require.NoError(t, err)
	var batch []bus.Message
	for _, d := range deliveries {
		batch = append(batch, d.Message)
	}
	_, failed := run(t.Context(), batch)
	for _, d := range deliveries {
		if failed != nil {
			require.NoError(t, p.bus.Abandon(t.Context(), queue, d))
		} else {
			require.NoError(t, p.bus.Complete(t.Context(), queue, d))
		}
	}
	return failed
}

// settle runs both stages until the queues are empty.
func (p *path) settle(t *testing.T) {
	t.Helper()
	require.NoError(t, p.take(t, "events", p.fairness.Judge))
	require.NoError(t, p.take(t, "progression", p.progression.Apply))
}

// layOut makes the windows, as the application does when it starts.
func (p *path) layOut(t testing.TB) {
	t.Helper()
	_, err := p.archive.Sweep(t.Context())
	require.NoError(t, err)
}

// queued gives what waits in a queue.
func (p *path) queued(t *testing.T, queue string) []bus.Message {
	t.Helper()
	deliveries, err := p.bus.Peek(queue, 0, 1000)
	require.NoError(t, err)
	var messages []bus.Message
	for _, d := range deliveries {
		messages = append(messages, d.Message)
	}
	return messages
}

// metrics gives every counter and gauge that is not 0, and the count of every histogram, by name and labels.
func (p *path) metrics(t *testing.T) map[string]int {
	t.Helper()
	families, err := p.registry.Gather()
	require.NoError(t, err)
	values := map[string]int{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			if v := int(m.GetCounter().GetValue()) + int(m.GetGauge().GetValue()) + int(m.GetHistogram().GetSampleCount()); v != 0 {
				values[name] = v
			}
		}
	}
	return values
}

// state is every row of every table that the path writes. times is left out: it counts how often a message was rejected.
func (p *path) state(t *testing.T) []string {
	t.Helper()
	var rows []string
	for table, columns := range map[string]string{
		"player":            "player_id, xp, level, entries",
		"ledger":            "player_id, event_id, kind, entry_no, event_type, item_id, delta, balance, level_before, level_after, COALESCE(notes, '')",
		"item":              "player_id, item_id, quantity",
		"mail":              "player_id, mail_id, source, event_id, ref, board, window_id, position, tied_position, xp, items, sent_at, expires_at, ended_at",
		"tally":             "player_id, subject, period, amount",
		"reversal":          "player_id, event_id, reversal_id, actor, reason, reversed_at",
		"receipt":           "player_id, event_id, receipt_id, token, issued_at",
		"entry":             "board, window_id, player_id, score, total, achieved_at, seq, event_id, version",
		"rejected":          "id, stage, message_id, player_id, event_id, code, detail, body, first_at, last_at",
		"fairness_decision": "decision_id, player_id, event_id, verdict, rule, rule_version, mode, evidence, decided_at, catalog_version",
		"conduct":           "player_id, points, points_at, throttled, throttled_at, blocks, blocked_until, case_id",
		"sanction":          "player_id, kind, decision_id, case_id, reason, actor, starts_at, lifted_at, until_at",
		"fairness_case":     "case_id, player_id, state, opened_at, opened_by, reason, decision_id, points, ended_at, ended_by",
		"case_action":       "action_id, case_id, acted_at, actor, action, remark, until_at, fingerprint",
		"board_window":      "board, window_id, state",
		"archive":           "board, window_id, entries, top_player, top_score, sequence",
		"archive_entry":     "board, window_id, position, tied_position, player_id, score, achieved_at, event_id, metadata",
	} {
		width := strings.Count(strings.ReplaceAll(columns, "notes, ''", "notes"), ",") + 1
		err := p.db.Each(t.Context(), "SELECT "+columns+" FROM "+table, nil, func(scan func(...any) error) error {
			values, into := make([]string, width), make([]any, width)
			for i := range values {
				into[i] = &values[i]
			}
			err := scan(into...)
			rows = append(rows, table+": "+strings.Join(values, " | "))
			return err
		})
		require.NoError(t, err)
	}
	slices.Sort(rows)
	return rows
}

// rows are the rows of state of one table.
func (p *path) rows(t *testing.T, table string) []string {
	t.Helper()
	return slices.DeleteFunc(p.state(t), func(row string) bool { return !strings.HasPrefix(row, table+": ") })
}

// ranks is a window as it is read, in order: rank, player, score.
func (p *path) ranks(t *testing.T, board, window string) []string {
	t.Helper()
	page, err := p.ranking.Top(t.Context(), leaderboard.Query{Board: board, Window: window, Limit: 100})
	require.NoError(t, err)
	ranks := []string{}
	for _, r := range page.Rows {
		ranks = append(ranks, fmt.Sprintf("%d %s %d", r.Rank, r.Player, r.Score))
	}
	return ranks
}

// deadDB is a database that is out of reach.
func deadDB(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open("sqlite:" + filepath.Join(t.TempDir(), "dead.db"))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	return db
}

// deadRedis is a Redis that is out of reach.
func deadRedis(t *testing.T) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DisableIdentity: true})
	require.NoError(t, rdb.Close())
	return rdb
}

var errDown = errors.New("down")

func text(id, player, kind string, at time.Time, data string) string {
	return fmt.Sprintf(`{"event_id":%q,"type":%q,"player_id":%q,"occurred_at":%q,"data":%s}`, id, kind, player, at.Format(time.RFC3339Nano), data)
}

func xpText(id, player string, amount int) string {
	return text(id, player, event.XPGained, noon, fmt.Sprintf(`{"amount":%d,"source":"match"}`, amount))
}

func accepted(player, id, kind string, at time.Time, data map[string]any) event.Accepted {
	return event.Accepted{
		Event: event.Event{ID: id, Type: kind, PlayerID: player, OccurredAt: at, Data: data}, At: at, ReceivedAt: noon, KeyID: "server",
	}
}

func xp(player, id string, amount int) event.Accepted {
	return accepted(player, id, event.XPGained, noon, map[string]any{"amount": float64(amount), "source": "match"})
}

func scored(player, id string, score int, at time.Time) event.Accepted {
	return accepted(player, id, event.ScoreSubmitted, at, map[string]any{"board": "points", "score": float64(score)})
}

// message is an event as it travels.
func message(t testing.TB, e event.Accepted) bus.Message {
	t.Helper()
	body, err := e.Encode()
	require.NoError(t, err)
	return bus.Message{ID: e.Identity(), Body: body, ContentType: "application/json"}
}

func batch(t testing.TB, events ...event.Accepted) []bus.Message {
	t.Helper()
	messages := make([]bus.Message, len(events))
	for i, e := range events {
		messages[i] = message(t, e)
	}
	return messages
}

func key(class signing.Class) signing.Key { return signing.Key{ID: "k-" + string(class), Class: class} }

// submission is a signed request with a new nonce.
func submission(idempotency string, batch bool, body string) pipeline.Submission {
	return pipeline.Submission{
		Key: key(signing.Server), Route: "POST /v1/events", Batch: batch,
		Request: signing.Request{
			Method: "POST", Path: "/v1/events", IdempotencyKey: idempotency, Nonce: signing.NewNonce(), Body: []byte(body),
		},
	}
}

func batchText(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }

// asStage makes a stage of a function that has no outcome.
func asStage(run func(context.Context, []bus.Message) error) stage {
	return func(ctx context.Context, batch []bus.Message) (pipeline.Outcome, error) { return nil, run(ctx, batch) }
}

// pipelineOutcome prints an outcome as the log line has it.
type pipelineOutcome pipeline.Outcome

func (o pipelineOutcome) String() string { return fmt.Sprint([]slog.Attr(o)) }
