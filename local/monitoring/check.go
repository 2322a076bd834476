package monitoring

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	matchers "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Check says what is wrong with a query: it does not parse, names a metric that nothing exposes or a label that no series of it can
// have, or compares a label with a value that it never has.
func (x *Exposed) Check(q Query) []string {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(q.Text)
	if err != nil {
		return []string{fmt.Sprintf("%s: %s: %s", q.Where, err, q.Text)}
	}
	c := check{exposed: x, where: q.Where}
	c.labels(expr)
	return c.wrong
}

// check walks a query from the inside out, and knows of each part which labels its series may have.
type check struct {
	exposed *Exposed
	where   string
	wrong   []string
	under   []string // the recorded metrics that are being looked up
}

func (c *check) complain(format string, values ...any) {
	c.wrong = append(c.wrong, c.where+": "+fmt.Sprintf(format, values...))
}

func (c *check) labels(e parser.Expr) labels {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return c.selector(e)
	case *parser.MatrixSelector:
		return c.labels(e.VectorSelector)
	case *parser.SubqueryExpr:
		return c.labels(e.Expr)
	case *parser.ParenExpr:
		return c.labels(e.Expr)
	case *parser.UnaryExpr:
		return c.labels(e.Expr)
	case *parser.Call:
		return c.call(e)
	case *parser.AggregateExpr:
		return c.aggregation(e)
	case *parser.BinaryExpr:
		return c.binary(e)
	}
	return labels{} // numbers and texts
}

// selector looks up a metric.
func (c *check) selector(s *parser.VectorSelector) labels {
	of, is := c.metric(s.Name)
	if !is {
		c.complain("nothing exposes %s", s.Name)
		return nil
	}
	if of == nil {
		return nil // complained of where it is recorded
	}
	for _, m := range s.LabelMatchers {
		if m.Name == model.MetricNameLabel {
			continue
		}
		values, is := of[m.Name]
		switch {
		case !is:
			c.complain("%s has no label %s", s.Name, m.Name)
		case m.Name == "le" && values != nil:
			c.bound(s.Name, m, values)
		case m.Type == matchers.MatchEqual && values != nil && !values[m.Value]:
			c.complain("%s never has %s=%q", s.Name, m.Name, m.Value)
		}
	}
	return of
}

// bound holds a matcher of le to the bounds there are. A whole number is spelled 5 or 5.0, as the version of Prometheus has it.
func (c *check) bound(metric string, m *matchers.Matcher, bounds map[string]bool) {
	found := false
	for value := range bounds {
		if other := value + ".0"; !strings.ContainsAny(value, ".eI") && m.Matches(value) != m.Matches(other) {
			c.complain("%s: %s tells le %s from %s", metric, m, value, other)
		}
		found = found || m.Matches(value)
	}
	if !found {
		c.complain("%s has no bucket of %s", metric, m)
	}
}

// metric gives the labels of a metric, nil where what records it is wrong.
func (c *check) metric(name string) (labels, bool) {
	rules := c.exposed.rules[name]
	if len(rules) == 0 {
		of, is := c.exposed.metrics[name]
		return of, is
	}
	if slices.Contains(c.under, name) {
		return labels{}, true // the other rules of that name say which
	}
	all := labels{}
	for _, r := range rules {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
		if err != nil {
			return nil, true
		}
		recording := check{exposed: c.exposed, under: append(slices.Clone(c.under), name)}
		of := recording.labels(expr)
		if of == nil {
			return nil, true
		}
		for label := range of {
			all[label] = nil
		}
		for label := range r.Labels {
			all[label] = nil
		}
	}
	return all, true
}

func (c *check) call(e *parser.Call) labels {
	var of labels
	known := true
	for _, arg := range e.Args {
		inner := c.labels(arg)
		if t := arg.Type(); t == parser.ValueTypeVector || t == parser.ValueTypeMatrix {
			of, known = inner, inner != nil
		}
	}
	if !known {
		return nil
	}
	of = maps.Clone(of)
	if of == nil {
		of = labels{}
	}
	text := func(i int) string { return e.Args[i].(*parser.StringLiteral).Val }
	switch e.Func.Name {
	case "histogram_quantile":
		if _, is := of["le"]; !is {
			c.complain("histogram_quantile of what has no label le")
		}
		delete(of, "le")
	case "label_replace":
		if source := text(3); source != "" {
			c.has(of, source)
		}
		of[text(1)] = nil
	case "scalar":
		return labels{}
	}
	return of
}

// has complains of a label that series cannot have.
func (c *check) has(of labels, label string) {
	if _, is := of[label]; !is && of != nil {
		c.complain("there is no label %s", label)
	}
}

func (c *check) aggregation(e *parser.AggregateExpr) labels {
	if e.Param != nil {
		c.labels(e.Param)
	}
	of := c.labels(e.Expr)
	for _, label := range e.Grouping {
		c.has(of, label)
	}
	if of == nil {
		return nil
	}
	if e.Op == parser.TOPK || e.Op == parser.BOTTOMK {
		return of
	}
	kept := labels{}
	for label, values := range of {
		if slices.Contains(e.Grouping, label) != e.Without {
			kept[label] = values
		}
	}
	return kept
}

func (c *check) binary(e *parser.BinaryExpr) labels {
	left, right := c.labels(e.LHS), c.labels(e.RHS)
	matching := e.VectorMatching
	if matching == nil { // one of them is a number
		if e.LHS.Type() == parser.ValueTypeVector {
			return left
		}
		return right
	}
	for _, label := range matching.MatchingLabels {
		c.has(left, label)
		c.has(right, label)
	}
	if left == nil || right == nil {
		return nil
	}
	result := maps.Clone(left)
	switch {
	case e.Op == parser.LOR:
		for label := range right {
			result[label] = nil
		}
	case e.Op == parser.LAND, e.Op == parser.LUNLESS:
	case matching.Card == parser.CardManyToOne, matching.Card == parser.CardOneToMany:
		many, one := left, right
		if matching.Card == parser.CardOneToMany {
			many, one = right, left
		}
		result = maps.Clone(many)
		for _, label := range matching.Include {
			c.has(one, label)
			result[label] = one[label]
		}
	default:
		maps.DeleteFunc(result, func(label string, _ map[string]bool) bool {
			return slices.Contains(matching.MatchingLabels, label) != matching.On
		})
	}
	return result
}
