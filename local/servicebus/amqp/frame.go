// Package amqp is AMQP 1.0 as bytes: values, frames and messages, as far as Azure Service Bus and its SDK use them. It reads
// what strangers send within bounds of its own, and knows nothing of connections or of a broker.
package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The protocol headers that open a connection and, before it, the SASL exchange.
const (
	Header     = "AMQP\x00\x01\x00\x00"
	SASLHeader = "AMQP\x03\x01\x00\x00"
)

// MinFrameSize is what every peer must take, in bytes.
const MinFrameSize = 512

const (
	frameHeader = 8
	typeAMQP    = 0
	typeSASL    = 1
)

// Frame is one frame of a connection.
type Frame struct {
	Channel uint16
	Body    Performative // nil: an empty frame, which says nothing but that its sender lives
	Payload []byte       // of a transfer
}

// Read reads a frame of at most limit bytes. An error that is not the reader's is the sender's fault.
func Read(r io.Reader, limit uint32) (Frame, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, err
	}
	size, offset := binary.BigEndian.Uint32(header[:]), 4*int64(header[4])
	if size > limit || int64(size) < offset || offset < frameHeader {
		return Frame{}, fmt.Errorf("a frame of %d bytes whose body begins at %d, at most %d bytes are read", size, offset, limit)
	}
	body := make([]byte, size-frameHeader)
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, err
	}
	return parse(header[5], binary.BigEndian.Uint16(header[6:]), body[offset-frameHeader:])
}

// parse reads a frame's body. An error is the sender's fault.
func parse(kind byte, channel uint16, body []byte) (Frame, error) {
	f := Frame{Channel: channel}
	if len(body) == 0 && kind == typeAMQP {
		return f, nil
	}
	d := decoder{b: body}
	value, err := d.value()
	if err != nil {
		return f, err
	}
	described, _ := value.(Described)
	code, _ := described.Descriptor.(uint64)
	list, ok := described.Value.([]any)
	if !ok {
		return f, errors.New("a frame without a performative")
	}
	if f.Body = performative(code); f.Body == nil || f.Body.sasl() != (kind == typeSASL) {
		return f, fmt.Errorf("no frame of type %d holds a performative %#02x", kind, code)
	}
	fields := fields{list: list}
	f.Body.read(&fields)
	f.Payload = d.b
	if _, is := f.Body.(*Transfer); !is && len(d.b) > 0 {
		return f, fmt.Errorf("%d bytes after a performative %#02x", len(d.b), code)
	}
	if fields.err != nil {
		return f, fmt.Errorf("performative %#02x: %w", code, fields.err)
	}
	return f, nil
}

// Append encodes a frame.
func Append(b []byte, f Frame) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, frameHeader/4, typeAMQP)
	b = binary.BigEndian.AppendUint16(b, f.Channel)
	if f.Body != nil {
		if f.Body.sasl() {
			b[start+5] = typeSASL
		}
		b = appendValue(b, Described{f.Body.code(), trimmed(f.Body.write())})
	}
	b = append(b, f.Payload...)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// trimmed leaves out what is null at the end, as a list may.
func trimmed(list []any) []any {
	for len(list) > 0 && list[len(list)-1] == nil {
		list = list[:len(list)-1]
	}
	return list
}
