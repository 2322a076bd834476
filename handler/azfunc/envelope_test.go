package azfunc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is how the host puts a value into Data and Metadata: objects as they are, bytes as base64, everything else as a
// string that holds the value's JSON.
func wire(t testing.TB, v any) any {
	t.Helper()
	switch v := v.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case map[string]any:
		return v
	case time.Time:
		return v.Format("2006-01-02T15:04:05-07:00")
	default:
		return string(plain(t, v))
	}
}

// plain is JSON as Newtonsoft writes it: compact, nothing escaped for HTML.
func plain(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	require.NoError(t, e.Encode(v))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// envelope is the body of an invocation.
func envelope(t testing.TB, binding string, data any, metadata map[string]any) string {
	t.Helper()
	m := map[string]any{"sys": map[string]any{"MethodName": "fairness", "UtcNow": "2025-06-01T12:00:03.1234567Z", "RandGuid": "0d0c3f2e"}}
	for name, v := range metadata {
		m[name] = wire(t, v)
	}
	return string(plain(t, map[string]any{"Data": map[string]any{binding: wire(t, data)}, "Metadata": m}))
}

// batchMetadata is what the host says about n messages with `"cardinality": "many"`.
func batchMetadata(n int) map[string]any {
	each := func(value func(i int) any) []any {
		values := make([]any, n)
		for i := range values {
			values[i] = value(i)
		}
		return values
	}
	none := each(func(int) any { return nil })
	enqueued := time.Date(2025, 6, 1, 12, 0, 0, 123e6, time.UTC)
	return map[string]any{
		"MessageReceiver": map[string]any{}, "MessageSession": map[string]any{}, "MessageActions": map[string]any{},
		"SessionActions": map[string]any{}, "ReceiveActions": map[string]any{},
		"Client":                map[string]any{"FullyQualifiedNamespace": "acme.servicebus.windows.net", "IsClosed": false, "TransportType": 0},
		"DeliveryCountArray":    each(func(i int) any { return i + 1 }),
		"DeadLetterSourceArray": none,
		"LockTokenArray":        each(func(int) any { return "2c3f1c6e-8a0b-4b76-9f7e-0f4a4f0d9a10" }),
		"ExpiresAtUtcArray":     each(func(int) any { return "2025-06-15T12:00:00.123" }),
		"ExpiresAtArray":        each(func(int) any { return "9999-12-31T23:59:59.9999999+00:00" }),
		"EnqueuedTimeUtcArray":  each(func(i int) any { return enqueued.Add(time.Duration(i) * time.Second).Format("2006-01-02T15:04:05.999") }),
		"EnqueuedTimeArray": each(func(i int) any {
			return enqueued.Add(time.Duration(i) * time.Second).Format("2006-01-02T15:04:05.999-07:00")
		}),
		"MessageIdArray":      each(func(i int) any { return "alice.e" + string(rune('a'+i)) }),
		"ContentTypeArray":    each(func(int) any { return "application/json" }),
		"SequenceNumberArray": each(func(i int) any { return int64(9007199254740993) + int64(i) }),
		"SubjectArray":        none, "LabelArray": none, "CorrelationIdArray": none,
		"ApplicationPropertiesArray": each(func(i int) any {
			if i == 0 {
				return map[string]any{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "n": 3}
			}
			return map[string]any{}
		}),
		"SessionIdArray": none,
	}
}

// batch is the envelope of a binary batch, as functions/ declares it.
func batch(t testing.TB, bodies ...string) string {
	t.Helper()
	raw := make([][]byte, len(bodies)) // [][]byte becomes an array of base64 strings
	for i, b := range bodies {
		raw[i] = []byte(b)
	}
	return envelope(t, "messages", raw, batchMetadata(len(bodies)))
}

func TestLine04DecodesWhatTheHostSends(t *testing.T) {
	t.Parallel()
	json7 := `{"id":7,"text":"<&> \"ünï\" \\ base64=="}`
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	enqueued := time.Date(2025, 6, 1, 12, 0, 0, 123e6, time.UTC)
	full := []Message{
		{
			Body: []byte(json7), ID: "alice.ea", DeliveryCount: 1, SequenceNumber: 9007199254740993, EnqueuedAt: enqueued,
			Properties: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "n": "3"},
		},
		{
			Body: everyByte, ID: "alice.eb", DeliveryCount: 2, SequenceNumber: 9007199254740994, EnqueuedAt: enqueued.Add(time.Second),
		},
	}
	single := map[string]any{
		"DeliveryCount": 2, "MessageId": "order-7", "SequenceNumber": 42, "LockToken": "2c3f1c6e", "Subject": "paid",
		"EnqueuedTime": enqueued, "ApplicationProperties": map[string]any{"tenant": "a"},
	}
	one := Message{
		Body: []byte(json7), ID: "order-7", DeliveryCount: 2, SequenceNumber: 42, EnqueuedAt: enqueued.Truncate(time.Second),
		Properties: map[string]string{"tenant": "a"},
	}
	bare := func(bodies ...string) []Message {
		out := make([]Message, len(bodies))
		for i, b := range bodies {
			out[i].Body = []byte(b)
		}
		return out
	}
	for name, test := range map[string]struct {
		text string
		want []Message
	}{
		"many, binary":                     {envelope(t, "messages", [][]byte{[]byte(json7), everyByte}, batchMetadata(2)), full},
		"many, binary, one message":        {batch(t, json7), full[:1]},
		"many, binary, an empty body":      {`{"Data":{"messages":"[\"\",null]"}}`, bare("", "")},
		"many, string":                     {envelope(t, "messages", []string{json7, "plain text", "dGVzdA=="}, nil), bare(json7, "plain text", "dGVzdA==")},
		"many, no dataType":                {`{"Data":{"messages":"[{\"id\":7},[1, 2]]"}}`, bare(`{"id":7}`, `[1, 2]`)},
		"many, encoded once":               {`{"Data":{"messages":["eyJpZCI6N30="]},"Metadata":{"MessageIdArray":["m"],"DeliveryCountArray":["3"]}}`, []Message{{Body: []byte(`{"id":7}`), ID: "m", DeliveryCount: 3}}},
		"one, binary":                      {envelope(t, "messages", []byte(json7), single), []Message{one}},
		"one, string":                      {envelope(t, "messages", json7, single), []Message{one}},
		"one, string that is base64":       {envelope(t, "messages", "dGVzdA==", nil), bare("dGVzdA==")},
		"one, string that is an array":     {envelope(t, "messages", "[1,2]", nil), bare("[1,2]")},
		"one, string encoded once":         {`{"Data":{"messages":"{\"id\":7}"}}`, bare(`{"id":7}`)},
		"one, a nested object":             {`{"Data":{"messages":{"id":7}}}`, bare(`{"id":7}`)},
		"no metadata":                      {`{"Data":{"messages":"[\"eA==\"]"}}`, bare("x")},
		"metadata of another shape":        {`{"Data":{"messages":"[\"eA==\"]"},"Metadata":"null"}`, bare("x")},
		"arrays of another shape":          {`{"Data":{"messages":"[\"eA==\"]"},"Metadata":{"MessageIdArray":"null","DeliveryCountArray":"[\"many\"]","SequenceNumberArray":"7","EnqueuedTimeArray":"[1]","ApplicationPropertiesArray":"[\"x\"]"}}`, bare("x")},
		"arrays of another length":         {`{"Data":{"messages":"[\"eA==\"]"},"Metadata":{"DeliveryCountArray":"[1,2]"}}`, bare("x")},
		"unknown keys":                     {`{"Data":{"messages":"[\"eA==\"]","other":1},"Metadata":{"x":"y"},"More":[]}`, bare("x")},
		"user properties, UTC time, nulls": {`{"Data":{"messages":"[\"eA==\"]"},"Metadata":{"MessageIdArray":"[null]","EnqueuedTimeUtcArray":"[\"2025-06-01T12:00:00.123\"]","UserPropertiesArray":"[{\"a\":null}]"}}`, []Message{{Body: []byte("x"), EnqueuedAt: enqueued, Properties: map[string]string{"a": ""}}}},
		"an empty batch":                   {`{"Data":{"messages":"[]"},"Metadata":{"MessageIdArray":"[]"}}`, []Message{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decode([]byte(test.text), "messages")
			require.NoError(t, err)
			require.Len(t, got, len(test.want))
			for i := range got {
				require.Equal(t, string(test.want[i].Body), string(got[i].Body))
				got[i].Body = test.want[i].Body
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestLine04RefusesWhatIsNoEnvelope(t *testing.T) {
	t.Parallel()
	for text, problem := range map[string]string{
		``:                                   "read the envelope",
		`[]`:                                 "read the envelope",
		`{"Data":[]}`:                        "read the envelope",
		`{"Data":{"messages":"[]"}`:          "read the envelope",
		`null`:                               `no data for the binding "messages"`,
		`{}`:                                 `no data for the binding "messages"`,
		`{"Data":{"Messages":"[\"eA==\"]"}}`: `no data for the binding "messages"`,
		`{"Data":{"messages":null}}`:         `data for the binding "messages" is null`,
		`{"Data":{"messages":"null"}}`:       `data for the binding "messages" is null`,
	} {
		_, err := decode([]byte(text), "messages")
		require.ErrorContains(t, err, problem, "%s", text)
	}
}

func TestLine05ComparesBodiesWithMessageIds(t *testing.T) {
	t.Parallel()
	_, err := decode([]byte(envelope(t, "messages", [][]byte{[]byte("a")}, batchMetadata(2))), "messages")
	require.EqualError(t, err, "the envelope holds 1 bodies and 2 message ids")
	_, err = decode([]byte(envelope(t, "messages", [][]byte{}, batchMetadata(1))), "messages")
	require.EqualError(t, err, "the envelope holds 0 bodies and 1 message ids")
}

// With string bodies the host lets the body's members overwrite the broker's metadata. The body itself is never touched.
func TestLine06MetadataIsNoProofOfIdentity(t *testing.T) {
	t.Parallel()
	evil := `{"messageId":"evil","deliveryCount":"0","sys":"x"}`
	got, err := decode([]byte(envelope(t, "messages", evil, map[string]any{
		"MessageId": "evil", "DeliveryCount": "0", "sys": "x", "EnqueuedTime": "06/01/2025 12:00:00",
	})), "messages")
	require.NoError(t, err)
	require.Equal(t, []Message{{Body: []byte(evil), ID: "evil"}}, got)
}

func TestLine07ReadsEveryTimeTheHostWrites(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2025-06-01T12:00:00":           time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC),
		"2025-06-01T12:00:00.5":         time.Date(2025, 6, 1, 12, 0, 0, 500e6, time.UTC),
		"2025-06-01T12:00:00.1234567":   time.Date(2025, 6, 1, 12, 0, 0, 123456700, time.UTC),
		"2025-06-01T12:00:00+00:00":     time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC),
		"2025-06-01T12:00:00.123+02:00": time.Date(2025, 6, 1, 10, 0, 0, 123e6, time.UTC),
		"2025-06-01T12:00:00.1234567Z":  time.Date(2025, 6, 1, 12, 0, 0, 123456700, time.UTC),
		"9999-12-31T23:59:59+00:00":     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		"9999-12-31T23:59:59.9999999":   time.Date(9999, 12, 31, 23, 59, 59, 999999900, time.UTC),
		"0001-01-01T00:00:00":           {},
		"0001-01-01T00:00:00+02:00":     {},
		"06/01/2025 12:00:00":           {},
		"":                              {},
	} {
		require.Equal(t, want, instant(text), text)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(batch(f, `{"id":7}`, "x"))
	f.Add(envelope(f, "messages", `{"id":7}`, map[string]any{"MessageId": "m", "DeliveryCount": 1}))
	f.Add(envelope(f, "messages", []byte{0, 255}, nil))
	f.Add(`{"Data":{"messages":"[{\"id\":7},null]"},"Metadata":{"MessageIdArray":"[1,{}]"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		// Whatever the envelope, the result is an error or as many messages as ids.
		messages, err := decode([]byte(text), "messages")
		if err != nil {
			require.Nil(t, messages)
		}
		// Whatever the body, a binary batch carries it unchanged.
		messages, err = decode([]byte(batch(t, text, "", text)), "messages")
		require.NoError(t, err)
		require.Len(t, messages, 3)
		require.Equal(t, text, string(messages[0].Body))
		require.Empty(t, messages[1].Body)
		require.Equal(t, text, string(messages[2].Body))
		// So does a single string, as far as JSON can carry it.
		if text == strings.ToValidUTF8(text, "") {
			messages, err = decode([]byte(envelope(t, "messages", text, nil)), "messages")
			require.NoError(t, err)
			require.Equal(t, text, string(messages[0].Body))
		}
	})
}
