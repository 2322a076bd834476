package catalog

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/event"
)

// source is where the types are declared: what is said there of a key is what an editor tells of it.
//
//go:embed catalog.go
var source string

// object is a JSON object.
type object = map[string]any

// The forms of names and times.
const (
	namePattern     = "^[A-Za-z0-9_-]{1,64}$"
	itemPattern     = `^[A-Za-z0-9_-]{1,64}\*?$`
	levelPattern    = "^[1-9][0-9]{0,4}$"
	timePattern     = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?$"
	durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
)

// Schema is a JSON Schema, draft 7, of the file format, for editors. It knows every key and the rules that concern one place alone: what it
// refuses Parse refuses, but Parse has rules between places, too. The same program always gives the same bytes.
func Schema() ([]byte, error) {
	said, err := described()
	if err != nil {
		return nil, err
	}
	s := schema{described: said, definitions: object{}}
	root := s.structure(reflect.TypeFor[Catalog]())
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "A game's catalog"
	root["definitions"] = s.definitions
	text, err := json.Marshal(root, json.Deterministic(true), jsontext.WithIndent("  "), jsontext.EscapeForHTML(false))
	if err != nil {
		return nil, fmt.Errorf("catalog schema: %w", err)
	}
	return append(text, '\n'), nil
}

// described reads what the comments of the types say: of a type by its name, of a key by its type's name and its own, "Board.age".
func described() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "catalog.go", source, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("catalog schema: %w", err)
	}
	said := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		declared, ok := node.(*ast.GenDecl)
		if !ok {
			return true
		}
		for _, spec := range declared.Specs {
			named, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			said[named.Name.Name] = plain(declared.Doc)
			structure, ok := named.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range structure.Fields.List {
				if field.Tag != nil {
					key := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("yaml")
					said[named.Name.Name+"."+key] = plain(field.Comment)
				}
			}
		}
		return false
	})
	return said, nil
}

// plain is a comment as one line.
func plain(comment *ast.CommentGroup) string {
	return strings.Join(strings.Fields(comment.Text()), " ")
}

// schema makes one definition for each struct on the way.
type schema struct {
	described   map[string]string
	definitions object
}

// of is the schema of a Go type.
func (s *schema) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[Duration]():
		return object{"anyOf": []any{object{"type": "string", "pattern": durationPattern}, object{"const": 0}}}
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	}
	switch t.Kind() { //nolint:exhaustive // the catalog's types have no other
	case reflect.Struct:
		if _, known := s.definitions[t.Name()]; !known {
			s.definitions[t.Name()] = s.structure(t)
		}
		return object{"allOf": []any{object{"$ref": "#/definitions/" + t.Name()}}}
	case reflect.Map:
		return object{"type": []any{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Slice:
		return object{"type": []any{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	}
	return object{"type": "integer"}
}

// structure is the schema of a struct's keys, also of an embedded one's.
func (s *schema) structure(t reflect.Type) object {
	properties := object{}
	for _, field := range reflect.VisibleFields(t) {
		if field.Anonymous {
			continue
		}
		key, owner := field.Tag.Get("yaml"), t
		if len(field.Index) > 1 { // of an embedded struct
			owner = t.FieldByIndex(field.Index[:1]).Type
		}
		place := owner.Name() + "." + key
		of := s.of(field.Type)
		of["description"] = s.described[place]
		if c, ok := constraints()[place]; ok {
			c.constrain(of)
		}
		properties[key] = of
	}
	whole := object{
		"type": []any{"object", "null"}, "description": s.described[t.Name()], "properties": properties, "additionalProperties": false,
	}
	if more, ok := shapes()[t.Name()]; ok {
		maps.Copy(whole, more)
	}
	switch t {
	case reflect.TypeFor[Catalog]():
		builtins(properties["events"].(object)) //nolint:forcetypeassert // made above
	case reflect.TypeFor[Fairness]():
		ladder(properties["rules"].(object)) //nolint:forcetypeassert // made above
	}
	return whole
}

// constraint is what a key's value keeps to. The zero value is no constraint.
type constraint struct {
	least, most   int64 // of an integer, both inclusive; of the elements of a mapping from names to integers
	shortest      time.Duration
	longest       time.Duration
	enum          []string // of a string, or of the elements of a list
	pattern       string   // the same
	keys          string   // the pattern of a mapping's keys
	elements      int      // of a list or a mapping, at most; 0: any number
	distinct      bool     // the elements of a list
	atLeastOne    bool     // element of a list
	above, upTo   float64  // of a number; 0: any
	characters    int      // of a string, or of the values of a mapping; 0: any
	mustBeWritten bool     // a string that is not empty
}

// constraints is what validation asks of single places, by the type and the key.
func constraints() map[string]constraint {
	const far = 100 * year
	whole := constraint{least: 0, most: event.MaxInteger}
	grants := constraint{least: 1, most: event.MaxInteger, keys: namePattern}
	bound := constraint{least: -event.MaxInteger, most: event.MaxInteger}
	name := constraint{pattern: namePattern}
	local := constraint{pattern: timePattern}
	lasting := func(shortest, longest time.Duration) constraint {
		return constraint{shortest: shortest, longest: longest}
	}
	return map[string]constraint{
		"Catalog.version":   {least: 1, most: 1<<63 - 1},
		"Catalog.name":      {mustBeWritten: true},
		"Catalog.bosses":    {keys: namePattern},
		"Catalog.items":     {keys: itemPattern},
		"Catalog.modifiers": {keys: namePattern},
		"Catalog.boards":    {keys: namePattern},

		"EventType.fields":  {keys: namePattern},
		"EventType.every":   lasting(0, 24*time.Hour),
		"EventType.sources": grants,

		"Worth.xp":             whole,
		"Worth.items":          grants,
		"Worth.required_level": {least: 0, most: maxLevels},
		"Worth.cooldown":       lasting(0, maxCooldown),
		"Worth.once":           {enum: periods()},
		"Worth.daily":          whole,

		"Field.type":   {enum: types()},
		"Field.min":    bound,
		"Field.max":    bound,
		"Field.enum":   {distinct: true},
		"Field.length": {least: 0, most: maxLength},

		"Curve.table":      {least: 0, most: event.MaxInteger, elements: maxLevels, distinct: true, atLeastOne: true},
		"Generate.levels":  {least: 1, most: maxLevels},
		"Generate.first":   {least: 1, most: event.MaxInteger},
		"Generate.percent": {least: 1, most: maxGrowth},
		"Rewards.levels":   {keys: levelPattern},
		"Rewards.claim":    lasting(time.Minute, far),
		"Reward.items":     grants,

		"Item.stack":          whole,
		"Item.slots":          {least: 0, most: maxSlots},
		"Item.overflow":       {enum: overflows()},
		"Conversion.item":     name,
		"Conversion.quantity": {least: 1, most: event.MaxInteger},

		"Modifier.starts":  local,
		"Modifier.ends":    local,
		"Modifier.percent": {least: 0, most: maxPercent},
		"Modifier.types":   {pattern: namePattern, elements: maxTypes, distinct: true},
		"Privacy.grace":    lasting(0, year),

		"Board.from":         name,
		"Board.operator":     {enum: operators()},
		"Board.order":        {enum: orders()},
		"Board.windows":      {enum: windows(), distinct: true, atLeastOne: true},
		"Board.min":          bound,
		"Board.max":          bound,
		"Board.metadata":     {keys: namePattern, elements: maxMetadata, characters: maxValue},
		"Board.entry":        {pattern: namePattern, elements: maxEntry, distinct: true},
		"Board.size":         {least: 0, most: maxSize},
		"Board.age":          lasting(0, time.Minute),
		"Board.rewards":      {keys: "^(daily|weekly|season)$"},
		"Board.hall_of_fame": {least: 0, most: maxPlaces},
		"Board.retention":    lasting(0, far),
		"Tier.rank":          whole,
		"Tier.percent":       {least: 0, most: 100},
		"Tier.xp":            whole,
		"Tier.items":         grants,
		"Velocity.per_10s":   whole,
		"Velocity.per_60s":   whole,
		"Velocity.per_1h":    whole,

		"Season.id":     {pattern: "^[A-Za-z_-][A-Za-z0-9_-]{0,63}$"},
		"Season.starts": local,
		"Season.ends":   local,

		"Fairness.keys":        {keys: namePattern},
		"Fairness.block":       lasting(time.Second, year),
		"Fairness.shadow":      lasting(time.Minute, year),
		"Fairness.record":      lasting(0, year),
		"Fairness.grace":       lasting(0, 24*time.Hour),
		"Rate.events":          {least: 1, most: maxRate},
		"Rate.per":             lasting(time.Millisecond, 24*time.Hour),
		"Escalation.factor":    {least: 1, most: 100},
		"Escalation.most":      lasting(time.Second, year),
		"Escalation.memory":    lasting(0, year),
		"Escalation.throttles": {least: 0, most: maxRate},
		"Escalation.within":    lasting(time.Second, 24*time.Hour),
		"Suspicion.half_life":  lasting(time.Minute, year),
		"Suspicion.case":       {least: 1, most: maxRate},
		"Baseline.period":      lasting(time.Minute, 7*24*time.Hour),
		"Baseline.periods":     {least: 1, most: 100},
		"Rule.mode":            {enum: modes()},
		"Rule.points":          {least: 0, most: 1000},
		"Rule.limit":           {above: 0, upTo: 1000},
		"Rule.after":           {least: 0, most: maxRate},
	}
}

// constrain adds the constraint to the schema of a value.
func (c constraint) constrain(of object) {
	if c.longest > 0 { // the form cannot tell how long it is
		of["description"] = fmt.Sprintf("%s (from %s to %s)", of["description"], c.shortest, c.longest)
	}
	if c.keys != "" {
		of["propertyNames"] = object{"pattern": c.keys}
	}
	one := of // what the bounds of one value hold for
	for _, list := range []string{"items", "additionalProperties"} {
		if element, ok := of[list].(object); ok {
			one = element
		}
	}
	if c.elements > 0 {
		of[map[bool]string{true: "maxItems", false: "maxProperties"}[of["items"] != nil]] = c.elements
	}
	if c.distinct {
		of["uniqueItems"] = true
	}
	if c.atLeastOne {
		of["minItems"] = 1
		of["type"] = "array"
	}
	if c.least != 0 || c.most != 0 {
		one["minimum"] = c.least
		if c.most <= event.MaxInteger { // a greater one is none that JSON can say exactly
			one["maximum"] = c.most
		}
	}
	if c.upTo != 0 {
		one["minimum"], one["maximum"] = c.above, c.upTo
	}
	if c.enum != nil {
		one["enum"] = c.enum
	}
	if c.pattern != "" {
		one["pattern"] = c.pattern
	}
	if c.characters > 0 {
		one["maxLength"] = c.characters
	}
	if c.mustBeWritten {
		one["minLength"] = 1
	}
}

// shapes is which keys of a type go together.
func shapes() map[string]object {
	either := func(a, b string) object {
		return object{"oneOf": []any{object{"required": []any{a}}, object{"required": []any{b}}}}
	}
	when := func(key string, value any) object {
		return object{"properties": object{key: object{"const": value}}, "required": []any{key}}
	}
	curve := either("table", "generate")
	curve["type"] = "object"
	claims := object{"if": when("claim", true), "then": object{"required": []any{"items"}}}
	item := object{"if": when("overflow", Convert), "then": object{"required": []any{"convert"}}, "else": object{"properties": object{"convert": false}}}
	item = object{"allOf": []any{item, claims}}
	return map[string]object{
		"Catalog":    {"type": "object", "required": []any{"version", "name", "xp"}},
		"Curve":      curve,
		"Generate":   {"required": []any{"levels", "first", "percent"}},
		"EventType":  claims,
		"Worth":      claims,
		"Reward":     claims,
		"Item":       item,
		"Conversion": {"required": []any{"item", "quantity"}},
		"Modifier":   {"type": "object", "required": []any{"starts", "ends", "percent"}},
		"Board":      {"type": "object", "required": []any{"windows"}},
		"Tier":       {"type": "object"},
		"Season":     {"type": "object", "required": []any{"id", "starts", "ends"}},
	}
}

// builtins says which event types there are in every game, and what may not be said of them.
func builtins(events object) {
	each := events["additionalProperties"]
	without := func(keys ...string) object {
		refused := object{}
		for _, key := range keys {
			refused[key] = false
		}
		return object{"allOf": []any{each, object{"properties": refused}}}
	}
	events["propertyNames"] = object{"pattern": namePattern, "not": object{"enum": []any{event.RewardGranted, event.EventReversed}}}
	events["properties"] = object{
		event.XPGained:       without("xp", "items", "claim"),
		event.BossKilled:     without("xp", "items", "claim", "sources"),
		event.ItemAcquired:   without("xp", "items", "claim", "sources"),
		event.ScoreSubmitted: without("xp", "items", "claim", "required_level", "cooldown", "once", "daily", "sources"),
	}
	events["additionalProperties"] = without("sources")
}

// ladder says which rules there are, and what each leaves to choose.
func ladder(rules object) {
	each := rules["additionalProperties"]
	known := object{}
	for name := range Rules() {
		known[name] = object{"allOf": []any{each, object{"properties": object{"verdict": object{"enum": Verdicts(name)}}}}}
	}
	rules["properties"], rules["additionalProperties"] = known, false
	rules["propertyNames"] = object{"enum": slices.Sorted(maps.Keys(Rules()))}
}
