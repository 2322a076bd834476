package catalog_test

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	before, err := catalog.Load("testdata/diff/before.yaml")
	require.NoError(t, err)
	after, err := catalog.Load("testdata/diff/after.yaml")
	require.NoError(t, err)
	var got strings.Builder
	for _, change := range catalog.Compare(before, after) {
		mark := " "
		if change.Warning {
			mark = "!"
		}
		fmt.Fprintf(&got, "%s %s: %s\n", mark, change.Path, change.Text)
	}
	if *update {
		require.NoError(t, os.WriteFile("testdata/diff/changes.txt", []byte(got.String()), 0o600))
	}
	want, err := os.ReadFile("testdata/diff/changes.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
	require.False(t, catalog.Follows(before, after))
}

func TestCompareTellsNothingOfWhatIsTheSame(t *testing.T) {
	t.Parallel()
	for name, text := range everything(t) {
		a, err := catalog.Parse([]byte(text))
		require.NoError(t, err)
		b, err := catalog.Parse([]byte("# a comment\n" + text))
		require.NoError(t, err)
		require.Empty(t, catalog.Compare(a, b), name)
	}
	short, err := catalog.Parse([]byte(smallest))
	require.NoError(t, err)
	said, err := catalog.Parse([]byte(smallest + "zone: UTC\nevents: {xp_gained: {fields: {amount: {type: integer}}}}\nfairness: {grace: 10m}\nboards: {}\nitems:\n"))
	require.NoError(t, err)
	require.Empty(t, catalog.Compare(short, said))
}

func TestFollows(t *testing.T) {
	t.Parallel()
	for before, list := range map[int]map[int]bool{3: {2: false, 3: false, 4: true}} {
		for after, want := range list {
			a, b := &catalog.Catalog{Version: before}, &catalog.Catalog{Version: after}
			require.Equal(t, want, catalog.Follows(a, b))
			for _, change := range catalog.Compare(a, b) {
				require.Equal(t, "version", change.Path)
				require.Equal(t, !want, change.Warning)
			}
		}
	}
}

// Whatever differs is told of: each value of a catalog that has every key is changed, one at a time, and each entry of a mapping left out.
func TestCompareMissesNothing(t *testing.T) {
	t.Parallel()
	before, err := catalog.Parse([]byte(full))
	require.NoError(t, err)
	after, err := catalog.Parse([]byte(full))
	require.NoError(t, err)
	places := map[string]bool{}
	told := func(path, place string, a, b *catalog.Catalog) {
		changes := slices.DeleteFunc(catalog.Compare(a, b), func(c catalog.Change) bool { return c.Path == "version" && path != "version" })
		require.True(t, slices.ContainsFunc(changes, func(c catalog.Change) bool {
			return path == c.Path || strings.HasPrefix(path, c.Path+".") || strings.HasPrefix(path, c.Path+"[")
		}), "%s: %+v", path, changes)
		want := 1
		if place == "Season.id" {
			want = 2 // one is gone, one is new
		}
		require.Len(t, changes, want, "%s", path)
		for _, c := range changes {
			require.NotContains(t, c.Text, "{", path)
			require.False(t, strings.HasPrefix(c.Text, c.Path+" is "), "%s has no phrase", place)
			require.NotContains(t, c.Text, "\n")
		}
	}
	changed(reflect.ValueOf(after).Elem(), "", "", func(path, place string) {
		if place == "Curve.generate" { // Parse makes a table of it
			return
		}
		places[place] = true
		told(path, place, before, after)
		told(path, place, after, before)
	})
	require.Empty(t, catalog.Compare(before, after), "everything was put back")
	for _, place := range keys(reflect.TypeFor[catalog.Catalog](), "", map[reflect.Type]bool{}) {
		if !strings.HasPrefix(place, "Generate.") && place != "Curve.generate" {
			require.True(t, places[place], "%s is not in the catalog that is compared", place)
		}
	}
}

// changed changes each value, calls each, and puts it back. Paths are as in problems.
func changed(v reflect.Value, path, place string, each func(path, place string)) {
	change := func(to reflect.Value) {
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		v.Set(to)
		each(path, place)
		v.Set(before)
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(v.Type()) {
			if field.Anonymous {
				continue
			}
			owner := v.Type()
			if len(field.Index) > 1 {
				owner = owner.FieldByIndex(field.Index[:1]).Type
			}
			key := field.Tag.Get("yaml")
			changed(v.FieldByIndex(field.Index), under(path, key), owner.Name()+"."+key, each)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			before := v.MapIndex(key)
			at := under(path, fmt.Sprint(key.Interface()))
			v.SetMapIndex(key, reflect.Value{})
			each(at, place)
			entry := reflect.New(before.Type()).Elem()
			entry.Set(before)
			changed(entry, at, place, func(path, place string) {
				v.SetMapIndex(key, entry)
				each(path, place)
			})
			v.SetMapIndex(key, before)
		}
	case reflect.Slice:
		for i := range v.Len() {
			changed(v.Index(i), fmt.Sprintf("%s[%d]", path, i), place, each)
		}
	case reflect.Pointer:
		if v.IsNil() {
			change(reflect.New(v.Type().Elem()))
			return
		}
		changed(v.Elem(), path, place, each)
		change(reflect.Zero(v.Type()))
	case reflect.String:
		change(reflect.ValueOf(v.String() + "x").Convert(v.Type()))
	case reflect.Bool:
		change(reflect.ValueOf(!v.Bool()))
	case reflect.Float64:
		change(reflect.ValueOf(v.Float() + 1))
	default:
		change(reflect.ValueOf(v.Int() + 1).Convert(v.Type()))
	}
}

// keys is the keys of the types under one, by the type and the key.
func keys(t reflect.Type, place string, seen map[reflect.Type]bool) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		return keys(t.Elem(), place, seen)
	case reflect.Struct:
		if seen[t] {
			return nil
		}
		seen[t] = true
		var list []string
		for _, field := range reflect.VisibleFields(t) {
			if !field.Anonymous {
				owner := t
				if len(field.Index) > 1 {
					owner = owner.FieldByIndex(field.Index[:1]).Type
				}
				list = append(list, keys(field.Type, owner.Name()+"."+field.Tag.Get("yaml"), seen)...)
			}
		}
		return list
	}
	return []string{place}
}
