package amqp

import (
	"errors"
	"fmt"
	"time"
)

// The sections of a message, AMQP 1.0 part 3.2.
const (
	sectionHeader                = 0x70
	sectionDeliveryAnnotations   = 0x71
	sectionAnnotations           = 0x72
	sectionProperties            = 0x73
	sectionApplicationProperties = 0x74
	sectionData                  = 0x75
	sectionSequence              = 0x76
	sectionValue                 = 0x77
	sectionFooter                = 0x78
)

// The places of properties in Message.Properties.
const (
	MessageID     = 0
	ReplyTo       = 4
	CorrelationID = 5
	ContentType   = 6
	properties    = 13
)

// Message is a message, with its body as it came. It shares the memory that it was parsed from.
type Message struct {
	Durable               bool
	Priority              uint8
	TimeToLive            time.Duration // whole milliseconds; 0: none
	DeliveryCount         uint32        // of deliveries before this one
	DeliveryAnnotations   Map
	Annotations           Map
	Properties            []any // by place
	ApplicationProperties Map

	Data  [][]byte // the data sections of the body
	Value any      // the value section of the body

	body  []byte // all sections of the body and the footer, encoded
	plain bool   // they are one data section
}

// defaultPriority is the one of a message that names none.
const defaultPriority = 4

// ParseMessage reads a message.
func ParseMessage(b []byte) (*Message, error) {
	m := &Message{Priority: defaultPriority}
	d := decoder{b: b}
	last := uint64(0)
	for len(d.b) > 0 {
		rest := d.b
		value, err := d.value()
		if err != nil {
			return nil, err
		}
		section, _ := value.(Described)
		code, _ := section.Descriptor.(uint64)
		repeated := code == last && (code == sectionData || code == sectionSequence)
		if code < sectionHeader || code > sectionFooter || code <= last && !repeated {
			return nil, fmt.Errorf("a section %#02x after %#02x", code, last)
		}
		if code >= sectionData && m.body == nil {
			m.body = rest
		}
		if err := m.section(code, section.Value); err != nil {
			return nil, fmt.Errorf("section %#02x: %w", code, err)
		}
		last = code
	}
	if m.body == nil {
		return nil, errors.New("a message without a body")
	}
	m.plain = last == sectionData && len(m.Data) == 1
	return m, nil
}

// WithoutData takes the body off a message that has one data section and nothing else, and gives it; SetData puts one on.
// Any other message keeps its body.
func (m *Message) WithoutData() (data []byte, ok bool) {
	if !m.plain {
		return nil, false
	}
	data, m.Data, m.body = m.Data[0], nil, nil
	return data, true
}

// Bodiless says whether the body was taken off.
func (m *Message) Bodiless() bool { return m.plain && m.body == nil }

// SetData makes data the body.
func (m *Message) SetData(data []byte) { m.Data, m.body = [][]byte{data}, nil }

func (m *Message) section(code uint64, value any) error {
	var ok bool
	switch code {
	case sectionHeader:
		list, ok := value.([]any)
		if !ok {
			return errors.New("not a list")
		}
		f := fields{list: list}
		m.Durable, m.Priority = field(&f, 0, false), field(&f, 1, uint8(defaultPriority))
		m.TimeToLive = time.Duration(field(&f, 2, uint32(0))) * time.Millisecond
		m.DeliveryCount = field(&f, 4, uint32(0))
		return f.err
	case sectionDeliveryAnnotations:
		m.DeliveryAnnotations, ok = value.(Map)
	case sectionAnnotations:
		m.Annotations, ok = value.(Map)
	case sectionProperties:
		if m.Properties, ok = value.([]any); len(m.Properties) > properties {
			return fmt.Errorf("%d properties", len(m.Properties))
		}
	case sectionApplicationProperties:
		m.ApplicationProperties, ok = value.(Map)
	case sectionData:
		var data []byte
		data, ok = value.([]byte)
		m.Data = append(m.Data, data)
	case sectionSequence:
		_, ok = value.([]any)
	case sectionValue:
		m.Value, ok = value, true
	case sectionFooter:
		_, ok = value.(Map)
	}
	if !ok {
		return fmt.Errorf("a %T", value)
	}
	return nil
}

// Property gives a property by its place; nil when the message has none there.
func (m *Message) Property(place int) any {
	f := fields{list: m.Properties}
	return f.at(place)
}

// Text gives a property that is a string or a symbol.
func (m *Message) Text(place int) string {
	switch v := m.Property(place).(type) {
	case string:
		return v
	case Symbol:
		return string(v)
	}
	return ""
}

// Append encodes a message. One that was not parsed has the body of Data, or of Value when there is none.
func (m *Message) Append(b []byte) []byte {
	header := []any{unless(m.Durable, false), unless(m.Priority, defaultPriority), nil, nil, m.DeliveryCount}
	if ms := uint32(m.TimeToLive.Milliseconds()); ms > 0 {
		header[2] = ms
	}
	b = appendValue(b, Described{uint64(sectionHeader), header})
	if m.DeliveryAnnotations != nil {
		b = appendValue(b, Described{uint64(sectionDeliveryAnnotations), m.DeliveryAnnotations})
	}
	if m.Annotations != nil {
		b = appendValue(b, Described{uint64(sectionAnnotations), m.Annotations})
	}
	b = appendValue(b, Described{uint64(sectionProperties), trimmed(m.Properties)})
	if m.ApplicationProperties != nil {
		b = appendValue(b, Described{uint64(sectionApplicationProperties), m.ApplicationProperties})
	}
	switch {
	case m.body != nil:
		return append(b, m.body...)
	case m.Data != nil:
		for _, data := range m.Data {
			b = appendValue(b, Described{uint64(sectionData), data})
		}
		return b
	}
	return appendValue(b, Described{uint64(sectionValue), m.Value})
}

// NewMessage makes a message with a body and room for properties.
func NewMessage(body []byte) *Message {
	m := &Message{Priority: defaultPriority, Properties: make([]any, properties)}
	if body != nil {
		m.Data = [][]byte{body}
	}
	return m
}
