package servicebus

import (
	"context"
	"fmt"
	"strings"

	"liveops/core/bus"
	"liveops/core/fault"
	"liveops/local/servicebus/amqp"
)

// window is how many transfers a client may have on their way to a session.
const window = 2048

// session is a sequence of transfers each way. conn.mu guards it.
type session struct {
	conn    *conn
	channel uint16

	nextIncoming uint32 // transfer
	unreported   uint32 // incoming transfers that no flow told the client of
	nextOutgoing uint32 // transfer
	nextDelivery uint32
	room         uint32 // transfers that the client takes
	sinks        map[uint32]*sink
	sources      map[uint32]*source
	ended        map[uint32]bool      // handles of links that this side detached and the client has not
	unsettled    map[uint32]unsettled // the last maxUnsettled at most: others may be settled over the management link
	over         bool                 // this side ended it and the client has not
}

// unsettled is a delivery that the client has not settled.
type unsettled struct {
	source *source
	token  string
}

func newSession(c *conn, channel uint16, begin *amqp.Begin) *session {
	s := &session{
		conn: c, channel: channel, nextIncoming: begin.NextOutgoingID, room: begin.IncomingWindow,
		sinks: map[uint32]*sink{}, sources: map[uint32]*source{}, ended: map[uint32]bool{}, unsettled: map[uint32]unsettled{},
	}
	s.send(&amqp.Begin{RemoteChannel: &channel, IncomingWindow: window, OutgoingWindow: window, HandleMax: maxLinks - 1})
	return s
}

func (s *session) send(body amqp.Performative) {
	s.conn.out.frame(amqp.Frame{Channel: s.channel, Body: body})
}

// close ends the links. The locks of what was delivered stay.
func (s *session) close() {
	for _, k := range s.sinks {
		k.close()
	}
	for _, o := range s.sources {
		o.close()
	}
}

// dispatch does what a frame asks. An *amqp.Error ends the session, any other the connection.
func (s *session) dispatch(f amqp.Frame) error {
	switch body := f.Body.(type) {
	case *amqp.Attach:
		return s.attach(body)
	case *amqp.Flow:
		s.flow(body)
		return nil
	case *amqp.Transfer:
		return s.transfer(body, f.Payload)
	case *amqp.Disposition:
		if body.Role == amqp.Receiver {
			return s.settle(body)
		}
		return nil // what becomes of a transfer of the client's is not for him to say
	case *amqp.Detach:
		s.detached(body)
		return nil
	}
	return &amqp.Error{Condition: NotAllowed, Description: fmt.Sprintf("%T within a session", f.Body)}
}

// node is what a link leads to.
type node struct {
	queue      string // with its sub-queue; empty for the node of tokens
	management bool
}

// tokens is the address of the node that takes tokens.
const tokens = "$cbs"

func address(text string) node {
	if text == tokens {
		return node{}
	}
	queue, management := strings.CutSuffix(text, "/$management")
	return node{queue, management}
}

func (s *session) attach(a *amqp.Attach) error {
	if a.Handle >= maxLinks || s.sinks[a.Handle] != nil || s.sources[a.Handle] != nil || s.ended[a.Handle] {
		return &amqp.Error{Condition: NotAllowed, Description: "the handle is taken or beyond handle-max"}
	}
	sending := a.Role == amqp.Sender // the client is, so this is the receiving end
	far := a.Source
	if sending {
		far = a.Target
	}
	answer := &amqp.Attach{
		Name: a.Name, Handle: a.Handle, Role: !a.Role, SenderMode: a.SenderMode, ReceiverMode: a.ReceiverMode,
		Source: a.Source, Target: a.Target,
	}
	if sending {
		answer.MaxMessageSize = s.conn.server.options.MaxMessageSize
	}
	f, refusal := s.admit(far, sending)
	s.ended[a.Handle] = true // until the link is there
	s.conn.later(f.Delay, func() {
		if s.over || s.conn.sessions[s.channel] != s {
			return
		}
		if refusal != nil {
			answer.Source, answer.Target = nil, nil
			s.send(answer)
			s.send(&amqp.Detach{Handle: a.Handle, Closed: true, Error: refusal})
			return
		}
		s.send(answer)
		delete(s.ended, a.Handle)
		s.link(a, address(far.Address))
	})
	return nil
}

// link makes this side's end of a link.
func (s *session) link(a *amqp.Attach, to node) {
	if a.Role == amqp.Sender {
		k := &sink{session: s, handle: a.Handle, node: to, count: a.InitialDeliveryCount}
		s.sinks[a.Handle] = k
		k.grant()
		return
	}
	o := newSource(s, a, to)
	s.sources[a.Handle] = o
	if to.queue != "" && !to.management {
		s.conn.working.Go(o.pump)
	}
}

// admit gives what goes wrong with a link and why it cannot be; nil when it can.
func (s *session) admit(far *amqp.Terminus, sending bool) (Fault, *amqp.Error) {
	if far == nil || far.Address == "" {
		return Fault{}, &amqp.Error{Condition: NotImplemented, Description: "a link leads to a queue, its management, or " + tokens}
	}
	to := address(far.Address)
	if to.queue == "" {
		return Fault{}, nil
	}
	f := s.conn.server.fault(Operation{OpAttach, to.queue})
	return f, s.conn.perform(f, func(context.Context) *amqp.Error {
		if _, err := s.conn.server.broker.Counts(to.queue); err != nil {
			return &amqp.Error{Condition: NotFound, Description: fmt.Sprintf("the messaging entity %q could not be found", to.queue)}
		}
		if sending && !to.management && strings.HasSuffix(to.queue, bus.DeadLetters("")) {
			return &amqp.Error{Condition: NotAllowed, Description: "nothing is sent to a dead letter queue"}
		}
		return nil
	})
}

// flow takes in how much the client takes. One for a link that this side has just ended crossed its detach.
func (s *session) flow(f *amqp.Flow) {
	s.nextIncoming = f.NextOutgoingID
	next := uint32(0) // the initial outgoing id, when the client has not seen our begin
	if f.NextIncomingID != nil {
		next = *f.NextIncomingID
	}
	s.room = next + f.IncomingWindow - s.nextOutgoing
	if int32(s.room) < 0 {
		s.room = 0
	}
	for _, o := range s.sources {
		o.wakeUp()
	}
	if f.Handle == nil {
		if f.Echo {
			s.send(s.state())
		}
		return
	}
	if o := s.sources[*f.Handle]; o != nil {
		o.flow(f)
	} else if k := s.sinks[*f.Handle]; k != nil && f.Echo {
		k.grant()
	}
}

// state is a flow about the session.
func (s *session) state() *amqp.Flow {
	s.unreported = 0
	return &amqp.Flow{NextIncomingID: new(s.nextIncoming), IncomingWindow: window, NextOutgoingID: s.nextOutgoing, OutgoingWindow: window}
}

// transfer takes in a part of a message.
func (s *session) transfer(t *amqp.Transfer, payload []byte) error {
	s.nextIncoming++
	if s.unreported++; s.unreported >= window/2 {
		s.send(s.state())
	}
	k := s.sinks[t.Handle]
	if k == nil {
		if s.ended[t.Handle] {
			return nil // it crossed our detach
		}
		return &amqp.Error{Condition: UnknownHandle, Description: "a transfer on a handle without a link"}
	}
	return k.transfer(t, payload)
}

// detached ends a link that the client ended, or takes his answer to our end of it.
func (s *session) detached(d *amqp.Detach) {
	if s.unlink(d.Handle) {
		s.send(&amqp.Detach{Handle: d.Handle, Closed: d.Closed})
	} else {
		delete(s.ended, d.Handle)
	}
}

// detach ends a link from this side.
func (s *session) detach(handle uint32, why *amqp.Error) {
	if s.unlink(handle) {
		s.ended[handle] = true
		s.send(&amqp.Detach{Handle: handle, Closed: true, Error: why})
	}
}

// unlink closes this side's end of a link and forgets it. It says whether there was one.
func (s *session) unlink(handle uint32) bool {
	k, o := s.sinks[handle], s.sources[handle]
	switch {
	case k != nil:
		k.close()
		delete(s.sinks, handle)
	case o != nil:
		o.close()
		delete(s.sources, handle)
	default:
		return false
	}
	return true
}

// settle does what the client decided about deliveries.
func (s *session) settle(d *amqp.Disposition) error {
	if d.Last-d.First >= maxUnsettled {
		return &amqp.Error{Condition: NotAllowed, Description: "a range of more deliveries than can be unsettled"}
	}
	if d.State == nil && !d.Settled {
		return nil
	}
	for id := d.First; ; id++ {
		if held, ok := s.unsettled[id]; ok {
			s.settleOne(id, held, d)
		} else if !d.Settled {
			s.settled(amqp.Sender, id, condition(fault.LockLost.Errorf("the delivery is settled, or was forgotten")))
		}
		if id == d.Last {
			return nil
		}
	}
}

func (s *session) settleOne(id uint32, held unsettled, d *amqp.Disposition) {
	delete(s.unsettled, id)
	decision, queue, server := decided(d.State), held.source.node.queue, s.conn.server
	f := server.fault(Operation{decision.name, queue})
	refusal := s.conn.perform(f, func(ctx context.Context) *amqp.Error {
		return condition(decision.do(server.broker, ctx, queue, bus.Delivery{LockToken: held.token}))
	})
	if f.Kind == Detach {
		s.detach(held.source.handle, refusal)
	} else if !d.Settled { // the client waits for an answer
		s.conn.later(f.Delay, func() { s.settled(amqp.Sender, id, refusal) })
	}
}

// settled tells the client what became of a delivery: in the role of its receiver of one that he sent, in that of its sender
// of one that he settled.
func (s *session) settled(role bool, id uint32, refusal *amqp.Error) {
	var state amqp.State = amqp.Accepted{}
	if refusal != nil {
		state = amqp.Rejected{Error: refusal}
	}
	s.send(&amqp.Disposition{Role: role, First: id, Last: id, Settled: true, State: state})
}

// perform does an operation unless the fault is against it, and gives what the client is told.
func (c *conn) perform(f Fault, do func(ctx context.Context) *amqp.Error) *amqp.Error {
	switch f.Kind {
	case Refuse, Detach:
		return &amqp.Error{Condition: f.Condition, Description: onDemand}
	case Drop:
		c.cut()
		return &amqp.Error{Condition: ConnectionForced, Description: onDemand}
	case DropAfter:
		_ = do(c.ctx)
		c.cut()
		return &amqp.Error{Condition: ConnectionForced, Description: onDemand}
	case None:
	}
	return do(c.ctx)
}
