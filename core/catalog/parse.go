package catalog

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxSize bounds a catalog file, in bytes.
const MaxSize = 512 << 10

// month is how long what waits for a player, or for an operator, does so where the catalog does not say otherwise.
const month = 30 * 24 * time.Hour

// Problem is one thing wrong with a catalog.
type Problem struct {
	Path string // such as boards.rating.operator; empty for the text as a whole
	Line int    // from 1, of the place or of what should hold it; 0 where there is none
	Text string
}

// String is the problem on one line.
func (p Problem) String() string {
	text := p.Text
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Line > 0 {
		text = fmt.Sprintf("line %d: %s", p.Line, text)
	}
	return text
}

// Problems is everything that is wrong with a catalog, in order of line. It is found with errors.As.
type Problems struct{ List []Problem }

// Error lists every problem, each on a line of its own when there are several.
func (p *Problems) Error() string {
	if len(p.List) == 1 {
		return p.List[0].String()
	}
	lines := []string{fmt.Sprintf("%d problems", len(p.List))}
	for _, problem := range p.List {
		lines = append(lines, problem.String())
	}
	return strings.Join(lines, "\n  ")
}

// Load reads and parses a catalog file.
func Load(path string) (*Catalog, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	c, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", path, err)
	}
	return c, nil
}

// Parse reads a catalog in YAML, or in JSON, which is YAML too, and checks it as a whole. Unknown and repeated keys are
// refused, and so are anchors, aliases and tags. What is not said has its default. The built-in event types need not be
// mentioned, nor any of their fields but to bound them. The error is a *Problems that holds all that is wrong.
func Parse(text []byte) (*Catalog, error) {
	if len(text) > MaxSize {
		return nil, &Problems{[]Problem{{Text: fmt.Sprintf("the catalog has %d bytes, at most %d are read", len(text), MaxSize)}}}
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey()) // the reader lists all of them
	if err != nil {
		return nil, &Problems{[]Problem{syntax(err)}}
	}
	r := reader{lines: map[string]int{}}
	c := &Catalog{Fairness: defaultFairness(), Rewards: Rewards{Claim: Duration(month)}, Privacy: Privacy{Grace: Duration(month)}}
	switch {
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return nil, &Problems{[]Problem{{Text: "the catalog is empty: it needs version, name and xp"}}}
	case file.Docs[0].Body.Type() != ast.MappingType:
		return nil, &Problems{[]Problem{{Line: 1, Text: "must be a mapping of keys to values"}}}
	case len(file.Docs) > 1:
		r.problem("", file.Docs[1].Start, "a second document: a catalog is one, put what follows into the first")
	}
	r.read(c, file.Docs[0].Body)
	v := validation{Catalog: c, lines: r.lines, problems: r.problems, unread: len(r.problems)}
	v.run()
	if len(v.problems) == 0 {
		return c, nil
	}
	slices.SortStableFunc(v.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	return nil, &Problems{v.problems}
}

func syntax(err error) Problem {
	problem := Problem{Text: "not YAML: " + err.Error()}
	if e, ok := err.(yaml.Error); ok { //nolint:errorlint // the parser does not wrap
		problem.Text = "not YAML: " + e.GetMessage()
		if token := e.GetToken(); token != nil && token.Position != nil {
			problem.Line = token.Position.Line
		}
	}
	return problem
}
