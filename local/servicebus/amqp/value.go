package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Symbol is a name out of a constrained domain, as conditions and annotations are.
type Symbol string

// UUID is a GUID in the order of RFC 4122.
type UUID [16]byte

// Map is an AMQP map. Its keys are nil, bool, numbers, time.Time, Symbol, string or UUID.
type Map map[any]any

// Array holds values of one type.
type Array []any

// Described is a value whose type is not one of this package.
type Described struct {
	Descriptor any // uint64 or Symbol
	Value      any
}

// opaque is a value of a type that nothing here reads, such as a decimal; it is given on as it came.
type opaque struct {
	code byte
	raw  string
}

// The constructors of the encoding, AMQP 1.0 part 1.6.
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlng  = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBool       = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeBin8       = 0xa0
	codeStr8       = 0xa1
	codeSym8       = 0xa3
	codeBin32      = 0xb0
	codeStr32      = 0xb1
	codeSym32      = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)

// A value nests no deeper and holds no more values than this, so that a small message cannot become a large one in memory.
const (
	maxDepth  = 32
	maxValues = 1 << 17
)

var errShort = errors.New("the value ends early")

// decoder reads values from the front of its buffer. What it gives shares the buffer's memory.
type decoder struct {
	b      []byte
	depth  int
	values int
}

// value reads one value.
func (d *decoder) value() (any, error) {
	code, err := d.byte()
	if err != nil {
		return nil, err
	}
	return d.of(code)
}

// of reads the value of a constructor.
func (d *decoder) of(code byte) (any, error) {
	if d.values++; d.values > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	switch code {
	case codeDescribed:
		return d.described()
	case codeList0:
		return []any{}, nil
	case codeList8, codeList32:
		return d.list(code)
	case codeMap8, codeMap32:
		return d.mapping(code)
	case codeArray8, codeArray32:
		return d.array(code)
	}
	raw, err := d.raw(code)
	if err != nil {
		return nil, err
	}
	return scalar(code, raw)
}

// raw takes the bytes of a scalar.
func (d *decoder) raw(code byte) ([]byte, error) {
	switch code {
	case codeNull, codeTrue, codeFalse, codeUint0, codeUlong0:
		return nil, nil
	case codeUbyte, codeByte, codeSmallUint, codeSmallUlng, codeSmallInt, codeSmallLong, codeBool:
		return d.take(1)
	case codeUshort, codeShort:
		return d.take(2)
	case codeUint, codeInt, codeFloat, codeChar, codeDecimal32:
		return d.take(4)
	case codeUlong, codeLong, codeDouble, codeTimestamp, codeDecimal64:
		return d.take(8)
	case codeUUID, codeDecimal128:
		return d.take(16)
	case codeBin8, codeStr8, codeSym8, codeBin32, codeStr32, codeSym32:
		n, err := d.size(code)
		if err != nil {
			return nil, err
		}
		return d.take(n)
	}
	return nil, fmt.Errorf("unknown constructor %#02x", code)
}

func scalar(code byte, raw []byte) (any, error) {
	switch code {
	case codeNull:
		return nil, nil
	case codeTrue, codeFalse:
		return code == codeTrue, nil
	case codeBool:
		return raw[0] == 1, nil
	case codeUint0:
		return uint32(0), nil
	case codeUlong0:
		return uint64(0), nil
	case codeUbyte:
		return raw[0], nil
	case codeByte:
		return int8(raw[0]), nil
	case codeSmallUint:
		return uint32(raw[0]), nil
	case codeSmallUlng:
		return uint64(raw[0]), nil
	case codeSmallInt:
		return int32(int8(raw[0])), nil
	case codeSmallLong:
		return int64(int8(raw[0])), nil
	case codeUshort:
		return binary.BigEndian.Uint16(raw), nil
	case codeShort:
		return int16(binary.BigEndian.Uint16(raw)), nil
	case codeUint:
		return binary.BigEndian.Uint32(raw), nil
	case codeInt:
		return int32(binary.BigEndian.Uint32(raw)), nil
	case codeFloat:
		return math.Float32frombits(binary.BigEndian.Uint32(raw)), nil
	case codeUlong:
		return binary.BigEndian.Uint64(raw), nil
	case codeLong:
		return int64(binary.BigEndian.Uint64(raw)), nil
	case codeDouble:
		return math.Float64frombits(binary.BigEndian.Uint64(raw)), nil
	case codeTimestamp:
		return time.UnixMilli(int64(binary.BigEndian.Uint64(raw))).UTC(), nil
	case codeUUID:
		return UUID(raw), nil
	case codeBin8, codeBin32:
		return raw, nil
	case codeStr8, codeStr32:
		if !utf8.Valid(raw) {
			return nil, errors.New("a string is not UTF-8")
		}
		return string(raw), nil
	case codeSym8, codeSym32:
		return Symbol(raw), nil
	}
	return opaque{code, string(raw)}, nil // raw lets no other constructor through
}

func (d *decoder) described() (any, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	descriptor, err := d.descriptor()
	if err != nil {
		return nil, err
	}
	value, err := d.value()
	d.depth--
	return Described{descriptor, value}, err
}

// descriptor reads what follows the byte that begins a described value.
func (d *decoder) descriptor() (any, error) {
	value, err := d.value()
	if err != nil {
		return nil, err
	}
	switch value.(type) {
	case uint64, Symbol:
		return value, nil
	}
	return nil, fmt.Errorf("a descriptor of type %T", value)
}

func (d *decoder) list(code byte) (any, error) {
	in, count, err := d.compound(code)
	if err != nil {
		return nil, err
	}
	list := make([]any, count)
	for i := range list {
		if list[i], err = in.value(); err != nil {
			return nil, err
		}
	}
	return list, d.leave(in)
}

func (d *decoder) mapping(code byte) (any, error) {
	in, count, err := d.compound(code)
	if err != nil {
		return nil, err
	}
	if count%2 != 0 {
		return nil, errors.New("a map with a key that has no value")
	}
	m := make(Map, count/2)
	for range count / 2 {
		key, err := in.value()
		if err != nil {
			return nil, err
		}
		switch key.(type) {
		case []byte, []any, Map, Array, Described:
			return nil, fmt.Errorf("a map key of type %T", key)
		}
		if _, twice := m[key]; twice {
			return nil, fmt.Errorf("a map with the key %v twice", key)
		}
		if m[key], err = in.value(); err != nil {
			return nil, err
		}
	}
	return m, d.leave(in)
}

func (d *decoder) array(code byte) (any, error) {
	in, count, err := d.compound(code)
	if err != nil {
		return nil, err
	}
	constructor, err := in.byte()
	if err != nil {
		return nil, err
	}
	if constructor == codeDescribed || constructor>>4 == 0x4 && count > 0 {
		return nil, fmt.Errorf("an array of constructor %#02x", constructor) // its elements may take no room
	}
	array := make(Array, count)
	for i := range array {
		if array[i], err = in.of(constructor); err != nil {
			return nil, err
		}
	}
	return array, d.leave(in)
}

// compound opens a list, a map or an array: a decoder of its content, and its number of elements, each at least a byte.
func (d *decoder) compound(code byte) (decoder, int, error) {
	if err := d.enter(); err != nil {
		return decoder{}, 0, err
	}
	size, err := d.size(code)
	if err != nil {
		return decoder{}, 0, err
	}
	content, err := d.take(size)
	if err != nil {
		return decoder{}, 0, err
	}
	in := decoder{content, d.depth, d.values}
	count, err := in.size(code)
	if err != nil {
		return decoder{}, 0, err
	}
	if count > len(in.b) || count > maxValues-in.values {
		return decoder{}, 0, fmt.Errorf("%d elements in %d bytes", count, len(in.b))
	}
	return in, count, nil
}

// enter goes one level deeper.
func (d *decoder) enter() error {
	if d.depth++; d.depth > maxDepth {
		return fmt.Errorf("more than %d levels", maxDepth)
	}
	return nil
}

// leave closes what compound opened.
func (d *decoder) leave(in decoder) error {
	if len(in.b) > 0 {
		return fmt.Errorf("%d bytes after the last element", len(in.b))
	}
	d.depth--
	d.values = in.values
	return nil
}

// size reads the one or four bytes of a length, as the constructor says.
func (d *decoder) size(code byte) (int, error) {
	if wide := code&0x10 != 0; !wide {
		n, err := d.byte()
		return int(n), err
	}
	raw, err := d.take(4)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(raw)
	if n > math.MaxInt32 {
		return 0, errShort
	}
	return int(n), nil
}

func (d *decoder) byte() (byte, error) {
	raw, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return raw[0], nil
}

func (d *decoder) take(n int) ([]byte, error) {
	if n > len(d.b) {
		return nil, errShort
	}
	taken := d.b[:n:n]
	d.b = d.b[n:]
	return taken, nil
}

// appendValue encodes a value. It panics on a type that no decoder of this package gives: only a mistake here makes one.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, codeNull)
	case bool:
		if v {
			return append(b, codeTrue)
		}
		return append(b, codeFalse)
	case uint8:
		return append(b, codeUbyte, v)
	case int8:
		return append(b, codeByte, byte(v))
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, codeUshort), v)
	case int16:
		return binary.BigEndian.AppendUint16(append(b, codeShort), uint16(v))
	case uint32:
		if v <= math.MaxUint8 {
			return append(b, codeSmallUint, byte(v))
		}
		return appendFixed(append(b, codeUint), v)
	case uint64:
		if v <= math.MaxUint8 {
			return append(b, codeSmallUlng, byte(v))
		}
		return appendFixed(append(b, codeUlong), v)
	case string:
		return appendSized(b, codeStr8, v)
	case Symbol:
		return appendSized(b, codeSym8, v)
	case []byte:
		return appendSized(b, codeBin8, v)
	case []any:
		return appendCompound(b, codeList32, len(v), func(b []byte) []byte {
			for _, element := range v {
				b = appendValue(b, element)
			}
			return b
		})
	case Map:
		return appendCompound(b, codeMap32, 2*len(v), func(b []byte) []byte {
			for key, value := range v {
				b = appendValue(appendValue(b, key), value)
			}
			return b
		})
	case Array:
		return appendCompound(b, codeArray32, len(v), func(b []byte) []byte {
			if len(v) == 0 {
				return append(b, codeNull)
			}
			b = append(b, constructor(v[0]))
			for _, element := range v {
				b = appendElement(b, element)
			}
			return b
		})
	case Described:
		return appendValue(appendValue(append(b, codeDescribed), v.Descriptor), v.Value)
	case opaque:
		return append(append(b, v.code), v.raw...)
	}
	return appendElement(append(b, constructor(v)), v)
}

// constructor is the one of an array element: the widest of its type.
func constructor(v any) byte {
	switch v := v.(type) {
	case bool:
		return codeBool
	case uint8:
		return codeUbyte
	case int8:
		return codeByte
	case uint16:
		return codeUshort
	case int16:
		return codeShort
	case uint32:
		return codeUint
	case int32:
		return codeInt
	case uint64:
		return codeUlong
	case int64:
		return codeLong
	case float32:
		return codeFloat
	case float64:
		return codeDouble
	case time.Time:
		return codeTimestamp
	case UUID:
		return codeUUID
	case []byte:
		return codeBin32
	case string:
		return codeStr32
	case Symbol:
		return codeSym32
	case []any:
		return codeList32
	case Map:
		return codeMap32
	case Array:
		return codeArray32
	case opaque:
		return v.code
	}
	panic(fmt.Sprintf("amqp: a value of type %T", v))
}

// appendElement encodes a value without its constructor, which is the widest of its type.
func appendElement(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case uint8:
		return append(b, v)
	case int8:
		return append(b, byte(v))
	case uint16:
		return binary.BigEndian.AppendUint16(b, v)
	case int16:
		return binary.BigEndian.AppendUint16(b, uint16(v))
	case uint32:
		return appendFixed(b, v)
	case int32:
		return appendFixed(b, uint32(v))
	case uint64:
		return appendFixed(b, v)
	case int64:
		return appendFixed(b, uint64(v))
	case float32:
		return appendFixed(b, math.Float32bits(v))
	case float64:
		return appendFixed(b, math.Float64bits(v))
	case time.Time:
		return appendFixed(b, uint64(v.UnixMilli()))
	case UUID:
		return append(b, v[:]...)
	case []byte:
		return append(appendFixed(b, uint32(len(v))), v...)
	case string:
		return append(appendFixed(b, uint32(len(v))), v...)
	case Symbol:
		return append(appendFixed(b, uint32(len(v))), v...)
	case opaque:
		return append(b, v.raw...)
	}
	return append(b, appendValue(nil, v)[1:]...) // a list, a map or an array
}

func appendFixed[N uint32 | uint64](b []byte, n N) []byte {
	if small, is := any(n).(uint32); is {
		return binary.BigEndian.AppendUint32(b, small)
	}
	return binary.BigEndian.AppendUint64(b, uint64(n))
}

// appendSized encodes a run of bytes; narrow is the constructor of the short form, and the long one's is 0x10 more.
func appendSized[T ~string | ~[]byte](b []byte, narrow byte, v T) []byte {
	if len(v) <= math.MaxUint8 {
		return append(append(b, narrow, byte(len(v))), v...)
	}
	return append(binary.BigEndian.AppendUint32(append(b, narrow+0x10), uint32(len(v))), v...)
}

// appendCompound encodes a list, a map or an array in the long form.
func appendCompound(b []byte, code byte, count int, content func([]byte) []byte) []byte {
	b = append(b, code, 0, 0, 0, 0)
	start := len(b)
	b = content(binary.BigEndian.AppendUint32(b, uint32(count)))
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}
