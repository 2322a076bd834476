package monitoring

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
)

// Rule is a rule of a PrometheusRule: what it records, or the alert it raises.
type Rule struct {
	Record, Alert string
	Expr          string
	Labels        map[string]string

	where string
}

// Rules reads the PrometheusRules of a directory.
func Rules(dir string) ([]Rule, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all []Rule
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var object struct {
			Kind string
			Spec struct {
				Groups []struct{ Rules []Rule }
			}
		}
		if err := yaml.Unmarshal(text, &object); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if object.Kind != "PrometheusRule" {
			continue
		}
		for _, group := range object.Spec.Groups {
			for _, r := range group.Rules {
				r.where = filepath.Base(file) + ": " + r.Record + r.Alert
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// Query is what the rule asks.
func (r Rule) Query() Query { return Query{r.where, r.Expr} }
