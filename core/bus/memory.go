package bus

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"liveops/core/fault"
)

// The reasons a broker itself gives for a dead letter.
const (
	ReasonDeliveries = "MaxDeliveryCountExceeded"
	ReasonExpired    = "TTLExpiredException"
)

// Queue says how a queue of a Memory behaves. The zero value of each setting is its default.
type Queue struct {
	Name             string
	LockDuration     time.Duration // default 60s
	MaxDeliveryCount int           // default 10
	DuplicateWindow  time.Duration // how long a message id is remembered; 0: duplicates are not detected
	TimeToLive       time.Duration // after it a message that nobody holds becomes a dead letter; 0: never
	MaxMessages      int           // held at once, dead letters included; default 1,000,000
	MaxBytes         int64         // of their bodies; default 1 GiB
}

// Counts is how many messages a queue holds, by state. Azure's ActiveMessageCount is Active + Locked.
type Counts struct {
	Active, Locked, Scheduled, Dead int
}

// Memory is a broker in this process with the semantics of Service Bus queues: peek-lock, delivery count, dead letters,
// duplicate detection, scheduled messages, time to live. It keeps nothing on disk. It is safe for concurrent use, and
// everything it promises holds at the time its clock tells.
//
// Message ids are remembered up to MaxMessages; beyond that the oldest is forgotten before its window is over. A message
// without an id is never a duplicate. An unknown queue is fault.Unavailable, as in the real adapter: it is missing until
// somebody makes it. Nothing can be published to a dead letter queue. A dead letter goes on counting its deliveries, has no
// limit of them and no time to live.
type Memory struct {
	now    func() time.Time
	queues map[string]*queue
	fail   atomic.Pointer[func(op, queue string) error]
}

var (
	_ Publisher = (*Memory)(nil)
	_ Receiver  = (*Memory)(nil)
)

// NewMemory makes a broker with these queues, told the time by now. Receive also sets timers of the runtime; a test whose
// now does not follow them calls Wake after moving it.
func NewMemory(now func() time.Time, queues ...Queue) *Memory {
	m := &Memory{now: now, queues: map[string]*queue{}}
	for _, settings := range queues {
		settings.LockDuration = cmp.Or(settings.LockDuration, time.Minute)
		settings.MaxDeliveryCount = cmp.Or(settings.MaxDeliveryCount, 10)
		settings.MaxMessages = cmp.Or(settings.MaxMessages, 1_000_000)
		settings.MaxBytes = cmp.Or(settings.MaxBytes, 1<<30)
		m.queues[settings.Name] = &queue{
			Queue: settings, main: newShelf(), dead: newShelf(), changed: make(chan struct{}), remembered: map[string]time.Time{},
		}
	}
	return m
}

// Fail makes operations fail, for tests: hook is asked before each one with its name (publish, receive, complete, abandon,
// dead-letter, renew, peek) and queue, and its error is the operation's. It is also asked after what had its effect
// (published, completed): then the effect stays and the caller does not learn of it. A nil hook ends it.
func (m *Memory) Fail(hook func(op, queue string) error) {
	if hook == nil {
		m.fail.Store(nil)
		return
	}
	m.fail.Store(&hook)
}

// Publish implements Publisher. The messages of one call are taken all or none. A full queue is fault.Unavailable.
func (m *Memory) Publish(ctx context.Context, name string, messages []Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.failing("publish", name); err != nil {
		return err
	}
	if err := Check(messages); err != nil {
		return err
	}
	q, ok := m.queues[name]
	if !ok {
		return unknown(name)
	}
	if err := q.publish(m.now, messages); err != nil {
		return err
	}
	return m.failing("published", name)
}

// Receive implements Receiver. The bodies and properties of its deliveries are shared: they must not be changed.
func (m *Memory) Receive(ctx context.Context, name string, limit int) ([]Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := m.failing("receive", name); err != nil {
			return nil, err
		}
		q, s, err := m.find(name)
		if err != nil {
			return nil, err
		}
		got, changed, wait := q.take(m.now, s, limit)
		if len(got) > 0 {
			return got, nil
		}
		await(ctx, changed, wait)
	}
}

// Complete implements Receiver.
func (m *Memory) Complete(_ context.Context, name string, d Delivery) error {
	err := m.settle("complete", name, d, func(q *queue, e *entry) { q.forget(e) })
	if err != nil {
		return err
	}
	return m.failing("completed", name)
}

// Abandon implements Receiver. The message keeps its place: it comes before everything that was published after it.
func (m *Memory) Abandon(_ context.Context, name string, d Delivery) error {
	return m.settle("abandon", name, d, func(q *queue, e *entry) { q.giveBack(e) })
}

// DeadLetter moves a delivery to the dead letters with a reason. A lost lock is fault.Conflict.
func (m *Memory) DeadLetter(_ context.Context, name string, d Delivery, reason, detail string) error {
	return m.settle("dead-letter", name, d, func(q *queue, e *entry) { q.bury(e, reason, detail) })
}

// Renew holds a delivery for another LockDuration from now and gives the instant until which. A lost lock is
// fault.Conflict.
func (m *Memory) Renew(_ context.Context, name string, d Delivery) (time.Time, error) {
	var until time.Time
	err := m.settle("renew", name, d, func(q *queue, e *entry) {
		e.LockedUntil = m.now().Add(q.LockDuration)
		e.at.hold(e)
		until = e.LockedUntil
	})
	return until, err
}

// Peek gives the first messages of a queue in order, in whatever state, without locking them: at most limit, from a
// sequence number on.
func (m *Memory) Peek(name string, from int64, limit int) ([]Delivery, error) {
	if err := m.failing("peek", name); err != nil {
		return nil, err
	}
	q, s, err := m.find(name)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	q.sweep(m.now())
	var found []Delivery
	for _, p := range []*pile{&s.active, &s.locked, &s.scheduled} {
		for _, e := range p.entries {
			if e.SequenceNumber >= from {
				found = append(found, e.Delivery)
			}
		}
	}
	slices.SortFunc(found, func(a, b Delivery) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) })
	return found[:min(limit, len(found))], nil
}

// Counts says how many messages a queue holds now. Dead is 0 for a dead letter queue.
func (m *Memory) Counts(name string) (Counts, error) {
	q, s, err := m.find(name)
	if err != nil {
		return Counts{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	q.sweep(m.now())
	c := Counts{Active: s.active.Len(), Locked: s.locked.Len(), Scheduled: s.scheduled.Len()}
	if s == q.main {
		c.Dead = q.dead.active.Len() + q.dead.locked.Len()
	}
	return c, nil
}

// Wake makes every waiting Receive look at the clock again.
func (m *Memory) Wake() {
	for _, q := range m.queues {
		q.mu.Lock()
		q.shout()
		q.mu.Unlock()
	}
}

func (m *Memory) failing(op, name string) error {
	if hook := m.fail.Load(); hook != nil {
		return (*hook)(op, name)
	}
	return nil
}

func (m *Memory) find(name string) (*queue, *shelf, error) {
	base, isDead := strings.CutSuffix(name, DeadLetters(""))
	q, ok := m.queues[base]
	switch {
	case !ok:
		return nil, nil, unknown(name)
	case isDead:
		return q, q.dead, nil
	}
	return q, q.main, nil
}

// settle runs then on the entry that d holds, under the queue's lock.
func (m *Memory) settle(op, name string, d Delivery, then func(*queue, *entry)) error {
	if err := m.failing(op, name); err != nil {
		return err
	}
	q, s, err := m.find(name)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	q.sweep(m.now())
	e, held := s.holders[d.LockToken]
	if !held {
		return fault.LockLost.Errorf("%s: the lock on the message has ended", op)
	}
	then(q, e)
	return nil
}

func unknown(name string) error {
	return fault.BusUnavailable.Wrap(fmt.Errorf("queue %q does not exist", name), "the queue cannot be reached, try again")
}

func await(ctx context.Context, changed <-chan struct{}, wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-due:
	}
}
