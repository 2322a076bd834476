package monitoring_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/local/monitoring"
)

// TestCheck seeds the mistakes that the check is there for.
func TestCheck(t *testing.T) {
	t.Parallel()
	exposed := monitoring.NewExposed([]monitoring.Rule{
		{Record: "queue:age:max", Expr: `max by (queue) (age{state="active"})`, Labels: map[string]string{"of": "queues"}},
		{Record: "queue:age:old", Expr: "queue:age:max > 60"},
		{Record: "queue:lost:max", Expr: "max by (queue) (lost)"},
		{Record: "queue:endless", Expr: "queue:endless or queue:age:max"},
		{Alert: "Old", Expr: "queue:age:max > 120", Labels: map[string]string{"severity": "critical"}},
	})
	require.NoError(t, exposed.Scraped(monitoring.Job{Names: []string{"gateway"}, Target: []string{"pod"}, Closed: []string{"state", "outcome"}}, strings.NewReader(`
# TYPE age gauge
age{queue="events",state="active"} 1
age{queue="events",state="dead"} 0
# TYPE requests_total counter
requests_total{route="/a",outcome="ok"} 1
# TYPE duration_seconds histogram
duration_seconds_bucket{route="/a",le="0.5"} 1
duration_seconds_bucket{route="/a",le="5"} 1
duration_seconds_bucket{route="/a",le="+Inf"} 1
duration_seconds_sum{route="/a"} 1
duration_seconds_count{route="/a"} 1
# TYPE pause_seconds summary
pause_seconds{quantile="0.5"} 1
pause_seconds_sum 1
pause_seconds_count 1
`)))
	require.NoError(t, exposed.List(monitoring.Job{Names: []string{"keda"}, Target: []string{"namespace"}}, strings.NewReader("# source\nscaler_errors_total{scaler}\nscaler_active\n")))

	for _, test := range []struct{ query, wrong string }{
		{query: `age`},
		{query: `sum by (queue) (age{state="active", pod=~"a.+", job="gateway"})`},
		{query: `rate(requests_total{route="/b"}[5m])`},
		{query: `histogram_quantile(0.9, sum by (route, le) (rate(duration_seconds_bucket[5m])))`},
		{query: `duration_seconds_sum / duration_seconds_count`},
		{query: `duration_seconds_bucket{le=~"5|5.0"} or duration_seconds_bucket{le="0.5"} or duration_seconds_bucket{le="+Inf"}`},
		{query: `pause_seconds{quantile="0.5"} + pause_seconds_count`},
		{query: `queue:age:max{queue="events", of="queues"}`},
		{query: `queue:age:old{queue="events"} or queue:endless{queue="events"}`},
		{query: `queue:lost:max{queue="events"}`}, // what is wrong is told of the rule
		{query: `sum by (severity, queue) (ALERTS{alertname="Old", alertstate="firing"})`},
		{query: `up{job=~"keda|gateway", namespace="x"} == 0`},
		{query: `sum by (scaler) (rate(scaler_errors_total[5m]))`},
		{query: `sum by (queue, pod) (age) / on (pod) group_left () sum by (pod) (requests_total)`},
		{query: `sum by (kind) (label_replace(age, "kind", "$1", "queue", "(.+)"))`},
		{query: `max without (pod) (age) and on (queue) age`},
		{query: `topk(3, age) unless on (queue) max_over_time(age[1h:1m])`},
		{query: `time() - max(age) > bool 3`},
		{query: `absent(age{state="dead"})`},

		{`sum(age`, "unclosed"},
		{`agee`, "nothing exposes agee"},
		{`time() - rate(request_total[5m])`, "nothing exposes request_total"},
		{`age{queues="events"}`, "age has no label queues"},
		{`absent(age{service="a"})`, "age has no label service"},
		{`age{state="alive"}`, `age never has state="alive"`},
		{`requests_total{outcome="none"}`, `requests_total never has outcome="none"`},
		{`up{job="kedaa"}`, `up never has job="kedaa"`},
		{`scaler_active{job="gateway"}`, `scaler_active never has job="gateway"`},
		{`sum by (queues) (age)`, "there is no label queues"},
		{`sum by (le) (rate(duration_seconds_count[5m]))`, "there is no label le"},
		{`max by (state) (sum by (queue) (age))`, "there is no label state"},
		{`max by (pod) (max without (pod) (age))`, "there is no label pod"},
		{`histogram_quantile(0.9, sum by (route) (rate(duration_seconds_bucket[5m])))`, "no label le"},
		{`duration_seconds_bucket{le="5"}`, `tells le 5 from 5.0`},
		{`duration_seconds_bucket{le="5.0"}`, `tells le 5 from 5.0`},
		{`duration_seconds_bucket{le="0.25"}`, `no bucket of le="0.25"`},
		{`queue:age:min`, "nothing exposes queue:age:min"},
		{`queue:age:max{state="active"}`, "queue:age:max has no label state"},
		{`queue:age:old{state="active"}`, "queue:age:old has no label state"},
		{`ALERTS{queues="events"}`, "ALERTS has no label queues"},
		{`scaler_errors_total{scaled="a"}`, "scaler_errors_total has no label scaled"},
		{`age / on (queues) age`, "there is no label queues"},
		{`sum by (queue) (age) / on (queue) group_right (stat) age`, "there is no label stat"},
		{`max by (pod) (age and on (queue) requests_total)`, "there is no label queue"},
		{`sum by (pod) (age / on (queue) age)`, "there is no label pod"},
		{`sum by (queue) (age / ignoring (queue) age)`, "there is no label queue"},
		{`label_replace(age, "kind", "$1", "queues", "(.+)")`, "there is no label queues"},
		{`scalar(agee)`, "nothing exposes agee"},
		{`topk(scalar(agee), age)`, "nothing exposes agee"},
	} {
		wrong := exposed.Check(monitoring.Query{Where: "here", Text: test.query})
		if test.wrong == "" {
			require.Empty(t, wrong, test.query)
			continue
		}
		require.NotEmpty(t, wrong, test.query)
		require.Contains(t, wrong[0], "here: ", test.query)
		require.Contains(t, wrong[0], test.wrong, test.query)
	}

	require.Error(t, exposed.List(monitoring.Job{Names: []string{"keda"}}, strings.NewReader("scaler_errors_total {scaler}")))
	require.Error(t, exposed.Scraped(monitoring.Job{Names: []string{"gateway"}}, strings.NewReader("<html>")))
	require.Equal(t, []string{
		"keda: scaler_active: scaler_active is in no query",
		"keda: scaler_errors_total: scaler is in no query",
	}, exposed.Unused([]monitoring.Query{{Text: "scaler_errors_total > 0"}, {Text: "scaler_active_not{scaler=1}"}}))
}

// TestReading finds every query of a dashboard and of a PrometheusRule.
func TestReading(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("board.json", `{"templating": {"list": [
		{"name": "prometheus", "type": "datasource", "query": "prometheus"},
		{"name": "service", "type": "query", "query": {"query": "label_values(age{a=\"$b\"}, service)"}}]},
		"panels": [
		{"title": "Age", "datasource": {"type": "prometheus"}, "targets": [{"refId": "A", "expr": "rate(age{a=\"${b}\"}[$__rate_interval])"}, {"refId": "B", "expr": "age"}]},
		{"title": "Logs", "datasource": {"type": "loki"}, "targets": [{"refId": "A", "expr": "{a=\"b\"}"}]}]}`)
	write("rules.yaml", "kind: PrometheusRule\nspec:\n  groups:\n    - name: one\n      rules:\n        - {record: a:b, expr: age, labels: {c: d}}\n        - {alert: E, expr: a:b > 0}\n")
	write("kustomization.yaml", "kind: Kustomization\n")

	boards, err := monitoring.Dashboards(dir)
	require.NoError(t, err)
	require.Len(t, boards, 1)
	queries, err := boards[0].Queries()
	require.NoError(t, err)
	require.Equal(t, []monitoring.Query{
		{Where: "board.json: variable service", Text: `group by (service) (age{a="chosen"})`},
		{Where: "board.json: Age: A", Text: `rate(age{a="chosen"}[5m])`},
		{Where: "board.json: Age: B", Text: "age"},
	}, queries)

	rules, err := monitoring.Rules(dir)
	require.NoError(t, err)
	require.Len(t, rules, 2)
	require.Equal(t, monitoring.Query{Where: "rules.yaml: a:b", Text: "age"}, rules[0].Query())
	require.Equal(t, map[string]string{"c": "d"}, rules[0].Labels)
	require.Equal(t, monitoring.Query{Where: "rules.yaml: E", Text: "a:b > 0"}, rules[1].Query())
}
