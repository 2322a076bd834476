// Package monitoring_test runs what watches the system with the tools of its community: promtool over the rules and their tests,
// amtool and Alertmanager over the routes. A tool that is missing skips its tests, and fails them with TEST_SERVERS=required.
package monitoring_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// rule records or alerts.
type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

func (r rule) name() string { return r.Record + r.Alert }

// groups is what Prometheus reads: the spec of a PrometheusRule.
type groups struct {
	Groups []struct {
		Name     string `yaml:"name"`
		Interval string `yaml:"interval,omitempty"`
		Rules    []rule `yaml:"rules"`
	} `yaml:"groups"`
}

// all gives every rule, to be changed in place.
func (g groups) all() []*rule {
	var rules []*rule
	for _, group := range g.Groups {
		for i := range group.Rules {
			rules = append(rules, &group.Rules[i])
		}
	}
	return rules
}

// files reads the rules that Kustomize takes, by the name of their file.
func files(t *testing.T) map[string]groups {
	t.Helper()
	var kustomization struct{ Resources []string }
	read(t, "rules/kustomization.yaml", &kustomization)
	there, err := filepath.Glob("rules/*.yaml")
	require.NoError(t, err)
	read := make(map[string]groups)
	for _, path := range there {
		if name := filepath.Base(path); name != "kustomization.yaml" {
			read[name] = object(t, path)
		}
	}
	require.ElementsMatch(t, kustomization.Resources, slices.Collect(maps.Keys(read)), "Kustomize takes the rules that are there")
	return read
}

func object(t *testing.T, path string) groups {
	t.Helper()
	var object struct {
		Kind string
		Spec groups
	}
	read(t, path, &object)
	require.Equal(t, "PrometheusRule", object.Kind, path)
	return object.Spec
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into), path)
}

// alerts gives the rules that alert, by name.
func alerts(t *testing.T) map[string]rule {
	t.Helper()
	named := make(map[string]rule)
	for _, file := range files(t) {
		for _, r := range file.all() {
			if r.Alert != "" {
				require.NotContains(t, named, r.Alert, "each alert is one rule")
				named[r.Alert] = *r
			}
		}
	}
	require.NotEmpty(t, named)
	return named
}

// program finds a tool by the first of its names that is on PATH.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("TEST_SERVERS") == "required" {
		require.FailNow(t, fmt.Sprintf("%s is not on PATH and TEST_SERVERS=required", names[0]))
	}
	t.Skipf("%s is not on PATH", names[0])
	return ""
}

// lay writes rules as Prometheus reads them, with their tests beside them as in the tree, and gives the directory.
func lay(t *testing.T, files map[string]groups) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "tests"), os.DirFS("rules/tests")))
	for name, file := range files {
		text, err := yaml.Marshal(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return dir
}

// testsOf are the files with the tests of a file of rules: those whose names begin with its name.
func testsOf(t *testing.T, dir, name string) []string {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join(dir, "tests", strings.TrimSuffix(name, ".yaml")+"*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, tests, "%s has no tests", name)
	return tests
}

// prove runs the tests of one of the files.
func prove(t *testing.T, promtool string, files map[string]groups, name string) (string, error) {
	t.Helper()
	tests := testsOf(t, lay(t, files), name)
	out, err := exec.Command(promtool, append([]string{"test", "rules"}, tests...)...).CombinedOutput()
	return string(out), err
}

func TestPrometheusTakesTheRules(t *testing.T) {
	t.Parallel()
	promtool, files := program(t, "promtool"), files(t)
	dir := lay(t, files)
	for name := range files {
		out, err := exec.Command(promtool, "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(dir, name)).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	promtool, files := program(t, "promtool"), files(t)
	for name := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := prove(t, promtool, files, name)
			require.NoError(t, err, out)
		})
	}
}

// alwaysFires is the severity of an alert that has no silence.
const alwaysFires = "none"

func TestEachAlertIsSeenToFireAndToBeSilent(t *testing.T) {
	t.Parallel()
	fires, silent := make(map[string]bool), make(map[string]bool)
	paths, err := filepath.Glob("rules/tests/*.yaml")
	require.NoError(t, err)
	for _, path := range paths {
		var tests struct {
			Tests []struct {
				Alerts []struct {
					Alert    string `yaml:"alertname"`
					Expected []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		read(t, path, &tests)
		for _, test := range tests.Tests {
			for _, a := range test.Alerts {
				if len(a.Expected) > 0 {
					fires[a.Alert] = true
				} else {
					silent[a.Alert] = true
				}
			}
		}
	}
	for name, alert := range alerts(t) {
		require.True(t, fires[name], "%s is nowhere seen to fire", name)
		require.True(t, silent[name] || alert.Labels["severity"] == alwaysFires, "%s is nowhere seen to be silent", name)
		delete(fires, name)
		delete(silent, name)
	}
	require.Empty(t, fires, "tests of alerts that there are not")
	require.Empty(t, silent, "tests of alerts that there are not")
}

func TestAlertsAreLabelled(t *testing.T) {
	t.Parallel()
	var (
		severities = []string{"critical", "warning", alwaysFires}
		components = []string{"gateway", "path", "season", "mysql", "redis", "cluster", "monitoring"}
		bounded    = []string{"service", "function", "queue", "deployment", "horizontalpodautoscaler", "scaledObject", "host", "job", "part"}
		label      = regexp.MustCompile(`\$labels\.(\w+)|\$value`)
	)
	for name, alert := range alerts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Regexp(t, `^[A-Z]\w+$`, name)
			require.Len(t, alert.Labels, 2)
			require.Contains(t, severities, alert.Labels["severity"])
			require.Contains(t, components, alert.Labels["component"])
			require.NotEmpty(t, alert.Annotations["summary"])
			require.NotEmpty(t, alert.Annotations["description"])
			require.Equal(t, "https://git.example.com/liveops/liveops/blob/main/docs/playbooks/"+name+".md", alert.Annotations["runbook_url"])
			for _, found := range label.FindAllStringSubmatch(alert.Annotations["summary"], -1) {
				require.Contains(t, bounded, found[1], "a summary must be the same for many alerts")
			}
		})
	}
}

// A mutant is a rule with a mistake.
type mutant struct {
	mistake string
	rule
}

var (
	comparison = regexp.MustCompile(` (>=|<=|==|!=|>|<) (?:(\d+(?:\.\d+)?)\b)?`)
	opposite   = map[string]string{">": "<=", "<=": ">", "<": ">=", ">=": "<", "==": "!=", "!=": "=="}
	operand    = regexp.MustCompile(`(?m)^(or|and|unless) .*\n?`) // one on a line of its own
)

// mutants makes the mistakes that may be made in a rule: it never holds, always holds, a comparison is the wrong way round, a limit is
// half or double, an operand is missing, and it holds for too short or too long a time.
func mutants(t *testing.T, r rule) []mutant {
	t.Helper()
	var made []mutant
	add := func(mistake string, change func(*rule)) {
		changed := r
		change(&changed)
		if changed.Expr != r.Expr || changed.For != r.For {
			made = append(made, mutant{mistake, changed})
		}
	}
	splice := func(from, to int, text string) func(*rule) {
		return func(r *rule) { r.Expr = r.Expr[:from] + text + r.Expr[to:] }
	}
	add("never", func(r *rule) { r.Expr = "vector(0) > 1" })
	add("always", func(r *rule) { r.Expr = "vector(1)" })
	for _, at := range comparison.FindAllStringSubmatchIndex(r.Expr, -1) {
		operator := r.Expr[at[2]:at[3]]
		add("the opposite of "+r.Expr[at[0]:at[1]], splice(at[2], at[3], opposite[operator]))
		if at[4] < 0 {
			continue
		}
		limit, err := strconv.ParseFloat(r.Expr[at[4]:at[5]], 64)
		require.NoError(t, err)
		for _, factor := range []float64{.5, 2} {
			if limit != 0 {
				add(fmt.Sprintf("%g times %g", factor, limit), splice(at[4], at[5], fmt.Sprint(limit*factor)))
			}
		}
	}
	for _, at := range operand.FindAllStringIndex(r.Expr, -1) {
		add("without "+r.Expr[at[0]:at[1]], splice(at[0], at[1], ""))
	}
	if first, rest, found := strings.Cut(r.Expr, "\nor "); found {
		add("without "+first, func(r *rule) { r.Expr = rest })
	}
	if r.For != "" {
		wait, err := time.ParseDuration(r.For)
		require.NoError(t, err)
		add("at once", func(r *rule) { r.For = "" })
		add("after twice the time", func(r *rule) { r.For = (2 * wait).String() })
	}
	return made
}

// layers sorts the rules of a file by what they rest on: records that rest on none of the others, those that rest on these, and so
// on, and at last the alerts. A mistake in a rule can hide one in what rests on it, but none in its own layer.
func layers(file groups) [][]string {
	depths := make(map[string]int)
	var sorted [][]string
	place := func(r *rule, depth int) {
		for len(sorted) <= depth {
			sorted = append(sorted, nil)
		}
		depths[r.name()] = depth
		sorted[depth] = append(sorted[depth], r.name())
	}
	for _, r := range file.all() {
		if r.Record == "" {
			continue
		}
		depth := 0
		for other, its := range depths {
			if strings.Contains(r.Expr, other) {
				depth = max(depth, its+1)
			}
		}
		place(r, depth)
	}
	records := len(sorted)
	for _, r := range file.all() {
		if r.Alert != "" {
			place(r, records)
		}
	}
	return sorted
}

// failed finds the rules whose tests failed in what promtool says.
var failed = regexp.MustCompile(`(?:alertname: |expr: ")([\w:]+)"?, time: `)

// In a round each rule of a layer has one mistake, and of the tests of that layer those of exactly these rules must fail.
func TestNoMistakeStaysUnnoticed(t *testing.T) {
	t.Parallel()
	promtool := program(t, "promtool")
	for name, file := range files(t) {
		for depth, layer := range layers(file) {
			for round := 0; ; round++ {
				changed, mistakes := files(t), make(map[string]string)
				for _, r := range changed[name].all() {
					if made := mutants(t, *r); slices.Contains(layer, r.name()) && round < len(made) {
						mistakes[r.name()] = made[round].mistake
						*r = made[round].rule
					}
				}
				if len(mistakes) == 0 {
					break
				}
				t.Run(fmt.Sprintf("%s/%d/%d", name, depth, round), func(t *testing.T) {
					t.Parallel()
					out, err := prove(t, promtool, changed, name)
					require.Error(t, err, "%v", mistakes)
					noticed := make(map[string]bool)
					for _, found := range failed.FindAllStringSubmatch(out, -1) {
						noticed[found[1]] = slices.Contains(layer, found[1])
					}
					for _, rule := range layer {
						require.Equal(t, mistakes[rule] != "", noticed[rule], "the tests of %s with the mistake %q:\n%s", rule, mistakes[rule], out)
					}
				})
			}
		}
	}
}

func TestPlaybooks(t *testing.T) {
	t.Parallel()
	for name := range alerts(t) {
		require.FileExists(t, filepath.Join("../../docs/playbooks", name+".md"))
	}
}

func TestAlertsLeadToDashboards(t *testing.T) {
	t.Parallel()
	var there []string
	paths, err := filepath.Glob("dashboards/*.json")
	require.NoError(t, err)
	for _, path := range paths {
		var dashboard struct {
			UID string `yaml:"uid"`
		}
		read(t, path, &dashboard)
		there = append(there, "https://grafana.liveops.example.com/d/"+dashboard.UID)
	}
	for name, alert := range alerts(t) {
		if url := alert.Annotations["dashboard_url"]; url != "" {
			require.Contains(t, there, url, name)
		}
	}
}
