package bus

import (
	"cmp"
	"context"
	"errors"
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
	MaxBody          int           // of one message, in bytes; default the port's MaxBody
}

// Why a queue takes nothing, beside fault.Unavailable.
var (
	ErrQueueMissing = errors.New("the queue does not exist")
	ErrQueueFull    = errors.New("the queue is full")
)

// Counts is how many messages a queue holds, by state. Deferred are those nobody holds. Azure's ActiveMessageCount is
// Active + Locked + Deferred.
type Counts struct {
	Active, Locked, Deferred, Scheduled, Dead int
}

// State is what a message is when it is peeked. Its numbers are those of Service Bus.
type State int

// The states.
const (
	Active   State = iota // can be received, or somebody holds it
	Deferred              // set aside, whether or not somebody holds it
	Scheduled
)

// Peeked is a message that was looked at, without a lock.
type Peeked struct {
	Delivery
	State State
}

// Memory is a broker in this process with the semantics of Service Bus queues: peek-lock, delivery count, dead letters,
// duplicate detection, scheduled and deferred messages, time to live. It keeps nothing on disk. It is safe for concurrent
// use, and everything it promises holds at the time its clock tells.
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
	_ Peeker    = (*Memory)(nil)
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
		settings.MaxBody = cmp.Or(settings.MaxBody, MaxBody)
		m.queues[settings.Name] = &queue{
			Queue: settings, main: newShelf(), dead: newShelf(), changed: make(chan struct{}), remembered: map[string]time.Time{},
		}
	}
	return m
}

// Fail makes operations fail, for tests: hook is asked before each one with its name (publish, schedule, cancel, receive,
// receive-and-delete, receive-deferred, complete, abandon, release, defer, dead-letter, renew, peek) and queue, and its error is the
// operation's. It is also asked after what had its effect (published, scheduled, completed): then the effect stays and the
// caller does not learn of it. A nil hook ends it.
func (m *Memory) Fail(hook func(op, queue string) error) {
	if hook == nil {
		m.fail.Store(nil)
		return
	}
	m.fail.Store(&hook)
}

// Publish implements Publisher. The messages of one call are taken all or none. A full queue is fault.Unavailable.
func (m *Memory) Publish(ctx context.Context, name string, messages []Message) error {
	_, err := m.publish(ctx, "publish", "published", name, messages)
	return err
}

// Schedule is Publish and gives the sequence number of each message, by which Cancel finds it until it becomes active: then
// it gets another. 0 is a duplicate, which was dropped. A message that is not scheduled, or for an instant past, is active
// at once.
func (m *Memory) Schedule(ctx context.Context, name string, messages []Message) ([]int64, error) {
	return m.publish(ctx, "schedule", "scheduled", name, messages)
}

func (m *Memory) publish(ctx context.Context, op, done, name string, messages []Message) ([]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.failing(op, name); err != nil {
		return nil, err
	}
	q, ok := m.queues[name]
	if !ok {
		return nil, unknown(name)
	}
	if err := check(messages, q.MaxBody); err != nil {
		return nil, err
	}
	numbers, err := q.publish(m.now, messages)
	if err != nil {
		return nil, err
	}
	if err := m.failing(done, name); err != nil {
		return nil, err
	}
	return numbers, nil
}

// Cancel removes scheduled messages. When one of them is not scheduled, or not any more, that is fault.NotFound and none is
// removed. Their ids stay known to the duplicate detection.
func (m *Memory) Cancel(_ context.Context, name string, sequenceNumbers []int64) error {
	if err := m.failing("cancel", name); err != nil {
		return err
	}
	return m.at(name, func(q *queue, s *shelf, _ time.Time) error {
		found, err := s.scheduled.numbered(sequenceNumbers)
		for _, e := range found {
			q.forget(e)
		}
		return err
	})
}

// Receive implements Receiver. The bodies and properties of its deliveries are shared: they must not be changed.
func (m *Memory) Receive(ctx context.Context, name string, limit int) ([]Delivery, error) {
	return m.receive(ctx, "receive", name, limit, false)
}

// ReceiveAndDelete waits and gives messages as Receive does, and they are gone at once: its deliveries have no lock.
func (m *Memory) ReceiveAndDelete(ctx context.Context, name string, limit int) ([]Delivery, error) {
	return m.receive(ctx, "receive-and-delete", name, limit, true)
}

func (m *Memory) receive(ctx context.Context, op, name string, limit int, remove bool) ([]Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := m.failing(op, name); err != nil {
			return nil, err
		}
		q, s, err := m.find(name)
		if err != nil {
			return nil, err
		}
		got, changed, wait := q.take(m.now, s, limit, remove)
		if len(got) > 0 {
			return got, nil
		}
		await(ctx, changed, wait)
	}
}

// ReceiveDeferred locks deferred messages, in the order asked for; it does not wait. When one of them is not deferred or
// somebody holds it, that is fault.NotFound and none is locked. A message whose lock ends without success is deferred again.
func (m *Memory) ReceiveDeferred(_ context.Context, name string, sequenceNumbers []int64) ([]Delivery, error) {
	if err := m.failing("receive-deferred", name); err != nil {
		return nil, err
	}
	var got []Delivery
	err := m.at(name, func(q *queue, s *shelf, now time.Time) error {
		found, err := s.deferred.numbered(sequenceNumbers)
		for _, e := range found {
			q.lock(e, now)
			got = append(got, e.Delivery)
		}
		return err
	})
	return got, err
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

// Release gives the delivery back at once as if it had not been: it is not counted. A lost lock is fault.Conflict.
func (m *Memory) Release(_ context.Context, name string, d Delivery) error {
	return m.settle("release", name, d, func(q *queue, e *entry) {
		e.DeliveryCount--
		q.giveBack(e)
	})
}

// Defer sets a delivery aside: only ReceiveDeferred gives it again, by its sequence number. It expires as if it were active. A
// lost lock is fault.Conflict.
func (m *Memory) Defer(_ context.Context, name string, d Delivery) error {
	return m.settle("defer", name, d, func(q *queue, e *entry) {
		e.at.release(e)
		e.deferred = true
		e.at.lay(e)
	})
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

// Peek gives the first messages of a queue in order, in whatever state, without locking them or telling of their locks: at
// most limit, from a sequence number on.
func (m *Memory) Peek(name string, from int64, limit int) ([]Peeked, error) {
	if err := m.failing("peek", name); err != nil {
		return nil, err
	}
	var peeked []Peeked
	err := m.at(name, func(_ *queue, s *shelf, _ time.Time) error {
		var found []*entry
		for _, p := range []*pile{&s.active, &s.locked, &s.deferred, &s.scheduled} {
			for _, e := range p.entries {
				if e.SequenceNumber >= from {
					found = append(found, e)
				}
			}
		}
		slices.SortFunc(found, func(a, b *entry) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) })
		for _, e := range found[:max(0, min(limit, len(found)))] {
			p := Peeked{Delivery: e.Delivery}
			p.LockToken, p.LockedUntil = "", time.Time{}
			switch {
			case e.deferred:
				p.State = Deferred
			case e.places[0].in == &s.scheduled:
				p.State = Scheduled
			}
			peeked = append(peeked, p)
		}
		return nil
	})
	return peeked, err
}

// Backlog implements Peeker.
func (m *Memory) Backlog(ctx context.Context, name string) (Backlog, error) {
	if err := ctx.Err(); err != nil {
		return Backlog{}, err
	}
	if err := m.failing("peek", name); err != nil {
		return Backlog{}, err
	}
	var b Backlog
	err := m.at(name, func(_ *queue, s *shelf, _ time.Time) error {
		for _, p := range []*pile{&s.active, &s.locked} {
			for _, e := range p.entries {
				if e.deferred {
					continue
				}
				b.Messages++
				if b.Oldest.IsZero() || e.EnqueuedAt.Before(b.Oldest) {
					b.Oldest = e.EnqueuedAt
				}
			}
		}
		b.Messages = min(b.Messages, MaxBacklog)
		return nil
	})
	return b, err
}

// Counts says how many messages a queue holds now. Dead is 0 for a dead letter queue.
func (m *Memory) Counts(name string) (Counts, error) {
	var c Counts
	err := m.at(name, func(q *queue, s *shelf, _ time.Time) error {
		c = Counts{Active: s.active.Len(), Locked: s.locked.Len(), Deferred: s.deferred.Len(), Scheduled: s.scheduled.Len()}
		if s == q.main {
			c.Dead = q.dead.active.Len() + q.dead.locked.Len() + q.dead.deferred.Len()
		}
		return nil
	})
	return c, err
}

// Size is how many bytes the bodies of a queue and its dead letters have together.
func (m *Memory) Size(name string) (int64, error) {
	var size int64
	err := m.at(name, func(q *queue, _ *shelf, _ time.Time) error {
		size = q.bytes
		return nil
	})
	return size, err
}

// Queues gives the queues there are, by name, with every setting as it holds.
func (m *Memory) Queues() []Queue {
	queues := make([]Queue, 0, len(m.queues))
	for _, q := range m.queues {
		queues = append(queues, q.Queue)
	}
	slices.SortFunc(queues, func(a, b Queue) int { return cmp.Compare(a.Name, b.Name) })
	return queues
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

// at runs then on a queue now, under its lock, after everything that was due.
func (m *Memory) at(name string, then func(q *queue, s *shelf, now time.Time) error) error {
	q, s, err := m.find(name)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	now := m.now()
	q.sweep(now)
	return then(q, s, now)
}

// settle runs then on the entry that d holds.
func (m *Memory) settle(op, name string, d Delivery, then func(*queue, *entry)) error {
	if err := m.failing(op, name); err != nil {
		return err
	}
	return m.at(name, func(q *queue, s *shelf, _ time.Time) error {
		e, held := s.holders[d.LockToken]
		if !held {
			return fault.LockLost.Errorf("%s: the lock on the message has ended", op)
		}
		then(q, e)
		return nil
	})
}

func unknown(name string) error {
	return fault.BusUnavailable.Wrap(fmt.Errorf("%w: %q", ErrQueueMissing, name), "the queue cannot be reached, try again")
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
