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

// entry is one message. It stands in exactly one pile of its state, and may stand in the pile of what expires as well.
type entry struct {
	Delivery
	at       *shelf
	deferred bool // without a lock it can be received by its sequence number only
	places   [2]place
}

type place struct {
	in    *pile
	index int
}

// shelf holds what can be received under one name.
type shelf struct {
	active    pile // by sequence number
	deferred  pile // by sequence number
	locked    pile // by the end of the lock
	scheduled pile // by the instant they become active
	expiring  pile // what is active or deferred and expires, by that instant
	holders   map[string]*entry
	sequence  int64
}

func newShelf() *shelf {
	bySequence := func(a, b *entry) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) }
	by := func(instant func(*entry) time.Time) func(a, b *entry) int {
		return func(a, b *entry) int { return cmp.Or(instant(a).Compare(instant(b)), bySequence(a, b)) }
	}
	return &shelf{
		active:    pile{compare: bySequence},
		deferred:  pile{compare: bySequence, numbers: map[int64]*entry{}},
		locked:    pile{compare: by(func(e *entry) time.Time { return e.LockedUntil })},
		scheduled: pile{compare: by(func(e *entry) time.Time { return e.ScheduledAt }), numbers: map[int64]*entry{}},
		expiring:  pile{compare: by(func(e *entry) time.Time { return e.ExpiresAt }), place: 1},
		holders:   map[string]*entry{},
	}
}

// number makes e the last message of the shelf.
func (s *shelf) number(e *entry) {
	s.sequence++
	e.SequenceNumber, e.at = s.sequence, s
}

// lay puts e where it stands while nobody holds it.
func (s *shelf) lay(e *entry) {
	if e.deferred {
		s.deferred.put(e)
	} else {
		s.active.put(e)
	}
	if !e.ExpiresAt.IsZero() {
		s.expiring.put(e)
	}
}

// hold records a lock, new or renewed.
func (s *shelf) hold(e *entry) {
	s.holders[e.LockToken] = e
	s.locked.put(e)
}

// release takes e out of its piles and ends its lock, if it has one.
func (s *shelf) release(e *entry) {
	for _, place := range e.places {
		if place.in != nil {
			place.in.remove(e)
		}
	}
	if e.LockToken != "" {
		delete(s.holders, e.LockToken)
		e.LockToken, e.LockedUntil = "", time.Time{}
	}
}

// publish gives the sequence numbers of the messages; 0 is a duplicate.
func (q *queue) publish(clock func() time.Time, messages []Message) ([]int64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	now := clock()
	q.sweep(now)
	fresh := make([]*Message, len(messages)) // nil: a duplicate
	count, size := 0, int64(0)
	var seen map[string]bool
	if q.DuplicateWindow > 0 {
		seen = make(map[string]bool, len(messages))
	}
	for i := range messages {
		m := &messages[i]
		if seen != nil && m.ID != "" {
			if _, known := q.remembered[m.ID]; known || seen[m.ID] {
				continue
			}
			seen[m.ID] = true
		}
		fresh[i] = m
		count++
		size += int64(len(m.Body))
	}
	if q.messages+count > q.MaxMessages || q.bytes+size > q.MaxBytes {
		return nil, fault.BusUnavailable.Wrap(fmt.Errorf("%w: %q has %d messages, %d bytes", ErrQueueFull, q.Name, q.messages, q.bytes),
			"the queue is full, try again")
	}
	numbers := make([]int64, len(messages))
	for i, m := range fresh {
		if m == nil {
			continue
		}
		if seen[m.ID] {
			q.remember(m.ID, now)
		}
		e := &entry{Delivery: Delivery{Message: *m, EnqueuedAt: now}}
		e.Body, e.Properties = bytes.Clone(m.Body), maps.Clone(m.Properties)
		if m.ScheduledAt.After(now) {
			q.main.number(e)
			q.main.scheduled.put(e)
		} else {
			q.activate(e, now)
		}
		numbers[i] = e.SequenceNumber
	}
	q.messages += count
	q.bytes += size
	return numbers, nil
}

func (q *queue) remember(id string, now time.Time) {
	if len(q.order) >= q.MaxMessages {
		delete(q.remembered, q.order[0])
		q.order = q.order[1:]
	}
	q.remembered[id] = now.Add(q.DuplicateWindow)
	q.order = append(q.order, id)
}

// take gives up to limit messages, locked or removed. When there are none it gives what to wait for: a channel, and the time
// until something becomes due (negative: nothing will).
func (q *queue) take(clock func() time.Time, s *shelf, limit int, remove bool) ([]Delivery, <-chan struct{}, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.announce(q.due())
	now := clock()
	q.sweep(now)
	if n := min(max(limit, 1), s.active.Len()); n > 0 {
		got := make([]Delivery, n)
		for i := range got {
			e := s.active.first()
			if remove {
				e.DeliveryCount++
				q.forget(e)
			} else {
				q.lock(e, now)
			}
			got[i] = e.Delivery
		}
		return got, nil, 0
	}
	q.waiting = true
	wait := time.Duration(-1)
	if due := q.due(); !due.IsZero() {
		wait = max(0, due.Sub(now))
	}
	return nil, q.changed, wait
}

// lock delivers e.
func (q *queue) lock(e *entry, now time.Time) {
	e.at.release(e)
	e.DeliveryCount++
	e.LockToken = uuid.NewString()
	e.LockedUntil = now.Add(q.LockDuration)
	e.at.hold(e)
}

// sweep does everything that became due.
func (q *queue) sweep(now time.Time) {
	for len(q.order) > 0 && !q.remembered[q.order[0]].After(now) {
		delete(q.remembered, q.order[0])
		q.order = q.order[1:]
	}
	for e := q.main.scheduled.first(); e != nil && !e.ScheduledAt.After(now); e = q.main.scheduled.first() {
		q.main.release(e)
		q.activate(e, e.ScheduledAt)
	}
	for _, s := range []*shelf{q.main, q.dead} {
		for e := s.locked.first(); e != nil && !e.LockedUntil.After(now); e = s.locked.first() {
			q.giveBack(e)
		}
	}
	for e := q.main.expiring.first(); e != nil && !e.ExpiresAt.After(now); e = q.main.expiring.first() {
		q.bury(e, ReasonExpired, "The message expired and was dead lettered.")
	}
}

// activate makes e visible as if it were published at this instant; a scheduled message gets a new sequence number.
func (q *queue) activate(e *entry, at time.Time) {
	e.EnqueuedAt = at
	life := e.TimeToLive
	if life <= 0 || q.TimeToLive > 0 && q.TimeToLive < life {
		life = q.TimeToLive
	}
	if life > 0 {
		e.ExpiresAt = at.Add(life)
	}
	q.main.number(e)
	q.main.lay(e)
	q.news = true
}

// giveBack ends a lock without success.
func (q *queue) giveBack(e *entry) {
	if e.at == q.main && e.DeliveryCount >= q.MaxDeliveryCount {
		q.bury(e, ReasonDeliveries, fmt.Sprintf("Message could not be consumed after %d delivery attempts.", q.MaxDeliveryCount))
		return
	}
	e.at.release(e)
	e.at.lay(e)
	q.news = true
}

// bury moves e to the end of the dead letters. A dead letter that is dead-lettered again stays among them with its new reason.
func (q *queue) bury(e *entry, reason, detail string) {
	e.at.release(e)
	e.DeadLetterSource, e.DeadLetterReason, e.DeadLetterDetail = q.Name, reason, detail
	e.ExpiresAt, e.deferred = time.Time{}, false
	q.dead.number(e)
	q.dead.lay(e)
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
	if e := q.main.expiring.first(); e != nil {
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
	place   int              // which place of an entry it is
	numbers map[int64]*entry // by sequence number; nil: nobody asks for them so
}

func (p *pile) first() *entry {
	if len(p.entries) == 0 {
		return nil
	}
	return p.entries[0]
}

// numbered finds the entries of these sequence numbers, each once. One that is not here is fault.NotFound.
func (p *pile) numbered(numbers []int64) ([]*entry, error) {
	found, seen := make([]*entry, 0, len(numbers)), make(map[int64]bool, len(numbers))
	for _, number := range numbers {
		e, ok := p.numbers[number]
		if !ok {
			return nil, fault.MessageNotFound.Errorf("there is no such message with the sequence number %d", number)
		}
		if !seen[number] {
			seen[number] = true
			found = append(found, e)
		}
	}
	return found, nil
}

// put adds e, or moves it to its new place when it stands here already.
func (p *pile) put(e *entry) {
	if at := e.places[p.place]; at.in == p {
		heap.Fix(p, at.index)
		return
	}
	heap.Push(p, e)
}

func (p *pile) remove(e *entry) { heap.Remove(p, e.places[p.place].index) }

// Len, Less, Swap, Push and Pop are for container/heap.
func (p *pile) Len() int           { return len(p.entries) }
func (p *pile) Less(i, j int) bool { return p.compare(p.entries[i], p.entries[j]) < 0 }
func (p *pile) Swap(i, j int) {
	p.entries[i], p.entries[j] = p.entries[j], p.entries[i]
	p.entries[i].places[p.place].index, p.entries[j].places[p.place].index = i, j
}

func (p *pile) Push(x any) {
	e := x.(*entry) //nolint:forcetypeassert // only put pushes
	e.places[p.place] = place{p, len(p.entries)}
	p.entries = append(p.entries, e)
	if p.numbers != nil {
		p.numbers[e.SequenceNumber] = e
	}
}

func (p *pile) Pop() any {
	last := len(p.entries) - 1
	e := p.entries[last]
	p.entries[last] = nil
	p.entries = p.entries[:last]
	e.places[p.place] = place{}
	delete(p.numbers, e.SequenceNumber)
	return e
}
