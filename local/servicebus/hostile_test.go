package servicebus_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/local/servicebus"
	"liveops/local/servicebus/amqp"
)

// peer is a client that says what it likes.
type peer struct {
	t    testing.TB
	conn net.Conn
}

// dial connects and opens.
func dial(t testing.TB, s *servicebus.Server) *peer {
	t.Helper()
	conn, err := s.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	p := &peer{t, conn}
	p.greet(amqp.SASLHeader)
	p.until(&amqp.Mechanisms{})
	p.write(&amqp.Init{Mechanism: "ANONYMOUS"})
	p.until(&amqp.Outcome{})
	p.greet(amqp.Header)
	p.write(&amqp.Open{ContainerID: "peer", MaxFrameSize: 1 << 16, ChannelMax: 100})
	p.until(&amqp.Open{})
	return p
}

func (p *peer) greet(header string) {
	p.t.Helper()
	_, err := io.WriteString(p.conn, header)
	require.NoError(p.t, err)
	got := make([]byte, len(header))
	_, err = io.ReadFull(p.conn, got)
	require.NoError(p.t, err)
	require.Equal(p.t, header, string(got))
}

func (p *peer) begin() {
	p.t.Helper()
	p.write(&amqp.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 1000})
	p.until(&amqp.Begin{})
}

func (p *peer) write(body amqp.Performative, payload ...byte) {
	_, _ = p.conn.Write(amqp.Append(nil, amqp.Frame{Body: body, Payload: payload})) // what came of it is read
}

func (p *peer) on(channel uint16, body amqp.Performative) {
	_, _ = p.conn.Write(amqp.Append(nil, amqp.Frame{Channel: channel, Body: body}))
}

// until reads up to a performative of this type.
func (p *peer) until(want amqp.Performative) amqp.Performative {
	p.t.Helper()
	for {
		f, err := amqp.Read(p.conn, 1<<16)
		require.NoError(p.t, err, "before %T", want)
		if same(f.Body, want) {
			return f.Body
		}
	}
}

func same(a, b amqp.Performative) bool {
	return a != nil && bytes.Equal(kindOf(a), kindOf(b))
}

// kindOf is the descriptor of a performative.
func kindOf(p amqp.Performative) []byte { return amqp.Append(nil, amqp.Frame{Body: p})[8:11] }

// gone says that the endpoint hung up.
func (p *peer) gone() {
	p.t.Helper()
	for {
		if _, err := amqp.Read(p.conn, 1<<16); err != nil {
			require.NotErrorIs(p.t, err, io.ErrNoProgress)
			return
		}
	}
}

// TestWhatClientsMustNotDo has each mistake end just what it must.
func TestWhatClientsMustNotDo(t *testing.T) {
	t.Parallel()
	attach := func(p *peer, to string, handle uint32) {
		p.write(&amqp.Attach{Name: "l", Handle: handle, Target: &amqp.Terminus{Address: to}})
	}
	message := amqp.NewMessage([]byte("x")).Append(nil)
	for name, test := range map[string]struct {
		do    func(p *peer)
		ends  amqp.Performative
		error amqp.Symbol
	}{
		"a session on a taken channel":     {func(p *peer) { p.write(&amqp.Begin{}) }, &amqp.Close{}, servicebus.NotAllowed},
		"a link without a session":         {func(p *peer) { p.on(7, &amqp.Attach{Name: "l"}) }, &amqp.Close{}, servicebus.NotAllowed},
		"a session beyond the limit":       {func(p *peer) { p.on(5000, &amqp.Begin{}) }, &amqp.Close{}, servicebus.NotAllowed},
		"a second open":                    {func(p *peer) { p.write(&amqp.Open{ContainerID: "x"}) }, &amqp.End{}, servicebus.NotAllowed},
		"a handle that is taken":           {func(p *peer) { attach(p, "q", 0); attach(p, "q", 0) }, &amqp.End{}, servicebus.NotAllowed},
		"a handle beyond the limit":        {func(p *peer) { attach(p, "q", 1<<20) }, &amqp.End{}, servicebus.NotAllowed},
		"a transfer without a link":        {func(p *peer) { p.write(&amqp.Transfer{Handle: 5}) }, &amqp.End{}, servicebus.UnknownHandle},
		"a link to nowhere":                {func(p *peer) { p.write(&amqp.Attach{Name: "l"}) }, &amqp.Detach{}, servicebus.NotImplemented},
		"a link to a queue that is not":    {func(p *peer) { attach(p, "missing", 0) }, &amqp.Detach{}, servicebus.NotFound},
		"a link to send dead letters":      {func(p *peer) { attach(p, bus.DeadLetters("q"), 0) }, &amqp.Detach{}, servicebus.NotAllowed},
		"a delivery without an id":         {func(p *peer) { attach(p, "q", 0); p.write(&amqp.Transfer{}, message...) }, &amqp.End{}, servicebus.NotAllowed},
		"dispositions of everything":       {func(p *peer) { p.write(&amqp.Disposition{Role: amqp.Receiver, Last: 1 << 30}) }, &amqp.End{}, servicebus.NotAllowed},
		"dispositions that run backwards":  {func(p *peer) { p.write(&amqp.Disposition{Role: amqp.Receiver, First: 5, Last: 1}) }, &amqp.End{}, servicebus.NotAllowed},
		"a message over the link's size":   {func(p *peer) { attach(p, "q", 0); p.send(make([]byte, 600<<10)) }, &amqp.Detach{}, servicebus.MessageTooLarge},
		"too much that is not finished":    {func(p *peer) { p.hoard(attach) }, &amqp.End{}, servicebus.ResourceLimit},
		"a frame that is larger than told": {func(p *peer) { _, _ = p.conn.Write([]byte{0, 1, 0, 1, 2, 0, 0, 0}) }, &amqp.Close{}, servicebus.FramingError},
		"a frame that is nonsense":         {func(p *peer) { _, _ = p.conn.Write([]byte{0, 0, 0, 9, 2, 0, 0, 0, 0x3f}) }, &amqp.Close{}, servicebus.FramingError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servicebus.New(memory(), servicebus.Options{MaxMessageSize: 512 << 10})
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			p := dial(t, s)
			p.begin()
			go test.do(p)
			var got *amqp.Error
			switch ended := p.until(test.ends).(type) {
			case *amqp.Close:
				got = ended.Error
			case *amqp.End:
				got = ended.Error
			case *amqp.Detach:
				got = ended.Error
			}
			require.NotNil(t, got)
			require.Equal(t, test.error, got.Condition)
			require.NoError(t, sender(t, connected(t, s)).SendMessage(within(t, time.Minute), text("others go on"), nil))
		})
	}
}

// hoard begins messages and ends none.
func (p *peer) hoard(attach func(p *peer, to string, handle uint32)) {
	for handle := range uint32(256) {
		attach(p, "q", handle)
		for i := range 7 {
			t := &amqp.Transfer{Handle: handle, More: true}
			if i == 0 {
				t.DeliveryID = new(uint32(0))
			}
			p.write(t, make([]byte, 60<<10)...)
		}
	}
}

// send sends one message in frames of 32 KB.
func (p *peer) send(content []byte) {
	for first := true; len(content) > 0; first = false {
		n := min(len(content), 32<<10)
		t := &amqp.Transfer{More: len(content) > n}
		if first {
			t.DeliveryID, t.DeliveryTag, t.MessageFormat = new(uint32(0)), []byte("t"), new(uint32(0))
		}
		p.write(t, content[:n]...)
		content = content[n:]
	}
}

// TestWhatIsNotSettledForLongIsForgotten has a client that settles elsewhere, or nothing.
func TestWhatIsNotSettledForLongIsForgotten(t *testing.T) {
	t.Parallel()
	m := memory()
	s := servicebus.New(m, servicebus.Options{})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	const most = 1 << 15
	require.NoError(t, m.Publish(t.Context(), "q", make([]bus.Message, most+1)))
	p := dial(t, s)
	p.begin()
	p.write(&amqp.Attach{Name: "r", Role: amqp.Receiver, Source: &amqp.Terminus{Address: "q"}})
	go p.write(&amqp.Flow{NextIncomingID: new(uint32(0)), IncomingWindow: 1 << 20, OutgoingWindow: 100, Handle: new(uint32(0)), LinkCredit: new(uint32(1 << 20))})
	for range most + 1 {
		p.until(&amqp.Transfer{})
	}
	for id, want := range map[uint32]amqp.Symbol{0: servicebus.LockLost, 1: "", most: ""} {
		go p.write(&amqp.Disposition{Role: amqp.Receiver, First: id, Last: id, State: amqp.Accepted{}})
		settled := p.until(&amqp.Disposition{}).(*amqp.Disposition) //nolint:forcetypeassert // until gives its kind
		require.Equal(t, id, settled.First)
		if want == "" {
			require.Equal(t, amqp.Accepted{}, settled.State)
		} else {
			require.Equal(t, want, settled.State.(amqp.Rejected).Error.Condition) //nolint:forcetypeassert // or it fails
		}
	}
	counts, err := m.Counts("q")
	require.NoError(t, err)
	require.Equal(t, bus.Counts{Locked: most - 1}, counts)
}

func TestWhoDoesNotSpeakAMQPIsHungUpOn(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{
		"HTTP":               "GET / HTTP/1.1\r\n\r\n",
		"AMQP without SASL":  amqp.Header,
		"another mechanism":  amqp.SASLHeader + string(amqp.Append(nil, amqp.Frame{Body: &amqp.Init{Mechanism: "PLAIN"}})),
		"no open":            opening + string(amqp.Append(nil, amqp.Frame{Body: &amqp.Begin{}})),
		"nothing but hellos": amqp.SASLHeader,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servicebus.New(memory(), servicebus.Options{})
			conn, err := s.Dial(t.Context())
			require.NoError(t, err)
			go func() {
				_, _ = io.WriteString(conn, says)
				if name == "nothing but hellos" {
					_ = conn.Close()
				}
			}()
			_, err = io.Copy(io.Discard, conn)
			if err != nil {
				require.ErrorIs(t, err, io.ErrClosedPipe)
			}
			require.NoError(t, s.Close())
		})
	}
}

// opening is what a client says up to its open.
var opening = amqp.SASLHeader + string(amqp.Append(nil, amqp.Frame{Body: &amqp.Init{Mechanism: "ANONYMOUS"}})) + amqp.Header

// FuzzConnection says anything to the endpoint after a proper beginning. It may hang up, and lives.
func FuzzConnection(f *testing.F) {
	message := amqp.NewMessage([]byte("x"))
	message.ApplicationProperties = amqp.Map{"operation": "com.microsoft:peek-message"}
	message.Properties[amqp.ReplyTo] = "me"
	message.Value = amqp.Map{"message-count": int32(1), "from-sequence-number": int64(0)}
	for _, bodies := range [][]amqp.Performative{
		{&amqp.Attach{Name: "l", Target: &amqp.Terminus{Address: "q"}}, &amqp.Transfer{DeliveryID: new(uint32(0))}},
		{
			&amqp.Attach{Name: "r", Role: amqp.Receiver, Source: &amqp.Terminus{Address: "q"}},
			&amqp.Flow{IncomingWindow: 9, Handle: new(uint32(0)), LinkCredit: new(uint32(5))},
			&amqp.Disposition{Role: amqp.Receiver, Settled: true, State: amqp.Accepted{}},
			&amqp.Flow{IncomingWindow: 9, Handle: new(uint32(0)), Drain: true}, &amqp.Detach{}, &amqp.End{}, &amqp.Close{},
		},
		{
			&amqp.Attach{Name: "m", Target: &amqp.Terminus{Address: "q/$management"}},
			&amqp.Attach{Name: "n", Handle: 1, Role: amqp.Receiver, Source: &amqp.Terminus{Address: "q/$management"}, Target: &amqp.Terminus{Address: "me"}},
			&amqp.Transfer{DeliveryID: new(uint32(0))},
		},
	} {
		stream := amqp.Append(nil, amqp.Frame{Body: &amqp.Begin{IncomingWindow: 10, OutgoingWindow: 10}})
		for _, body := range bodies {
			frame := amqp.Frame{Body: body}
			if _, is := body.(*amqp.Transfer); is {
				frame.Payload = message.Append(nil)
			}
			stream = amqp.Append(stream, frame)
		}
		f.Add(stream)
	}
	start := opening + string(amqp.Append(nil, amqp.Frame{Body: &amqp.Open{ContainerID: "fuzz", MaxFrameSize: 512}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := memory()
		require.NoError(t, m.Publish(t.Context(), "q", []bus.Message{{ID: "a", Body: make([]byte, 2000)}}))
		s := servicebus.New(m, servicebus.Options{MaxMessageSize: 4096})
		conn, err := s.Dial(t.Context())
		require.NoError(t, err)
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, _ = io.WriteString(conn, start)
		_, _ = conn.Write(raw)
		_ = conn.Close()
		<-read
		require.NoError(t, s.Close())
	})
}
