package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/fault"
	"liveops/core/signing"
	"liveops/local/host"
	"liveops/local/oracle"
	"liveops/local/servicebus"
	"liveops/local/wire"
)

// TestKilledAtEveryStep kills the handler before and after every step that it takes to bring a batch through a stage, and
// requires each time that the outcome is that of a run which nobody disturbed. What the handler had sent to Redis is also
// kept on its way until the handler after it has done everything.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	servers(t)
	s := newStage(t)
	for _, path := range paths() {
		t.Run(path.name, func(t *testing.T) {
			s.t = t
			calm := s.calm(path.needs, func() passage { return s.watch(path, nil) })
			for _, line := range []string{
				"player ada 0 1 4", "player bob 60 2 3", "item bob coin 3", "item bob crown 1", "entry ada points all_time 36 ", "entry ada peak all_time 13 ",
			} {
				require.Contains(t, calm.outcome, line)
			}
			t.Logf("undisturbed, %s comes to:\n%s", path.name, calm.outcome)
			for i, step := range calm.steps {
				moments := []string{before, after}
				if strings.HasPrefix(step, "redis") {
					moments = append(moments, late)
				}
				for _, when := range moments {
					point := s.watch(path, &kill{step: i, when: when})
					require.True(t, point.killed, "%s %s: the step was not reached, steps were %q", when, step, point.steps)
					require.Equal(t, calm.outcome, point.outcome, "killed %s %s", when, step)
					t.Logf("killed %-6s %2d %-28s same outcome, %d invocations", when, i+1, step, point.invocations)
				}
			}
		})
	}
	t.Run("lost completions", func(t *testing.T) {
		s.t = t
		fairness := paths()[1] // goes over both queues
		calm := s.watch(fairness, nil)
		for _, op := range []string{"complete", "completed"} {
			var failed sync.Map
			s.memory.Fail(func(did, queue string) error {
				if did != op {
					return nil
				}
				n, _ := failed.LoadOrStore(queue, new(atomic.Int64))
				if n.(*atomic.Int64).Add(1) <= 3 { // more than half of a batch
					return fault.BusUnavailable.Errorf("the answer is lost")
				}
				return nil
			})
			point := s.watch(fairness, nil)
			s.memory.Fail(nil)
			require.Equal(t, calm.outcome, point.outcome, op)
			t.Logf("%s lost: same outcome, %d invocations", op, point.invocations)
		}
	})
	s.t = t
	s.boards()
}

// path is a way of a batch into the system, with the steps of the stage at its beginning.
type path struct {
	name  string
	send  func(s *stageUnderTest, prefix string)
	first string   // the step that it begins with; "": the beginning
	own   []string // what the names of the stage's steps begin with; none: everything is a step of it
	last  string   // the step after which other stages are at work; "": the end
	needs []string // steps that must be among them
}

func paths() []path {
	return []path{
		{
			name: "gateway", send: (*stageUnderTest).post, own: []string{"redis EVALSHA gate:", "broker publish events"},
			needs: []string{"redis EVALSHA gate:", "broker publish events", "redis EVALSHA gate: #2"},
		},
		{
			name: "fairness", last: "broker publish progression",
			send: func(s *stageUnderTest, prefix string) {
				s.publish(eventsQueue, s.batch(prefix, xp(prefix+"eve", "unfair", 9999))...)
			},
			needs: []string{
				"redis MGET fairness:", "redis EVALSHA fairness:", "mysql INSERT conduct", "mysql INSERT fairness_decision", "mysql INSERT sanction", "mysql INSERT rejected",
				"redis EVALSHA gate:", "broker publish progression",
			},
		},
		{
			name: "progression",
			send: func(s *stageUnderTest, prefix string) { s.publish(progressionQueue, s.batch(prefix)...) },
			needs: []string{
				"mysql START TRANSACTION", "mysql INSERT player", "mysql INSERT entry", "mysql INSERT receipt", "mysql INSERT ledger",
				"mysql INSERT item", "mysql COMMIT", "redis EVALSHA rank:", "mysql INSERT rejected",
			},
		},
	}
}

// accepted is an event as it travels on the queues.
type accepted struct {
	oracle.Event
	At         string `json:"at"`
	ReceivedAt string `json:"received_at"`
	KeyID      string `json:"key_id"`
}

func made(player, id, kind string, data map[string]any) accepted {
	at := oracle.Timestamp(start.Add(-time.Minute))
	return accepted{oracle.Event{ID: id, Type: kind, PlayerID: player, OccurredAt: at, SessionID: "s", Data: data}, at, at, "server"}
}

func xp(player, id string, amount int) accepted {
	return made(player, id, "xp_gained", map[string]any{"amount": amount, "source": "match"})
}

func score(player, id string, points int) accepted {
	return made(player, id, "score_submitted", map[string]any{"board": "points", "score": points})
}

// stageUnderTest is a system whose handler is a process of its own, and whose broker and Functions host are in this one.
type stageUnderTest struct {
	*site
	t     *testing.T
	host  *host.Host
	api   *api
	hours atomic.Int64 // the host's clock is ahead, so that it forgets what its handlers died of
	runs  int

	talk        atomic.Int64 // exchanges so far
	invocations atomic.Int64 // of the stages behind the queues
	watcher     atomic.Pointer[watcher]
}

func newStage(t *testing.T) *stageUnderTest {
	t.Helper()
	dir, err := os.MkdirTemp("", "liveops-steps-") //nolint:usetesting // the SQL server's account has no way into the parent of t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	game, err := os.ReadFile("testdata/steps.yaml")
	require.NoError(t, err)
	// The broker knows no ids, so that what comes twice reaches the ledger twice.
	site, err := opening{dir: dir, catalog: game, lock: 2 * time.Second, most: 1000}.open(t.Context())
	require.NoError(t, err)
	t.Cleanup(site.close)
	s := &stageUnderTest{site: site, t: t}

	for server, wire := range map[string]*wire.Wire{"mysql": s.toSQL, "redis": s.toCache} {
		wire.Watch(func(request []byte, answered bool) bool {
			name := exchangeName(server, request)
			if name == "" {
				return true
			}
			s.talk.Add(1)
			w := s.watcher.Load()
			return w == nil || w.see(name, request, answered)
		})
	}
	site.endpoint.Fail(s.send)
	s.host = s.start("", nil)
	s.api = newAPI("http://"+s.host.Addr().String(), site.now)
	require.NoError(t, s.api.get(t.Context(), "/readyz", new(any)))
	// Once through everything: scripts are loaded and windows complete.
	s.post("warm-")
	s.publish(eventsQueue, s.batch("warm-", xp("warm-eve", "unfair", 9999))...)
	s.handled()
	s.boards()
	return s
}

// start runs a Functions host with a handler of a name, but without some functions, until the test ends.
func (s *stageUnderTest) start(name string, without []string) *host.Host {
	t := s.t // s may be with another test when this one ends
	t.Helper()
	env := s.env()
	env["BATCH_HOLD"] = "20ms" // a handler that has just started refuses what comes before its windows are laid out
	env[envRole], env[envName] = "handler", name
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	for _, function := range without {
		env["AzureWebJobs."+function+".Disabled"] = "true"
	}
	functions, err := host.Load(os.DirFS(s.root()), func(name string) string { return env[name] })
	require.NoError(t, err)
	running := host.New(functions, host.Options{
		Handler: host.Command(s.root(), list...), Bus: backwards{s.memory},
		Now:   func() time.Time { return time.Now().Add(time.Duration(s.hours.Load()) * time.Hour) },
		After: func(time.Duration) <-chan time.Time { return nil }, // timers tick when they are told to
		Observe: func(i host.Invocation) {
			if i.Messages > 0 {
				s.invocations.Add(1)
			}
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	select {
	case <-running.Ready():
	case err := <-ended:
		require.NoError(t, err)
	}
	return running
}

// send shows what is sent to the broker to the watcher. What he does not let pass is lost with its connection: before the
// broker has it, or when it has it and nobody was told.
func (s *stageUnderTest) send(o servicebus.Operation) (f servicebus.Fault) {
	if o.Name != servicebus.OpSend {
		return f
	}
	s.talk.Add(1)
	w, name := s.watcher.Load(), "broker publish "+o.Queue
	request := []byte(name)
	switch {
	case w == nil:
	case !w.see(name, request, false):
		f.Kind = servicebus.Drop
	case !w.see(name, request, true):
		f.Kind = servicebus.DropAfter
	}
	return f
}

// batch is a batch in which everything happens: new scores, a level with items, what was applied before, and what is no
// event.
func (s *stageUnderTest) batch(prefix string, more ...accepted) []bus.Message {
	s.t.Helper()
	messages := []bus.Message{
		s.message(score(prefix+"ada", "new", 7)), s.message(xp(prefix+"bob", "level", 60)), s.message(score(prefix+"ada", "old", 5)),
		s.message(score(prefix+"ada", "higher", 11)),
		{ID: prefix + "nothing", Body: []byte("this is no event of " + prefix)},
	}
	for _, e := range more {
		messages = append(messages, s.message(e))
	}
	return messages
}

func (s *stageUnderTest) message(e accepted) bus.Message {
	s.t.Helper()
	body, err := json.Marshal(e)
	require.NoError(s.t, err)
	return bus.Message{ID: e.Key(), Body: body, ContentType: "application/json"}
}

func (s *stageUnderTest) publish(queue string, messages ...bus.Message) {
	s.t.Helper()
	require.NoError(s.t, s.memory.Publish(s.t.Context(), queue, messages))
}

// post sends events through the gateway, in a new request after every error.
func (s *stageUnderTest) post(prefix string) {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"events": []oracle.Event{
		score(prefix+"ada", "new", 7).Event, xp(prefix+"bob", "level", 60).Event, score(prefix+"ada", "higher", 11).Event,
	}})
	require.NoError(s.t, err)
	require.NoError(s.t, await(s.t.Context(), "the events are taken", time.Minute, func() bool {
		status, answer, err := s.api.do(s.t.Context(), http.MethodPost, "/v1/events/batch", body, signing.NewNonce())
		if !errors.Is(err, errLater) {
			require.NoError(s.t, err)
			require.Equal(s.t, http.StatusAccepted, status, "%s", answer)
		}
		return err == nil
	}))
}

// handled waits until the queues are empty, and then until nobody talks to anybody any more.
func (s *stageUnderTest) handled() {
	s.t.Helper()
	require.NoError(s.t, await(s.t.Context(), "every message is handled", time.Minute, func() bool { return s.waiting() == 0 }))
}

// quiet waits until no exchange was begun for a while: a handler that has just started lays out windows beside its work.
func (s *stageUnderTest) quiet() {
	s.t.Helper()
	require.NoError(s.t, s.api.get(s.t.Context(), "/readyz", new(any)))
	last, since := s.talk.Load(), time.Now()
	require.NoError(s.t, await(s.t.Context(), "the handler is at rest", time.Minute, func() bool {
		if now := s.talk.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 150*time.Millisecond
	}))
}

// kill is a moment of a step.
type kill struct {
	step int
	when string
}

const (
	before = "before" // the server has the request
	after  = "after"  // the server has answered, and the handler does not know
	late   = "late"   // before, and the server gets the request when all is done
)

// passage is how a batch went.
type passage struct {
	steps       []string
	killed      bool
	invocations int64
	outcome     string
}

// calm is a run which nobody disturbed, with the steps that it must have. Another one takes the same steps and comes to the same.
func (s *stageUnderTest) calm(needs []string, run func() passage) passage {
	s.t.Helper()
	calm := run()
	for _, needed := range needs {
		require.True(s.t, slices.ContainsFunc(calm.steps, func(step string) bool { return strings.HasPrefix(step, needed) }),
			"%s is not among the steps: %q", needed, calm.steps)
	}
	again := run()
	for range 3 { // a handler that is still laying out windows takes steps of its own
		if slices.Equal(calm.steps, again.steps) {
			break
		}
		calm, again = again, run()
	}
	require.Equal(s.t, calm.steps, again.steps, "the same takes the same steps")
	require.Equal(s.t, calm.outcome, again.outcome, "and comes to the same")
	return calm
}

// next begins another run and gives what the ids in it begin with.
func (s *stageUnderTest) next(name string) (prefix string) {
	s.runs++
	s.hours.Add(1)
	return fmt.Sprintf("%s%03d-", name[:1], s.runs)
}

// watch sends a batch of new players along a path, kills the handler at one moment, and says what came of it.
func (s *stageUnderTest) watch(p path, at *kill) passage {
	s.t.Helper()
	prefix := s.next(p.name)
	s.publish(progressionQueue, s.message(score(prefix+"ada", "old", 5)))
	s.handled()
	s.quiet()

	began := s.invocations.Load()
	// One more event comes when the handler dies, and what comes again comes backwards, so that it is another batch.
	last := s.message(score(prefix+"ada", "last", 13))
	w := &watcher{site: s.site, path: p, at: at, seen: map[string]int{}, more: func() { s.publish(progressionQueue, last) }}
	s.watcher.Store(w)
	p.send(s, prefix)
	s.handled()
	s.watcher.Store(nil)
	if at == nil {
		w.more()
		s.handled()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if at != nil && at.when == late {
		s.deliver(w.request)
	}
	w.invocations = s.invocations.Load() - began
	w.outcome = s.outcome(prefix)
	return w.passage
}

// deliver brings a request to Redis after all, and waits until it has been answered.
func (s *stageUnderTest) deliver(request []byte) {
	s.t.Helper()
	u, err := url.Parse(s.cache.URL)
	require.NoError(s.t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(s.t, err)
	defer conn.Close()
	_, err = conn.Write(append(slices.Clone(request), "*1\r\n$4\r\nQUIT\r\n"...))
	require.NoError(s.t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(s.t, err)
	require.NotContains(s.t, string(answer), "-ERR")
	require.NotContains(s.t, string(answer), "-NOSCRIPT")
}

// watcher sees the exchanges of the handler and kills it at one of them.
type watcher struct {
	site *site
	path path
	at   *kill
	more func() // called right before the kill
	then func() // instead of a kill, while the exchange waits; nil: it is one

	mu      sync.Mutex
	over    bool // what comes now is no step of the path
	seen    map[string]int
	request []byte // of the step at which the handler is killed
	passage
}

// see is called at both ends of an exchange. It says whether the exchange goes on.
func (w *watcher) see(name string, request []byte, answered bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if answered {
		if w.killed || w.request == nil || &w.request[0] != &request[0] {
			return true
		}
		return w.strike()
	}
	own := len(w.path.own) == 0 || slices.ContainsFunc(w.path.own, func(begin string) bool { return strings.HasPrefix(name, begin) })
	begun := len(w.steps) > 0 || w.path.first == "" || w.path.first == name
	if w.over || !own || !begun {
		return true
	}
	step := len(w.steps)
	w.over = name == w.path.last
	if w.seen[name]++; w.seen[name] > 1 {
		name = fmt.Sprintf("%s #%d", name, w.seen[name])
	}
	w.steps = append(w.steps, name)
	if w.at == nil || w.at.step != step {
		return true
	}
	w.over, w.request = true, request
	if w.at.when == after {
		return true
	}
	return w.strike()
}

// strike does what is to be done at the moment. It says whether the exchange goes on.
func (w *watcher) strike() bool {
	if w.then != nil {
		w.mu.Unlock() // others talk meanwhile
		defer w.mu.Lock()
		w.then()
		return true
	}
	w.more()
	w.killed = w.site.lives.kill("handler")
	return false
}

// backwards is a broker that gives in reverse order what it gives again.
type backwards struct{ *bus.Memory }

// Receive implements bus.Receiver.
func (b backwards) Receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	deliveries, err := b.Memory.Receive(ctx, queue, limit)
	if slices.ContainsFunc(deliveries, func(d bus.Delivery) bool { return d.DeliveryCount > 1 }) {
		slices.Reverse(deliveries)
	}
	return deliveries, err
}

var (
	statement = regexp.MustCompile(`^(INSERT) INTO (\w+)|^(SELECT) .*? FROM (\w+)|^(UPDATE) (\w+)|^(DELETE) FROM (\w+)|^([A-Z]+)(?: (TRANSACTION))?`)
	spaces    = regexp.MustCompile(`\s+`)
)

// exchangeName says in a few words what a request asks of a server; nothing for what makes or keeps up a connection.
func exchangeName(server string, request []byte) string {
	switch server {
	case "mysql":
		const header, query = 5, 3 // a packet's length, its number and the command; COM_QUERY
		if len(request) <= header || request[3] != 0 || request[4] != query {
			return ""
		}
		found := statement.FindStringSubmatch(spaces.ReplaceAllString(string(request[header:]), " "))
		return "mysql " + strings.Join(slices.DeleteFunc(found[min(1, len(found)):], func(s string) bool { return s == "" }), " ")
	case "redis":
		parts := strings.Split(string(request), "\r\n") // *3 $3 set $1 k $1 v
		var words []string
		for i := 2; i < len(parts); i += 2 {
			words = append(words, parts[i])
		}
		command := strings.ToUpper(words[0])
		switch {
		case command == "HELLO" || command == "CLIENT" || command == "PING":
			return ""
		case strings.HasPrefix(command, "EVAL") && len(words) > 3:
			words = words[2:] // the script and the number of keys
		}
		key, _, _ := strings.Cut(words[min(1, len(words)-1)], "{")
		return "redis " + command + " " + key
	}
	return ""
}

// outcome is all that the database and the boards hold of the players of a batch, without their prefix.
func (s *stageUnderTest) outcome(prefix string) string {
	s.t.Helper()
	var lines []string
	for _, q := range []string{
		"SELECT CONCAT_WS(' ', 'player', player_id, xp, level, entries) FROM player WHERE player_id LIKE ?",
		`SELECT CONCAT_WS(' ', 'ledger', player_id, event_id, kind, event_type, item_id, delta, balance, level_before, level_after,
			effective_at, notes) FROM ledger WHERE player_id LIKE ?`,
		"SELECT CONCAT_WS(' ', 'item', player_id, item_id, quantity) FROM item WHERE player_id LIKE ?",
		"SELECT CONCAT_WS(' ', 'receipt', player_id, event_id) FROM receipt WHERE player_id LIKE ?",
		`SELECT CONCAT_WS(' ', 'entry', player_id, board, window_id, score, total, standing, achieved_at, event_id)
			FROM entry WHERE player_id LIKE ?`,
		"SELECT CONCAT_WS(' ', 'rejected', message_id, stage, player_id, event_id, code, detail, body) FROM rejected WHERE message_id LIKE ?",
		"SELECT CONCAT_WS(' ', 'decision', player_id, event_id, verdict, rule, mode, evidence) FROM fairness_decision WHERE player_id LIKE ?",
		"SELECT CONCAT_WS(' ', 'sanction', player_id, kind, reason) FROM sanction WHERE player_id LIKE ?",
	} {
		lines = append(lines, s.rows(q, prefix+"%")...)
	}
	slices.Sort(lines)
	for _, w := range windows {
		entries, _, err := s.api.board(s.t.Context(), w.board, w.id)
		require.NoError(s.t, err)
		for _, e := range entries {
			if strings.HasPrefix(e.PlayerID, prefix) {
				lines = append(lines, fmt.Sprint("rank ", e.PlayerID, " ", w.board, " ", w.id, " ", e.Score, " ", e.AchievedAt.UnixMilli()))
			}
		}
	}
	return decisionID.ReplaceAllString(strings.ReplaceAll(strings.Join(lines, "\n"), prefix, ""), "(decision)")
}

// rows reads rows of one column.
func (s *stageUnderTest) rows(query string, args ...any) []string {
	s.t.Helper()
	var rows []string
	require.NoError(s.t, s.db.Each(s.t.Context(), query, args, func(scan func(...any) error) error {
		var row string
		err := scan(&row)
		rows = append(rows, row)
		return err
	}))
	return rows
}

// decisionID is derived from the player's id.
var decisionID = regexp.MustCompile(`\(decision [0-9a-f]+\)`)

// windows are all that the paths lead to.
var windows = []struct{ board, id string }{{"points", "daily"}, {"points", "all_time"}, {"peak", "all_time"}}

// boards compares the boards with all the entries there are.
func (s *stageUnderTest) boards() {
	s.t.Helper()
	for _, w := range windows {
		read, id, err := s.api.board(s.t.Context(), w.board, w.id)
		require.NoError(s.t, err)
		var want []oracle.Entry
		query := "SELECT player_id, score, achieved_at FROM entry WHERE board = ? AND window_id = ?"
		require.NoError(s.t, s.db.Each(s.t.Context(), query, []any{w.board, id}, func(scan func(...any) error) error {
			var e oracle.Entry
			var at int64
			err := scan(&e.PlayerID, &e.Score, &at)
			e.AchievedAt = time.UnixMilli(at).UTC()
			want = append(want, e)
			return err
		}))
		require.NotEmpty(s.t, want)
		require.Equal(s.t, oracle.InOrder(want), read)
	}
}
