package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/bus/servicebus"
	"liveops/core/event"
	"liveops/core/signing"
	"liveops/local/sample"
	"liveops/local/stack"
)

// system is a whole system on embedded stand-ins.
type system struct {
	*stack.Stack
	secret string // path of the server key's
}

func start(t *testing.T) *system {
	t.Helper()
	return startWith(t, stack.Direct, nil, time.Now)
}

func startWith(t *testing.T, kind string, settings map[string]string, now func() time.Time) *system {
	t.Helper()
	return startOn(t, stack.Options{Bus: kind, Settings: settings, Now: now})
}

// startOn starts a system that plays in the arena.
func startOn(t *testing.T, o stack.Options) *system {
	t.Helper()
	o.Listen, o.Data, o.Catalog = "127.0.0.1:0", t.TempDir(), filepath.Join("..", "..", "examples", "arena", "catalog.yaml")
	o.Version, o.Log = "test", slog.New(slog.DiscardHandler)
	running, err := stack.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	return &system{running, filepath.Join(o.Data, "dev-server.secret")}
}

// command runs a command against the system, signed.
func (s *system) command(t *testing.T, in string, args ...string) outcome {
	t.Helper()
	return command(t, in, append(args, "--url", s.URL, "--secret-file", s.secret)...)
}

func (s *system) quiet(t *testing.T) {
	t.Helper()
	require.Eventually(t, s.Idle, time.Minute, 5*time.Millisecond)
}

func line(t *testing.T, e event.Event) string {
	t.Helper()
	text, err := json.Marshal(e)
	require.NoError(t, err)
	return string(text) + "\n"
}

func gain(id string, at time.Time) event.Event {
	return event.Event{
		ID: id, Type: event.XPGained, PlayerID: "ann", OccurredAt: at, Data: map[string]any{"amount": 25, "source": "match"},
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := s.command(t, line(t, gain("first", time.Now())), "sign", "-")
	requireDone(t, o)
	args := words(t, o.out)
	require.Equal(t, []string{"curl", "-sS", s.URL + "/v1/events"}, args[:3])

	replayed := func() string { // whether the answer is a stored one
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, args[2], nil)
		require.NoError(t, err)
		for rest := args[3:]; len(rest) > 0; rest = rest[2:] {
			switch rest[0] {
			case "-H":
				name, value, found := strings.Cut(rest[1], ": ")
				require.True(t, found)
				request.Header.Set(name, value)
			case "--data-binary":
				require.NotEqual(t, byte('@'), rest[1][0], "the name of a file, to curl")
				request.Body = io.NopCloser(strings.NewReader(rest[1]))
				request.ContentLength = int64(len(rest[1]))
			default:
				require.Fail(t, "curl "+rest[0])
			}
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, response.StatusCode, "%s", text)
		return response.Header.Get("Idempotent-Replayed")
	}
	require.Empty(t, replayed())
	require.Equal(t, "true", replayed(), "the line is good for one event, however often it is sent")
	s.quiet(t)

	var player struct {
		XP int64 `json:"xp"`
	}
	require.NoError(t, s.client().do(t.Context(), http.MethodGet, "/v1/players/ann", nil, &player))
	require.EqualValues(t, 25, player.XP)
}

func (s *system) client() client {
	key := s.Secrets.Key(signing.Server)
	return client{url: s.URL, key: &key}
}

// count reads a line of the closing table.
func count(t *testing.T, o outcome, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `  +(\S+)$`).FindStringSubmatch(o.out)
	require.NotNil(t, found, "no %q in\n%s", name, o.out)
	return found[1]
}

func TestReplay(t *testing.T) {
	t.Parallel()
	s := start(t)
	var game bytes.Buffer
	require.NoError(t, sample.Generate(&game, sample.Options{Seed: 3, Events: 150, Until: time.Now()}))
	file := write(t, game.String())

	first := s.command(t, "", "replay", file, "--batch", "20", "--concurrency", "3")
	requireDone(t, first)
	require.Equal(t, "150", count(t, first, "accepted"))
	require.Equal(t, "0", count(t, first, "duplicate"))
	require.Regexp(t, `^\d+$`, count(t, first, "throttled"))
	require.Regexp(t, `^\d+$`, count(t, first, "events/s"))
	for _, name := range []string{"request p50", "request p99"} {
		_, err := time.ParseDuration(count(t, first, name))
		require.NoError(t, err)
	}
	s.quiet(t)

	second := s.command(t, game.String(), "replay", "-")
	requireDone(t, second)
	require.Equal(t, "0", count(t, second, "accepted"))
	require.Equal(t, "150", count(t, second, "duplicate"))

	later := gain("later", time.Now().Add(24*time.Hour))
	unknown := gain("unknown", later.OccurredAt.Add(-48*time.Hour))
	unknown.Type = "dance"
	third := s.command(t, line(t, unknown)+line(t, later), "replay", "-")
	require.Equal(t, exitRefused, third.code)
	require.Empty(t, third.errs)
	require.Equal(t, "1", count(t, third, "rejected, event-invalid"))
	require.Equal(t, "1", count(t, third, "rejected, occurred-at-in-future"))

	restamped := s.command(t, line(t, later), "replay", "-", "--restamp")
	requireDone(t, restamped)
	require.Equal(t, "1", count(t, restamped, "accepted"))

	wrongKey := s.command(t, line(t, later), "replay", "-", "--key-id", "dev-client")
	wrongKey.requireError(t, exitFailed, "401 Unauthorized: signature-mismatch")
	require.Equal(t, "0", count(t, wrongKey, "accepted"))
}

func TestTop(t *testing.T) {
	t.Parallel()
	s := start(t)
	at := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
	var scores string
	for i, board := range []string{"arena-score", "arena-score", "arena-score", "trophies"} {
		scores += line(t, event.Event{
			ID: fmt.Sprintf("e%d", i), Type: event.ScoreSubmitted, PlayerID: []string{"ann", "bob", "cem", "ann"}[i], OccurredAt: at,
			Data: map[string]any{"board": board, "score": []int{100, 300, 200, 1000}[i]},
		})
	}
	requireDone(t, s.command(t, scores, "replay", "-"))
	s.quiet(t)

	unsigned := command(t, "", "top", "arena-score", "--window", "all_time", "--limit", "2", "--url", s.URL)
	requireDone(t, unsigned)
	stamp := at.Format("2006-01-02T15:04:05.000Z")
	require.Equal(t, "arena-score, all_time (open), 3 ranked\n  1  bob  300  "+stamp+"\n  2  cem  200  "+stamp+"\n", unsigned.out)
	require.Equal(t, unsigned, s.command(t, "", "top", "arena-score", "--window", "all_time", "--limit", "2"))

	full := s.command(t, "", "top", "arena-score", "--window", "all_time", "--json", "--limit", "1000")
	requireDone(t, full)
	var answer struct {
		Count   int
		Entries []struct {
			Rank     int
			PlayerID string `json:"player_id"`
			Score    int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(full.out), &answer))
	require.Equal(t, 3, answer.Count)
	require.Len(t, answer.Entries, 3)
	require.Equal(t, "ann", answer.Entries[2].PlayerID)
	require.Equal(t, 100, answer.Entries[2].Score)

	requireDone(t, s.command(t, "", "top", "trophies"))
	command(t, "", "top", "trophies", "--url", s.URL).requireError(t, exitFailed, "give --secret-file")
	command(t, "", "top", "arena-score", "--limit", "101", "--url", s.URL).requireError(t, exitFailed, "limit is a number from 1 to 100")
	s.command(t, "", "top", "nothing").requireError(t, exitFailed, "404 Not Found: board-not-found: There is no such board")
	s.command(t, "", "top", "a/b?c").requireError(t, exitFailed, "404 Not Found")
	s.command(t, "", "top", "trophies", "--window", "1999-W01").requireError(t, exitFailed, "window-not-found")
}

func TestTopOfSomethingElse(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "missing") {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, "<html>\nhello")
	}))
	t.Cleanup(web.Close)
	command(t, "", "top", "missing", "--url", web.URL).requireError(t, exitFailed, "the gateway answered 404 Not Found without saying why")
	command(t, "", "top", "points", "--url", web.URL).requireError(t, exitFailed, web.URL+" does not answer as a gateway")
}

// TestNothingIsSentTwice: net/http repeats a GET by itself when a kept connection breaks, and with it the nonce.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(web.Close)
	var answer struct{}
	me := client{url: web.URL}
	require.NoError(t, me.do(t.Context(), http.MethodGet, "/", nil, &answer))
	require.ErrorIs(t, me.do(t.Context(), http.MethodGet, "/", nil, &answer), io.EOF)
	require.EqualValues(t, 2, asked.Load())
}

func TestVerify(t *testing.T) {
	t.Parallel()
	s := start(t)
	requireDone(t, s.command(t, line(t, gain("first", time.Now())), "replay", "-"))
	s.quiet(t)
	var issued struct {
		Receipt string `json:"receipt"`
	}
	require.NoError(t, s.client().do(t.Context(), http.MethodGet, "/v1/receipts/ann/first", nil, &issued))

	valid := s.command(t, issued.Receipt+"\n", "verify", "receipt", "-")
	requireDone(t, valid)
	claims, found := strings.CutPrefix(valid.out, "valid\n")
	require.True(t, found)
	var stated struct {
		PlayerID string `json:"player_id"`
		EventID  string `json:"event_id"`
		XP       int64
	}
	require.NoError(t, json.Unmarshal([]byte(claims), &stated))
	require.Equal(t, "ann", stated.PlayerID)
	require.Equal(t, "first", stated.EventID)
	require.EqualValues(t, 25, stated.XP)

	parts := strings.Split(issued.Receipt, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	parts[1] = base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte(`"xp":25`), []byte(`"xp":99`), 1))
	forged := strings.Join(parts, ".")
	require.NotEqual(t, issued.Receipt, forged)
	for text, reason := range map[string]string{forged: "receipt-signature-mismatch", "": "receipt-malformed", "a.b.c": "receipt-malformed"} {
		o := s.command(t, "", "verify", "receipt", write(t, text))
		require.Equal(t, exitRefused, o.code)
		require.Equal(t, "not valid: "+reason+"\n", o.out)
		require.Empty(t, o.errs)
	}
}

// screen is a terminal's output that can be waited for.
type screen struct {
	mu    sync.Mutex
	text  strings.Builder
	wants string
	shown chan struct{}
}

func expect(text string) *screen { return &screen{wants: text, shown: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	if s.wants != "" && strings.Contains(s.text.String(), s.wants) {
		s.wants = ""
		close(s.shown)
	}
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// dev runs liveops dev until it shows what is expected, then what the test does meanwhile, and stops it.
func dev(t *testing.T, expected string, meanwhile func(out string), args ...string) outcome {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, errs := expect(expected), expect("\x00")
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"dev", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), out, errs)
	}()
	select {
	case <-out.shown:
		meanwhile(out.String())
	case code := <-ended:
		require.Fail(t, "it ended by itself", "code %d\n%s%s", code, out, errs)
	}
	stop()
	return outcome{<-ended, out.String(), errs.String()}
}

// requireStopped allows for log lines of what was under way.
func requireStopped(t *testing.T, o outcome) {
	t.Helper()
	require.Zero(t, o.code, "%s", o.errs)
	require.NotContains(t, o.errs, "liveops: ")
	require.True(t, strings.HasSuffix(o.out, "\nstopped\n"))
}

func TestDemo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args      []string
		meanwhile func(t *testing.T, out string)
	}{
		"memory":     {nil, func(t *testing.T, out string) { require.NotContains(t, out, "\nbus") }},
		"servicebus": {[]string{"--bus", "servicebus", "--bus-admin", "127.0.0.1:0"}, requireNamespace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			o := dev(t, "Ctrl-C stops.", func(out string) { c.meanwhile(t, out) }, append(c.args, "--demo", "--data", dir)...)
			requireDemo(t, o, dir)
		})
	}
}

// requireNamespace reaches the queues as the output says.
func requireNamespace(t *testing.T, out string) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^bus +(Endpoint=sb://(.*);SharedAccessKeyName=.*)$`).FindStringSubmatch(out)
	require.NotNil(t, found, out)
	queues, err := servicebus.Open(servicebus.Config{ConnectionString: found[1]})
	require.NoError(t, err)
	require.NoError(t, queues.Publish(t.Context(), "events", []bus.Message{{ID: "foreign", Body: []byte("{}")}}))
	require.NoError(t, queues.Close(t.Context()))

	shown := regexp.MustCompile(`(?m)^bus admin https://(\S+), under the same key; its certificate is (\S+)$`).FindStringSubmatch(out)
	require.NotNil(t, shown, out)
	certificate, err := os.ReadFile(shown[2])
	require.NoError(t, err)
	trusted := x509.NewCertPool()
	require.True(t, trusted.AppendCertsFromPEM(certificate))
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	counts, err := admin.NewClientFromConnectionString(strings.Replace(found[1], found[2], shown[1], 1), &admin.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: web},
	})
	require.NoError(t, err)
	queue, err := counts.GetQueueRuntimeProperties(t.Context(), "progression", nil)
	require.NoError(t, err)
	require.Zero(t, queue.TotalMessageCount, "the demo waits until everything is in effect")
}

func requireDemo(t *testing.T, o outcome, dir string) {
	t.Helper()
	requireStopped(t, o)
	require.Equal(t, "1500", count(t, o, "accepted"))
	for _, board := range []string{"arena-score", "arena-total", "gauntlet-time", "trophies"} {
		_, after, found := strings.Cut(o.out, "\n"+board+", all_time (open), ")
		require.True(t, found, "no board %s in\n%s", board, o.out)
		table, _, _ := strings.Cut(after, "\n\n")
		require.Regexp(t, `^\d+ ranked\n`, table)
		require.Len(t, regexp.MustCompile(`(?m)^ +\d+  +\S+  +\d+  \S+Z$`).FindAllString(table, -1), 10)
	}
	require.Regexp(t, `(?m)^\S+: level \d+, \d+ XP \(next level at \d+\)$`, o.out)
	require.Regexp(t, `The receipt for killing [a-z-]+:\n[\w-]+\.[\w-]+\.[\w-]+\nvalid\n\{\n`, o.out)
	require.Regexp(t, `"type": "boss_killed"`, o.out)
	require.Regexp(t, `(?s)curl -sS 'http://127\.0\.0\.1:\d+/v1/events' .*-H 'X-Liveops-Signature: v1=.*--data-binary '\{"event_id":"first-`, o.out)
	require.Contains(t, o.out, "--secret-file "+filepath.Join(dir, "dev-server.secret"))
}

func TestDevStopsDuringTheDemo(t *testing.T) {
	t.Parallel()
	o := dev(t, "Playing ", func(string) {}, "--demo")
	requireStopped(t, o)
	require.NotContains(t, o.out, "Serving.")
}

// TestTimeTravel plays two days on a clock that stands still between the events, and reads what came of them.
func TestTimeTravel(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{stack.Direct, stack.ServiceBus} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			recording := command(t, "", "sample", "--events", "1500", "--until", "2026-02-05T00:00:00Z")
			requireDone(t, recording)
			o := dev(t, "Ctrl-C stops.", func(out string) {
				found := regexp.MustCompile(`(?m)^gateway +(\S+)\n.*\nclock +(\S+), it stands at 2026-02-02T18:00:00Z$`).FindStringSubmatch(
					regexp.MustCompile(`(?m)^bus .*\n`).ReplaceAllString(out, ""))
				require.NotNil(t, found, out)
				gateway, clock, secret := found[1], found[2], filepath.Join(dir, "dev-server.secret")
				played := command(t, recording.out, "replay", "-", "--url", gateway, "--secret-file", secret,
					"--follow-clock", clock, "--until", "2026-02-06T00:00:00+01:00")
				requireDone(t, played)
				require.Equal(t, "1500", count(t, played, "accepted"))

				again := command(t, recording.out, "replay", "-", "--url", gateway, "--secret-file", secret, "--follow-clock", clock)
				again.requireError(t, exitFailed, "the first event is of 2026-02-0", "the clock stands at 2026-02-05T23:00:00Z already")
				for window, state := range map[string]string{"2026-02-03": "rewarded", "2026-02-04": "rewarded", "2026-02-05": "closing", "2026-02-06": "open"} {
					top := command(t, "", "top", "trophies", "--window", window, "--url", gateway, "--secret-file", secret)
					requireDone(t, top)
					require.Contains(t, top.out, "trophies, "+window+" ("+state+")", "signed, months from here")
				}
				taken := command(t, "", "dev", "--listen", "127.0.0.1:0", "--clock", "2026-02-02T18:00:00Z", "--clock-listen", strings.TrimPrefix(clock, "http://"))
				taken.requireError(t, exitFailed, "address already in use")
			}, "--clock", "2026-02-02T19:00:00+01:00", "--data", dir, "--bus", kind)
			requireStopped(t, o)
			require.Contains(t, o.out, `"occurred_at":"2026-02-02T18:00:00Z"`)

			back := command(t, "", "dev", "--listen", "127.0.0.1:0", "--clock", "2026-02-02T18:00:00Z", "--data", dir)
			back.requireError(t, exitFailed, "a clock does not go back")
		})
	}
}

func TestFollowingNoClock(t *testing.T) {
	t.Parallel()
	o := command(t, line(t, gain("first", time.Now())), "replay", "-", "--follow-clock", nobody, "--secret-file", write(t, strings.Repeat("s", 32)))
	o.requireError(t, exitFailed, "the clock: ", "connection refused")
	require.Equal(t, "0", count(t, o, "accepted"))
}

func TestDevOnATakenPort(t *testing.T) {
	t.Parallel()
	o := dev(t, "Ctrl-C stops.", func(out string) {
		address := regexp.MustCompile(`http://(\S+)`).FindStringSubmatch(out)[1]
		again := command(t, "", "dev", "--listen", address)
		again.requireError(t, exitFailed, address, "address already in use")
		require.Empty(t, again.out)
		metrics := command(t, "", "dev", "--listen", "127.0.0.1:0", "--metrics", address)
		metrics.requireError(t, exitFailed, address, "address already in use")
		for _, flag := range []string{"--bus-listen", "--bus-admin"} {
			queues := command(t, "", "dev", "--listen", "127.0.0.1:0", "--bus", "servicebus", flag, address)
			queues.requireError(t, exitFailed, address, "address already in use")
		}
	}, "--catalog", filepath.Join("..", "..", "examples", "chess", "catalog.yaml"))
	requireStopped(t, o)
	require.NotContains(t, o.out, "curl", "the line is about the arena")
}

func TestDevListsEveryProblemOfACatalog(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	file := write(t, "version: 1\nboards:\n  a: {operator: nope}\nbosses:\n  b: {xp: -1}\n")
	o := command(t, "", "dev", "--listen", "127.0.0.1:0", "--data", data, "--catalog", file)
	o.requireError(t, exitFailed, file, "5 problems; ", "name: required", "xp.table: required", "line 3: boards.a.operator: must be one of",
		"line 3: boards.a.windows: required", "line 5: bosses.b.xp: must be")
	require.Empty(t, o.out)
	require.NoFileExists(t, filepath.Join(data, "liveops.db"))
}
