package main

import (
	"bytes"
	"context"
	"net/http"
	"sync/atomic"

	"liveops/core/bus"
	"liveops/local/broker"
)

// tally counts what happened.
type tally struct {
	requests, retried, unexpected                atomic.Int64
	published, delivered, redelivered, forwarded atomic.Int64 // messages; forwarded: deliveries to progression
	deadLetters                                  atomic.Int64
	handlerKills, podKills                       atomic.Int64
	sqlKills, sqlStops, cacheWipes, cuts         atomic.Int64
	released                                     int
}

// answered looks at an answer that was no 202. An internal error of the handler is its own, whatever died: it is told apart
// from the host's by its code.
func (t *tally) answered(status int, text []byte) {
	if status == http.StatusInternalServerError && bytes.Contains(text, []byte(`"code"`)) {
		t.unexpected.Add(1)
	}
}

// counting is a broker that counts what passes.
type counting struct {
	broker.Bus
	tally *tally
}

// Publish implements bus.Publisher.
func (c counting) Publish(ctx context.Context, queue string, messages []bus.Message) error {
	err := c.Bus.Publish(ctx, queue, messages)
	if err == nil {
		c.tally.published.Add(int64(len(messages)))
	}
	return err
}

// Receive implements bus.Receiver.
func (c counting) Receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	deliveries, err := c.Bus.Receive(ctx, queue, limit)
	for _, d := range deliveries {
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
