package bus

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

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

// queue is a queue with its dead letters, under one mutex.
type queue struct {
	Queue
	mu         sync.Mutex
	main, dead *shelf
	messages   int
	bytes      int64
	remembered map[string]time.Time // until when, by message id
	order      []string             // of remembered, oldest first
	waiting    bool                 // somebody waits for changed
	news       bool                 // since the mutex was taken, something became receivable
	changed    chan struct{}
}

// entry is one message; it stands in exactly one pile of one shelf.
type entry struct {
	Delivery
	at    *shelf
	in    *pile
	index int
}

// shelf holds what can be received under one name.
type shelf struct {
	active    pile // by sequence number
	locked    pile // by the end of the lock
	scheduled pile // by the instant they become active
	holders   map[string]*entry
	sequence  int64
}

func newShelf() *shelf {
	bySequence := func(a, b *entry) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) }
	return &shelf{
		holders: map[string]*entry{},
		active:  pile{compare: bySequence},
		locked: pile{compare: func(a, b *entry) int {
			return cmp.Or(a.LockedUntil.Compare(b.LockedUntil), bySequence(a, b))
		}},
		scheduled: pile{compare: func(a, b *entry) int {
			return cmp.Or(a.ScheduledAt.Compare(b.ScheduledAt), bySequence(a, b))
		}},
	}
}

// add makes e the last message of the shelf.
func (s *shelf) add(e *entry, p *pile) {
	s.sequence++
	e.SequenceNumber, e.at = s.sequence, s
	p.put(e)
}

// hold records a lock, new or renewed.
func (s *shelf) hold(e *entry) {
	s.holders[e.LockToken] = e
	s.locked.put(e)
}

// release ends the lock of e, if it has one, and takes it out of its pile.
func (s *shelf) release(e *entry) {
	delete(s.holders, e.LockToken)
	e.LockToken, e.LockedUntil = "", time.Time{}
	e.in.remove(e)
}

func (q *queue) publish(clock func() time.Time, messages []Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	now := clock()
	q.sweep(now)
	var fresh []Message
	seen := map[string]bool{}
	size := int64(0)
	for _, m := range messages {
		if q.DuplicateWindow > 0 && m.ID != "" {
			if _, known := q.remembered[m.ID]; known || seen[m.ID] {
				continue
			}
			seen[m.ID] = true
		}
		fresh = append(fresh, m)
		size += int64(len(m.Body))
	}
	if q.messages+len(fresh) > q.MaxMessages || q.bytes+size > q.MaxBytes {
		return fault.BusUnavailable.Wrap(fmt.Errorf("queue %q is full: %d messages, %d bytes", q.Name, q.messages, q.bytes),
			"the queue is full, try again")
	}
	for _, m := range fresh {
		if seen[m.ID] {
			q.remember(m.ID, now)
		}
		m.Body, m.Properties = bytes.Clone(m.Body), maps.Clone(m.Properties)
		e := &entry{Delivery: Delivery{Message: m, EnqueuedAt: now}}
		q.messages++
		if m.ScheduledAt.After(now) {
			q.main.add(e, &q.main.scheduled)
		} else {
			q.activate(e, now)
		}
	}
	q.bytes += size
	return nil
}

func (q *queue) remember(id string, now time.Time) {
	if len(q.order) >= q.MaxMessages {
		delete(q.remembered, q.order[0])
		q.order = q.order[1:]
	}
	q.remembered[id] = now.Add(q.DuplicateWindow)
	q.order = append(q.order, id)
}

// take locks up to limit messages. When there are none it gives what to wait for: a channel, and the time until something
// becomes due (negative: nothing will).
func (q *queue) take(clock func() time.Time, s *shelf, limit int) ([]Delivery, <-chan struct{}, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	now := clock()
	q.sweep(now)
	var got []Delivery
	for len(got) < max(limit, 1) && s.active.Len() > 0 {
		e := s.active.entries[0]
		s.active.remove(e)
		e.DeliveryCount++
		e.LockToken = uuid.NewString()
		e.LockedUntil = now.Add(q.LockDuration)
		s.hold(e)
		got = append(got, e.Delivery)
	}
	if len(got) > 0 {
		return got, nil, 0
	}
	q.waiting = true
	wait := time.Duration(-1)
	if due := q.due(); !due.IsZero() {
		wait = max(0, due.Sub(now))
	}
	return nil, q.changed, wait
}

// sweep does everything that became due.
func (q *queue) sweep(now time.Time) {
	for len(q.order) > 0 && !q.remembered[q.order[0]].After(now) {
		delete(q.remembered, q.order[0])
		q.order = q.order[1:]
	}
	for e := q.main.scheduled.first(); e != nil && !e.ScheduledAt.After(now); e = q.main.scheduled.first() {
		q.main.scheduled.remove(e)
		q.activate(e, e.ScheduledAt)
	}
	for _, s := range []*shelf{q.main, q.dead} {
		for e := s.locked.first(); e != nil && !e.LockedUntil.After(now); e = s.locked.first() {
			q.giveBack(e)
		}
	}
	// Messages become active in the order of their expiry, so the first expires first.
	for e := q.main.active.first(); e != nil && q.expired(e, now); e = q.main.active.first() {
		q.bury(e, ReasonExpired, "The message expired and was dead lettered.")
	}
}

// activate makes e visible as if it were published at this instant; a scheduled message gets a new sequence number.
func (q *queue) activate(e *entry, at time.Time) {
	e.EnqueuedAt = at
	if q.TimeToLive > 0 {
		e.ExpiresAt = at.Add(q.TimeToLive)
	}
	q.main.add(e, &q.main.active)
	q.news = true
}

func (q *queue) expired(e *entry, now time.Time) bool {
	return !e.ExpiresAt.IsZero() && !e.ExpiresAt.After(now)
}

// giveBack ends a lock without success.
func (q *queue) giveBack(e *entry) {
	if e.at == q.main && e.DeliveryCount >= q.MaxDeliveryCount {
		q.bury(e, ReasonDeliveries, fmt.Sprintf("Message could not be consumed after %d delivery attempts.", q.MaxDeliveryCount))
		return
	}
	e.at.release(e)
	e.at.active.put(e)
	q.news = true
}

// bury moves e to the end of the dead letters. A dead letter that is dead-lettered again stays among them with its new reason.
func (q *queue) bury(e *entry, reason, detail string) {
	e.at.release(e)
	e.DeadLetterSource, e.DeadLetterReason, e.DeadLetterDetail = q.Name, reason, detail
	e.ExpiresAt = time.Time{}
	q.dead.add(e, &q.dead.active)
	q.news = true
}

// forget removes e for good.
func (q *queue) forget(e *entry) {
	e.at.release(e)
	q.messages--
	q.bytes -= int64(len(e.Body))
}

// due is the next instant at which something happens by itself; zero: none.
func (q *queue) due() time.Time {
	var next time.Time
	soonest := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, s := range []*shelf{q.main, q.dead} {
		if e := s.locked.first(); e != nil {
			soonest(e.LockedUntil)
		}
	}
	if e := q.main.scheduled.first(); e != nil {
		soonest(e.ScheduledAt)
	}
	if e := q.main.active.first(); e != nil {
		soonest(e.ExpiresAt)
	}
	return next
}

// announce tells those who wait that something became receivable, or will earlier than they know.
func (q *queue) announce(known time.Time) {
	due := q.due()
	if q.news || !due.IsZero() && (known.IsZero() || due.Before(known)) {
		q.shout()
	}
	q.news = false
}

func (q *queue) shout() {
	if q.waiting {
		q.waiting = false
		close(q.changed)
		q.changed = make(chan struct{})
	}
}

// pile is a heap whose entries know their place.
type pile struct {
	entries []*entry
	compare func(a, b *entry) int
}

func (p *pile) first() *entry {
	if len(p.entries) == 0 {
		return nil
	}
	return p.entries[0]
}

// put adds e, or moves it to its new place when it stands here already.
func (p *pile) put(e *entry) {
	if e.in == p {
		heap.Fix(p, e.index)
		return
	}
	heap.Push(p, e)
}

func (p *pile) remove(e *entry) { heap.Remove(p, e.index) }

// Len, Less, Swap, Push and Pop are for container/heap.
func (p *pile) Len() int           { return len(p.entries) }
func (p *pile) Less(i, j int) bool { return p.compare(p.entries[i], p.entries[j]) < 0 }
func (p *pile) Swap(i, j int) {
	p.entries[i], p.entries[j] = p.entries[j], p.entries[i]
	p.entries[i].index, p.entries[j].index = i, j
}

func (p *pile) Push(x any) {
	e := x.(*entry) //nolint:forcetypeassert // only put pushes
	e.in, e.index = p, len(p.entries)
	p.entries = append(p.entries, e)
}

func (p *pile) Pop() any {
	last := len(p.entries) - 1
	e := p.entries[last]
	p.entries[last] = nil
	p.entries = p.entries[:last]
	e.in = nil
	return e
}
