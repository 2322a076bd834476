package catalog

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// reader fills the catalog's types from a YAML tree. The library's own strict decoder stops at the first thing it does not
// know; this one goes on, and remembers the line of every path for the checks that follow.
type reader struct {
	lines    map[string]int
	problems []Problem
}

func (r *reader) problem(path string, at *token.Token, format string, args ...any) {
	r.problems = append(r.problems, Problem{Path: path, Line: lineOf(at), Text: fmt.Sprintf(format, args...)})
}

func lineOf(at *token.Token) int {
	if at == nil || at.Position == nil {
		return 0
	}
	return at.Position.Line
}

func (r *reader) read(c *Catalog, node ast.Node) {
	r.value(reflect.ValueOf(c).Elem(), node, "")
}

// value sets into from node. A null leaves it as it is, as if nothing had been written.
func (r *reader) value(into reflect.Value, node ast.Node, path string) {
	switch node.(type) {
	case *ast.NullNode:
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		r.problem(path, node.GetToken(), "anchors, aliases and tags are not read; write the value itself")
		return
	}
	if text, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := text.UnmarshalText([]byte(scalar(node))); err != nil {
			r.problem(path, node.GetToken(), "%s", err)
		}
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		r.value(into.Elem(), node, path)
	case reflect.Struct:
		r.members(node, path, func(key string, value ast.Node, at *token.Token) {
			if field, ok := member(into, key); ok {
				r.value(field, value, join(path, key))
				return
			}
			r.problem(join(path, key), at, "unknown key; there are %s", strings.Join(keys(into.Type()), ", "))
		})
	case reflect.Map:
		r.members(node, path, func(key string, value ast.Node, at *token.Token) {
			k := reflect.New(into.Type().Key()).Elem()
			if k.Kind() == reflect.Int {
				n, err := strconv.Atoi(key)
				if err != nil {
					r.problem(join(path, key), at, "the key must be an integer")
					return
				}
				k.SetInt(int64(n))
			} else {
				k.SetString(key)
			}
			v := reflect.New(into.Type().Elem()).Elem()
			r.value(v, value, join(path, key))
			if into.IsNil() {
				into.Set(reflect.MakeMap(into.Type()))
			}
			into.SetMapIndex(k, v)
		})
	case reflect.Slice:
		sequence, ok := node.(*ast.SequenceNode)
		if !ok {
			r.problem(path, node.GetToken(), "must be a list")
			return
		}
		for i, value := range sequence.Values {
			element := fmt.Sprintf("%s[%d]", path, i)
			r.lines[element] = lineOf(value.GetToken())
			into.Set(reflect.Append(into, reflect.Zero(into.Type().Elem())))
			r.value(into.Index(i), value, element)
		}
	default:
		r.scalar(into, node, path)
	}
}

// member finds the field of a struct that a key names, also among those of an embedded one.
func member(of reflect.Value, key string) (reflect.Value, bool) {
	for _, field := range reflect.VisibleFields(of.Type()) {
		if field.Tag.Get("yaml") == key {
			return of.FieldByIndex(field.Index), true
		}
	}
	return reflect.Value{}, false
}

// keys is what can be written of a struct, also of an embedded one.
func keys(of reflect.Type) []string {
	var list []string
	for _, field := range reflect.VisibleFields(of) {
		if !field.Anonymous {
			list = append(list, field.Tag.Get("yaml"))
		}
	}
	return list
}

func (r *reader) scalar(into reflect.Value, node ast.Node, path string) {
	switch into.Kind() { //nolint:exhaustive // the catalog's types have no other
	case reflect.String:
		switch node.(type) {
		case *ast.StringNode, *ast.LiteralNode:
			into.SetString(scalar(node))
			return
		}
		r.problem(path, node.GetToken(), "must be a string; put it in quotes")
	case reflect.Bool:
		if b, ok := node.(*ast.BoolNode); ok {
			into.SetBool(b.Value)
			return
		}
		r.problem(path, node.GetToken(), "must be true or false")
	case reflect.Float64:
		n, err := strconv.ParseFloat(scalar(node), 64)
		if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
			r.problem(path, node.GetToken(), "must be a number")
			return
		}
		into.SetFloat(n)
	default:
		if n, ok := node.(*ast.IntegerNode); ok {
			switch n := n.Value.(type) {
			case int64:
				into.SetInt(n)
				return
			case uint64:
				if n < 1<<63 {
					into.SetInt(int64(n))
					return
				}
			}
			r.problem(path, node.GetToken(), "must be an integer of 64 bits")
			return
		}
		r.problem(path, node.GetToken(), "must be an integer")
	}
}

// members calls each for the keys of a mapping, but for those that were there before.
func (r *reader) members(node ast.Node, path string, each func(key string, value ast.Node, at *token.Token)) {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.problem(path, node.GetToken(), "must be a mapping of keys to values")
		return
	}
	for _, value := range values {
		at := value.Key.GetToken()
		if _, ok := value.Key.(ast.ScalarNode); !ok || value.Key.IsMergeKey() {
			r.problem(path, at, "a key must be a plain word")
			continue
		}
		key := scalar(value.Key)
		if first, ok := r.lines[join(path, key)]; ok {
			r.problem(join(path, key), at, "written before, on line %d; leave one out", first)
			continue
		}
		r.lines[join(path, key)] = lineOf(at)
		each(key, value.Value, at)
	}
}

// scalar is what was written for a scalar, without quotes; empty for anything else.
func scalar(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case ast.ScalarNode:
		return strings.TrimSpace(n.GetToken().Value)
	}
	return ""
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
