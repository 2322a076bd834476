package event

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/fault"
)

// Item is one entry of a batch: an event, or what is wrong with it. ID and PlayerID are set as far as they could be read.
type Item struct {
	Event Event
	Err   error
}

// Decode reads one event. What cannot be read as JSON is fault.Malformed; an event that breaks the envelope's rules is
// fault.Invalid with a field for each problem, or for the first member that is unknown or of the wrong type.
func Decode(body []byte) (Event, error) {
	if err := checkBody(body); err != nil {
		return Event{}, err
	}
	if len(body) > MaxSize {
		return Event{}, tooLarge()
	}
	var raw jsontext.Value
	if err := json.Unmarshal(body, &raw); err != nil {
		return Event{}, malformed(err)
	}
	return decode(raw)
}

// DecodeBatch reads {"events": [...]}. A body that cannot be read, or breaks a limit of the request, is an error as a
// whole; a bad event only spoils its own item.
func DecodeBatch(body []byte) ([]Item, error) {
	if err := checkBody(body); err != nil {
		return nil, err
	}
	var batch struct {
		Events []jsontext.Value `json:"events"`
	}
	if err := json.Unmarshal(body, &batch, json.RejectUnknownMembers(true)); err != nil {
		return nil, malformed(err)
	}
	switch n := len(batch.Events); {
	case n == 0:
		return nil, &fault.Error{
			Code: fault.EventInvalid, Detail: "the batch holds no event",
			Fields: []fault.Field{{Pointer: "/events", Code: fault.FieldMissing}},
		}
	case n > MaxBatch:
		return nil, fault.TooManyEvents.Errorf("the batch holds %d events, at most %d are taken", n, MaxBatch)
	}
	items := make([]Item, len(batch.Events))
	for i, raw := range batch.Events {
		if len(raw) > MaxSize {
			items[i] = Item{named(raw), tooLarge()}
			continue
		}
		items[i].Event, items[i].Err = decode(raw)
	}
	return items, nil
}

// DecodeAccepted reads the body of a queue message.
func DecodeAccepted(body []byte) (Accepted, error) {
	var a Accepted
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fault.MessageInvalid.Wrap(err, "the message is not an accepted event")
	}
	if problems := a.check(); len(problems) > 0 || !validTime(a.At) || !validTime(a.ReceivedAt) {
		return a, &fault.Error{Code: fault.MessageInvalid, Detail: "the message is not an accepted event", Fields: problems}
	}
	a.OccurredAt, a.At, a.ReceivedAt = a.OccurredAt.UTC(), a.At.UTC(), a.ReceivedAt.UTC()
	return a, nil
}

// ValidPlayerID says whether id can name a player.
func ValidPlayerID(id string) bool { return validID(id, MaxPlayerID) }

// ValidID says whether id can name an event.
func ValidID(id string) bool { return validID(id, MaxID) }

func checkBody(body []byte) error {
	if len(body) > MaxBody {
		return fault.BodyTooLarge.Errorf("the body has %d bytes, at most %d are taken", len(body), MaxBody)
	}
	if depth(body) > MaxDepth {
		return fault.TooDeep.Errorf("at most %d levels of nesting are read", MaxDepth)
	}
	return nil
}

func decode(raw jsontext.Value) (Event, error) {
	var e Event
	if err := json.Unmarshal(raw, &e, json.RejectUnknownMembers(true)); err != nil {
		return named(raw), invalid(field(err))
	}
	if problems := e.check(); len(problems) > 0 {
		return e, invalid(problems...)
	}
	e.OccurredAt = e.OccurredAt.UTC().Truncate(time.Millisecond)
	return e, nil
}

// check lists what is wrong with the envelope.
func (e Event) check() []fault.Field {
	var problems []fault.Field
	problem := func(pointer string, code fault.Code, format string, args ...any) {
		problems = append(problems, fault.Field{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	identifier := func(pointer, id string, limit int) {
		switch {
		case id == "":
			problem(pointer, fault.FieldMissing, "required")
		case !validID(id, limit):
			problem(pointer, fault.FieldType, "1 to %d of A-Z a-z 0-9 _ -", limit)
		}
	}
	identifier("/event_id", e.ID, MaxID)
	identifier("/player_id", e.PlayerID, MaxPlayerID)
	identifier("/type", e.Type, MaxID)
	if e.SessionID != "" {
		identifier("/session_id", e.SessionID, MaxID)
	}
	if e.OccurredAt.IsZero() {
		problem("/occurred_at", fault.FieldMissing, "required, RFC 3339")
	} else if !validTime(e.OccurredAt) {
		problem("/occurred_at", fault.FieldRange, "between the years 1970 and 9999")
	}
	if e.Seq < 0 || e.Seq > MaxInteger {
		problem("/seq", fault.FieldRange, "0 to 2^53-1")
	}
	if e.Data == nil {
		problem("/data", fault.FieldMissing, "required, an object")
	}
	return problems
}

// named reads no more than the ids of an event that is otherwise unreadable, so that its result can name it.
func named(raw jsontext.Value) Event {
	var ids struct {
		ID       any `json:"event_id"`
		PlayerID any `json:"player_id"`
	}
	if json.Unmarshal(raw, &ids) != nil {
		return Event{}
	}
	var e Event
	if id, ok := ids.ID.(string); ok && ValidID(id) {
		e.ID = id
	}
	if id, ok := ids.PlayerID.(string); ok && ValidPlayerID(id) {
		e.PlayerID = id
	}
	return e
}

func validTime(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year <= 9999
}

func validID(id string, limit int) bool {
	if id == "" || len(id) > limit {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// depth is how deeply the text nests objects and arrays. It only looks at brackets outside of strings, so it is cheap and
// works on text that is not JSON too.
func depth(text []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

func tooLarge() error {
	return fault.EventTooLarge.Errorf("an event may have at most %d bytes", MaxSize)
}

func invalid(problems ...fault.Field) error {
	return &fault.Error{Code: fault.EventInvalid, Detail: "the event breaks the rules listed in errors", Fields: problems}
}

// malformed turns a JSON error about a whole body into one for the caller.
func malformed(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return fault.DuplicateKey.Wrap(err, "an object names the same member twice")
	}
	if _, ok := errors.AsType[*json.SemanticError](err); ok {
		return &fault.Error{Code: fault.EventInvalid, Detail: "the body is not what is expected here", Fields: []fault.Field{field(err)}}
	}
	return fault.MalformedJSON.Wrap(err, "the body is not valid JSON")
}

// field turns a JSON error about a value of an event into the field it is about.
func field(err error) fault.Field {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return fault.Field{Code: fault.FieldType}
	}
	f := fault.Field{Pointer: string(semantic.JSONPointer), Code: fault.FieldType}
	if errors.Is(err, json.ErrUnknownName) {
		f.Code = fault.FieldUnknown
		return f
	}
	if semantic.GoType != nil {
		f.Detail = "must be " + expected(semantic.GoType.String())
	}
	return f
}

func expected(goType string) string {
	switch {
	case goType == "time.Time":
		return "an RFC 3339 time"
	case goType == "int64":
		return "an integer"
	case goType == "float64":
		return "a number within ±1.8e308"
	case strings.HasPrefix(goType, "map"), strings.Contains(goType, "Event"):
		return "an object"
	case strings.HasPrefix(goType, "[]"):
		return "an array"
	}
	return "a " + goType
}
