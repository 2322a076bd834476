package monitoring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/signing"
	"liveops/core/store"
	"liveops/local/replay"
	"liveops/local/sample"
	"liveops/local/server"
	"liveops/local/stack"
)

// TestBrokerAway cuts the broker off under load: whoever is on call learns that requests fail, and that nobody looks after the
// queues.
func TestBrokerAway(t *testing.T) {
	t.Parallel()
	s := watch(t)
	s.calm(t)

	s.Bus.Fail(func(string, string) error { return fault.BusUnavailable.Errorf("the broker is away") })
	told := []string{"GatewayErrorBudgetFastBurn", "FunctionFailing", "TimerStalled"}
	s.fires(t, told...)
	s.oncall.hears(t, "FIRING", told...)

	s.Bus.Fail(nil)
	s.calm(t)
	s.oncall.hears(t, "RESOLVED", told...)
	s.oncall.heardOnly(t, append(told, "EventToRankSlow")...) // of what had been accepted just before
	s.lostNothing(t)
}

// TestNothingIsDelivered stops deliveries under load: the gateway goes on taking events, and what tells is how old they get.
func TestNothingIsDelivered(t *testing.T) {
	t.Parallel()
	s := watch(t)
	s.calm(t)

	s.Bus.Fail(func(op, queue string) error {
		if op == "receive" && (queue == "events" || queue == "progression") {
			return fault.BusUnavailable.Errorf("nothing is delivered")
		}
		return nil
	})
	s.fires(t, "QueueAgeHigh")
	s.oncall.hears(t, "FIRING", "QueueAgeHigh")

	s.Bus.Fail(nil)
	s.calm(t)
	s.oncall.hears(t, "RESOLVED", "QueueAgeHigh")
	s.oncall.heardOnly(t, "QueueAgeHigh", "EventToRankSlow") // of all that waited
	s.lostNothing(t)
}

// watched is a system that is played on all the time, a Prometheus that watches it, and an Alertmanager that tells of it.
type watched struct {
	*stack.Stack
	lapse
	prometheus string // its URL
	oncall     *oncall
	end        func() error // lets the game end
	sent       int          // events, when it has ended
}

// patience is how long an alert may take to fire or to clear. Most of it is for a machine that is busy with other tests.
const patience = 2 * time.Minute

// watch starts all of it.
func watch(t *testing.T) *watched {
	t.Helper()
	if raced {
		t.Skip("under the race detector, beside the other tests, scores are as late as in trouble")
	}
	programs := installed(t)
	port, err := server.FreePort()
	require.NoError(t, err)
	s := &watched{lapse: lapse{time.Now()}}
	s.Stack, err = stack.Start(t.Context(), stack.Options{
		Listen: "127.0.0.1:0", MetricsAddr: "127.0.0.1:" + port, Data: t.TempDir(), Catalog: filepath.Join("..", "..", "examples", "arena", "catalog.yaml"),
		Settings: map[string]string{"BATCH_HOLD": (30 * time.Second / pace).String()}, Now: s.now, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	running.Go(func() { s.every(ctx, 30*time.Second, func() { _ = s.Trigger(ctx, "archive") }) }) // whether it fails is for the rules to see
	running.Go(func() { s.every(ctx, time.Minute, func() { _ = s.Trigger(ctx, "redrive") }) })
	running.Go(func() { s.every(ctx, 2*time.Second, s.Bus.Wake) }) // by itself it waits for what is due in real time
	game, ended := make(chan struct{}), make(chan error, 1)
	running.Go(func() { ended <- s.play(ctx, game) })
	s.end = func() error {
		close(game)
		return <-ended
	}

	s.oncall = listen(t)
	alertmanager, err := programs.Alertmanager(t.Context(), t.TempDir(), s.oncall.configuration(t))
	require.NoError(t, err)
	t.Cleanup(alertmanager.Kill)
	prometheus, err := programs.Prometheus(t.Context(), t.TempDir(), s.configuration(t, "127.0.0.1:"+port, strings.TrimPrefix(alertmanager.URL, "http://")),
		"--query.lookback-delta="+(5*time.Minute/pace).String(), "--rules.alert.resend-delay="+(time.Minute/pace).String())
	require.NoError(t, err)
	t.Cleanup(prometheus.Kill)
	s.prometheus = prometheus.URL
	return s
}

// installed gives the machine's programs when it has a Prometheus and an Alertmanager.
func installed(t *testing.T) server.Programs {
	t.Helper()
	programs := server.Programs{Dirs: server.Path()}
	for _, names := range [][]string{{"prometheus"}, {"alertmanager", "prometheus-alertmanager"}} {
		if programs.Find(names...) == "" {
			require.NotEqual(t, "required", os.Getenv("TEST_SERVERS"), "none of %v on PATH", names)
			t.Skipf("none of %v on PATH", names)
		}
	}
	return programs
}

// every does something again and again, so often by the quick clock, until ctx ends.
func (s *watched) every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval / pace)
	defer tick.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// play sends the events of a recorded game, ten at a time, until the game is to end or ctx ends.
func (s *watched) play(ctx context.Context, end <-chan struct{}) error {
	var game bytes.Buffer
	if err := sample.Generate(&game, sample.Options{Seed: 1, Events: 10_000, Until: s.began}); err != nil {
		return err
	}
	events, err := replay.Read(&game)
	if err != nil {
		return err
	}
	player := replay.Player{URL: s.URL, Key: s.Secrets.Key(signing.Server), Batch: 1, Retries: 1000, Now: s.now}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for some := range slices.Chunk(events, 10) {
		report, err := player.Play(ctx, some)
		if err != nil {
			return err
		}
		s.sent += report.Accepted + report.Duplicate
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// lostNothing lets the game end and asserts that each of its events is in effect.
func (s *watched) lostNothing(t *testing.T) {
	t.Helper()
	require.NoError(t, s.end())
	require.Eventually(t, s.Idle, patience, 10*time.Millisecond)
	db, err := store.Open(s.DBURL)
	require.NoError(t, err)
	defer db.Close()
	var applied int
	require.NoError(t, db.Row(t.Context(), "SELECT COUNT(*) FROM ledger WHERE kind = ?", []any{progression.Root}, &applied))
	require.Equal(t, s.sent, applied)
	require.NotZero(t, applied)
}

// configuration writes prometheus.yml for a system that goes fast, with the rules of deploy/monitoring, and gives its path.
func (s *watched) configuration(t *testing.T, system, alertmanager string) string {
	t.Helper()
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.yml")
	write(t, rules, map[string]any{"groups": s.groups(t)})

	var c map[string]any
	read(t, "prometheus.yml", &c)
	maps.Copy(c["global"].(map[string]any), map[string]any{"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"})
	at := func(address string) []any {
		return []any{map[string]any{"targets": []string{address}, "labels": map[string]string{"environment": "dev"}}}
	}
	c["scrape_configs"].([]any)[0].(map[string]any)["static_configs"] = at(system)
	c["alerting"] = map[string]any{"alertmanagers": []any{map[string]any{"static_configs": at(alertmanager)}}}
	c["rule_files"] = []string{rules}
	path := filepath.Join(dir, "prometheus.yml")
	write(t, path, c)
	return path
}

// groups are the rules of deploy/monitoring for a system that goes fast, without the alerts about what is not here: a cluster, and
// servers of MySQL and Redis.
func (s *watched) groups(t *testing.T) []any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "monitoring", "rules", "*.yaml"))
	require.NoError(t, err)
	var all []any
	for _, file := range files {
		var object struct {
			Kind string
			Spec struct{ Groups []map[string]any }
		}
		if read(t, file, &object); object.Kind != "PrometheusRule" {
			continue
		}
		for _, group := range object.Spec.Groups {
			shorten(t, group, "interval")
			var rules []any
			for _, r := range group["rules"].([]any) {
				rule := r.(map[string]any)
				if labels, _ := rule["labels"].(map[string]any); rule["alert"] != nil && rule["alert"] != "Watchdog" &&
					!slices.Contains([]any{"gateway", "path", "season"}, labels["component"]) {
					continue
				}
				shorten(t, rule, "for", "keep_firing_for")
				quick, err := s.quicken(rule["expr"].(string))
				require.NoError(t, err)
				rule["expr"], rules = quick, append(rules, rule)
			}
			group["rules"], all = rules, append(all, group)
		}
	}
	require.NotEmpty(t, all)
	return all
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into), path)
}

func write(t *testing.T, path string, what any) {
	t.Helper()
	text, err := yaml.Marshal(what)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

// ask asks Prometheus' API and gives the data of its answer.
func (s *watched) ask(t require.TestingT, path string, data any) {
	response, err := http.Get(s.prometheus + "/api/v1/" + path)
	require.NoError(t, err)
	defer response.Body.Close()
	answer := struct {
		Status string
		Data   any
	}{Data: data}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.Equal(t, "success", answer.Status)
}

// firing are the critical alerts that fire.
func (s *watched) firing(t require.TestingT) []string {
	var data struct {
		Alerts []struct {
			State  string
			Labels struct{ Alertname, Severity string }
		}
	}
	s.ask(t, "alerts", &data)
	firing := []string{}
	for _, a := range data.Alerts {
		if a.State == "firing" && a.Labels.Severity == "critical" {
			firing = append(firing, a.Labels.Alertname)
		}
	}
	slices.Sort(firing)
	return slices.Compact(firing)
}

// fires waits until all of these alerts fire together.
func (s *watched) fires(t *testing.T, alerts ...string) {
	t.Helper()
	began := s.now()
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.Subset(c, s.firing(c), alerts) }, patience, 200*time.Millisecond)
	t.Logf("after %s: %v", s.now().Sub(began).Round(time.Second), s.firing(t))
}

// calm waits until no alert fires but the Watchdog, of a Prometheus that has seen the game for some minutes and evaluates every rule.
func (s *watched) calm(t *testing.T) {
	t.Helper()
	began := s.now()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.True(c, s.holds(c, `sum(increase(event_to_rank_seconds_count[2m])) > 0 and on () count_over_time(up[2m]) > 10`))
		require.Empty(c, s.firing(c))
		_, beats := s.oncall.heard()
		require.NotZero(c, beats)
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		s.ask(c, "rules", &data)
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				require.Equal(c, "ok", r.Health, "%s: %s", r.Name, r.LastError)
			}
		}
	}, patience, 200*time.Millisecond)
	t.Logf("after %s: calm", s.now().Sub(began).Round(time.Second))
}

// holds says whether an expression has any result.
func (s *watched) holds(t require.TestingT, expression string) bool {
	quick, err := s.quicken(expression)
	require.NoError(t, err)
	var data struct{ Result []any }
	s.ask(t, "query?query="+url.QueryEscape(quick), &data)
	return len(data.Result) > 0
}
