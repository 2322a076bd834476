package bus

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"liveops/core/fault"
)

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
