package amqp

import "fmt"

// Performative is what a frame says: Open, Begin, Attach, Flow, Transfer, Disposition, Detach, End, Close, and those of SASL.
type Performative interface {
	code() uint64
	sasl() bool
	read(f *fields)
	write() []any
}

func performative(code uint64) Performative {
	switch code {
	case 0x10:
		return &Open{}
	case 0x11:
		return &Begin{}
	case 0x12:
		return &Attach{}
	case 0x13:
		return &Flow{}
	case 0x14:
		return &Transfer{}
	case 0x15:
		return &Disposition{}
	case 0x16:
		return &Detach{}
	case 0x17:
		return &End{}
	case 0x18:
		return &Close{}
	case 0x40:
		return &Mechanisms{}
	case 0x41:
		return &Init{}
	case 0x44:
		return &Outcome{}
	}
	return nil
}

// transport is embedded in the performatives of AMQP frames.
type transport struct{}

func (transport) sasl() bool { return false }

// security is embedded in the performatives of SASL frames.
type security struct{}

func (security) sasl() bool { return true }

// Open begins a connection.
type Open struct {
	transport
	ContainerID  string
	Hostname     string
	MaxFrameSize uint32
	ChannelMax   uint16
	IdleTimeout  uint32 // ms; 0: none
}

func (*Open) code() uint64 { return 0x10 }

func (o *Open) read(f *fields) {
	o.ContainerID, o.Hostname = need[string](f, 0, "container-id"), field(f, 1, "")
	o.MaxFrameSize, o.ChannelMax, o.IdleTimeout = field(f, 2, ^uint32(0)), field(f, 3, ^uint16(0)), field(f, 4, uint32(0))
}

func (o *Open) write() []any {
	return []any{o.ContainerID, unless(o.Hostname, ""), o.MaxFrameSize, o.ChannelMax, unless(o.IdleTimeout, 0)}
}

// Begin begins a session.
type Begin struct {
	transport
	RemoteChannel  *uint16 // in the answer
	NextOutgoingID uint32
	IncomingWindow uint32
	OutgoingWindow uint32
	HandleMax      uint32
}

func (*Begin) code() uint64 { return 0x11 }

func (b *Begin) read(f *fields) {
	b.RemoteChannel, b.NextOutgoingID = maybe[uint16](f, 0), need[uint32](f, 1, "next-outgoing-id")
	b.IncomingWindow, b.OutgoingWindow = need[uint32](f, 2, "incoming-window"), need[uint32](f, 3, "outgoing-window")
	b.HandleMax = field(f, 4, ^uint32(0))
}

func (b *Begin) write() []any {
	return []any{given(b.RemoteChannel), b.NextOutgoingID, b.IncomingWindow, b.OutgoingWindow, b.HandleMax}
}

// The roles of a link's ends, and the settlement modes.
const (
	Sender   = false
	Receiver = true

	SenderSettled  = uint8(1)
	SenderMixed    = uint8(2)
	ReceiverFirst  = uint8(0)
	ReceiverSecond = uint8(1)
)

// Attach begins a link.
type Attach struct {
	transport
	Name                 string
	Handle               uint32
	Role                 bool
	SenderMode           uint8
	ReceiverMode         uint8
	Source, Target       *Terminus
	InitialDeliveryCount uint32 // of a sender
	MaxMessageSize       uint64 // bytes; 0: any
}

// Terminus is one end of a link.
type Terminus struct{ Address string }

func (*Attach) code() uint64 { return 0x12 }

func (a *Attach) read(f *fields) {
	a.Name, a.Handle, a.Role = need[string](f, 0, "name"), need[uint32](f, 1, "handle"), need[bool](f, 2, "role")
	a.SenderMode, a.ReceiverMode = field(f, 3, SenderMixed), field(f, 4, ReceiverFirst)
	a.Source, a.Target = terminus(f, 5, 0x28), terminus(f, 6, 0x29)
	a.InitialDeliveryCount, a.MaxMessageSize = field(f, 9, uint32(0)), field(f, 10, uint64(0))
}

func (a *Attach) write() []any {
	list := []any{
		a.Name, a.Handle, a.Role, a.SenderMode, a.ReceiverMode, a.Source.encoded(0x28), a.Target.encoded(0x29), nil, nil, nil,
		unless(a.MaxMessageSize, 0),
	}
	if sending := !a.Role; sending {
		list[9] = a.InitialDeliveryCount
	}
	return list
}

// terminus reads a source or a target. One of another kind, such as a transaction coordinator, has no address.
func terminus(f *fields, i int, code uint64) *Terminus {
	described, is := f.at(i).(Described)
	if !is {
		return nil
	}
	t := &Terminus{}
	if list, _ := described.Value.([]any); described.Descriptor == code && len(list) > 0 {
		t.Address, _ = list[0].(string)
	}
	return t
}

func (t *Terminus) encoded(code uint64) any {
	if t == nil {
		return nil
	}
	return Described{code, []any{t.Address}}
}

// Flow tells the other end how much it may send.
type Flow struct {
	transport
	NextIncomingID *uint32
	IncomingWindow uint32
	NextOutgoingID uint32
	OutgoingWindow uint32
	Handle         *uint32 // nil: it is about the session only
	DeliveryCount  *uint32
	LinkCredit     *uint32
	Drain, Echo    bool
}

func (*Flow) code() uint64 { return 0x13 }

func (w *Flow) read(f *fields) {
	w.NextIncomingID, w.IncomingWindow = maybe[uint32](f, 0), need[uint32](f, 1, "incoming-window")
	w.NextOutgoingID, w.OutgoingWindow = need[uint32](f, 2, "next-outgoing-id"), need[uint32](f, 3, "outgoing-window")
	w.Handle, w.DeliveryCount, w.LinkCredit = maybe[uint32](f, 4), maybe[uint32](f, 5), maybe[uint32](f, 6)
	w.Drain, w.Echo = field(f, 8, false), field(f, 9, false)
}

func (w *Flow) write() []any {
	return []any{
		given(w.NextIncomingID), w.IncomingWindow, w.NextOutgoingID, w.OutgoingWindow, given(w.Handle),
		given(w.DeliveryCount), given(w.LinkCredit), nil, unless(w.Drain, false), unless(w.Echo, false),
	}
}

// BatchFormat is the message format of a batch: each data section is an encoded message.
const BatchFormat = 0x80013700

// Transfer carries a message, or a part of one.
type Transfer struct {
	transport
	Handle        uint32
	DeliveryID    *uint32 // on the first frame of a delivery
	DeliveryTag   []byte
	MessageFormat *uint32
	Settled       bool
	More          bool // another frame of this delivery follows
	Aborted       bool
}

func (*Transfer) code() uint64 { return 0x14 }

func (t *Transfer) read(f *fields) {
	t.Handle, t.DeliveryID, t.DeliveryTag = need[uint32](f, 0, "handle"), maybe[uint32](f, 1), field[[]byte](f, 2, nil)
	t.MessageFormat, t.Settled, t.More = maybe[uint32](f, 3), field(f, 4, false), field(f, 5, false)
	t.Aborted = field(f, 9, false)
}

func (t *Transfer) write() []any {
	var tag any
	if t.DeliveryTag != nil {
		tag = t.DeliveryTag
	}
	return []any{
		t.Handle, given(t.DeliveryID), tag, given(t.MessageFormat), t.Settled, unless(t.More, false), nil, nil, nil,
		unless(t.Aborted, false),
	}
}

// Disposition tells what became of deliveries First to Last.
type Disposition struct {
	transport
	Role        bool
	First, Last uint32
	Settled     bool
	State       State // nil: none
}

func (*Disposition) code() uint64 { return 0x15 }

func (d *Disposition) read(f *fields) {
	d.Role, d.First = need[bool](f, 0, "role"), need[uint32](f, 1, "first")
	d.Last, d.Settled = field(f, 2, d.First), field(f, 3, false)
	d.State = state(f, 4)
}

func (d *Disposition) write() []any {
	var state any
	if d.State != nil {
		state = d.State.encoded()
	}
	return []any{d.Role, d.First, d.Last, d.Settled, state}
}

// Detach ends a link.
type Detach struct {
	transport
	Handle uint32
	Closed bool
	Error  *Error
}

func (*Detach) code() uint64 { return 0x16 }

func (d *Detach) read(f *fields) {
	d.Handle, d.Closed, d.Error = need[uint32](f, 0, "handle"), field(f, 1, false), failure(f, 2)
}

func (d *Detach) write() []any { return []any{d.Handle, d.Closed, d.Error.encoded()} }

// End ends a session.
type End struct {
	transport
	Error *Error
}

func (*End) code() uint64     { return 0x17 }
func (e *End) read(f *fields) { e.Error = failure(f, 0) }
func (e *End) write() []any   { return []any{e.Error.encoded()} }

// Close ends a connection.
type Close struct {
	transport
	Error *Error
}

func (*Close) code() uint64     { return 0x18 }
func (c *Close) read(f *fields) { c.Error = failure(f, 0) }
func (c *Close) write() []any   { return []any{c.Error.encoded()} }

// Mechanisms names the ways to authenticate.
type Mechanisms struct {
	security
	Names []Symbol
}

func (*Mechanisms) code() uint64 { return 0x40 }

func (m *Mechanisms) read(f *fields) {
	array, _ := f.at(0).(Array)
	for _, name := range array {
		if symbol, is := name.(Symbol); is {
			m.Names = append(m.Names, symbol)
		}
	}
}

func (m *Mechanisms) write() []any {
	array := Array{}
	for _, name := range m.Names {
		array = append(array, name)
	}
	return []any{array}
}

// Init chooses one of the Mechanisms.
type Init struct {
	security
	Mechanism Symbol
}

func (*Init) code() uint64     { return 0x41 }
func (i *Init) read(f *fields) { i.Mechanism = need[Symbol](f, 0, "mechanism") }
func (i *Init) write() []any   { return []any{i.Mechanism} }

// Outcome ends the SASL exchange.
type Outcome struct {
	security
	Code uint8 // 0: authenticated
}

func (*Outcome) code() uint64     { return 0x44 }
func (o *Outcome) read(f *fields) { o.Code = need[uint8](f, 0, "code") }
func (o *Outcome) write() []any   { return []any{o.Code} }

// Error is why something ended or was refused.
type Error struct {
	Condition   Symbol
	Description string
	Info        Map
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Condition, e.Description) }

func failure(f *fields, i int) *Error {
	described, is := f.at(i).(Described)
	list, _ := described.Value.([]any)
	if !is || described.Descriptor != uint64(0x1d) {
		return nil
	}
	in := fields{list: list}
	e := &Error{need[Symbol](&in, 0, "condition"), field(&in, 1, ""), field[Map](&in, 2, nil)}
	if in.err != nil {
		f.err = in.err
	}
	return e
}

func (e *Error) encoded() any {
	if e == nil {
		return nil
	}
	list := []any{e.Condition, unless(e.Description, ""), nil}
	if e.Info != nil {
		list[2] = e.Info
	}
	return Described{uint64(0x1d), trimmed(list)}
}

// State is what became of a delivery: Accepted, Rejected, Released or Modified.
type State interface{ encoded() any }

// Accepted says that it was taken, or is done.
type Accepted struct{}

// Rejected says that it never will be.
type Rejected struct{ Error *Error }

// Released gives it back as if it had not been delivered.
type Released struct{}

// Modified gives it back.
type Modified struct {
	Failed            bool
	UndeliverableHere bool
}

func (Accepted) encoded() any   { return Described{uint64(0x24), []any{}} }
func (r Rejected) encoded() any { return Described{uint64(0x25), trimmed([]any{r.Error.encoded()})} }
func (Released) encoded() any   { return Described{uint64(0x26), []any{}} }

func (m Modified) encoded() any {
	return Described{uint64(0x27), []any{m.Failed, m.UndeliverableHere}}
}

// state reads an outcome; anything else, such as how far a delivery was received, is none.
func state(f *fields, i int) State {
	described, _ := f.at(i).(Described)
	list, _ := described.Value.([]any)
	in := fields{list: list}
	switch described.Descriptor {
	case uint64(0x24):
		return Accepted{}
	case uint64(0x25):
		return Rejected{failure(&in, 0)}
	case uint64(0x26):
		return Released{}
	case uint64(0x27):
		return Modified{field(&in, 0, false), field(&in, 1, false)}
	}
	return nil
}

// fields are the elements of a composite's list. The first thing wrong with them is kept.
type fields struct {
	list []any
	err  error
}

// at gives an element; nil when it is null or left out.
func (f *fields) at(i int) any {
	if i >= len(f.list) {
		return nil
	}
	return f.list[i]
}

// maybe reads an element that may be missing.
func maybe[T any](f *fields, i int) *T {
	switch v := f.at(i).(type) {
	case nil:
	case T:
		return &v
	default:
		f.err = fmt.Errorf("element %d is a %T", i, v)
	}
	return nil
}

// field reads an element that has a default.
func field[T any](f *fields, i int, otherwise T) T {
	if v := maybe[T](f, i); v != nil {
		return *v
	}
	return otherwise
}

// need reads an element that must be there.
func need[T any](f *fields, i int, name string) (v T) {
	if p := maybe[T](f, i); p != nil {
		return *p
	}
	if f.err == nil {
		f.err = fmt.Errorf("%s is missing", name)
	}
	return v
}

// given encodes what may be missing.
func given[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// unless leaves out the default.
func unless[T comparable](v, otherwise T) any {
	if v == otherwise {
		return nil
	}
	return v
}
