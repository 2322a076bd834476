// Package monitoring reads what operators look at and are woken by, the dashboards and the rules of deploy/monitoring, and says whether
// their queries name what is exposed.
package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Dashboard is a dashboard of Grafana as a file.
type Dashboard struct {
	File string `json:"-"`
	Text []byte `json:"-"`

	UID, Title, Description string
	Tags                    []string
	SchemaVersion           int
	Links                   []Link
	Templating              struct{ List []Variable }
	Panels                  []Panel
}

// Link leads from a dashboard to others that have a tag, or to a page.
type Link struct {
	Type, URL             string
	Tags                  []string
	IncludeVars, KeepTime bool
}

// Variable is what a reader of a dashboard chooses.
type Variable struct {
	Name, Type string
	Multi      bool
	Datasource Datasource
	Query      json.RawMessage // of a data source: its type; of values: an object with the query
}

// Datasource is where a query is asked.
type Datasource struct{ Type, UID string }

// Panel is one picture.
type Panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               Datasource
	Targets                  []Target
	FieldConfig              struct {
		Defaults struct {
			Unit  string
			Links []struct{ Title, URL string }
		}
	}
}

// Target is a query of a panel: Expr of Prometheus and Loki, Query of Tempo.
type Target struct {
	RefID, Expr, Query string
	Exemplar           bool
}

// Query is a query in PromQL, as Prometheus gets it, and where it stands.
type Query struct{ Where, Text string }

// Dashboards reads the dashboards of a directory.
func Dashboards(dir string) ([]Dashboard, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []Dashboard
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		d := Dashboard{File: filepath.Base(file), Text: text}
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, d)
	}
	return all, nil
}

// labelValues is how a variable asks for the values of a label.
var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

// Queries gives every query to Prometheus.
func (d Dashboard) Queries() ([]Query, error) {
	var queries []Query
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		var query struct{ Query string }
		if err := json.Unmarshal(v.Query, &query); err != nil {
			return nil, fmt.Errorf("%s: variable %s: %w", d.File, v.Name, err)
		}
		part := labelValues.FindStringSubmatch(query.Query)
		if part == nil {
			return nil, fmt.Errorf("%s: variable %s: %q is no label_values(metric, label)", d.File, v.Name, query.Query)
		}
		queries = append(queries, Query{d.File + ": variable " + v.Name, chosen(fmt.Sprintf("group by (%s) (%s)", part[2], part[1]))})
	}
	for _, p := range d.Panels {
		if p.Datasource.Type != "prometheus" {
			continue
		}
		for _, t := range p.Targets {
			queries = append(queries, Query{fmt.Sprintf("%s: %s: %s", d.File, p.Title, t.RefID), chosen(t.Expr)})
		}
	}
	return queries, nil
}

// Reference is a variable in a text, as $name, ${name} or ${name:format}.
var Reference = regexp.MustCompile(`\$(?:(\w+)|\{([\w.]+)(?::\w+)?\})`)

// chosen is a query as it is after somebody chose from the variables.
func chosen(query string) string {
	query = strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m", "$__range", "1h").Replace(query)
	return Reference.ReplaceAllString(query, "chosen")
}
