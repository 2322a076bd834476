package azfunc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Message is one queue message of a batch. Body is what its sender wrote. The rest is as the broker and the host tell it,
// missing where they said nothing, and no proof of anything: with string bodies a sender can overwrite it. Whoever needs a
// message's identity takes it from the body.
type Message struct {
	Body           []byte
	ID             string
	DeliveryCount  int // 1 on the first delivery, 0 when not told
	SequenceNumber int64
	EnqueuedAt     time.Time         // UTC; zero when not told
	Properties     map[string]string // what is not a string keeps its JSON text
}

// decode reads the messages of one invocation: those of `"cardinality": "many"` with `"dataType": "binary"`, which is what
// functions/ declares, and as far as they can be told apart the other forms the host has. Metadata is read leniently, except
// that there must be as many message ids as bodies: otherwise the host would settle messages that nobody saw.
func decode(text []byte, binding string) ([]Message, error) {
	var envelope struct {
		Data     map[string]json.RawMessage
		Metadata json.RawMessage
	}
	if err := json.Unmarshal(text, &envelope); err != nil {
		return nil, fmt.Errorf("read the envelope: %w", err)
	}
	raw, ok := envelope.Data[binding]
	if !ok {
		return nil, fmt.Errorf("the envelope holds no data for the binding %q", binding)
	}
	var metadata map[string]json.RawMessage
	if json.Unmarshal(envelope.Metadata, &metadata) != nil {
		metadata = nil
	}

	var elements []json.RawMessage
	if json.Unmarshal(unwrap(raw), &elements) != nil {
		return []Message{one(raw, metadata)}, nil
	}
	if elements == nil {
		return nil, fmt.Errorf("the data for the binding %q is null", binding)
	}
	return many(elements, metadata)
}

// many reads a batch. Every array of the metadata runs parallel to the bodies; one of another length says nothing reliable
// and counts as missing.
func many(elements []json.RawMessage, metadata map[string]json.RawMessage) ([]Message, error) {
	if ids, told := array(metadata, "MessageIdArray"); told && len(ids) != len(elements) {
		return nil, fmt.Errorf("the envelope holds %d bodies and %d message ids", len(elements), len(ids))
	}
	messages := make([]Message, len(elements))
	for i, body := range bodies(elements) {
		messages[i].Body = body
	}
	each := func(read func(m *Message, value json.RawMessage), names ...string) {
		for _, name := range names {
			if values, told := array(metadata, name); told && len(values) == len(messages) {
				for i, value := range values {
					read(&messages[i], value)
				}
				return
			}
		}
	}
	each(func(m *Message, v json.RawMessage) { m.ID = text(v) }, "MessageIdArray")
	each(func(m *Message, v json.RawMessage) { m.DeliveryCount = int(integer(v)) }, "DeliveryCountArray")
	each(func(m *Message, v json.RawMessage) { m.SequenceNumber = integer(v) }, "SequenceNumberArray")
	each(func(m *Message, v json.RawMessage) { m.EnqueuedAt = instant(text(v)) }, "EnqueuedTimeArray", "EnqueuedTimeUtcArray")
	each(func(m *Message, v json.RawMessage) { m.Properties = properties(v) }, "ApplicationPropertiesArray", "UserPropertiesArray")
	return messages, nil
}

// bodies decides for the batch as a whole: base64 when every body is, which `"dataType": "binary"` guarantees; otherwise
// strings stand for themselves and anything else for its JSON text.
func bodies(elements []json.RawMessage) [][]byte {
	out := make([][]byte, len(elements))
	binary := true
	for i, element := range elements {
		var s string
		switch {
		case string(element) == "null":
		case json.Unmarshal(element, &s) == nil:
			out[i] = []byte(s)
		default:
			out[i], binary = element, false
		}
	}
	if !binary {
		return out
	}
	decoded := make([][]byte, len(out))
	for i, body := range out {
		var err error
		if decoded[i], err = base64.StdEncoding.AppendDecode([]byte{}, body); err != nil {
			return out
		}
	}
	return decoded
}

// one reads a message of `"cardinality": "one"`.
func one(raw json.RawMessage, metadata map[string]json.RawMessage) Message {
	m := Message{
		Body:           unwrap(raw),
		ID:             text(unwrap(metadata["MessageId"])),
		DeliveryCount:  int(integer(unwrap(metadata["DeliveryCount"]))),
		SequenceNumber: integer(unwrap(metadata["SequenceNumber"])),
		Properties:     properties(metadata["ApplicationProperties"]),
	}
	for _, name := range []string{"EnqueuedTime", "EnqueuedTimeUtc"} {
		if m.EnqueuedAt.IsZero() {
			m.EnqueuedAt = instant(text(unwrap(metadata[name])))
		}
	}
	if raw[0] != '"' {
		return m
	}
	if inner := unwrap(m.Body); len(m.Body) > 0 && m.Body[0] == '"' {
		m.Body = inner // a string body: encoded twice
	} else if decoded, err := base64.StdEncoding.AppendDecode([]byte{}, m.Body); err == nil {
		m.Body = decoded
	}
	return m
}

// unwrap takes one layer of string off: the host puts the JSON of most values into a JSON string. What is no string is
// returned as it is.
func unwrap(raw json.RawMessage) json.RawMessage {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return raw
	}
	return json.RawMessage(s)
}

// array reads one of the metadata's arrays, wrapped in a string or not.
func array(metadata map[string]json.RawMessage, name string) (values []json.RawMessage, told bool) {
	err := json.Unmarshal(unwrap(metadata[name]), &values)
	return values, err == nil && values != nil
}

// text is a string value, or the raw text of what should have been one; null is empty.
func text(value json.RawMessage) string {
	if string(value) == "null" {
		return ""
	}
	return string(unwrap(value))
}

// integer is a number, wrapped in a string or not, and 0 for anything else.
func integer(value json.RawMessage) int64 {
	var n int64
	if json.Unmarshal(unwrap(value), &n) != nil {
		return 0
	}
	return n
}

func properties(value json.RawMessage) map[string]string {
	var raw map[string]json.RawMessage
	if json.Unmarshal(unwrap(value), &raw) != nil || len(raw) == 0 {
		return nil
	}
	out := make(map[string]string, len(raw))
	for name, v := range raw {
		out[name] = text(v)
	}
	return out
}

// instant reads the host's times, which come with and without a zone and a fraction. The year 1 stands for "never" and is
// the zero time, as is what cannot be read.
func instant(s string) time.Time {
	t, err := time.Parse("2006-01-02T15:04:05Z07:00", s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", s)
	}
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}
