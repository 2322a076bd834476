package host

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
)

// Contract §3.2: "Every Data and Metadata value goes through one function".
func TestEncode(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 6, 1, 12, 0, 0, 123_000_000, time.UTC)
	for name, c := range map[string]struct {
		value any
		want  string
	}{
		"bytes are base64, once":                  {[]byte("hello"), `"aGVsbG8="`},
		"DateTime: whole seconds, no zone":        {utcDateTime(at), `"2025-06-01T12:00:00"`},
		"DateTimeOffset: whole seconds, +00:00":   {dateTimeOffset(at), `"2025-06-01T12:00:00+00:00"`},
		"an object is nested, once":               {map[string]any{"tenant": "a", "n": 3}, `{"n":3,"tenant":"a"}`},
		"a string is JSON in a string":            {"abc", `"\"abc\""`},
		"a number":                                {1, `"1"`},
		"a bool":                                  {true, `"true"`},
		"null":                                    {nil, `"null"`},
		"an array":                                {[]string{"a"}, `"[\"a\"]"`},
		"an array of bytes":                       {[][]byte{[]byte("hi")}, `"[\"aGk=\"]"`},
		"no HTML escapes, non-ASCII as it is":     {"<ü&>", `"\"<ü&>\""`},
		"a body {\"id\":1} arrives twice encoded": {`{"id":1}`, `"\"{\\\"id\\\":1}\""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, string(compact(encode(c.value))))
		})
	}
}

var example = bus.Delivery{
	Message: bus.Message{
		ID: "order-7", Body: []byte(`{"id":7,"kind":"paid"}`), ContentType: "application/json", Properties: map[string]string{"tenant": "a"},
	},
	LockToken: "2c3f1c6e-8a0b-4b76-9f7e-0f4a4f0d9a10", SequenceNumber: 42, DeliveryCount: 1,
	EnqueuedAt: time.Date(2025, 6, 1, 12, 0, 0, 123_000_000, time.UTC), ExpiresAt: time.Date(2025, 6, 15, 12, 0, 1, 500_000_000, time.UTC),
}

// envelope is what a handler sees in Data and Metadata for these messages, as Go reads it.
func envelope(t *testing.T, f Function, batch ...bus.Delivery) (data any, metadata map[string]any) {
	t.Helper()
	known := bindingData{"sys": map[string]any{"MethodName": "OrdersQueue"}}
	actions(known, "acme.servicebus.windows.net")
	value, err := f.payload(batch, known)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(compact(encode(value)), &data))
	require.NoError(t, json.Unmarshal(compact(known.metadata()), &metadata))
	return data, metadata
}

// Contract §3.4, the full example, as far as the port knows these properties.
func TestSingleMessage(t *testing.T) {
	t.Parallel()
	data, metadata := envelope(t, Function{}, example)
	require.Equal(t, `"{\"id\":7,\"kind\":\"paid\"}"`, data)
	empty := map[string]any{}
	require.Equal(t, map[string]any{
		"MessageReceiver": empty, "MessageSession": empty, "MessageActions": empty, "SessionActions": empty, "ReceiveActions": empty,
		"Client": map[string]any{
			"FullyQualifiedNamespace": "acme.servicebus.windows.net", "IsClosed": false, "TransportType": 0.0,
			"Identifier": "acme.servicebus.windows.net-local",
		},
		"DeliveryCount": "1", "LockToken": `"2c3f1c6e-8a0b-4b76-9f7e-0f4a4f0d9a10"`,
		"ExpiresAtUtc": "2025-06-15T12:00:01", "ExpiresAt": "2025-06-15T12:00:01+00:00",
		"EnqueuedTimeUtc": "2025-06-01T12:00:00", "EnqueuedTime": "2025-06-01T12:00:00+00:00",
		"MessageId": `"order-7"`, "ContentType": `"application/json"`, "SequenceNumber": "42",
		"ApplicationProperties": map[string]any{"tenant": "a"}, "UserProperties": map[string]any{"tenant": "a"},
		"sys": map[string]any{"MethodName": "OrdersQueue"},
		"id":  `"7"`, "kind": `"paid"`,
	}, metadata)
}

// §3.4: binary is base64, once; §3.3 does not apply to it. No TTL: 9999-12-31T23:59:59+00:00.
func TestSingleBinaryMessage(t *testing.T) {
	t.Parallel()
	d := example
	d.ExpiresAt = time.Time{}
	d.DeadLetterReason, d.DeadLetterDetail, d.DeadLetterSource = "MaxDeliveryCountExceeded", "ten times", "orders"
	data, metadata := envelope(t, Function{DataType: "binary"}, d)
	require.Equal(t, base64.StdEncoding.EncodeToString(d.Body), data)
	require.Equal(t, "9999-12-31T23:59:59+00:00", metadata["ExpiresAt"])
	require.Equal(t, `"orders"`, metadata["DeadLetterSource"])
	require.Equal(t, map[string]any{
		"tenant": "a", "DeadLetterReason": "MaxDeliveryCountExceeded", "DeadLetterErrorDescription": "ten times",
	}, metadata["ApplicationProperties"])
	require.NotContains(t, metadata, "id")
}

// Contract §3.3: "it overwrites broker metadata with the same (case-insensitive) name, keeping the broker's key casing".
func TestBodyLeaksIntoMetadata(t *testing.T) {
	t.Parallel()
	d := example
	d.Body = []byte(` {"messageId":"evil","deliveryCount":0,"sys":"x","ok":true,"no":false,"list":[1],"nil":null,
		"o":{"a": 1},"at":"2025-06-01T12:00:00Z","pi":3.5,"myTrigger":"t"} `)
	_, metadata := envelope(t, Function{DataType: "string"}, d)
	for name, want := range map[string]any{
		"MessageId": `"evil"`, "DeliveryCount": `"0"`, "sys": `"x"`, "ok": `"True"`, "no": `"False"`,
		"o": map[string]any{"a": 1.0}, "at": `"06/01/2025 12:00:00"`, "pi": `"3.5"`,
	} {
		require.Equal(t, want, metadata[name], name)
	}
	for _, name := range []string{"messageId", "list", "nil", "myTrigger"} {
		require.NotContains(t, metadata, name)
	}
	d.Body = []byte(`{not json}`)
	_, metadata = envelope(t, Function{}, d)
	require.Equal(t, `"order-7"`, metadata["MessageId"])
}

// Contract §3.5: the three variants of cardinality many, and the metadata arrays.
func TestManyMessages(t *testing.T) {
	t.Parallel()
	second := bus.Delivery{Message: bus.Message{ID: "order-8", Body: []byte("plain text")}, DeliveryCount: 2, SequenceNumber: 43}

	data, metadata := envelope(t, Function{Many: true, DataType: "string"}, example, second)
	require.Equal(t, `["{\"id\":7,\"kind\":\"paid\"}","plain text"]`, data)
	for name, want := range map[string]string{
		"DeliveryCountArray": "[1,2]", "DeadLetterSourceArray": "[null,null]",
		"LockTokenArray":    `["2c3f1c6e-8a0b-4b76-9f7e-0f4a4f0d9a10",""]`,
		"ExpiresAtUtcArray": `["2025-06-15T12:00:01.5","9999-12-31T23:59:59.9999999"]`,
		"ExpiresAtArray":    `["2025-06-15T12:00:01.5+00:00","9999-12-31T23:59:59.9999999+00:00"]`,
		"EnqueuedTimeArray": `["2025-06-01T12:00:00.123+00:00","0001-01-01T00:00:00+00:00"]`,
		"MessageIdArray":    `["order-7","order-8"]`, "ContentTypeArray": `["application/json",null]`,
		"SequenceNumberArray": "[42,43]", "SubjectArray": "[null,null]", "SessionIdArray": "[null,null]",
		"ApplicationPropertiesArray": `[{"tenant":"a"},{}]`, "UserPropertiesArray": `[{"tenant":"a"},{}]`,
		"TransactionPartitionKeyArray": "[null,null]",
	} {
		require.Equal(t, want, metadata[name], name)
	}
	require.NotContains(t, metadata, "MessageId")
	require.NotContains(t, metadata, "kind", "no body properties leak")
	require.Len(t, metadata, 7+21)

	data, _ = envelope(t, Function{Many: true, DataType: "binary"}, example, second, bus.Delivery{})
	require.Equal(t, `["eyJpZCI6Nywia2luZCI6InBhaWQifQ==","cGxhaW4gdGV4dA==",""]`, data)

	parsed := example
	parsed.Body = []byte(`{"id": 7.0, "at":"2025-06-01T12:00:00.500Z","zoned":"2025-06-01T14:00:00+02:00","bare":"2025-06-01T12:00:00.100"}`)
	data, _ = envelope(t, Function{Many: true}, parsed, bus.Delivery{Message: bus.Message{Body: []byte("3")}})
	want := `[{"at":"2025-06-01T12:00:00.5Z","bare":"2025-06-01T12:00:00.1","id":7.0,"zoned":"2025-06-01T12:00:00+00:00"},3]`
	require.Equal(t, want, data)

	// "one non-JSON body makes the whole batch invocation fail before the handler is called"
	many := Function{Many: true}
	_, err := many.payload([]bus.Delivery{example, second}, bindingData{})
	require.ErrorContains(t, err, "order-8")
}

// Contract §4.3: the base64 trap, and §4.4: the members of an http output.
func TestHTTPOutput(t *testing.T) {
	t.Parallel()
	const text, octets = "text/plain; charset=utf-8", "application/json"
	for name, c := range map[string]struct {
		output, answer    string
		status            int
		contentType, body string
		fails             string
	}{
		"statusCode, headers, body": {
			output: "res", answer: `{"Outputs":{"res":{"statusCode":201,"headers":{"content-type":"application/json"},"body":{"ok":true}}}}`,
			status: 201, contentType: octets, body: "{\n  \"ok\": true\n}",
		},
		"numeric string":             {output: "res", answer: `{"outputs":{"res":{"StatusCode":"404","body":"no"}}}`, status: 404, contentType: text, body: "no"},
		"status is ignored":          {output: "res", answer: `{"Outputs":{"res":{"status":404}}}`, status: 200, contentType: text},
		"names are case-sensitive":   {output: "res", answer: `{"Outputs":{"Res":{"statusCode":404}}}`, status: 200, contentType: text, body: "{}"},
		"no Outputs at all":          {output: "res", answer: `{"status":"ok"}`, status: 200},
		"members of ReturnValue":     {output: "res", answer: `{"ReturnValue":{"res":{"statusCode":418}}}`, status: 418, contentType: text},
		"not an object":              {output: "res", answer: `{"Outputs":{"res":"hello"}}`, fails: "httpOutputBindingResponse"},
		"a null header":              {output: "res", answer: `{"Outputs":{"res":{"headers":{"X":null}}}}`, fails: "null"},
		"$return, base64 by mistake": {output: "$return", answer: `{"ReturnValue":"test"}`, status: 200, contentType: text, body: "\xb5\xeb\x2d"},
		"$return, text":              {output: "$return", answer: `{"ReturnValue":"hello!"}`, status: 200, contentType: text, body: "hello!"},
		"$return, a response":        {output: "$return", answer: `{"ReturnValue":{"status":202,"body":"x"}}`, status: 202, contentType: text, body: "x"},
		"$return, an object":         {output: "$return", answer: `{"ReturnValue":{"status":202}}`, status: 200, contentType: text, body: "{\n  \"status\": 202\n}"},
		"no http output":             {answer: `{}`, status: 204},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := Function{}
			if c.output != "" {
				f.output = &binding{Name: c.output}
			}
			res, err := parseResult([]byte(c.answer), "application/json")
			require.NoError(t, err)
			answer, err := f.answer(res)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.status, answer.status)
			require.Equal(t, c.contentType, answer.header.Get("Content-Type"))
			require.Equal(t, c.body, string(answer.body))
		})
	}
}

// Contract §3.2, "Robust rule: decode the value" gives back the exact bytes (binary) and the exact text (string), whatever
// they are.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{"", "hello", `{"id":1}`, "null", `"x"`, "\xff\x00", "\u2028<&>", `{"sys":{}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := bus.Delivery{Message: bus.Message{ID: "m", Body: body}}
		for _, function := range []Function{
			{DataType: "binary"}, {DataType: "string"}, {Many: true, DataType: "binary"}, {Many: true, DataType: "string"},
		} {
			data, metadata := envelope(t, function, d)
			text, ok := data.(string)
			require.True(t, ok)
			var got []byte
			switch {
			case function.Many && function.DataType == "binary":
				var list [][]byte
				require.NoError(t, json.Unmarshal([]byte(text), &list))
				require.Len(t, list, 1)
				got = list[0]
			case function.Many:
				var list []string
				require.NoError(t, json.Unmarshal([]byte(text), &list))
				require.Len(t, list, 1)
				got = []byte(list[0])
			case function.DataType == "binary":
				var err error
				got, err = base64.StdEncoding.DecodeString(text)
				require.NoError(t, err)
			default:
				var s string
				require.NoError(t, json.Unmarshal([]byte(text), &s))
				got = []byte(s)
			}
			if function.DataType == "binary" || utf8.Valid(body) {
				require.Equal(t, string(body), string(got))
			}
			for name := range metadata {
				require.False(t, strings.HasSuffix(strings.ToLower(name), "trigger"))
			}
		}
	})
}

// Contract §7: NCRONTAB of six fields, five are accepted, or a TimeSpan; the zone is the container's.
func TestSchedules(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	from := time.Date(2025, 6, 1, 11, 59, 31, 0, time.UTC)
	for text, c := range map[string]struct {
		zone     *time.Location
		want     time.Time
		frequent bool
	}{
		"*/30 * * * * *":    {time.UTC, from.Add(29 * time.Second), true},
		"0 * * * * *":       {time.UTC, from.Add(29 * time.Second), false},
		"30 0 9 * * MON":    {berlin, time.Date(2025, 6, 2, 7, 0, 30, 0, time.UTC), false},
		"*/5 * * * *":       {time.UTC, from.Add(29 * time.Second), false},
		"00:00:30":          {time.UTC, from.Add(30 * time.Second), true},
		"1.00:00:00.5":      {time.UTC, from.Add(24*time.Hour + 500*time.Millisecond), false},
		"0 0 0 29 2 *":      {time.UTC, time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC), false},
		"0 0,15-17 4 * * *": {time.UTC, time.Date(2025, 6, 2, 4, 0, 0, 0, time.UTC), false},
	} {
		s, err := parseSchedule(text, c.zone)
		require.NoError(t, err, text)
		require.Equal(t, c.want, s.next(from).UTC(), text)
		require.Equal(t, c.frequent, s.frequent(), text)
	}
	for _, text := range []string{"", "* * * *", "@daily", "0 0 0 L * *", "61 * * * * *", "0 0 0 13 * 5", "0 0 0 30 2 *", "25:00:00", "00:00:00", "* * * * * * *"} {
		_, err := parseSchedule(text, time.UTC)
		require.Error(t, err, text)
	}
}

// Contract §1.2 and §5: routes as ASP.NET matches them.
func TestRoutes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		template, path string
		want           map[string]string // nil: no match
	}{
		{"v1/events/{*rest}", "/v1/events", map[string]string{}},
		{"v1/events/{*rest}", "/V1/Events/a/b%2Fc", map[string]string{"rest": "a/b/c"}},
		{"v1/events/{*rest}", "/v1/eventsx", nil},
		{"orders/{id}", "/orders/a%20b", map[string]string{"id": "a b"}},
		{"orders/{id}", "/orders", nil},
		{"orders/{id}", "/orders/1/2", nil},
		{"orders/{id?}", "/orders", map[string]string{}},
		{"healthz", "/healthz/", map[string]string{}},
		{"healthz", "/", nil},
	} {
		r, err := parseRoute(c.template)
		require.NoError(t, err)
		got, ok := r.match(c.path)
		require.Equal(t, c.want != nil, ok, "%s %s", c.template, c.path)
		if ok {
			require.Equal(t, c.want, got)
		}
	}
	for _, template := range []string{"a//b", "{}", "a b", "{x:int}", "{*rest}/x", "a{b}", "{a"} {
		_, err := parseRoute(template)
		require.Error(t, err, template)
	}
}
