package monitoring_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// pace is how many times as fast as real time it goes: minutes of a rule pass in seconds.
const pace = 15

// lapse is time that goes faster by pace since it began. The system's clock is one, and quicken makes a rule see the same time, so
// that no threshold changes: a message that waits for 8 s is 2 min old by both.
type lapse struct{ began time.Time }

func (l lapse) now() time.Time { return l.began.Add(pace * time.Since(l.began)) }

// quicken rewrites an expression for a Prometheus on real time.
func (l lapse) quicken(expression string) (string, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return "", fmt.Errorf("%s: %w", expression, err)
	}
	return l.rewrite(parsed).String(), nil
}

// rewrite shortens what reaches into the past, divides what happens in a second, and puts the readings of real clocks, which are
// Prometheus' own and that of the handler's invocations, on the quick one.
func (l lapse) rewrite(e parser.Expr) parser.Expr {
	switch e := e.(type) {
	case *parser.VectorSelector:
		e.OriginalOffset /= pace
		if e.Name == "function_last_success_timestamp_seconds" {
			return l.quick(e)
		}
	case *parser.MatrixSelector:
		e.Range /= pace
		e.VectorSelector.(*parser.VectorSelector).OriginalOffset /= pace
	case *parser.SubqueryExpr:
		e.Range, e.Step, e.OriginalOffset = e.Range/pace, e.Step/pace, e.OriginalOffset/pace
		e.Expr = l.rewrite(e.Expr)
	case *parser.AggregateExpr:
		e.Expr = l.rewrite(e.Expr)
	case *parser.BinaryExpr:
		e.LHS, e.RHS = l.rewrite(e.LHS), l.rewrite(e.RHS)
	case *parser.ParenExpr:
		e.Expr = l.rewrite(e.Expr)
	case *parser.UnaryExpr:
		e.Expr = l.rewrite(e.Expr)
	case *parser.Call:
		for i := range e.Args {
			e.Args[i] = l.rewrite(e.Args[i])
		}
		switch e.Func.Name {
		case "rate", "irate", "deriv":
			return of(parser.DIV, e, pace)
		case "time":
			return l.quick(e)
		}
	}
	return e
}

// quick is a real time as the quick clock tells it.
func (l lapse) quick(real parser.Expr) parser.Expr {
	return of(parser.SUB, of(parser.MUL, real, pace), float64(l.began.UnixMilli())/1000*(pace-1))
}

// of is an operation on an expression and a number.
func of(operation parser.ItemType, e parser.Expr, number float64) parser.Expr {
	return &parser.ParenExpr{Expr: &parser.BinaryExpr{Op: operation, LHS: e, RHS: &parser.NumberLiteral{Val: number}}}
}

// shorten shortens the durations that some keys have, where they are there.
func shorten(t *testing.T, in map[string]any, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if text, is := in[key].(string); is {
			d, err := model.ParseDuration(text)
			require.NoError(t, err)
			in[key] = (d / pace).String()
		}
	}
}

func TestLapse(t *testing.T) {
	t.Parallel()
	l := lapse{time.Unix(1_800_000_000, 500_000_000)}
	for _, c := range []struct{ rule, quick string }{
		{`up == 0`, `up == 0`},
		{`sum by (function) (rate(function_invocations_total[5m])) > 0.5`, `sum by (function) ((rate(function_invocations_total[20s]) / 15)) > 0.5`},
		{`increase(x[1h] offset 20m)`, `increase(x[4m] offset 1m20s)`},
		{`max_over_time(rate(x[1m])[1h:30s])`, `max_over_time((rate(x[4s]) / 15)[4m:2s])`},
		{`time() - max by (a) (x) > 300`, `((time() * 15) - 25200000007) - max by (a) (x) > 300`},
		{`a and on (instance) -(function_last_success_timestamp_seconds > 60)`, `a and on (instance) -(((function_last_success_timestamp_seconds * 15) - 25200000007) > 60)`},
	} {
		quick, err := l.quicken(c.rule)
		require.NoError(t, err)
		require.Equal(t, c.quick, quick)
	}
	_, err := l.quicken("sum(")
	require.Error(t, err)
	rule := map[string]any{"for": "5m", "record": "5m"}
	shorten(t, rule, "for", "keep_firing_for")
	require.Equal(t, map[string]any{"for": "20s", "record": "5m"}, rule)
	require.InDelta(t, pace, float64(l.now().Sub(l.began))/float64(time.Since(l.began)), 0.001)
}
