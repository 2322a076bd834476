package playbooks_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// TestEveryAlertHasAPage compares the pages with the rules: their names, and severity and component as the page says them.
func TestEveryAlertHasAPage(t *testing.T) {
	t.Parallel()
	fired := map[string]string{}
	for _, text := range glob(t, "deploy/monitoring/rules/*.yaml") {
		var object struct {
			Spec struct {
				Groups []struct {
					Rules []struct {
						Alert  string
						Labels map[string]string
					}
				}
			}
		}
		require.NoError(t, yaml.Unmarshal([]byte(text), &object))
		for _, group := range object.Spec.Groups {
			for _, rule := range group.Rules {
				if rule.Alert != "" {
					fired[rule.Alert] = "Severity " + rule.Labels["severity"] + ", component " + rule.Labels["component"]
				}
			}
		}
	}
	explained := map[string]string{}
	for _, page := range alerts(t) {
		explained[page.Name] = all(`(?m)^(Severity \w+, component \w+)\.`, page.Text)[0]
	}
	require.Equal(t, fired, explained)
}

// TestDashboardsAreThere holds the dashboards that pages send to, to the titles of those that there are.
func TestDashboardsAreThere(t *testing.T) {
	t.Parallel()
	var titles []string
	for _, text := range glob(t, "deploy/monitoring/dashboards/*.json") {
		var dashboard struct{ Title string }
		require.NoError(t, json.Unmarshal([]byte(text), &dashboard))
		titles = append(titles, dashboard.Title)
	}
	for _, page := range pages(t) {
		for _, list := range append(all(`(?m)^Dashboard: (.*)\.$`, page.Text), all(`Dashboard \*\*(.*?)\*\*`, page.Text)...) {
			for name := range strings.SplitSeq(list, ", ") {
				require.Contains(t, titles, name, page.Name)
			}
		}
	}
}

var (
	notNames = regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right) *\([^)]*\)|\b\w+ *\(`)
	name     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	word     = regexp.MustCompile(`^(and|or|unless|bool|sum|min|max|count|count_values|topk)$`) // of the language
)

// metrics gives the metrics that a query names.
func metrics(query string) []string {
	var names []string
	for _, found := range name.FindAllString(notNames.ReplaceAllString(query, " "), -1) {
		if !word.MatchString(found) {
			names = append(names, found)
		}
	}
	return names
}

// TestQueriesNameMetrics holds queries to the metrics of rules and dashboards, which are held to what is exposed, and of
// docs/metrics.md.
func TestQueriesNameMetrics(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"ALERTS": true} // Prometheus's own
	texts := append(glob(t, "deploy/monitoring/rules/*.yaml"), glob(t, "deploy/monitoring/dashboards/*.json")...)
	for _, text := range append(texts, glob(t, "docs/metrics.md")...) {
		for _, found := range name.FindAllString(text, -1) {
			known[found] = true
		}
	}
	for _, page := range pages(t) {
		for _, block := range page.Blocks("promql") {
			for _, metric := range metrics(block.Text) {
				require.True(t, known[metric], "%s: nothing shows %s", page.Name, metric)
			}
		}
	}
	require.Equal(t, []string{"a_total", "b_bucket", "liveops:c:current", "d"},
		metrics(`sum by (x) (rate(a_total{y="z"}[5m])) / on (x) histogram_quantile(0.9, b_bucket) and liveops:c:current > 5 unless d`))
}
