package catalog_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
)

const schemaFile = "../../docs/catalog.schema.json"

// everything are catalogs that together, and arena alone, have every key.
func everything(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{"full": full, "smallest": smallest}
	for _, file := range []string{"../../examples/arena/catalog.yaml", "../../examples/chess/catalog.yaml"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		texts[file] = string(text)
	}
	return texts
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := catalog.Schema()
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("catalog.schema.json", document))
	s, err := compiler.Compile("catalog.schema.json")
	require.NoError(t, err)
	return s
}

// generic is a YAML text as JSON has it.
func generic(t testing.TB, text []byte) (any, error) {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
}

func TestTheSchemaIsPublished(t *testing.T) {
	t.Parallel()
	text, err := catalog.Schema()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(schemaFile, text, 0o600))
	}
	published, err := os.ReadFile(schemaFile)
	require.NoError(t, err)
	require.Equal(t, string(text), string(published), "write it anew: go run ./cmd/liveops catalog schema > docs/catalog.schema.json")
}

func TestTheSchemaTakesWhatIsGood(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	for name, text := range everything(t) {
		value, err := generic(t, []byte(text))
		require.NoError(t, err, name)
		require.NoError(t, s.Validate(value), name)
	}
}

// What one place alone shows to be wrong, an editor shows too.
func TestTheSchemaRefusesWhatIsBad(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	var taken []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		value, err := generic(t, text)
		if err == nil && s.Validate(value) == nil {
			taken = append(taken, strings.TrimSuffix(filepath.Base(file), ".yaml"))
		}
	}
	require.Equal(t, []string{ // rules between places, lengths of time and zones, and what is gone once YAML was read
		"anchor-inside", "anchors-and-tags", "boards-from-boards", "convert-to-what-converts", "curve-that-overflows", "merge-key",
		"once-a-season-without-seasons", "overflow-mailbox-of-an-item-with-slots", "overflow-where-all-fits", "privacy-grace",
		"sources-not-in-the-enum", "two-documents", "zone-of-the-machine", "zone-unknown",
	}, taken)
}

// Every key is described, and every key of the types is there.
func TestTheSchemaTellsOfEveryKey(t *testing.T) {
	t.Parallel()
	text, err := catalog.Schema()
	require.NoError(t, err)
	var root map[string]any
	require.NoError(t, json.Unmarshal(text, &root))
	definitions := root["definitions"].(map[string]any)
	definitions["Catalog"] = root
	for name, definition := range definitions {
		d := definition.(map[string]any)
		require.NotEmpty(t, d["description"], name)
		for key, property := range d["properties"].(map[string]any) {
			require.NotEmpty(t, property.(map[string]any)["description"], "%s.%s", name, key)
		}
	}
	properties := func(name string) []string {
		return slices.Sorted(maps.Keys(definitions[name].(map[string]any)["properties"].(map[string]any)))
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[catalog.Catalog](), reflect.TypeFor[catalog.EventType](), reflect.TypeFor[catalog.Item](), reflect.TypeFor[catalog.Board](),
		reflect.TypeFor[catalog.Modifier](), reflect.TypeFor[catalog.Worth](), reflect.TypeFor[catalog.Rule](), reflect.TypeFor[catalog.Tier](),
	} {
		var keys []string
		for _, field := range reflect.VisibleFields(typ) {
			if !field.Anonymous {
				keys = append(keys, field.Tag.Get("yaml"))
			}
		}
		slices.Sort(keys)
		require.Equal(t, keys, properties(typ.Name()))
	}
}

// What the schema refuses Parse refuses too, at that place: each value of a catalog is made wrong by what the schema says of it, one at a time.
func TestTheSchemaIsNotStricter(t *testing.T) {
	t.Parallel()
	text, err := catalog.Schema()
	require.NoError(t, err)
	var root map[string]any
	require.NoError(t, json.Unmarshal(text, &root))
	asJSON, err := yaml.YAMLToJSON([]byte(full))
	require.NoError(t, err)
	var document any
	require.NoError(t, json.Unmarshal(asJSON, &document))
	changes := 0
	wrong(root, root, document, "", func(path, why string) {
		changes++
		changed, err := json.Marshal(document)
		require.NoError(t, err)
		_, err = catalog.Parse(changed)
		var problems *catalog.Problems
		require.ErrorAs(t, err, &problems, "%s: %s is not refused", path, why)
		require.True(t, slices.ContainsFunc(problems.List, func(p catalog.Problem) bool {
			return strings.HasPrefix(p.Path, path) || strings.HasPrefix(path, p.Path) && p.Path != ""
		}), "%s: %s: %v", path, why, problems)
	})
	require.Greater(t, changes, 300)
}

// wrong changes the value at each place to one that the schema refuses, calls each, and changes it back.
func wrong(root, schema map[string]any, value any, path string, each func(path, why string)) {
	schema = resolved(root, schema)
	switch value := value.(type) {
	case map[string]any:
		try := func(key string, bad any, why string) {
			before, had := value[key]
			value[key] = bad
			each(under(path, key), why)
			delete(value, key)
			if had {
				value[key] = before
			}
		}
		properties, _ := schema["properties"].(map[string]any)
		more, _ := schema["additionalProperties"].(map[string]any)
		if more == nil {
			try("no-such-key", 1, "an unknown key")
		}
		if names, ok := schema["propertyNames"].(map[string]any); ok && names["pattern"] != nil && len(value) > 0 {
			for _, one := range value {
				try("no.name", one, "a bad name")
				break
			}
		}
		required, _ := schema["required"].([]any)
		for _, key := range required {
			before := value[key.(string)]
			delete(value, key.(string))
			each(under(path, key.(string)), "a missing key")
			value[key.(string)] = before
		}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			of, _ := properties[key].(map[string]any)
			if of == nil {
				of = more
			}
			of = resolved(root, of)
			for why, bad := range bads(of) {
				try(key, bad, why)
			}
			wrong(root, of, value[key], under(path, key), each)
		}
	case []any:
		of, _ := schema["items"].(map[string]any)
		of = resolved(root, of)
		for i, one := range value {
			at := fmt.Sprintf("%s[%d]", path, i)
			for why, bad := range bads(of) {
				value[i] = bad
				each(at, why)
				value[i] = one
			}
			wrong(root, of, one, at, each)
		}
	}
}

func under(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// resolved puts together what a schema says by allOf and by reference.
func resolved(root, schema map[string]any) map[string]any {
	whole := maps.Clone(schema)
	if reference, ok := schema["$ref"].(string); ok {
		whole = resolved(root, root["definitions"].(map[string]any)[strings.TrimPrefix(reference, "#/definitions/")].(map[string]any))
	}
	parts, _ := schema["allOf"].([]any)
	for _, part := range parts {
		for key, value := range resolved(root, part.(map[string]any)) {
			if before, ok := whole[key].(map[string]any); ok && key == "properties" {
				value = merged(before, value.(map[string]any))
			}
			if _, ok := whole[key]; !ok || key == "properties" {
				whole[key] = value
			}
		}
	}
	return whole
}

func merged(a, b map[string]any) map[string]any {
	a = maps.Clone(a)
	for key, value := range b {
		if more, ok := value.(map[string]any); ok {
			if before, ok := a[key].(map[string]any); ok {
				both := maps.Clone(before)
				maps.Copy(both, more)
				value = both
			}
		}
		a[key] = value
	}
	return a
}

// bads is values that a schema refuses, by what is wrong with them.
func bads(schema map[string]any) map[string]any {
	list := map[string]any{}
	if least, ok := schema["minimum"].(float64); ok {
		list["below the least"] = least - 1
	}
	if most, ok := schema["maximum"].(float64); ok {
		list["above the most"] = most + 1
	}
	if schema["enum"] != nil {
		list["no word of the enum"] = "no-such-word"
	}
	if schema["pattern"] != nil {
		list["not of the pattern"] = "a b"
	}
	if length, ok := schema["maxLength"].(float64); ok {
		list["too long"] = strings.Repeat("x", int(length)+1)
	}
	if schema["minLength"] != nil {
		list["nothing"] = ""
	}
	if schema["anyOf"] != nil {
		list["no duration"] = "soon"
		list["a number"] = 5
	}
	switch schema["type"] {
	case "integer":
		list["a fraction"], list["a word"] = 1.5, "five"
	case "string":
		list["a number"] = math.MaxInt32
	case "boolean":
		list["a word"] = "yes"
	}
	if _, several := schema["type"].([]any); several || schema["type"] == "object" || schema["type"] == "array" {
		list["no mapping or list"] = 5
	}
	return list
}
