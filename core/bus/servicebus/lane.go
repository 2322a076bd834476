package servicebus

import (
	"context"
	"errors"
	"sync"
	"time"

	"liveops/core/bus"
	"liveops/core/fault"
)

const (
	// linger is how long the first message of a batch waits for company, while another batch is under way.
	linger = 2 * time.Millisecond
	// batchMessages is how many messages a batch holds at most.
	batchMessages = 500
	// batchLimit bounds a batch, from opening its link to the confirmation of the last try.
	batchLimit = 7 * time.Second
)

// batch is what the broker takes and confirms as one.
type batch interface {
	// add takes a message in, or fails and changes nothing. errFull means that there is no room for it.
	add(m bus.Message) error
	// send returns when the broker confirmed the batch.
	send(ctx context.Context) error
}

var errFull = errors.New("the batch has no room for the message")

// lane puts the messages of one queue into batches, in the order in which the calls came. A call that finds no batch under
// way is sent at once; while one is, the next gathers calls until it is full, until its first one has lingered, or until
// nothing is under way any more. Several may be.
type lane struct {
	open    func(ctx context.Context) (batch, error) // an empty batch
	most    int                                      // batches under way at a time
	running *sync.WaitGroup

	mu       sync.Mutex
	waiting  []*call // in order of arrival
	messages int     // of waiting
	bytes    int     // of their bodies
	underWay int
	filling  bool // one at a time, or order would be lost
	draining bool
	alarm    *time.Timer // nil: not set
}

// call is one call of publish. Its messages go together; done has room for its result.
type call struct {
	left     func() error // the caller's reason to have left; nil: he waits
	messages []bus.Message
	bytes    int
	since    time.Time
	done     chan error
}

// publish returns when the broker confirmed all messages, and with an error when it did not, or when ctx ended first. Then
// messages may still be read for a moment, and sent.
func (l *lane) publish(ctx context.Context, messages []bus.Message) error {
	c := &call{left: ctx.Err, messages: messages, since: time.Now(), done: make(chan error, 1)}
	for _, m := range messages {
		c.bytes += len(m.Body)
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, c)
	l.messages, l.bytes = l.messages+len(c.messages), l.bytes+c.bytes
	l.advance()
	l.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain lets nothing linger any more.
func (l *lane) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	l.advance()
}

// advance sends the next batch on its way when it is time, and sees to it that it is asked again. The mutex is held, as
// for ready.
func (l *lane) advance() {
	if len(l.waiting) == 0 || l.filling || l.underWay == l.most {
		return
	}
	if wait := l.ready(); wait > 0 {
		if l.alarm == nil {
			l.alarm = time.AfterFunc(wait, func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.alarm = nil
				l.advance()
			})
		}
		return
	}
	if l.alarm != nil && l.alarm.Stop() {
		l.alarm = nil
	}
	l.filling = true
	l.underWay++
	l.running.Go(l.run)
}

// ready is how long the next batch still lingers.
func (l *lane) ready() time.Duration {
	if l.underWay == 0 || l.draining || l.messages >= batchMessages || l.bytes >= bus.MaxBody {
		return 0
	}
	return linger - time.Since(l.waiting[0].since)
}

// run fills a batch, sends it and tells its callers.
func (l *lane) run() {
	ctx, cancel := context.WithTimeout(context.Background(), batchLimit) // a caller who leaves does not take the others along
	defer cancel()
	calls, batches, err := l.fill(ctx)
	l.mu.Lock()
	l.filling = false
	l.advance()
	l.mu.Unlock()

	for _, b := range batches {
		if err == nil {
			err = b.send(ctx)
		}
	}
	l.mu.Lock()
	l.underWay--
	l.advance()
	l.mu.Unlock()
	for _, c := range calls {
		c.done <- err
	}
}

// fill takes calls into one batch, in order, as long as they fit whole. A call that does not fit an empty one gets batches
// of its own, and a message that does not is its call's failure, before anything of it is sent. When no batch can be had,
// everybody who waits is among the calls.
func (l *lane) fill(ctx context.Context) (calls []*call, batches []batch, err error) {
	b, err := l.open(ctx)
	if err != nil {
		for l.first() != nil {
			calls = append(calls, l.take())
		}
		return calls, nil, err
	}
	for c := l.first(); c != nil; c = l.first() {
		if c.left() != nil {
			l.take()
			continue
		}
		added, failed := addAll(b, c.messages)
		if failed == nil {
			calls = append(calls, l.take())
			continue
		}
		if added > 0 { // and cannot be taken out again
			if b, err = l.pack(ctx, calls); err != nil {
				return calls, nil, err
			}
		}
		if errors.Is(failed, errFull) {
			if len(calls) > 0 {
				break // it begins the next batch
			}
			if batches, failed = l.split(ctx, c.messages); failed == nil {
				return []*call{l.take()}, batches, nil
			}
		}
		l.take().done <- failed
	}
	if len(calls) == 0 {
		return nil, nil, nil
	}
	return calls, []batch{b}, nil
}

// pack makes a batch of calls that fitted one before.
func (l *lane) pack(ctx context.Context, calls []*call) (batch, error) {
	b, err := l.open(ctx)
	for _, c := range calls {
		if err == nil {
			_, err = addAll(b, c.messages)
		}
	}
	return b, err
}

// split makes as few batches of messages as hold them.
func (l *lane) split(ctx context.Context, messages []bus.Message) ([]batch, error) {
	var batches []batch
	for len(messages) > 0 {
		b, err := l.open(ctx)
		if err != nil {
			return nil, err
		}
		added, err := addAll(b, messages)
		switch {
		case err != nil && !errors.Is(err, errFull):
			return nil, err
		case added == 0:
			return nil, fault.EventTooLarge.Wrap(err, "a message is larger than the queue takes")
		}
		batches, messages = append(batches, b), messages[added:]
	}
	return batches, nil
}

// addAll adds messages until one fails, and says how many it added.
func addAll(b batch, messages []bus.Message) (int, error) {
	for i, m := range messages {
		if err := b.add(m); err != nil {
			return i, err
		}
	}
	return len(messages), nil
}

// first is the call whose turn it is; nil: nobody waits. Only fill takes it away.
func (l *lane) first() *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	return l.waiting[0]
}

func (l *lane) take() *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	l.messages, l.bytes = l.messages-len(c.messages), l.bytes-c.bytes
	return c
}
