package main

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"liveops/core/bus"
	"liveops/local/servicebus"
)

// tally counts what happened.
type tally struct {
	requests, retried, unexpected                atomic.Int64
	published, delivered, redelivered, forwarded atomic.Int64 // messages; forwarded: deliveries to progression
	deadLetters                                  atomic.Int64
	handlerKills, podKills                       atomic.Int64
	sqlKills, sqlStops, cacheWipes, cuts         atomic.Int64
	faults                                       [servicebus.DropAfter + 1]atomic.Int64 // of operations of the broker, by kind; None: not wrong
	released                                     int
}

// answered looks at an answer that was no 202. An internal error of the handler is its own, whatever died: it is told apart
// from the host's by its code.
func (t *tally) answered(status int, text []byte) {
	if status == http.StatusInternalServerError && bytes.Contains(text, []byte(`"code"`)) {
		t.unexpected.Add(1)
	}
}

// counting is a broker that counts what passes. A delivery that comes again because its client gave it back unseen is not
// counted again.
type counting struct {
	*bus.Memory
	tally *tally

	mu   sync.Mutex
	most map[numbered]int // deliveries so far
}

// numbered is a message of a queue.
type numbered struct {
	queue  string
	number int64
}

// Publish implements bus.Publisher.
func (c *counting) Publish(ctx context.Context, queue string, messages []bus.Message) error {
	err := c.Memory.Publish(ctx, queue, messages)
	if err == nil {
		c.tally.published.Add(int64(len(messages)))
	}
	return err
}

// Receive implements bus.Receiver.
func (c *counting) Receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	deliveries, err := c.Memory.Receive(ctx, queue, limit)
	for _, d := range deliveries {
		if c.known(queue, d) {
			continue
		}
		switch {
		case d.DeadLetterSource != "":
			c.tally.deadLetters.Add(1)
			continue
		case d.DeliveryCount > 1:
			c.tally.redelivered.Add(1)
		default:
			c.tally.delivered.Add(1)
		}
		if queue == progressionQueue {
			c.tally.forwarded.Add(1)
		}
	}
	return deliveries, err
}

// known says whether this delivery was given back before: the broker does not count those, so the next one is the same.
func (c *counting) known(queue string, d bus.Delivery) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == nil {
		c.most = map[numbered]int{}
	}
	m := numbered{queue, d.SequenceNumber}
	if d.DeliveryCount <= c.most[m] {
		return true
	}
	c.most[m] = d.DeliveryCount
	return false
}
