package event_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
)

const good = `{"event_id":"0199-e","type":"xp_gained","player_id":"p_1","occurred_at":"2026-11-22T18:30:00.125Z","session_id":"s-1","seq":3,"data":{"amount":10,"source":"match"}}`

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestDecode(t *testing.T) {
	t.Parallel()
	e, err := event.Decode([]byte(good))
	require.NoError(t, err)
	require.Equal(t, event.Event{
		ID: "0199-e", Type: "xp_gained", PlayerID: "p_1", OccurredAt: at("2026-11-22T18:30:00.125Z"), SessionID: "s-1", Seq: 3,
		Data: map[string]any{"amount": 10.0, "source": "match"},
	}, e)
	require.Equal(t, "p_1.0199-e", e.Identity())
}

// with is the good event with one member replaced, or left out when value is empty.
func with(member, value string) string {
	members := map[string]string{
		"event_id": `"e"`, "type": `"xp_gained"`, "player_id": `"p"`, "occurred_at": `"2026-11-22T18:30:00Z"`, "data": `{}`,
	}
	members[member] = value
	var parts []string
	for _, name := range []string{"event_id", "type", "player_id", "occurred_at", "session_id", "seq", "data", "extra"} {
		if members[name] != "" {
			parts = append(parts, fmt.Sprintf("%q:%s", name, members[name]))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestDecodeTakes(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no session, no seq":       with("seq", ""),
		"longest event id":         with("event_id", `"`+strings.Repeat("a", 64)+`"`),
		"longest player id":        with("player_id", `"`+strings.Repeat("Z", 63)+`"`),
		"all characters":           with("event_id", `"azAZ09_-"`),
		"escaped":                  with("event_id", `"\u0061"`),
		"greatest seq":             with("seq", "9007199254740991"),
		"spaces":                   " \n" + with("seq", "0") + "\t",
		"first year":               with("occurred_at", `"1970-01-01T00:00:00Z"`),
		"first year, other zone":   with("occurred_at", `"1969-12-31T23:00:00-01:00"`),
		"last year":                with("occurred_at", `"9999-12-31T23:59:59.999Z"`),
		"as deep as it goes":       with("data", `{"a":`+strings.Repeat("[", 8)+strings.Repeat("]", 8)+`}`),
		"brackets in a string":     with("data", `{"a":"[[[[[[[[[[[[\"[[[[[["}`),
		"as large as it may be":    with("data", `{"a":"`+strings.Repeat("x", event.MaxSize-len(with("data", `{"a":""}`)))+`"}`),
		"numbers of any magnitude": with("data", `{"a":1e308,"b":-1.5,"c":12345678901234567890}`),
	} {
		_, err := event.Decode([]byte(body))
		require.NoError(t, err, name)
	}
}

func TestDecodeNormalisesTheTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-11-22T18:30:00+01:00":           "2026-11-22T17:30:00Z",
		"2026-11-22T18:30:00.1239999Z":        "2026-11-22T18:30:00.123Z",
		"1970-01-01T00:00:00.000000001Z":      "1970-01-01T00:00:00Z",
		"2026-03-29T02:30:00.5004-23:59":      "2026-03-30T02:29:00.5Z",
		"2026-11-22T18:30:00.000000000+00:00": "2026-11-22T18:30:00Z",
	} {
		e, err := event.Decode([]byte(with("occurred_at", `"`+text+`"`)))
		require.NoError(t, err)
		require.Equal(t, at(want), e.OccurredAt)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	field := func(pointer string, code fault.Code, detail string) []fault.Field {
		return []fault.Field{{Pointer: pointer, Code: code, Detail: detail}}
	}
	const (
		id64 = "1 to 64 of A-Z a-z 0-9 _ -"
		id63 = "1 to 63 of A-Z a-z 0-9 _ -"
	)
	for _, test := range []struct {
		name, body string
		code       fault.Code
		kind       fault.Kind
		fields     []fault.Field
	}{
		{"nothing", "", fault.MalformedJSON, fault.Malformed, nil},
		{"cut off", good[:len(good)-1], fault.MalformedJSON, fault.Malformed, nil},
		{"text after it", good + "x", fault.MalformedJSON, fault.Malformed, nil},
		{"two values", good + good, fault.MalformedJSON, fault.Malformed, nil},
		{"trailing comma", `{"event_id":"e",}`, fault.MalformedJSON, fault.Malformed, nil},
		{"comment", `{/* */}`, fault.MalformedJSON, fault.Malformed, nil},
		{"NaN", with("seq", "NaN"), fault.MalformedJSON, fault.Malformed, nil},
		{"not UTF-8", with("data", "{\"a\":\"\xff\"}"), fault.MalformedJSON, fault.Malformed, nil},
		{"half a surrogate", with("data", `{"a":"\ud800"}`), fault.MalformedJSON, fault.Malformed, nil},
		{"byte order mark", "\ufeff" + good, fault.MalformedJSON, fault.Malformed, nil},
		{"key twice", `{"event_id":"a","event_id":"b"}`, fault.DuplicateKey, fault.Malformed, nil},
		{"key twice, escaped", `{"event_id":"a","event\u005fid":"b"}`, fault.DuplicateKey, fault.Malformed, nil},
		{"key twice, deep", with("data", `{"a":[{"b":1,"b":2}]}`), fault.DuplicateKey, fault.Malformed, nil},
		{"too deep", with("data", `{"a":`+strings.Repeat("[", 9)+strings.Repeat("]", 9)+`}`), fault.TooDeep, fault.Invalid, nil},
		{"far too deep", strings.Repeat("[", 100_000), fault.TooDeep, fault.Invalid, nil},
		{"too large", with("data", `{"a":"`+strings.Repeat("x", event.MaxSize)+`"}`), fault.EventTooLarge, fault.TooLarge, nil},
		{"far too large", strings.Repeat(" ", event.MaxBody+1), fault.BodyTooLarge, fault.TooLarge, nil},

		{"an array", "[]", fault.EventInvalid, fault.Invalid, field("", fault.FieldType, "must be an object")},
		{"a number", "5", fault.EventInvalid, fault.Invalid, field("", fault.FieldType, "must be an object")},
		{"null", "null", fault.EventInvalid, fault.Invalid, []fault.Field{
			{Pointer: "/event_id", Code: fault.FieldMissing, Detail: "required"},
			{Pointer: "/player_id", Code: fault.FieldMissing, Detail: "required"},
			{Pointer: "/type", Code: fault.FieldMissing, Detail: "required"},
			{Pointer: "/occurred_at", Code: fault.FieldMissing, Detail: "required, RFC 3339"},
			{Pointer: "/data", Code: fault.FieldMissing, Detail: "required, an object"},
		}},
		{"unknown member", with("extra", "1"), fault.EventInvalid, fault.Invalid, field("/extra", fault.FieldUnknown, "")},
		{"other case", strings.Replace(good, "event_id", "Event_ID", 1), fault.EventInvalid, fault.Invalid, field("/Event_ID", fault.FieldUnknown, "")},
		{"a member that needs escaping", strings.Replace(good, "event_id", "event/~id", 1), fault.EventInvalid, fault.Invalid, field("/event~1~0id", fault.FieldUnknown, "")},
		{"id a number", with("event_id", "5"), fault.EventInvalid, fault.Invalid, field("/event_id", fault.FieldType, "must be a string")},
		{"id null", with("event_id", "null"), fault.EventInvalid, fault.Invalid, field("/event_id", fault.FieldMissing, "required")},
		{"id empty", with("event_id", `""`), fault.EventInvalid, fault.Invalid, field("/event_id", fault.FieldMissing, "required")},
		{"id too long", with("event_id", `"`+strings.Repeat("a", 65)+`"`), fault.EventInvalid, fault.Invalid, field("/event_id", fault.FieldType, id64)},
		{"id with a dot", with("event_id", `"a.b"`), fault.EventInvalid, fault.Invalid, field("/event_id", fault.FieldType, id64)},
		{"player missing", with("player_id", ""), fault.EventInvalid, fault.Invalid, field("/player_id", fault.FieldMissing, "required")},
		{"player too long", with("player_id", `"`+strings.Repeat("a", 64)+`"`), fault.EventInvalid, fault.Invalid, field("/player_id", fault.FieldType, id63)},
		{"player with a line feed", with("player_id", `"a\n"`), fault.EventInvalid, fault.Invalid, field("/player_id", fault.FieldType, id63)},
		{"type with a space", with("type", `"xp gained"`), fault.EventInvalid, fault.Invalid, field("/type", fault.FieldType, id64)},
		{"session with a letter outside ASCII", with("session_id", `"sé"`), fault.EventInvalid, fault.Invalid, field("/session_id", fault.FieldType, id64)},
		{"time missing", with("occurred_at", ""), fault.EventInvalid, fault.Invalid, field("/occurred_at", fault.FieldMissing, "required, RFC 3339")},
		{"time a number", with("occurred_at", "1763836200"), fault.EventInvalid, fault.Invalid, field("/occurred_at", fault.FieldType, "must be an RFC 3339 time")},
		{"time without a zone", with("occurred_at", `"2026-11-22T18:30:00"`), fault.EventInvalid, fault.Invalid, field("/occurred_at", fault.FieldType, "must be an RFC 3339 time")},
		{"time that is none", with("occurred_at", `"2026-02-30T00:00:00Z"`), fault.EventInvalid, fault.Invalid, field("/occurred_at", fault.FieldType, "must be an RFC 3339 time")},
		{"before 1970", with("occurred_at", `"1969-12-31T23:59:59Z"`), fault.EventInvalid, fault.Invalid, field("/occurred_at", fault.FieldRange, "between the years 1970 and 9999")},
		{"before 1970, by its zone", with("occurred_at", `"1970-01-01T00:00:00+01:00"`), fault.EventInvalid, fault.Invalid, field("/occurred_at", fault.FieldRange, "between the years 1970 and 9999")},
		{"after 9999, by its zone", with("occurred_at", `"9999-12-31T23:59:59-01:00"`), fault.EventInvalid, fault.Invalid, field("/occurred_at", fault.FieldRange, "between the years 1970 and 9999")},
		{"seq below zero", with("seq", "-1"), fault.EventInvalid, fault.Invalid, field("/seq", fault.FieldRange, "0 to 2^53-1")},
		{"seq too high", with("seq", "9007199254740992"), fault.EventInvalid, fault.Invalid, field("/seq", fault.FieldRange, "0 to 2^53-1")},
		{"seq a fraction", with("seq", "1.5"), fault.EventInvalid, fault.Invalid, field("/seq", fault.FieldType, "must be an integer")},
		{"seq a string", with("seq", `"1"`), fault.EventInvalid, fault.Invalid, field("/seq", fault.FieldType, "must be an integer")},
		{"data missing", with("data", ""), fault.EventInvalid, fault.Invalid, field("/data", fault.FieldMissing, "required, an object")},
		{"data null", with("data", "null"), fault.EventInvalid, fault.Invalid, field("/data", fault.FieldMissing, "required, an object")},
		{"data an array", with("data", "[]"), fault.EventInvalid, fault.Invalid, field("/data", fault.FieldType, "must be an object")},
		{"a number past all", with("data", `{"a":[1e400]}`), fault.EventInvalid, fault.Invalid, field("/data/a/0", fault.FieldType, "must be a number within ±1.8e308")},
		{"several", `{"event_id":"a b","type":"x","player_id":"p","occurred_at":"2026-11-22T18:30:00Z","seq":-1}`, fault.EventInvalid, fault.Invalid, []fault.Field{
			{Pointer: "/event_id", Code: fault.FieldType, Detail: id64},
			{Pointer: "/seq", Code: fault.FieldRange, Detail: "0 to 2^53-1"},
			{Pointer: "/data", Code: fault.FieldMissing, Detail: "required, an object"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := event.Decode([]byte(test.body))
			require.ErrorIs(t, err, test.code)
			require.ErrorIs(t, err, test.kind)
			require.Equal(t, test.fields, fault.Of(err).Fields)
		})
	}
}

func TestDecodeNamesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]event.Event{
		`{"event_id":"e","player_id":"p","seq":"x"}`:    {ID: "e", PlayerID: "p"},
		`{"event_id":5,"player_id":"p","seq":"x"}`:      {PlayerID: "p"},
		`{"event_id":"a b","player_id":[],"seq":"x"}`:   {},
		`{"event_id":"e","player_id":"p.q","extra":{}}`: {ID: "e"},
		`[]`: {},
	} {
		e, err := event.Decode([]byte(body))
		require.Error(t, err)
		require.Equal(t, want, e, body)
	}
}

func TestDecodeBatch(t *testing.T) {
	t.Parallel()
	large := strings.Replace(good, "match", strings.Repeat("x", event.MaxSize), 1)
	items, err := event.DecodeBatch([]byte(`{"events":[` + good + `,5,null,` + with("seq", "-1") + `,` + large + `,{"event_id":"e","player_id":"p","x":1}]}`))
	require.NoError(t, err)
	require.Len(t, items, 6)

	require.NoError(t, items[0].Err)
	require.Equal(t, "p_1.0199-e", items[0].Event.Identity())
	for i, want := range map[int]struct {
		code   fault.Code
		fields []fault.Field
		id     string
	}{
		1: {fault.EventInvalid, []fault.Field{{Code: fault.FieldType, Detail: "must be an object"}}, "."},
		3: {fault.EventInvalid, []fault.Field{{Pointer: "/seq", Code: fault.FieldRange, Detail: "0 to 2^53-1"}}, "p.e"},
		4: {fault.EventTooLarge, nil, "p_1.0199-e"},
		5: {fault.EventInvalid, []fault.Field{{Pointer: "/x", Code: fault.FieldUnknown}}, "p.e"},
	} {
		require.ErrorIs(t, items[i].Err, want.code)
		require.Equal(t, want.fields, fault.Of(items[i].Err).Fields, "item %d", i)
		require.Equal(t, want.id, items[i].Event.Identity(), "item %d", i)
	}
	require.Len(t, fault.Of(items[2].Err).Fields, 5)
}

func TestDecodeBatchRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		code       fault.Code
		fields     []fault.Field
	}{
		{"nothing", "", fault.MalformedJSON, nil},
		{"cut off", `{"events":[` + good, fault.MalformedJSON, nil},
		{"bad JSON in one event", `{"events":[` + good + `,{"a":}]}`, fault.MalformedJSON, nil},
		{"key twice", `{"events":[],"events":[]}`, fault.DuplicateKey, nil},
		{"key twice in one event", `{"events":[{"a":1,"a":1}]}`, fault.DuplicateKey, nil},
		{"an array", `[` + good + `]`, fault.EventInvalid, []fault.Field{{Code: fault.FieldType, Detail: "must be an object"}}},
		{"one event", good, fault.EventInvalid, []fault.Field{{Pointer: "/event_id", Code: fault.FieldUnknown}}},
		{"events not an array", `{"events":{}}`, fault.EventInvalid, []fault.Field{{Pointer: "/events", Code: fault.FieldType, Detail: "must be an array"}}},
		{"unknown member", `{"events":[],"dry_run":true}`, fault.EventInvalid, []fault.Field{{Pointer: "/dry_run", Code: fault.FieldUnknown}}},
		{"no event", `{"events":[]}`, fault.EventInvalid, []fault.Field{{Pointer: "/events", Code: fault.FieldMissing}}},
		{"null", `null`, fault.EventInvalid, []fault.Field{{Pointer: "/events", Code: fault.FieldMissing}}},
		{"too many", `{"events":[` + strings.Repeat("5,", 200) + `5]}`, fault.TooManyEvents, nil},
		{"too deep", `{"events":[` + with("data", `{"a":`+strings.Repeat("[", 7)+strings.Repeat("]", 7)+`}`) + `]}`, fault.TooDeep, nil},
		{"too large", `{"events":[` + strings.Repeat(" ", event.MaxBody) + `]}`, fault.BodyTooLarge, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			items, err := event.DecodeBatch([]byte(test.body))
			require.Empty(t, items)
			require.ErrorIs(t, err, test.code)
			require.Equal(t, test.fields, fault.Of(err).Fields)
		})
	}
}

func TestDecodeBatchTakesAsManyAsAllowed(t *testing.T) {
	t.Parallel()
	items, err := event.DecodeBatch([]byte(`{"events":[` + strings.Repeat(good+",", event.MaxBatch-1) + good + `]}`))
	require.NoError(t, err)
	require.Len(t, items, 200)
	for _, item := range items {
		require.NoError(t, item.Err)
	}
}

func TestDecodeAcceptedRefuses(t *testing.T) {
	t.Parallel()
	accepted := `{"event_id":"e","type":"t","player_id":"p","occurred_at":"2026-11-22T18:30:00Z","data":{},"at":"2026-11-22T18:30:00Z","received_at":"2026-11-22T18:30:00Z","key_id":"k"}`
	_, err := event.DecodeAccepted([]byte(accepted))
	require.NoError(t, err)
	_, err = event.DecodeAccepted([]byte(strings.Replace(accepted, `"key_id"`, `"added_later":1,"key_id"`, 1)))
	require.NoError(t, err, "a newer stage may add members")
	for name, body := range map[string]string{
		"nothing":          "",
		"another message":  `{"hello":"world"}`,
		"an event":         good,
		"no received_at":   strings.Replace(accepted, `"received_at":"2026-11-22T18:30:00Z",`, "", 1),
		"no at":            strings.Replace(accepted, `"at":"2026-11-22T18:30:00Z",`, "", 1),
		"bad id":           strings.Replace(accepted, `"e"`, `"e.e"`, 1),
		"no data":          strings.Replace(accepted, `"data":{},`, "", 1),
		"key twice":        strings.Replace(accepted, `"data":{}`, `"data":{},"data":{}`, 1),
		"time is a number": strings.Replace(accepted, `"at":"2026-11-22T18:30:00Z"`, `"at":5`, 1),
		"null":             "null",
	} {
		_, err := event.DecodeAccepted([]byte(body))
		require.ErrorIs(t, err, fault.MessageInvalid, name)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(with("data", `{"a":[1,{"b":null}],"c":-0.0,"d":1e300}`)))
	f.Add([]byte(`{"event_id":"\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := event.Decode(body)
		if err != nil {
			require.Contains(t, []fault.Kind{fault.Malformed, fault.Invalid, fault.TooLarge}, fault.KindOf(err))
			return
		}
		require.True(t, event.ValidID(e.ID) && event.ValidPlayerID(e.PlayerID))
		require.LessOrEqual(t, len(e.Identity()), 128)
		roundTrip(t, event.Accepted{Event: e, At: e.OccurredAt, ReceivedAt: at("2026-11-22T18:30:00.001Z"), KeyID: "k"})
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`{"events":[` + good + `,5,null]}`))
	f.Add([]byte(`{"events":[{}],"x":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := event.DecodeBatch(body)
		if err != nil {
			require.Contains(t, []fault.Kind{fault.Malformed, fault.Invalid, fault.TooLarge}, fault.KindOf(err))
			return
		}
		require.NotEmpty(t, items)
		require.LessOrEqual(t, len(items), event.MaxBatch)
		for _, item := range items {
			if item.Err == nil {
				require.NotEmpty(t, item.Event.Type)
				require.NotNil(t, item.Event.Data)
			} else {
				require.NotEqual(t, fault.Internal, fault.KindOf(item.Err))
			}
		}
	})
}

func FuzzDecodeAccepted(f *testing.F) {
	body, err := event.Accepted{
		Event: event.Event{ID: "e", Type: "t", PlayerID: "p", OccurredAt: at("2026-11-22T18:30:00Z"), Data: map[string]any{"a": 1.0}},
		At:    at("2026-11-22T18:30:00Z"), ReceivedAt: at("2026-11-22T18:30:00Z"), KeyID: "k",
	}.Encode()
	require.NoError(f, err)
	f.Add(body)
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := event.DecodeAccepted(body)
		if err != nil {
			require.ErrorIs(t, err, fault.MessageInvalid)
			return
		}
		roundTrip(t, a)
	})
}
