package servicebus

import (
	"context"
	"errors"

	"liveops/core/bus"
	"liveops/local/servicebus/amqp"
)

// credit is how many messages a client may send before it is given more.
const credit = 512

// sink is the end of a link on which a client sends: messages to a queue, or requests. conn.mu guards it.
type sink struct {
	session *session
	handle  uint32
	node    node

	count   uint32 // deliveries that came
	credit  uint32
	partial *partial // the message that has not come whole
}

// partial is what has come of a message.
type partial struct {
	id      uint32
	format  uint32
	settled bool
	content []byte
}

func (k *sink) close() {
	if k.partial != nil {
		k.session.conn.partial -= len(k.partial.content)
		k.partial = nil
	}
}

// grant fills up the client's credit.
func (k *sink) grant() {
	k.credit = credit
	f := k.session.state()
	f.Handle, f.DeliveryCount, f.LinkCredit = new(k.handle), new(k.count), new(k.credit)
	k.session.send(f)
}

func (k *sink) transfer(t *amqp.Transfer, payload []byte) error {
	c := k.session.conn
	p := k.partial
	if p == nil {
		if t.DeliveryID == nil {
			return &amqp.Error{Condition: NotAllowed, Description: "the first transfer of a delivery has no delivery-id"}
		}
		k.credit--
		k.count++
		p = &partial{id: *t.DeliveryID}
		if t.MessageFormat != nil {
			p.format = *t.MessageFormat
		}
	}
	p.settled = p.settled || t.Settled
	if t.Aborted {
		k.close()
		return nil
	}
	if limit := c.server.options.MaxMessageSize; uint64(len(p.content)+len(payload)) > limit {
		k.session.detach(k.handle, &amqp.Error{Condition: MessageTooLarge, Description: "the message is larger than the link takes"})
		return nil
	}
	if t.More {
		if c.partial += len(payload); c.partial > maxPartial {
			return &amqp.Error{Condition: ResourceLimit, Description: "too many unfinished messages"}
		}
		p.content = append(p.content, payload...)
		k.partial = p
		return nil
	}
	k.close()
	if p.content == nil {
		p.content = payload
	} else {
		p.content = append(p.content, payload...)
	}
	k.take(p)
	if k.credit < credit/2 && k.session.sinks[k.handle] == k {
		k.grant()
	}
	return nil
}

// take does what a whole message asks.
func (k *sink) take(p *partial) {
	if k.node.queue == "" || k.node.management {
		k.session.conn.answer(k, p)
		return
	}
	c := k.session.conn
	f := c.server.fault(Operation{OpSend, k.node.queue})
	refusal := c.perform(f, func(ctx context.Context) *amqp.Error {
		messages, err := decode(p.format, p.content)
		if err != nil {
			return &amqp.Error{Condition: DecodeError, Description: err.Error()}
		}
		return condition(c.server.broker.Publish(ctx, k.node.queue, messages))
	})
	if f.Kind == Detach {
		k.session.detach(k.handle, refusal)
		return
	}
	k.settle(p, refusal, f)
}

// settle tells the client what became of a message of his.
func (k *sink) settle(p *partial, refusal *amqp.Error, f Fault) {
	if p.settled {
		return
	}
	k.session.conn.later(f.Delay, func() { k.session.settled(amqp.Receiver, p.id, refusal) })
}

// decode reads a message or a batch of them.
func decode(format uint32, content []byte) ([]bus.Message, error) {
	outer, err := amqp.ParseMessage(content)
	if err != nil {
		return nil, err
	}
	if format != amqp.BatchFormat {
		return []bus.Message{incoming(outer)}, nil
	}
	if len(outer.Data) == 0 {
		return nil, errors.New("a batch without messages")
	}
	messages := make([]bus.Message, len(outer.Data))
	for i, encoded := range outer.Data {
		m, err := amqp.ParseMessage(encoded)
		if err != nil {
			return nil, err
		}
		messages[i] = incoming(m)
	}
	return messages, nil
}
