package monitoring

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Exposed is what can be queried: by name, the labels that the series of a metric may have.
type Exposed struct {
	metrics map[string]labels
	rules   map[string][]Rule // that record it
	listed  map[string]Line
}

// labels are the labels that series may have, with the values; none are known where a value cannot be told beforehand.
type labels map[string]map[string]bool

// Line is a metric in a list, with the labels that queries use.
type Line struct {
	Job, Metric string
	Labels      []string
}

// Job says what a scrape adds to the series of a job.
type Job struct {
	Names  []string // values of the label job
	Target []string // labels of the target beside job and instance
	Closed []string // labels that have no values but those that a scrape shows
}

// NewExposed begins with what Prometheus makes itself. An alert has the labels of its rule, and those of what it found.
func NewExposed(rules []Rule) *Exposed {
	x := &Exposed{metrics: map[string]labels{}, rules: map[string][]Rule{}, listed: map[string]Line{}}
	for _, r := range rules {
		if r.Record != "" {
			x.rules[r.Record] = append(x.rules[r.Record], r)
		} else {
			r.Labels = maps.Clone(r.Labels)
			if r.Labels == nil {
				r.Labels = map[string]string{}
			}
			r.Labels["alertname"], r.Labels["alertstate"] = r.Alert, "firing"
			x.rules["ALERTS"] = append(x.rules["ALERTS"], r)
		}
	}
	return x
}

// add adds the series of a metric of a job.
func (x *Exposed) add(job Job, metric string, own labels) {
	known := x.metrics[metric]
	if known == nil {
		known = labels{}
		x.metrics[metric] = known
	}
	own = maps.Clone(own)
	own["job"] = map[string]bool{}
	for _, name := range job.Names {
		own["job"][name] = true
	}
	for _, name := range append([]string{"instance"}, job.Target...) {
		own[name] = nil
	}
	for name, values := range own {
		before, is := known[name]
		switch {
		case values == nil, is && before == nil:
			known[name] = nil
		case !is:
			known[name] = maps.Clone(values)
		default:
			maps.Copy(before, values)
		}
	}
}

// reachable adds what Prometheus makes of every target.
func (x *Exposed) reachable(job Job) {
	for _, metric := range []string{"up", "scrape_duration_seconds"} {
		x.add(job, metric, labels{})
	}
}

// Scraped adds what a target answered.
func (x *Exposed) Scraped(job Job, answer io.Reader) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer)
	if err != nil {
		return fmt.Errorf("what %s exposes: %w", job.Names, err)
	}
	x.reachable(job)
	for name, family := range families {
		own := labels{}
		bounds := map[string]bool{}
		for _, m := range family.GetMetric() {
			for _, pair := range m.GetLabel() {
				if own[pair.GetName()] == nil {
					own[pair.GetName()] = map[string]bool{}
				}
				own[pair.GetName()][pair.GetValue()] = true
			}
			for _, b := range m.GetHistogram().GetBucket() {
				bounds[strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)] = true
			}
		}
		for label := range own {
			if !slices.Contains(job.Closed, label) {
				own[label] = nil
			}
		}
		switch family.GetType() {
		case dto.MetricType_HISTOGRAM:
			buckets := maps.Clone(own)
			buckets["le"] = bounds
			x.add(job, name+"_bucket", buckets)
			x.add(job, name+"_sum", own)
			x.add(job, name+"_count", own)
		case dto.MetricType_SUMMARY:
			quantiles := maps.Clone(own)
			quantiles["quantile"] = nil
			x.add(job, name, quantiles)
			x.add(job, name+"_sum", own)
			x.add(job, name+"_count", own)
		default:
			x.add(job, name, own)
		}
	}
	return nil
}

var listLine = regexp.MustCompile(`^(\w+)(?:\{(\w+(?:, \w+)*)\})?$`)

// List adds a list of metrics as metric{label, label}, one on a line. What begins with # is a comment.
func (x *Exposed) List(job Job, list io.Reader) error {
	x.reachable(job)
	for scanner := bufio.NewScanner(list); ; {
		if !scanner.Scan() {
			return scanner.Err()
		}
		text := scanner.Text()
		if strings.HasPrefix(text, "#") {
			continue
		}
		part := listLine.FindStringSubmatch(text)
		if part == nil {
			return fmt.Errorf("the list of %s: %q is no metric{label, label}", job.Names, text)
		}
		line := Line{Job: job.Names[0], Metric: part[1]}
		own := labels{}
		if part[2] != "" {
			line.Labels = strings.Split(part[2], ", ")
		}
		for _, label := range line.Labels {
			own[label] = nil
		}
		x.add(job, line.Metric, own)
		x.listed[line.Job+" "+line.Metric] = line
	}
}

// Unused gives what stands in a list and in no query.
func (x *Exposed) Unused(queries []Query) []string {
	var unused []string
	for _, line := range x.listed {
		metric := regexp.MustCompile(`\b` + line.Metric + `\b`)
		missing := map[string]bool{}
		for _, label := range append([]string{line.Metric}, line.Labels...) {
			missing[label] = true
		}
		for _, q := range queries {
			if metric.MatchString(q.Text) {
				maps.DeleteFunc(missing, func(label string, _ bool) bool {
					return regexp.MustCompile(`\b` + label + `\b`).MatchString(q.Text)
				})
			}
		}
		for word := range missing {
			unused = append(unused, fmt.Sprintf("%s: %s: %s is in no query", line.Job, line.Metric, word))
		}
	}
	slices.Sort(unused)
	return unused
}
