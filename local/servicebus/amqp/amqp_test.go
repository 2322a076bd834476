package amqp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	sdk "github.com/Azure/go-amqp"
	"github.com/stretchr/testify/require"
)

var instant = time.Date(2026, 11, 25, 12, 0, 0, 123_000_000, time.UTC)

// values is one of every type.
func values() map[string]any {
	return map[string]any{
		"null": nil, "true": true, "false": false, "ubyte": uint8(200), "byte": int8(-3), "ushort": uint16(60000), "short": int16(-300),
		"uint 0": uint32(0), "uint small": uint32(255), "uint": uint32(256), "int": int32(-70000), "ulong 0": uint64(0),
		"ulong small": uint64(255), "ulong": uint64(math.MaxUint64), "long": int64(math.MinInt64), "float": float32(1.5), "double": -2.25,
		"timestamp": instant, "uuid": UUID{1, 15: 2}, "binary": []byte{0, 0xff}, "long binary": bytes.Repeat([]byte{7}, 300),
		"string": "ä", "long string": strings.Repeat("x", 300), "symbol": Symbol("a:b"), "empty list": []any{},
		"list": []any{uint32(1), "two", []any{nil}}, "map": Map{"a": int64(1), Symbol("b"): Map{uint32(1): true}},
		"array of longs": Array{int64(1), int64(-2)}, "array of timestamps": Array{instant}, "array of uuids": Array{UUID{1}, UUID{2}},
		"array of strings": Array{"a", strings.Repeat("b", 300)}, "array of symbols": Array{Symbol("a")},
		"array of bytes": Array{[]byte("a")}, "array of maps": Array{Map{"a": "b"}, Map{}}, "array of lists": Array{[]any{uint8(1)}, []any{}},
		"array of ints": Array{int32(1)}, "array of uints": Array{uint32(1), uint32(math.MaxUint32)}, "array of bools": Array{true, false},
		"array of ubytes": Array{uint8(1)}, "array of bytes signed": Array{int8(-1)}, "array of shorts": Array{int16(-1), int16(5)},
		"array of ushorts": Array{uint16(9)}, "array of ulongs": Array{uint64(1)}, "array of floats": Array{float32(1)},
		"array of doubles": Array{1.5}, "array of arrays": Array{Array{int64(1)}, Array{int64(2), int64(3)}},
		"described": Described{Symbol("x:y"), "v"}, "char": opaque{codeChar, "\x00\x00\x00a"}, "decimal": opaque{codeDecimal128, strings.Repeat("d", 16)},
	}
}

func decode(b []byte) (any, error) {
	d := decoder{b: b}
	v, err := d.value()
	if err == nil && len(d.b) > 0 {
		return v, io.ErrShortBuffer
	}
	return v, err
}

func TestValuesKeepTheirTypeAndTheirContent(t *testing.T) {
	t.Parallel()
	for name, v := range values() {
		got, err := decode(appendValue(nil, v))
		require.NoError(t, err, name)
		require.Equal(t, v, got, name)
	}
}

// The bytes are those of the tables in AMQP 1.0 part 1.6.
func TestValuesByTheSpecification(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hex  string
		want any
	}{
		"smallint":       {"54ff", int32(-1)},
		"smalllong":      {"5580", int64(-128)},
		"boolean":        {"5601", true},
		"list8":          {"c0030243" + "40", []any{uint32(0), nil}},
		"map8":           {"c10502" + "a1016141", Map{"a": true}},
		"array8 of bool": {"e00402" + "560100", Array{true, false}},
		"described":      {"005324" + "45", Described{uint64(0x24), []any{}}},
		"by symbol":      {"00a30161" + "43", Described{Symbol("a"), uint32(0)}},
		"sym32":          {"b300000001" + "61", Symbol("a")},
		"vbin32":         {"b000000001" + "61", []byte("a")},
	} {
		raw, err := hex.DecodeString(test.hex)
		require.NoError(t, err)
		got, err := decode(raw)
		require.NoError(t, err, name)
		require.Equal(t, test.want, got, name)
	}
}

func TestBadValues(t *testing.T) {
	t.Parallel()
	deep := bytes.Repeat([]byte{codeList32, 0, 0, 0, 0, 0, 0, 0, 1}, maxDepth+1)
	for i := range maxDepth + 1 {
		binary.BigEndian.PutUint32(deep[9*i+1:], uint32(len(deep)-9*i-5))
	}
	many := appendCompound(nil, codeList32, maxValues, func(b []byte) []byte { return append(b, bytes.Repeat([]byte{codeNull}, maxValues)...) })
	for name, raw := range map[string][]byte{
		"nothing":                          {},
		"unknown constructor":              {0x3f},
		"unknown fixed width":              {0x57, 1},
		"short number":                     {codeUlong, 1, 2},
		"string that is not there":         {codeStr32, 0xff, 0xff, 0xff, 0xff, 'a'},
		"string that is not UTF-8":         {codeStr8, 1, 0xff},
		"list shorter than its count":      {codeList8, 2, 5, codeNull},
		"list with more than its count":    {codeList8, 3, 1, codeNull, codeNull},
		"list of four billion nulls":       {codeList32, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, codeNull},
		"array of four billion nulls":      {codeArray32, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, codeNull},
		"array of trues":                   {codeArray8, 2, 1, codeTrue},
		"map with a key alone":             {codeMap8, 2, 1, codeNull},
		"map with a key twice":             {codeMap8, 5, 4, codeNull, codeNull, codeNull, codeNull},
		"map with a list for a key":        {codeMap8, 3, 2, codeList0, codeNull},
		"described by a string":            {codeDescribed, codeStr8, 0, codeNull},
		"described without a value":        {codeDescribed, codeSmallUlng, 0x24},
		"deeper than is read":              deep,
		"descriptors deeper than are read": bytes.Repeat([]byte{codeDescribed, codeSmallUlng, 1}, maxDepth+1),
		"more values than are read":        many,
	} {
		_, err := decode(raw)
		require.Error(t, err, name)
	}
	require.Panics(t, func() { appendValue(nil, struct{}{}) })
}

// frames is one of every performative.
func frames() []Frame {
	refusal := &Error{"amqp:not-found", "no queue", Map{Symbol("a"): "b"}}
	return []Frame{
		{},
		{Body: &Open{ContainerID: "c", Hostname: "h", MaxFrameSize: 65536, ChannelMax: 99, IdleTimeout: 60000}},
		{Channel: 3, Body: &Begin{RemoteChannel: new(uint16(3)), NextOutgoingID: 1, IncomingWindow: 2, OutgoingWindow: 3, HandleMax: 4}},
		{Body: &Begin{HandleMax: math.MaxUint32}},
		{Channel: 1, Body: &Attach{
			Name: "l", Handle: 7, Role: Sender, SenderMode: SenderSettled, ReceiverMode: ReceiverSecond, Source: &Terminus{"s"}, Target: &Terminus{"t"},
			InitialDeliveryCount: 5, MaxMessageSize: 1 << 40,
		}},
		{Body: &Attach{Name: "l", Role: Receiver, Source: &Terminus{"s"}}},
		{Body: &Flow{
			NextIncomingID: new(uint32(1)), IncomingWindow: 2, NextOutgoingID: 3, OutgoingWindow: 4, Handle: new(uint32(0)),
			DeliveryCount: new(uint32(6)), LinkCredit: new(uint32(7)), Drain: true, Echo: true,
		}},
		{Body: &Flow{}},
		{Body: &Transfer{Handle: 1, DeliveryID: new(uint32(0)), DeliveryTag: []byte("tag"), MessageFormat: new(uint32(BatchFormat)), Settled: true, More: true}, Payload: []byte("payload")},
		{Body: &Transfer{Handle: 1, Aborted: true}, Payload: []byte{}},
		{Body: &Disposition{Role: Receiver, First: 1, Last: 300, Settled: true, State: Accepted{}}},
		{Body: &Disposition{State: Rejected{refusal}}},
		{Body: &Disposition{State: Rejected{}}},
		{Body: &Disposition{State: Released{}}},
		{Body: &Disposition{State: Modified{true, true}}},
		{Body: &Disposition{}},
		{Body: &Detach{Handle: 1, Closed: true, Error: refusal}},
		{Body: &Detach{}},
		{Body: &End{Error: &Error{Condition: "amqp:internal-error"}}},
		{Body: &End{}},
		{Body: &Close{Error: refusal}},
		{Body: &Close{}},
		{Body: &Mechanisms{Names: []Symbol{"ANONYMOUS", "PLAIN"}}},
		{Body: &Init{Mechanism: "ANONYMOUS"}},
		{Body: &Outcome{Code: 1}},
	}
}

func TestFramesComeAsTheyWere(t *testing.T) {
	t.Parallel()
	var stream []byte
	for _, f := range frames() {
		stream = Append(stream, f)
	}
	r := bytes.NewReader(stream)
	for _, want := range frames() {
		got, err := Read(r, 1<<16)
		require.NoError(t, err)
		if len(want.Payload) == 0 {
			require.Empty(t, got.Payload)
			got.Payload = want.Payload
		}
		require.Equal(t, want, got)
	}
	_, err := Read(r, 1<<16)
	require.ErrorIs(t, err, io.EOF)
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	frame := func(kind byte, body ...byte) []byte {
		b := append([]byte{0, 0, 0, 0, 2, kind, 0, 0}, body...)
		binary.BigEndian.PutUint32(b, uint32(len(b)))
		return b
	}
	performative := func(code uint64, list ...any) []byte { return frame(0, appendValue(nil, Described{code, list})...) }
	for name, raw := range map[string][]byte{
		"larger than allowed":           {0, 1, 0, 1, 2, 0, 0, 0},
		"smaller than its header":       {0, 0, 0, 7, 2, 0, 0, 0},
		"body before the header's end":  {0, 0, 0, 8, 1, 0, 0, 0},
		"body after the frame's end":    {0, 0, 0, 8, 3, 0, 0, 0},
		"not an AMQP value":             frame(0, 0x3f),
		"no performative":               frame(0, codeNull),
		"a performative that is a map":  frame(0, appendValue(nil, Described{uint64(0x10), Map{}})...),
		"an unknown performative":       performative(0x19),
		"SASL in an AMQP frame":         performative(0x41, Symbol("PLAIN")),
		"AMQP in a SASL frame":          frame(1, appendValue(nil, Described{uint64(0x18), []any{}})...),
		"an empty SASL frame":           frame(1),
		"something missing":             performative(0x14),
		"something of a wrong type":     performative(0x14, "handle"),
		"an error without a condition":  performative(0x16, uint32(1), true, Described{uint64(0x1d), []any{}}),
		"a name that is not a string":   performative(0x12, uint32(1), uint32(1), true),
		"a window that is not a number": performative(0x11, nil, uint32(1), "wide", uint32(1)),
	} {
		_, err := Read(bytes.NewReader(raw), 1<<16)
		require.Error(t, err, name)
	}
	trailing := frame(0, append(appendValue(nil, Described{uint64(0x18), []any{}}), 1)...)
	_, err := Read(bytes.NewReader(trailing), 1<<16)
	require.ErrorContains(t, err, "1 bytes after")
	_, err = Read(bytes.NewReader([]byte{0, 0, 0, 9, 2, 0, 0, 0}), 1<<16)
	require.ErrorIs(t, err, io.EOF)
}

// TestMessagesAreThoseOfTheSDK holds the codec to the SDK's own, both ways.
func TestMessagesAreThoseOfTheSDK(t *testing.T) {
	t.Parallel()
	theirs := &sdk.Message{
		Header:                &sdk.MessageHeader{Durable: true, Priority: 9, TTL: 90 * time.Second, DeliveryCount: 300},
		DeliveryAnnotations:   sdk.Annotations{"x-opt-lock-token": sdk.UUID{1}},
		Annotations:           sdk.Annotations{"x-opt-sequence-number": int64(7), "x-opt-scheduled-enqueue-time": instant},
		Properties:            &sdk.MessageProperties{MessageID: "id", ContentType: new("application/json"), ReplyTo: new("r"), CorrelationID: uint64(5), Subject: new("s")},
		ApplicationProperties: map[string]any{"traceparent": "00-x", "n": int64(3), "list": []int64{1}},
		Data:                  [][]byte{{0, 1}, bytes.Repeat([]byte{2}, 400)},
		Footer:                sdk.Annotations{"f": "g"},
	}
	encoded, err := theirs.MarshalBinary()
	require.NoError(t, err)
	ours, err := ParseMessage(encoded)
	require.NoError(t, err)
	require.Equal(t, "id", ours.Text(MessageID))
	require.Equal(t, "application/json", ours.Text(ContentType))
	require.Equal(t, "r", ours.Text(ReplyTo))
	require.Equal(t, uint64(5), ours.Property(CorrelationID))
	require.Equal(t, 90*time.Second, ours.TimeToLive)
	require.Equal(t, theirs.Data, ours.Data)
	_, plain := ours.WithoutData()
	require.False(t, plain)

	var again sdk.Message
	require.NoError(t, again.UnmarshalBinary(ours.Append(nil)))
	again.Annotations["x-opt-scheduled-enqueue-time"] = again.Annotations["x-opt-scheduled-enqueue-time"].(time.Time).UTC() //nolint:forcetypeassert // or it fails
	require.Equal(t, theirs, &again)
}

func TestABodyIsTakenOffAndPutOn(t *testing.T) {
	t.Parallel()
	m := NewMessage([]byte("body"))
	m.Properties[MessageID] = "id"
	parsed, err := ParseMessage(m.Append(nil))
	require.NoError(t, err)
	require.False(t, parsed.Bodiless())
	data, ok := parsed.WithoutData()
	require.True(t, ok)
	require.Equal(t, []byte("body"), data)
	require.True(t, parsed.Bodiless())
	copied := *parsed
	copied.SetData([]byte("other"))
	again, err := ParseMessage(copied.Append(nil))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("other")}, again.Data)
	require.Equal(t, "id", again.Text(MessageID))
	require.Empty(t, again.Text(ContentType))
}

func TestBadMessages(t *testing.T) {
	t.Parallel()
	section := func(code uint64, v any) []byte { return appendValue(nil, Described{code, v}) }
	body := section(sectionData, []byte("x"))
	for name, raw := range map[string][]byte{
		"nothing":                        {},
		"no sections":                    {codeNull},
		"no body":                        section(sectionHeader, []any{}),
		"an unknown section":             section(0x79, Map{}),
		"sections out of order":          append(append([]byte{}, body...), section(sectionHeader, []any{})...),
		"a section twice":                append(append(section(sectionHeader, []any{}), section(sectionHeader, []any{})...), body...),
		"two kinds of bodies, reversed":  append(section(sectionValue, "v"), body...),
		"a header that is a map":         append(section(sectionHeader, Map{}), body...),
		"a time to live that is a text":  append(section(sectionHeader, []any{nil, nil, "1s"}), body...),
		"annotations that are a list":    append(section(sectionAnnotations, []any{}), body...),
		"properties that are a map":      append(section(sectionProperties, Map{}), body...),
		"more properties than there are": append(section(sectionProperties, make([]any, 14)), body...),
		"data that is a string":          section(sectionData, "x"),
		"a sequence that is a map":       section(sectionSequence, Map{}),
		"a footer that is a list":        append(append([]byte{}, body...), section(sectionFooter, []any{})...),
		"a body that ends early":         body[:len(body)-1],
	} {
		_, err := ParseMessage(raw)
		require.Error(t, err, name)
	}
}

// FuzzFrame feeds the frame decoder. What it takes, it encodes to something that means the same.
func FuzzFrame(f *testing.F) {
	for _, frame := range frames() {
		f.Add(Append(nil, frame))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := Read(bytes.NewReader(raw), 1<<16)
		if err != nil {
			return
		}
		encoded := Append(nil, first)
		second, err := Read(bytes.NewReader(encoded), uint32(len(encoded)))
		require.NoError(t, err)
		require.IsType(t, first.Body, second.Body)
		require.Len(t, Append(nil, second), len(encoded)) // maps have no order
	})
}

// FuzzMessage feeds the message decoder. What it takes, it encodes to something that means the same, within bounded memory.
func FuzzMessage(f *testing.F) {
	for _, v := range values() {
		m := NewMessage([]byte("body"))
		m.ApplicationProperties = Map{"v": v}
		f.Add(m.Append(nil))
		f.Add((&Message{Value: v, Annotations: Map{Symbol("a"): v}}).Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		first, err := ParseMessage(raw)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20+256*len(raw)))
		if err != nil {
			return
		}
		second, err := ParseMessage(first.Append(nil))
		require.NoError(t, err)
		require.Equal(t, first.Data, second.Data)
		require.Len(t, second.ApplicationProperties, len(first.ApplicationProperties))
	})
}
