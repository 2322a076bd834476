package host

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// utcDateTime and dateTimeOffset are times as .NET's DateTime and DateTimeOffset: the first loses its zone on the way.
type (
	utcDateTime    time.Time
	dateTimeOffset time.Time
)

// MarshalJSON is the form inside arrays, which keeps what there is of the second.
func (t utcDateTime) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format(`"2006-01-02T15:04:05.9999999"`)), nil
}

// MarshalJSON is the form inside arrays and objects. It writes +00:00 where RFC 3339 would allow Z.
func (t dateTimeOffset) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(t).Format(`"2006-01-02T15:04:05.9999999-07:00"`)), nil
}

// object is an already encoded JSON object.
type object = json.RawMessage

// encode turns a value into what is put in Data or Metadata (contract §3.2). Everything that is not an object, bytes or a
// time becomes a string that holds the JSON of the value.
func encode(v any) any {
	switch x := v.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case utcDateTime:
		return time.Time(x).UTC().Format("2006-01-02T15:04:05")
	case dateTimeOffset:
		return time.Time(x).Format("2006-01-02T15:04:05-07:00")
	case map[string]any, object:
		return x
	default:
		return string(compact(x))
	}
}

// compact is JSON without spaces and without the escapes that Go adds for HTML.
func compact(v any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // only values made here are encoded
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// bindingData is what a trigger knows about its invocation. Names are compared without regard to case; the first spelling of
// a name stays.
type bindingData map[string]any

func (d bindingData) set(name string, value any) {
	if _, exact := d[name]; !exact {
		for known := range d {
			if strings.EqualFold(known, name) {
				name = known
				break
			}
		}
	}
	d[name] = value
}

// metadata is the data in its encoded form: nulls and names that end in "trigger" are left out.
func (d bindingData) metadata() map[string]any {
	out := make(map[string]any, len(d))
	for name, value := range d {
		if value != nil && !strings.HasSuffix(strings.ToLower(name), "trigger") {
			out[name] = encode(value)
		}
	}
	return out
}

// leak writes the top-level properties of a JSON object into the data, over what is there under the same name (contract
// §3.3). Anything that is not an object is left alone.
func (d bindingData) leak(body string) {
	body = strings.TrimSpace(body)
	if !strings.HasPrefix(body, "{") || !strings.HasSuffix(body, "}") {
		return
	}
	var properties map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &properties) != nil {
		return
	}
	for name, raw := range properties {
		switch raw[0] {
		case '[', 'n': // arrays and null stay out
		case '{':
			var nested bytes.Buffer
			_ = json.Compact(&nested, raw) // it was just parsed
			d.set(name, object(nested.Bytes()))
		case 't':
			d.set(name, "True")
		case 'f':
			d.set(name, "False")
		case '"':
			var text string
			_ = json.Unmarshal(raw, &text)
			if at, ok := dateLike(text); ok {
				text = at.Format("01/02/2006 15:04:05")
			}
			d.set(name, text)
		default:
			d.set(name, string(raw))
		}
	}
}

var isoDate = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?$`)

// dateLike says whether .NET's JSON reader would take a string for a date.
func dateLike(text string) (time.Time, bool) {
	if !isoDate.MatchString(text) {
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), true
		}
	}
	return time.Time{}, false
}

// reparsed is a JSON text as it looks after .NET read and wrote it: dates inside are written anew.
func reparsed(body []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, fmt.Errorf("additional text after the JSON value")
	}
	return redated(v), nil
}

func redated(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for name := range x {
			x[name] = redated(x[name])
		}
	case []any:
		for i := range x {
			x[i] = redated(x[i])
		}
	case string:
		at, ok := dateLike(x)
		switch {
		case !ok:
		case strings.HasSuffix(x, "Z"):
			return at.Format("2006-01-02T15:04:05.9999999Z")
		case x[len(x)-3] == ':' && strings.ContainsAny(x[len(x)-6:len(x)-5], "+-"):
			return at.Format("2006-01-02T15:04:05.9999999-07:00")
		default:
			return at.Format("2006-01-02T15:04:05.9999999")
		}
	}
	return v
}

// fromBase64 is what .NET's Convert.FromBase64String takes: white space is ignored, padding is required.
func fromBase64(text string) ([]byte, bool) {
	text = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, text)
	out, err := base64.StdEncoding.DecodeString(text)
	return out, err == nil
}

// integer reads a JSON number or a numeric string.
func integer(raw json.RawMessage) (int, bool) {
	n, err := strconv.Atoi(strings.Trim(string(raw), `"`))
	return n, err == nil
}
