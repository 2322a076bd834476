package monitoring_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"liveops/local/monitoring"
)

const (
	columns   = 24      // of Grafana's grid
	mostBytes = 200_000 // of an object that is applied with its last state in an annotation, which may have 256 KiB
)

var dashboardRules = []struct {
	name  string
	check func(d monitoring.Dashboard) []string
}{
	{"a dashboard is known by its file and reads well in a review", identified},
	{"panels lie beside each other", laidOut},
	{"a panel says what it shows and where to read on", explained},
	{"data sources are chosen", chosenSources},
	{"variables are defined and used", variablesUsed},
	{"queries ask for what was chosen", queriesChosen},
	{"links lead to the other dashboards, to logs and to traces", linked},
	{"a latency leads to its traces", traced},
}

// dashboardSeeds are mistakes, each in one place of a dashboard, and what is said of them.
var dashboardSeeds = []struct{ file, old, new, said string }{
	{"overview.json", `"uid": "overview"`, `"uid": "over"`, `uid "over"`},
	{"overview.json", `"title": "Service overview"`, `"title": ""`, "no title"},
	{"overview.json", `"schemaVersion": 39`, `"schemaVersion": 30`, "schemaVersion 30"},
	{"overview.json", `  "refresh": "1m",`, ` "refresh": "1m",`, "as jq -S writes it"},
	{"overview.json", `"id": 3,`, `"id": 2,`, "two panels with the id 2"},
	{"hybrid.json", `"x": 12`, `"x": 11`, "lies over"},
	{"hybrid.json", `"x": 16`, `"x": 17`, "outside of the grid"},
	{"liveops.json", `"title": "Verdicts"`, `"title": ""`, "has no title"},
	{"liveops.json", `"unit": "ops"`, `"units": "ops"`, "has no unit"},
	{"liveops.json", `"description": "Events that were judged`, `"text": "Events that were judged`, "has no description"},
	{"liveops.json", `docs/playbooks/FairnessFlagStorm.md`, `docs/FairnessFlagStorm.md`, "names no playbook"},
	{"scaling.json", `"targets": [`, `"goals": [`, "has no target"},
	{"scaling.json", `"uid": "${prometheus}"`, `"uid": "P1809F7CD0C75ACF3"`, `data source "P1809F7CD0C75ACF3"`},
	{"overview.json", `"uid": "${loki}"`, `"uid": "${tempo}"`, `loki is asked at "${tempo}"`},
	{"overview.json", `"type": "datasource"`, `"type": "custom"`, "no variable of a data source"},
	{"scaling.json", `"name": "service"`, `"name": "services"`, "$service is not defined"},
	{"scaling.json", `"name": "environment"`, `"name": "env"`, "$environment is not defined"},
	{"scaling.json", `"name": "service",`, `"name": "unused", "type": "custom"}, {"name": "service",`, "$unused is not used"},
	{"scaling.json", `"multi": true`, `"multi": false`, "one service only"},
	{"scaling.json", `sum by (outcome) (rate(`, `sum by (outcome (rate(`, "unexpected"},
	{"scaling.json", `function_invocations_total{environment=\"$environment\", `, `function_invocations_total{`, "function_invocations_total of every environment"},
	{"scaling.json", `function_invocations_total{environment=\"$environment\", service=~\"$service\"}`, `function_invocations_total{environment=\"$environment\"}`, "function_invocations_total of every service"},
	{"scaling.json", `service=~\"$service\"`, `service=\"$service\"`, "of every service"},
	{"overview.json", `service=~\"$service\", level`, `level`, "logs of every service"},
	{"overview.json", `{resource.service.name=~\"${service:regex}\" && status=error}"`, `{status=error}"`, "traces of every service"},
	{"overview.json", `"includeVars": true`, `"includeVars": false`, "no link to the other dashboards"},
	{"overview.json", `panes={%22a%22:{%22datasource%22:%22${tempo}%22`, `panes={%22a%22:{%22datasource%22:%22${tempo}`, "no link to tempo"},
	{"overview.json", `duration%3E500ms}%22,`, `duration%3E500ms},`, "leads nowhere"},
	{"overview.json", `"exemplar": true`, `"exemplar": false`, "without exemplars"},
}

// TestDashboards holds the dashboards to the rules, and the rules to the mistakes they are there for.
func TestDashboards(t *testing.T) {
	t.Parallel()
	dashboards := readDashboards(t)
	for _, d := range dashboards {
		t.Run(d.File, func(t *testing.T) {
			t.Parallel()
			require.Empty(t, lintDashboard(d))
		})
	}
	for _, seed := range dashboardSeeds {
		t.Run(seed.file+" with "+seed.new, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(dashboards, func(d monitoring.Dashboard) bool { return d.File == seed.file })
			require.GreaterOrEqual(t, i, 0)
			require.Contains(t, string(dashboards[i].Text), seed.old)
			d := monitoring.Dashboard{File: seed.file, Text: []byte(strings.Replace(string(dashboards[i].Text), seed.old, seed.new, 1))}
			require.NoError(t, json.Unmarshal(d.Text, &d))
			require.Contains(t, strings.Join(lintDashboard(d), "\n"), seed.said)
		})
	}
}

// TestDashboardsAreDeployed finds every dashboard in an object of its own that Grafana's sidecar takes up.
func TestDashboardsAreDeployed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("dashboards", "kustomization.yaml"))
	require.NoError(t, err)
	var kustomization struct {
		ConfigMapGenerator []struct{ Files []string }         `yaml:"configMapGenerator"`
		GeneratorOptions   struct{ Labels map[string]string } `yaml:"generatorOptions"`
	}
	require.NoError(t, yaml.Unmarshal(text, &kustomization))
	require.Equal(t, "1", kustomization.GeneratorOptions.Labels["grafana_dashboard"])
	var deployed, written []string
	for _, object := range kustomization.ConfigMapGenerator {
		require.Len(t, object.Files, 1)
		deployed = append(deployed, object.Files...)
	}
	for _, d := range readDashboards(t) {
		written = append(written, d.File)
	}
	require.ElementsMatch(t, written, deployed)
}

func readDashboards(t *testing.T) []monitoring.Dashboard {
	t.Helper()
	dashboards, err := monitoring.Dashboards("dashboards")
	require.NoError(t, err)
	require.NotEmpty(t, dashboards)
	return dashboards
}

func lintDashboard(d monitoring.Dashboard) []string {
	var wrong []string
	for _, r := range dashboardRules {
		for _, w := range r.check(d) {
			wrong = append(wrong, r.name+": "+w)
		}
	}
	return wrong
}

func identified(d monitoring.Dashboard) (wrong []string) {
	if name := strings.TrimSuffix(d.File, ".json"); d.UID != name {
		wrong = append(wrong, fmt.Sprintf("uid %q is not %q", d.UID, name))
	}
	if d.Title == "" || d.Description == "" {
		wrong = append(wrong, "no title or no description")
	}
	if d.SchemaVersion < 39 {
		wrong = append(wrong, fmt.Sprintf("schemaVersion %d", d.SchemaVersion))
	}
	if !slices.Contains(d.Tags, "liveops") {
		wrong = append(wrong, "no tag liveops, by which dashboards find each other")
	}
	if len(d.Text) > mostBytes {
		wrong = append(wrong, fmt.Sprintf("%d bytes", len(d.Text)))
	}
	decoder := json.NewDecoder(bytes.NewReader(d.Text))
	decoder.UseNumber()
	var content any
	_ = decoder.Decode(&content) // it was decoded before
	var sorted bytes.Buffer
	encoder := json.NewEncoder(&sorted)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(content); err != nil || !bytes.Equal(sorted.Bytes(), d.Text) {
		wrong = append(wrong, "it is not as jq -S writes it")
	}
	return wrong
}

func laidOut(d monitoring.Dashboard) (wrong []string) {
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID < 1 || ids[p.ID] {
			wrong = append(wrong, fmt.Sprintf("two panels with the id %d", p.ID))
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > columns {
			wrong = append(wrong, p.Title+" is outside of the grid")
		}
		over := map[string]bool{}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, is := taken[[2]int{x, y}]; is {
					over[other] = true
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for other := range over {
			wrong = append(wrong, p.Title+" lies over "+other)
		}
	}
	return wrong
}

var playbook = regexp.MustCompile(`\[(\w+)\]\(https://git\.example\.com/liveops/liveops/blob/main/docs/playbooks/(\w+)\.md\)`)

func explained(d monitoring.Dashboard) (wrong []string) {
	for _, p := range pictures(d) {
		if p.Title == "" {
			wrong = append(wrong, fmt.Sprintf("panel %d has no title", p.ID))
		}
		if p.Description == "" {
			wrong = append(wrong, p.Title+" has no description")
		}
		if p.FieldConfig.Defaults.Unit == "" {
			wrong = append(wrong, p.Title+" has no unit")
		}
		if len(p.Targets) == 0 {
			wrong = append(wrong, p.Title+" has no target")
		}
		books := playbook.FindAllStringSubmatch(p.Description, -1)
		if strings.Count(p.Description, "](") != len(books) {
			wrong = append(wrong, p.Title+" names no playbook where it links to one")
		}
		for _, b := range books {
			if b[1] != b[2] {
				wrong = append(wrong, fmt.Sprintf("%s calls the playbook %s %s", p.Title, b[2], b[1]))
			}
		}
	}
	return wrong
}

// pictures are the panels that show something: not the rows.
func pictures(d monitoring.Dashboard) []monitoring.Panel {
	return slices.DeleteFunc(slices.Clone(d.Panels), func(p monitoring.Panel) bool { return p.Type == "row" })
}

func chosenSources(d monitoring.Dashboard) (wrong []string) {
	kinds := map[string]bool{}
	for _, v := range d.Templating.List {
		var kind string
		if v.Type == "datasource" && json.Unmarshal(v.Query, &kind) == nil && kind == v.Name {
			kinds[kind] = true
		}
	}
	check := func(where string, s monitoring.Datasource) {
		if s.UID != "${prometheus}" && s.UID != "${loki}" && s.UID != "${tempo}" {
			wrong = append(wrong, fmt.Sprintf("%s: data source %q", where, s.UID))
		} else if s.UID != "${"+s.Type+"}" {
			wrong = append(wrong, fmt.Sprintf("%s: %s is asked at %q", where, s.Type, s.UID))
		} else if !kinds[s.Type] {
			wrong = append(wrong, fmt.Sprintf("%s: no variable of a data source %s", where, s.Type))
		}
	}
	for _, p := range pictures(d) {
		check(p.Title, p.Datasource)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			check("variable "+v.Name, v.Datasource)
		}
	}
	// A query may have a data source of its own.
	for _, uid := range regexp.MustCompile(`"uid": "([^"]*)"`).FindAllStringSubmatch(string(d.Text), -1) {
		if uid[1] != d.UID && !strings.HasPrefix(uid[1], "${") {
			wrong = append(wrong, fmt.Sprintf("data source %q", uid[1]))
		}
	}
	return wrong
}

func variablesUsed(d monitoring.Dashboard) (wrong []string) {
	used, defined := map[string]bool{}, map[string]bool{}
	for _, part := range monitoring.Reference.FindAllStringSubmatch(string(d.Text), -1) {
		if name := part[1] + part[2]; !strings.HasPrefix(name, "__") { // Grafana's own
			used[name] = true
		}
	}
	for _, v := range d.Templating.List {
		defined[v.Name] = true
		if !used[v.Name] {
			wrong = append(wrong, "$"+v.Name+" is not used")
		}
		if v.Name == "service" && !v.Multi {
			wrong = append(wrong, "one service only can be chosen")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if !defined[name] {
			wrong = append(wrong, "$"+name+" is not defined")
		}
	}
	return wrong
}

// ours begins the names of the metrics of the services, whose series have the label service. Those that are recorded over all of them
// begin with liveops.
var ours = regexp.MustCompile(`^(service:|go_|process_resident|gateway_|function_|fairness_|progression_|event_to_rank_|anomaly_|dropped_|signature_|catalog_|redis_pool_)`)

func queriesChosen(d monitoring.Dashboard) (wrong []string) {
	for _, p := range pictures(d) {
		for _, t := range p.Targets {
			switch where := p.Title + ": " + t.RefID; p.Datasource.Type {
			case "loki":
				if !strings.HasPrefix(t.Expr, "{") || !strings.Contains(t.Expr, `service=~"$service"`) {
					wrong = append(wrong, where+": logs of every service")
				}
			case "tempo":
				if !strings.HasPrefix(t.Query, "{") || !strings.Contains(t.Query, `resource.service.name=~"${service:regex}"`) {
					wrong = append(wrong, where+": traces of every service")
				}
			default:
				for _, w := range selectorsChosen(t.Expr) {
					wrong = append(wrong, where+": "+w)
				}
			}
		}
	}
	return wrong
}

// selectorsChosen looks at every selector of a query. An alert on what is missing has no environment to have.
func selectorsChosen(query string) (wrong []string) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(query, "$__rate_interval", "5m"))
	if err != nil {
		return []string{err.Error()}
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		s, is := n.(*parser.VectorSelector)
		if !is || s.Name == "ALERTS" {
			return nil
		}
		has := func(name string, kind labels.MatchType) bool {
			return slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool {
				return m.Name == name && m.Type == kind && m.Value == "$"+name
			})
		}
		if !has("environment", labels.MatchEqual) {
			wrong = append(wrong, s.Name+" of every environment")
		}
		if ours.MatchString(s.Name) && !has("service", labels.MatchRegexp) {
			wrong = append(wrong, s.Name+" of every service")
		}
		return nil
	})
	return wrong
}

func linked(d monitoring.Dashboard) (wrong []string) {
	found := map[string]bool{}
	for _, link := range d.Links {
		switch {
		case link.Type == "dashboards" && link.IncludeVars && link.KeepTime && slices.Contains(link.Tags, "liveops"):
			found["the other dashboards"] = true
		case link.Type == "link":
			found[explored(link.URL)] = true
		}
	}
	for _, where := range []string{"the other dashboards", "loki", "tempo"} {
		if !found[where] {
			wrong = append(wrong, "no link to "+where)
		}
	}
	for _, p := range pictures(d) {
		for _, link := range p.FieldConfig.Defaults.Links {
			if explored(link.URL) == "" {
				wrong = append(wrong, fmt.Sprintf("%s: %s leads nowhere", p.Title, link.Title))
			}
		}
	}
	return wrong
}

// explored says which data source a link to Explore asks, "" when the link is not well formed.
func explored(link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Path != "/explore" {
		return ""
	}
	var panes map[string]struct {
		Datasource string
		Queries    []struct {
			Datasource  monitoring.Datasource
			Expr, Query string
		}
	}
	if err := json.Unmarshal([]byte(u.Query().Get("panes")), &panes); err != nil {
		return ""
	}
	pane := panes["a"]
	if len(panes) != 1 || len(pane.Queries) != 1 {
		return ""
	}
	q := pane.Queries[0]
	if pane.Datasource != q.Datasource.UID || pane.Datasource != "${"+q.Datasource.Type+"}" || !strings.HasPrefix(q.Expr+q.Query, "{") {
		return ""
	}
	return q.Datasource.Type
}

func traced(d monitoring.Dashboard) (wrong []string) {
	for _, p := range pictures(d) {
		for _, t := range p.Targets {
			if p.Type != "timeseries" || !strings.Contains(t.Expr, "histogram_quantile") {
				continue
			}
			if !t.Exemplar {
				wrong = append(wrong, p.Title+": without exemplars")
			}
			if len(p.FieldConfig.Defaults.Links) == 0 {
				wrong = append(wrong, p.Title+": no link to its traces or logs")
			}
		}
	}
	return wrong
}
