package host

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// expand replaces every %NAME% of a binding's property by the setting of that name. A setting that is not there is an error,
// as it is for the host's name resolver.
func expand(text string, getenv func(string) string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "%")
		name, after, closed := strings.Cut(rest, "%")
		if !found || !closed {
			out.WriteString(text)
			return out.String(), nil
		}
		value := getenv(name)
		if value == "" {
			return "", fmt.Errorf("'%%%s%%' does not resolve to a value", name)
		}
		out.WriteString(before)
		out.WriteString(value)
		text = after
	}
}

var setting = regexp.MustCompile(`%[^%]+%`)

// substitute replaces %NAME% in the executable's path and arguments, where an unresolved name becomes nothing.
func substitute(text string, getenv func(string) string) string {
	return setting.ReplaceAllStringFunc(text, func(name string) string { return getenv(strings.Trim(name, "%")) })
}

// override sets every field of v, a struct that mirrors host.json, for which the environment has
// AzureFunctionsJobHost__section__key. Lists are given by index: …__functions__0, __1.
func override(v reflect.Value, name string, getenv func(string) string) (set bool, err error) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if key == "" {
				continue
			}
			some, err := override(v.Field(i), name+"__"+key, getenv)
			if err != nil {
				return false, err
			}
			set = set || some
		}
		return set, nil
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			target.Elem().Set(v.Elem())
		}
		if set, err = override(target.Elem(), name, getenv); set {
			v.Set(target)
		}
		return set, err
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.String {
			return false, nil
		}
		for i := 0; ; i++ {
			text := getenv(name + "__" + strconv.Itoa(i))
			switch {
			case text != "" && i < v.Len():
				v.Index(i).SetString(text)
			case text != "":
				v.Set(reflect.Append(v, reflect.ValueOf(text)))
			case i < v.Len():
				continue
			default:
				return set, nil
			}
			set = true
		}
	}
	text := getenv(name)
	if text == "" {
		return false, nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			return false, fmt.Errorf("%s: %q is not true or false", name, text)
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return false, fmt.Errorf("%s: %q is not an integer", name, text)
		}
		v.SetInt(int64(n))
	default:
		return false, nil
	}
	return true, nil
}

var timeSpan = regexp.MustCompile(`^(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?$`)

// parseTimeSpan reads .NET's [d.]hh:mm[:ss[.fffffff]].
func parseTimeSpan(text string) (time.Duration, error) {
	m := timeSpan.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a TimeSpan such as 00:05:00", text)
	}
	var n [4]int
	for i := range n {
		if m[i+1] != "" {
			n[i], _ = strconv.Atoi(m[i+1]) // digits only
		}
	}
	if n[0] > 10_000 || n[1] > 23 || n[2] > 59 || n[3] > 59 {
		return 0, fmt.Errorf("%q is not a TimeSpan such as 00:05:00", text)
	}
	d := time.Duration(n[0])*24*time.Hour + time.Duration(n[1])*time.Hour + time.Duration(n[2])*time.Minute + time.Duration(n[3])*time.Second
	if m[5] != "" {
		ticks, _ := strconv.Atoi(m[5] + strings.Repeat("0", 7-len(m[5])))
		d += time.Duration(ticks) * 100
	}
	return d, nil
}
