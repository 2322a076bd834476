package host

import (
	"fmt"
	"net/url"
	"strings"
)

// route is an ASP.NET route template as far as functions use it: literals, {name}, {name?} and a closing {*rest}.
type route []segment

type segment struct {
	text string
	kind segmentKind
}

type segmentKind int

// The kinds in the order in which the host prefers them.
const (
	literal segmentKind = iota
	parameter
	optional
	catchAll
)

func parseRoute(template string) (route, error) {
	template = strings.Trim(template, "/")
	if template == "" {
		return route{}, nil
	}
	var r route
	for part := range strings.SplitSeq(template, "/") {
		inner, isParameter := strings.CutPrefix(part, "{")
		switch {
		case len(r) > 0 && r[len(r)-1].kind >= optional:
			return nil, fmt.Errorf("route %q: nothing may follow an optional or catch-all segment", template)
		case part == "":
			return nil, fmt.Errorf("route %q: empty segment", template)
		case !isParameter:
			if strings.ContainsAny(part, "{}* ") {
				return nil, fmt.Errorf("route %q: segment %q is neither a literal nor one parameter", template, part)
			}
			r = append(r, segment{text: part})
			continue
		}
		name, closed := strings.CutSuffix(inner, "}")
		kind := parameter
		if rest, ok := strings.CutPrefix(name, "*"); ok {
			name, kind = rest, catchAll
		} else if rest, ok := strings.CutSuffix(name, "?"); ok {
			name, kind = rest, optional
		}
		if strings.ContainsAny(name, ":=") {
			return nil, fmt.Errorf("route %q: constraints and defaults are not simulated here", template)
		}
		if !closed || name == "" || strings.ContainsAny(name, "{}*?. ") {
			return nil, fmt.Errorf("route %q: segment %q is neither a literal nor one parameter", template, part)
		}
		r = append(r, segment{text: name, kind: kind})
	}
	return r, nil
}

// match gives the parameters of an escaped path. Literals are compared without regard to case, as ASP.NET does.
func (r route) match(escapedPath string) (map[string]string, bool) {
	rest := strings.Trim(escapedPath, "/")
	params := map[string]string{}
	for _, s := range r {
		if s.kind == catchAll {
			if rest != "" {
				params[s.text] = unescape(rest)
			}
			return params, true
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		part = unescape(part)
		switch {
		case part == "" && s.kind == optional:
		case part == "", s.kind == literal && !strings.EqualFold(part, s.text):
			return nil, false
		case s.kind != literal:
			params[s.text] = part
		}
	}
	return params, rest == ""
}

func unescape(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

// before says whether r is tried earlier than other: literals come before parameters, parameters before catch-alls.
func (r route) before(other route) int {
	for i := range min(len(r), len(other)) {
		if d := int(r[i].kind) - int(other[i].kind); d != 0 {
			return d
		}
	}
	return len(other) - len(r)
}
