package stack_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/core/store/storetest"
	"liveops/local/oracle"
	"liveops/local/replay"
	"liveops/local/stack"
)

// backend is where a test's system keeps its state: on servers where both were found, embedded otherwise.
type backend struct {
	db, redis string
	bus       string // how the broker is reached
	settings  map[string]string
	stands    time.Time // where the clock stands, instead of running
}

// standing is the backend with a clock that stands still, which goes with the Redis in this process only.
func (b backend) standing(at time.Time) backend {
	b.redis, b.stands = "", at
	return b
}

// eachBackend runs a test on the embedded stand-ins and, where they are found, on real servers.
func eachBackend(t *testing.T, test func(t *testing.T, b backend)) {
	t.Helper()
	storetest.EachURL(t, func(t *testing.T, db, redis string) { test(t, backend{db: db, redis: redis}) })
}

// eachBus runs a test as eachBackend does, and once more over AMQP, as near to production as the machine allows.
func eachBus(t *testing.T, test func(t *testing.T, b backend)) {
	t.Helper()
	eachBackend(t, test)
	t.Run("servicebus", func(t *testing.T) {
		t.Parallel()
		b := realBackend(t)
		b.bus = stack.ServiceBus
		test(t, b)
	})
}

// realBackend prefers servers: a month of games is a lot for the stand-ins under the race detector.
func realBackend(t *testing.T) backend {
	t.Helper()
	db, redis := storetest.BestURLs(t)
	return backend{db: db, redis: redis}
}

// system is a whole system under test, with a clock that starts at the given time.
type system struct {
	*stack.Stack
	db    *store.DB
	clock func() time.Time
}

func start(t *testing.T, b backend, catalog string, now time.Time) *system {
	t.Helper()
	started := time.Now()
	clock := func() time.Time { return now.Add(time.Since(started)) }
	return startClock(t, b, catalog, clock)
}

func startClock(t *testing.T, b backend, catalog string, clock func() time.Time) *system {
	t.Helper()
	return startIn(t, b, catalog, t.TempDir(), clock)
}

func startIn(t *testing.T, b backend, catalog, data string, clock func() time.Time) *system {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	path := filepath.Join("testdata", catalog+".yaml")
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join("..", "..", "examples", catalog, "catalog.yaml")
	}
	settings := map[string]string{"BATCH_HOLD": "1s"} // for tests that wait for the end of an outage
	maps.Copy(settings, b.settings)
	running, err := stack.Start(t.Context(), stack.Options{
		Listen: "127.0.0.1:0", Data: data, Catalog: path, DBURL: b.db, RedisURL: b.redis, Bus: b.bus, Settings: settings, Now: clock, Clock: b.stands, Log: log,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	db, err := store.Open(running.DBURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &system{Stack: running, db: db, clock: running.Now}
}

// player replays recordings into the system with the game server's key.
func (s *system) player() *replay.Player {
	return &replay.Player{
		URL: s.URL, Key: s.Secrets.Key(signing.Server), Batch: 200, Concurrency: 4, Retries: 5, Client: http.DefaultClient, Now: s.clock,
	}
}

// quiet waits until every accepted event has had its effect.
func (s *system) quiet(t *testing.T) {
	t.Helper()
	require.Eventually(t, s.Idle, 5*time.Minute, 5*time.Millisecond)
}

// reply is an answer without its body.
type reply struct {
	StatusCode int
	Header     http.Header
}

// send makes a signed request and gives the answer. change may spoil it before it goes out.
func (s *system) send(t *testing.T, class signing.Class, method, path string, body []byte, change func(*http.Request)) (reply, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader(body))
	require.NoError(t, err)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", signing.NewNonce())
	}
	require.NoError(t, signing.SignHTTP(request, s.Secrets.Key(class), body, s.clock(), signing.NewNonce()))
	if change != nil {
		change(request)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return reply{response.StatusCode, response.Header}, text
}

func (s *system) get(t *testing.T, path string, status int) map[string]any {
	t.Helper()
	response, text := s.send(t, signing.Server, http.MethodGet, path, nil, nil)
	require.Equal(t, status, response.StatusCode, "%s: %s", path, text)
	var answer map[string]any
	require.NoError(t, json.Unmarshal(text, &answer))
	return answer
}

type page struct {
	Entries []oracle.Entry `json:"entries"`
	Next    string         `json:"next"`
	Archive struct {
		Root string `json:"root"`
	} `json:"archive"`
	Window struct {
		ID    string `json:"id"`
		State string `json:"state"`
	} `json:"window"`
}

func (s *system) page(t *testing.T, path string) page {
	t.Helper()
	response, text := s.send(t, signing.Server, http.MethodGet, path, nil, nil)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", path, text)
	var p page
	require.NoError(t, json.Unmarshal(text, &p))
	return p
}

func (s *system) entries(t *testing.T, path string) []oracle.Entry {
	t.Helper()
	return s.page(t, path).Entries
}

// pages reads a whole board by cursor.
func (s *system) pages(t *testing.T, board, window string, size int) []oracle.Entry {
	t.Helper()
	var all []oracle.Entry
	for cursor := ""; ; {
		query := url.Values{"window": {window}, "limit": {strconv.Itoa(size)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		p := s.page(t, "/v1/leaderboards/"+board+"?"+query.Encode())
		all = append(all, p.Entries...)
		if cursor = p.Next; cursor == "" {
			return all
		}
	}
}

// balances reads every player's XP and level from the truth.
func (s *system) balances(t *testing.T) (xp map[string]int64, level map[string]int) {
	t.Helper()
	xp, level = map[string]int64{}, map[string]int{}
	require.NoError(t, s.db.Each(t.Context(), "SELECT player_id, xp, level FROM player", nil, func(scan func(...any) error) error {
		var player string
		var x int64
		var l int
		err := scan(&player, &x, &l)
		xp[player], level[player] = x, l
		return err
	}))
	return xp, level
}

// items reads every player's items from the truth.
func (s *system) items(t *testing.T) map[string]map[string]int64 {
	t.Helper()
	items := map[string]map[string]int64{}
	require.NoError(t, s.db.Each(t.Context(), "SELECT player_id, item_id, quantity FROM item", nil, func(scan func(...any) error) error {
		var player, item string
		var quantity int64
		err := scan(&player, &item, &quantity)
		if items[player] == nil {
			items[player] = map[string]int64{}
		}
		items[player][item] = quantity
		return err
	}))
	return items
}

// inject puts a message on a queue past the gateway.
func (s *system) inject(t *testing.T, queue, id, body string) {
	t.Helper()
	require.NoError(t, s.Bus.Publish(t.Context(), queue, []bus.Message{{ID: id, Body: []byte(body)}}))
}

// rows counts the rows of a table.
func (s *system) rows(t *testing.T, table string) int {
	t.Helper()
	var n int
	require.NoError(t, s.db.Row(t.Context(), "SELECT COUNT(*) FROM "+table, nil, &n))
	return n
}
