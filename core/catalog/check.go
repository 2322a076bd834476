package catalog

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"liveops/core/event"
	"liveops/core/fault"
)

// Check says whether the event has the form its type asks for: the type is known, every field is known, present and of its
// type, integers are within ±(2^53−1), strings of their length, amounts and quantities are 1 or more, and the board, boss or item exists. It does not look
// at the bounds of an honest game. The error is fault.EventInvalid with a field for each problem, in order of pointer.
func (c *Catalog) Check(e event.Event) error {
	t, ok := c.Events[e.Type]
	if !ok {
		return &fault.Error{
			Code: fault.EventInvalid, Detail: "the event type is not in the catalog",
			Fields: []fault.Field{{Pointer: "/type", Code: fault.TypeUnknown}},
		}
	}
	var problems []fault.Field
	problem := func(field string, code fault.Code, detail string) {
		pointer := "/data/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(field)
		problems = append(problems, fault.Field{Pointer: pointer, Code: code, Detail: detail})
	}
	for name, field := range t.Fields {
		value, present := e.Data[name]
		switch code, detail := field.form(value); {
		case !present && field.Optional:
		case !present:
			problem(name, fault.FieldMissing, "required, "+article(field.Type))
		case code != "":
			problem(name, code, detail)
		default:
			if code, detail := c.known(e.Type, name, e); code != "" {
				problem(name, code, detail)
			}
		}
	}
	for name := range e.Data {
		if _, ok := t.Fields[name]; !ok {
			problem(name, fault.FieldUnknown, "")
		}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.SortFunc(problems, func(a, b fault.Field) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return &fault.Error{Code: fault.EventInvalid, Detail: "the event's data is not what the catalog asks for", Fields: problems}
}

// form says what is wrong with the form of a value, with an empty code for nothing.
func (f Field) form(value any) (fault.Code, string) {
	ok := false
	switch f.Type {
	case "integer":
		var n float64
		n, ok = value.(float64)
		if ok && math.Abs(n) > event.MaxInteger {
			return fault.FieldRange, "from -(2^53-1) to 2^53-1"
		}
		ok = ok && n == math.Trunc(n)
	case "string":
		var text string
		text, ok = value.(string)
		if ok && f.Length > 0 && utf8.RuneCountInString(text) > f.Length {
			return fault.FieldRange, fmt.Sprintf("at most %d characters", f.Length)
		}
	case "boolean":
		_, ok = value.(bool)
	}
	if !ok {
		return fault.FieldType, "must be " + article(f.Type)
	}
	return "", ""
}

func article(kind string) string {
	if kind == "integer" {
		return "an integer"
	}
	return "a " + kind
}

// known checks what the fields of the built-in types refer to.
func (c *Catalog) known(eventType, field string, e event.Event) (fault.Code, string) {
	text, _ := e.Text(field)
	n, _ := e.Int(field)
	switch eventType + "." + field {
	case "xp_gained.amount", "item_acquired.quantity":
		if n < 1 {
			return fault.FieldRange, "1 or more"
		}
	case "score_submitted.board":
		board, ok := c.Boards[text]
		switch {
		case !ok:
			return fault.BoardUnknown, ""
		case board.From != "":
			return fault.BoardUnknown, "takes the scores submitted to " + board.From
		}
	case "boss_killed.boss":
		if _, ok := c.Bosses[text]; !ok {
			return fault.BossUnknown, ""
		}
	case "item_acquired.item":
		if _, ok := c.Item(text); !ok || !event.ValidID(text) {
			return fault.ItemUnknown, ""
		}
	}
	return "", ""
}
