package servicebus

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"liveops/core/bus"
	"liveops/local/servicebus/amqp"
)

// handful is how many messages are taken out of a queue at once, at most.
const handful = 256

// source is the end of a link on which a client receives: messages of a queue, or answers. conn.mu guards what changes.
type source struct {
	session *session
	handle  uint32
	node    node
	reply   string          // the address that answers are sent to; empty for a queue
	forget  bool            // messages are settled when they are sent: receive and delete
	ctx     context.Context // it ends with the link
	end     context.CancelFunc
	wake    chan struct{} // credit or room came

	count   uint32 // deliveries sent
	credit  uint32
	closed  bool
	answers []*amqp.Message // that the client has given no credit for
}

func newSource(s *session, a *amqp.Attach, from node) *source {
	o := &source{
		session: s, handle: a.Handle, node: from, forget: a.SenderMode == amqp.SenderSettled, wake: make(chan struct{}, 1),
	}
	if a.Target != nil && (from.queue == "" || from.management) {
		o.reply = a.Target.Address
	}
	o.ctx, o.end = context.WithCancel(s.conn.ctx)
	return o
}

func (o *source) close() {
	o.closed = true
	o.end()
}

func (o *source) wakeUp() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// flow takes in the client's credit.
func (o *source) flow(f *amqp.Flow) {
	if f.LinkCredit != nil {
		o.credit = *f.LinkCredit
		if f.DeliveryCount != nil {
			o.credit -= o.count - *f.DeliveryCount // what is on its way
		}
		if int32(o.credit) < 0 {
			o.credit = 0
		}
	}
	if f.Drain { // nothing more comes for this credit
		o.count, o.credit = o.count+o.credit, 0
	}
	if f.Drain || f.Echo {
		answer := o.session.state()
		answer.Handle, answer.DeliveryCount, answer.LinkCredit, answer.Drain = new(o.handle), new(o.count), new(o.credit), f.Drain
		o.session.send(answer)
	}
	o.pending()
	o.wakeUp()
}

// pump sends messages of the queue as long as the client has credit.
func (o *source) pump() {
	for {
		limit, ok := o.ready()
		if !ok {
			return
		}
		deliveries, err := o.receive(limit)
		if o.ctx.Err() != nil {
			o.release(deliveries)
			return
		}
		if err != nil {
			o.fail(condition(err))
			return
		}
		f := o.session.conn.server.fault(Operation{OpReceive, o.node.queue})
		if f.Delay > 0 && !o.late(f.Delay) {
			o.release(deliveries)
			return
		}
		switch f.Kind {
		case None:
			o.release(o.deliver(deliveries))
		case DropAfter: // the messages stay locked, as when they are lost on the way
			o.session.conn.cut()
			return
		case Drop:
			o.release(deliveries)
			o.session.conn.cut()
			return
		case Detach, Refuse:
			o.release(deliveries)
			o.fail(&amqp.Error{Condition: f.Condition, Description: onDemand})
			return
		}
	}
}

// late waits; it says whether the link is still there.
func (o *source) late(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-o.ctx.Done():
		return false
	}
}

// ready waits until messages can be sent, and gives how many; false when the link ended.
func (o *source) ready() (limit int, ok bool) {
	for {
		o.session.conn.mu.Lock()
		limit, ok = int(min(o.credit, o.session.room, handful)), !o.closed
		o.session.conn.mu.Unlock()
		if !ok || limit > 0 {
			return limit, ok
		}
		select {
		case <-o.wake:
		case <-o.ctx.Done():
			return 0, false
		}
	}
}

func (o *source) receive(limit int) ([]bus.Delivery, error) {
	broker := o.session.conn.server.broker
	if o.forget {
		return broker.ReceiveAndDelete(o.ctx, o.node.queue, limit)
	}
	return broker.Receive(o.ctx, o.node.queue, limit)
}

// deliver sends messages as the client takes them, and gives those back that cannot be sent any more.
func (o *source) deliver(deliveries []bus.Delivery) (rest []bus.Delivery) {
	for i, d := range deliveries {
		encoded := outgoing(d).Append(nil)
		for {
			o.session.conn.out.wait() // the client has not read what it got
			sent, over := o.sendMessage(d, encoded)
			if over {
				return deliveries[i:]
			}
			if sent {
				break
			}
			select {
			case <-o.wake:
			case <-o.ctx.Done():
				return deliveries[i:]
			}
		}
	}
	return nil
}

// sendMessage sends a message if the session has room; over says that it cannot be sent any more.
func (o *source) sendMessage(d bus.Delivery, encoded []byte) (sent, over bool) {
	s := o.session
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if o.closed || o.credit == 0 {
		return false, true
	}
	if s.room < o.frames(encoded) {
		return false, false
	}
	tag := uuid.UUID(guid(d.LockToken))
	if o.forget {
		tag = uuid.New()
	}
	id := o.send(encoded, tag[:], o.forget)
	if !o.forget {
		s.unsettled[id] = unsettled{o, d.LockToken}
		delete(s.unsettled, id-maxUnsettled)
	}
	return true, false
}

// part is how much of a message one frame carries, in bytes.
func (o *source) part() int { return int(o.session.conn.peerFrame) - transferSize }

func (o *source) frames(encoded []byte) uint32 {
	return uint32((len(encoded) + o.part() - 1) / o.part())
}

// send sends a message in as many frames as it takes.
func (o *source) send(encoded, tag []byte, settled bool) uint32 {
	s := o.session
	id, before := s.nextDelivery, s.nextOutgoing
	s.nextDelivery++
	o.credit--
	o.count++
	part := o.part()
	for first := true; first || len(encoded) > 0; first = false {
		t := &amqp.Transfer{Handle: o.handle, Settled: settled, More: len(encoded) > part}
		if first {
			t.DeliveryID, t.DeliveryTag, t.MessageFormat = new(id), tag, new(uint32(0))
		}
		payload := encoded[:min(part, len(encoded))]
		encoded = encoded[len(payload):]
		s.conn.out.frame(amqp.Frame{Channel: s.channel, Body: t, Payload: payload})
		s.nextOutgoing++
	}
	s.room -= min(s.room, s.nextOutgoing-before)
	return id
}

// transferSize is room for a transfer frame around its payload.
const transferSize = 128

// release gives messages back that no client saw.
func (o *source) release(deliveries []bus.Delivery) {
	if o.forget && len(deliveries) > 0 {
		o.session.conn.server.options.Log.Warn("messages are lost, as whoever receives and deletes takes into account",
			slog.String("queue", o.node.queue), slog.Int("messages", len(deliveries)))
		return
	}
	for _, d := range deliveries {
		_ = o.session.conn.server.broker.Release(context.WithoutCancel(o.ctx), o.node.queue, d) // else its lock ends
	}
}

func (o *source) fail(why *amqp.Error) {
	o.session.conn.mu.Lock()
	defer o.session.conn.mu.Unlock()
	if !o.closed {
		o.session.detach(o.handle, why)
	}
}

// maxAnswers is how many answers wait for a client's credit.
const maxAnswers = 1024

// answer sends an answer when the client has credit for it.
func (o *source) answer(m *amqp.Message) {
	if o.answers = append(o.answers, m); len(o.answers) > maxAnswers {
		o.session.detach(o.handle, &amqp.Error{Condition: ResourceLimit, Description: "answers wait for credit"})
		return
	}
	o.pending()
}

// pending sends the answers that there is credit for.
func (o *source) pending() {
	for len(o.answers) > 0 && o.credit > 0 && !o.closed {
		tag := uuid.New()
		o.send(o.answers[0].Append(nil), tag[:], true)
		o.answers = o.answers[1:]
	}
}

// decision is what a client decides about a delivery: an operation of the broker, and its name.
type decision struct {
	name string
	do   func(b Broker, ctx context.Context, queue string, d bus.Delivery) error
}

// decided is the decision that a state stands for. To settle without a state is to complete.
func decided(state amqp.State) decision {
	switch state := state.(type) {
	case amqp.Rejected:
		var info amqp.Map
		if state.Error != nil {
			info = state.Error.Info
		}
		return bury(text(info, deadLetterReason), text(info, deadLetterDetail))
	case amqp.Released:
		return decision{OpRelease, Broker.Release}
	case amqp.Modified:
		if state.UndeliverableHere {
			return decision{OpDefer, Broker.Defer}
		}
		return decision{OpAbandon, Broker.Abandon}
	}
	return decision{OpComplete, Broker.Complete}
}

func bury(reason, detail string) decision {
	return decision{OpDeadLetter, func(b Broker, ctx context.Context, queue string, d bus.Delivery) error {
		return b.DeadLetter(ctx, queue, d, reason, detail)
	}}
}
