package app

import (
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/season"
	"liveops/core/signing"
)

// metrics is every metric there is, with its labels and all the values that each may have. Every series has the service too.
func metrics(a *App) map[string]map[string][]string {
	routes := []string{"unmatched"}
	for _, r := range a.routes() {
		routes = append(routes, r.Pattern)
	}
	var statuses []string
	for status := 100; status < 600; status++ {
		statuses = append(statuses, strconv.Itoa(status))
	}
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "OTHER"}
	functions := []string{"archive", "fairness", "progression", "redrive"}
	queue := map[string][]string{"queue": {"events", "progression"}, "state": {"active", "dead"}}
	pool := map[string][]string{"db_name": {"liveops"}}
	none := map[string][]string{}
	return map[string]map[string][]string{
		"anomaly_flags_total":                     {"rule": words(fairness.Codes()), "mode": {"enforce", "shadow"}},
		"archive_mismatch_entries":                none,
		"build_info":                              {"version": {"test"}},
		"cases_opened_total":                      none,
		"catalog_reloads_total":                   {"result": {"loaded", "refused"}},
		"catalog_version":                         none,
		"database_retries_total":                  {"cause": {"busy", "deadlock", "lock_wait"}},
		"dead_letters_total":                      {"fate": {"given-up", "redriven"}},
		"dropped_events_total":                    {"reason": append(words(fairness.Dropping()), "message-invalid")},
		"erasures_total":                          {"result": {"erased", "failed", "forgotten", "left", "repeated"}},
		"event_to_rank_seconds":                   none,
		"fairness_decision_seconds":               none,
		"fairness_decisions_total":                {"verdict": words(fairness.Verdicts())},
		"function_duration_seconds":               {"function": functions},
		"function_faults_total":                   {"function": functions, "code": words(fault.Codes())},
		"function_invocations_total":              {"function": functions, "outcome": {"failed", "ok", "panicked", "timed out"}},
		"function_last_success_timestamp_seconds": {"function": functions},
		"function_message_age_seconds":            {"function": {"fairness", "progression"}},
		"gate_refusals_without_redis_total":       none,
		"gateway_faults_total":                    {"code": words(fault.Codes())},
		"gateway_request_duration_seconds":        {"route": routes},
		"gateway_requests_total":                  {"route": routes, "method": methods, "status": statuses},
		"go_sql_idle_connections":                 pool,
		"go_sql_in_use_connections":               pool,
		"go_sql_max_idle_closed_total":            pool,
		"go_sql_max_idle_time_closed_total":       pool,
		"go_sql_max_lifetime_closed_total":        pool,
		"go_sql_max_open_connections":             pool,
		"go_sql_open_connections":                 pool,
		"go_sql_wait_count_total":                 pool,
		"go_sql_wait_duration_seconds_total":      pool,
		"keys_refused_total":                      {"keys": {"receipts", "requests"}},
		"leaderboard_drift_entries":               none,
		"leaderboard_sql_reads_total":             none,
		"leaderboard_updates_total":               none,
		"ledger_drift_players":                    none,
		"mails_claimed_total":                     none,
		"progression_events_total":                {"result": {"applied", "invalid", "repeated"}},
		"queue_messages":                          queue,
		"queue_oldest_message_age_seconds":        queue,
		"rate_limits_in_process_total":            {"result": {"admitted", "throttled"}},
		"receipts_issued_total":                   none,
		"redis_pool_conn_idle_current":            none,
		"redis_pool_conn_stale_total":             none,
		"redis_pool_conn_total_current":           none,
		"redis_pool_hit_total":                    none,
		"redis_pool_miss_total":                   none,
		"redis_pool_timeout_total":                none,
		"reversals_total":                         none,
		"rewards_granted_total":                   {"delivery": {"ledger", "mailbox"}},
		"season_ends_timestamp_seconds":           none,
		"signature_failures_total":                {"reason": words(fault.Unauthenticated.Codes())},
		"trace_export_failures_total":             none,
		"unchecked_nonces_total":                  none,
		"window_close_failures_total":             none,
		"window_close_overdue_seconds":            none,
		"window_closes_total":                     none,
		"windows":                                 {"state": words(season.States())},
	}
}

func words[T ~string](set []T) []string {
	list := make([]string, len(set))
	for i, member := range set {
		list[i] = string(member)
	}
	return list
}

// few is how many values of a label docs/metrics.md lists at most, and how many are all there from the start.
const few = 9

// labelled gives every metric that is registered, also those that nothing was counted under yet, with its labels.
func labelled(t *testing.T, registry prometheus.Collector) map[string][]string {
	t.Helper()
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		registry.Describe(descriptions)
	}()
	form := regexp.MustCompile(`fqName: "(\w+)".*constLabels: {(.*)}, variableLabels: {(.*)}}$`)
	found := map[string][]string{}
	for d := range descriptions {
		parts := form.FindStringSubmatch(d.String())
		require.NotNil(t, parts, d.String())
		var labels []string
		for _, label := range strings.Split(parts[2]+","+parts[3], ",") {
			if name, _, _ := strings.Cut(label, "="); name != "" {
				labels = append(labels, name)
			}
		}
		found[parts[1]] = labels
	}
	return found
}

// library is the metrics of the runtime and the process, as the client library of Prometheus has them.
func library(t *testing.T) map[string]bool {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	names := map[string]bool{}
	for name := range labelled(t, registry) {
		names[name] = true
	}
	families, err := registry.Gather() // the runtime's are not described one by one
	require.NoError(t, err)
	for _, family := range families {
		names[family.GetName()] = true
	}
	return names
}

// documented is a row of docs/metrics.md.
type documented struct {
	kind   string
	labels map[string]string // the values that are listed
}

func documentedMetrics(t *testing.T) map[string]documented {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (counter|gauge|histogram) \\|(.*?)\\|(.*?)\\| ([^|]+) \\|$")
	label := regexp.MustCompile("^`(\\w+)`(?:: (.+))?$")
	rows, names := map[string]documented{}, []string{}
	for _, found := range row.FindAllStringSubmatch(string(text), -1) {
		d := documented{kind: found[2], labels: map[string]string{}}
		if cell := strings.TrimSpace(found[3]); cell != "" {
			for part := range strings.SplitSeq(cell, "; ") {
				named := label.FindStringSubmatch(part)
				require.NotNil(t, named, "%s: %s", found[1], part)
				d.labels[named[1]] = named[2]
			}
		}
		rows[found[1]], names = d, append(names, found[1])
	}
	require.Len(t, rows, strings.Count(string(text), "\n| `"), "a row is not of the form of the others")
	require.Equal(t, slices.Sorted(maps.Keys(rows)), names, "in order, each once")
	return rows
}

// traced is an environment in which every metric is registered.
func traced(t *testing.T) *App {
	t.Helper()
	e := newEnvironment(t)
	e.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
	a := e.app(t)
	a.functions().Handler() // registers those of the functions
	return a
}

// The metrics that are registered, the table above and docs/metrics.md are the same, with the same labels.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	a := traced(t)
	found, theirs := labelled(t, a.gathered), library(t)
	for name := range theirs {
		require.Contains(t, found[name], "service", name)
		delete(found, name)
	}
	table, rows := metrics(a), documentedMetrics(t)
	require.ElementsMatch(t, slices.Collect(maps.Keys(found)), slices.Collect(maps.Keys(table)))
	require.ElementsMatch(t, slices.Collect(maps.Keys(found)), slices.Collect(maps.Keys(rows)))
	for name, labels := range found {
		require.ElementsMatch(t, append(slices.Collect(maps.Keys(table[name])), "service"), labels, name)
		require.ElementsMatch(t, slices.Collect(maps.Keys(table[name])), slices.Collect(maps.Keys(rows[name].labels)), "docs/metrics.md: %s", name)
		for label, values := range table[name] {
			if len(values) <= few && name != "build_info" {
				require.Equal(t, strings.Join(slices.Sorted(slices.Values(values)), ", "), rows[name].labels[label], "docs/metrics.md: %s: %s", name, label)
			} else {
				require.Empty(t, rows[name].labels[label], "docs/metrics.md: %s: %s", name, label)
			}
		}
	}
	problems, err := testutil.GatherAndLint(a.gathered)
	require.NoError(t, err)
	require.Empty(t, problems, "names that Prometheus would not choose")
}

// Before anything happened there is every series of a closed set, and its counters are 0.
func TestClosedSetsBeginAtZero(t *testing.T) {
	t.Parallel()
	a := traced(t)
	families, err := a.gathered.Gather()
	require.NoError(t, err)
	series := map[string]int{}
	for _, family := range families {
		series[family.GetName()] = len(family.GetMetric())
		for _, m := range family.GetMetric() {
			if _, ours := metrics(a)[family.GetName()]; ours && !strings.HasPrefix(family.GetName(), "redis_pool_") {
				require.Zero(t, m.GetCounter().GetValue(), family.GetName())
			}
		}
	}
	for name, labels := range metrics(a) {
		want := 1
		for _, values := range labels {
			want *= len(values)
			if len(values) > few {
				want = 0
			}
		}
		switch {
		case name == "database_retries_total":
			require.Equal(t, 1, series[name], "the others are of MySQL")
		case want > 0:
			require.Equal(t, want, series[name], name)
		}
	}
}

// exposure is one line of /metrics.
type exposure struct {
	name   string
	labels map[string]string
	value  float64
}

// exposed reads the text of /metrics.
func exposed(t *testing.T, text string) []exposure {
	t.Helper()
	line, label := regexp.MustCompile(`^(\w+)(?:\{(.*)\})? (\S+)$`), regexp.MustCompile(`(\w+)="([^"]*)"`)
	var series []exposure
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "#") {
			continue
		}
		found := line.FindStringSubmatch(strings.TrimSpace(l))
		require.NotNil(t, found, l)
		one := exposure{name: found[1], labels: map[string]string{}}
		for _, pair := range label.FindAllStringSubmatch(found[2], -1) {
			one.labels[pair[1]] = pair[2]
		}
		var err error
		one.value, err = strconv.ParseFloat(found[3], 64)
		require.NoError(t, err)
		series = append(series, one)
	}
	return series
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	p := e.start(t)
	send := func(r *http.Request) int {
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		response.Body.Close()
		return response.StatusCode
	}
	post := func(class signing.Class, path, body string) int {
		return send(request(t, class, http.MethodPost, p.url+path, []byte(body)))
	}
	events := `{"events":[` + strings.Join([]string{
		xpText("id-one", "player-ada", 100), xpText("id-two", "player-eve", 101), scoreText("id-three", "player-ada", "open-board", 5),
	}, ",") + `]}`
	require.Equal(t, http.StatusAccepted, post(signing.Server, "/v1/events/batch", events))
	require.Equal(t, http.StatusUnauthorized, post("", "/v1/events", xpText("id-four", "player-ada", 1)))
	require.Equal(t, http.StatusForbidden, post(signing.Admin, "/v1/events", xpText("id-four", "player-ada", 1)))
	require.Equal(t, http.StatusUnauthorized, send(func() *http.Request {
		r := request(t, signing.Server, http.MethodGet, p.url+"/v1/players/player-ada", nil)
		r.Header.Set(signing.HeaderKey, "key-of-nobody")
		return r
	}()))
	require.Equal(t, http.StatusNotFound, send(request(t, "", "FROB", p.url+"/player-ada/nothing", nil)))
	var bodies [][]byte
	for _, text := range []string{xpText("id-one", "player-ada", 100), xpText("id-two", "player-eve", 101), scoreText("id-three", "player-ada", "open-board", 5)} {
		bodies = append(bodies, acceptedBody(t, text))
	}
	bodies = append(bodies, []byte("board-of-nobody"))
	require.Equal(t, http.StatusOK, send(invocation(t, p.url, "fairness", bodies...)))
	require.Equal(t, http.StatusOK, send(invocation(t, p.url, "progression", bodies[0], bodies[2], bodies[3])))
	require.Equal(t, http.StatusInternalServerError, send(request(t, "", http.MethodPost, p.url+"/fairness", []byte("{}"))))
	require.Equal(t, http.StatusOK, send(request(t, "", http.MethodPost, p.url+"/archive", []byte("{}"))))

	status, text := get(t, p.metrics+"/metrics")
	require.Equal(t, http.StatusOK, status)
	series := exposed(t, text)
	value := func(name string, want map[string]string) (total int) {
		for _, one := range series {
			if one.name == name && !slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(l string) bool { return one.labels[l] != want[l] }) {
				total += int(one.value)
			}
		}
		return total
	}
	for _, test := range []struct {
		name   string
		labels map[string]string
		want   int
	}{
		{"gateway_requests_total", map[string]string{"route": "/v1/events/batch", "method": "POST", "status": "202"}, 1},
		{"gateway_requests_total", map[string]string{"route": "unmatched", "method": "OTHER", "status": "404"}, 1},
		{"gateway_request_duration_seconds_count", map[string]string{"route": "/v1/events"}, 2},
		{"signature_failures_total", map[string]string{"reason": "signature-header-missing"}, 1},
		{"signature_failures_total", map[string]string{"reason": "key-unknown"}, 1},
		{"signature_failures_total", nil, 2},
		{"function_invocations_total", map[string]string{"function": "fairness", "outcome": "ok"}, 1},
		{"function_invocations_total", map[string]string{"function": "fairness", "outcome": "failed"}, 1},
		{"function_duration_seconds_count", map[string]string{"function": "archive"}, 1},
		{"fairness_decisions_total", map[string]string{"verdict": "deny"}, 1},
		{"anomaly_flags_total", map[string]string{"rule": "impossible-value", "mode": "enforce"}, 1},
		{"dropped_events_total", map[string]string{"reason": "impossible-value"}, 1},
		{"dropped_events_total", map[string]string{"reason": "message-invalid"}, 2},
		{"progression_events_total", map[string]string{"result": "applied"}, 2},
		{"progression_events_total", map[string]string{"result": "invalid"}, 1},
		{"receipts_issued_total", nil, 1},
		{"leaderboard_updates_total", nil, 1},
		{"event_to_rank_seconds_count", nil, 1},
		{"database_retries_total", nil, 0},
		{"window_closes_total", nil, 0},
		{"catalog_version", nil, 1},
		{"gate_refusals_without_redis_total", nil, 0},
		{"window_close_failures_total", nil, 0},
	} {
		require.Contains(t, text, "\n# TYPE "+strings.TrimSuffix(test.name, "_count")+" ")
		require.Equal(t, test.want, value(test.name, test.labels), "%s %v", test.name, test.labels)
	}
	require.Positive(t, value("go_goroutines", nil))
	require.Positive(t, value("process_start_time_seconds", nil))

	types := map[string]string{} // by metric
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		types[found[1]] = found[2]
	}
	table, documented, theirs := metrics(e.app(t)), documentedMetrics(t), library(t)
	for _, one := range series {
		name, bucket := strings.CutSuffix(one.name, "_bucket")
		for _, suffix := range []string{"_sum", "_count"} {
			if base := strings.TrimSuffix(one.name, suffix); types[base] == "histogram" || types[base] == "summary" {
				name = base
			}
		}
		require.Equal(t, "liveops", one.labels["service"])
		if theirs[name] || strings.HasPrefix(name, "promhttp_") {
			continue
		}
		labels, known := table[name]
		require.True(t, known, "%s is not in the table of metrics", name)
		require.Equal(t, documented[name].kind, types[name], "docs/metrics.md: %s", name)
		for label, said := range one.labels {
			if label == "service" || label == "le" && bucket {
				continue
			}
			require.Contains(t, labels[label], said, "%s: %s", name, label)
		}
	}
	for _, said := range []string{"player-", "id-one", "-board", "of-nobody", "hush"} {
		require.NotContains(t, text, said)
	}
	require.NotContains(t, e.log.String(), "hush")
	// Operations are not part of the API that the host proxies.
	status, _ = get(t, p.url+"/metrics")
	require.Equal(t, http.StatusNotFound, status)
	status, _ = get(t, p.metrics+"/v1/time")
	require.Equal(t, http.StatusNotFound, status)
	p.stop()
	require.NoError(t, <-p.done)
}
