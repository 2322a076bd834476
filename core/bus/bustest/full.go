package bustest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/fault"
)

// Full is what a Service Bus queue does, the port included. bus.Memory says what each promises.
type Full interface {
	bus.Publisher
	bus.Receiver
	bus.Peeker
	Schedule(ctx context.Context, queue string, messages []bus.Message) ([]int64, error)
	Cancel(ctx context.Context, queue string, sequenceNumbers []int64) error
	ReceiveAndDelete(ctx context.Context, queue string, limit int) ([]bus.Delivery, error)
	ReceiveDeferred(ctx context.Context, queue string, sequenceNumbers []int64) ([]bus.Delivery, error)
	Defer(ctx context.Context, queue string, d bus.Delivery) error
	DeadLetter(ctx context.Context, queue string, d bus.Delivery, reason, detail string) error
	Renew(ctx context.Context, queue string, d bus.Delivery) (time.Time, error)
	Peek(queue string, from int64, limit int) ([]bus.Peeked, error)
}

var _ Full = (*bus.Memory)(nil)

// FullBroker is one empty queue of a broker under test that does it all. Bus need not be set: Full is asked. The queue has no
// time to live of its own.
type FullBroker struct {
	Broker
	Full Full
}

// RunFull runs the contract of Run and that of what Service Bus queues do beyond the port; each case takes a new FullBroker.
// A broker may be behind a wire: nothing is expected but kinds of faults, and of instants only their order. Two promises of
// bus.Memory are not asked for: that a deferred message expires by itself, which Azure's does when it is next asked for, and
// the number of a scheduled duplicate.
func RunFull(t *testing.T, broker func(t *testing.T) FullBroker) {
	t.Helper()
	full := func(t *testing.T) FullBroker {
		b := broker(t)
		b.Bus = b.Full
		return b
	}
	Run(t, func(t *testing.T) Broker { return full(t).Broker })
	for name, test := range map[string]func(*testing.T, FullBroker){
		"schedules by number":                          schedulesByNumber,
		"cancels what is scheduled":                    cancels,
		"cancels all or none":                          cancelsNone,
		"drops scheduled duplicates":                   scheduledDuplicates,
		"deletes what it gives":                        deletes,
		"waits to delete":                              waitsToDelete,
		"sets aside":                                   setsAside,
		"gives the deferred in the order asked for":    deferredOrder,
		"gives all the deferred or none":               deferredNone,
		"keeps the deferred aside over abandon":        deferredAbandoned,
		"keeps the deferred aside over a lock":         deferredLockEnds,
		"moves the spent deferred to the dead letters": deferredSpent,
		"defers dead letters":                          defersDeadLetters,
		"dead-letters":                                 deadLettersOutright,
		"gives dead letters to delete":                 deletesDeadLetters,
		"renews locks":                                 renews,
		"expires":                                      timeToLive,
		"expires out of order":                         timesToLive,
		"spares the held from expiry":                  timeToLiveHeld,
		"counts time to live from the schedule":        timeToLiveScheduled,
		"peeks in order and locks nothing":             peeks,
		"peeks pages":                                  peeksPages,
		"peeks nothing":                                peeksNothing,
		"counts none that is deferred":                 countsNoDeferred,
		"loses the lock of what was settled otherwise": settledOtherwise,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, full(t))
		})
	}
}

// dead is the name of the dead letter queue.
func (b FullBroker) dead() string { return bus.DeadLetters(b.Queue) }

// aside publishes a message and defers it; it gives the sequence number.
func (b FullBroker) aside(t *testing.T, id string) int64 {
	t.Helper()
	b.publish(t, id)
	d := b.receive(t, b.Queue, 1)[0]
	require.Equal(t, id, d.ID)
	require.NoError(t, b.Full.Defer(t.Context(), b.Queue, d))
	return d.SequenceNumber
}

// deferred locks one deferred message.
func (b FullBroker) deferred(t *testing.T, number int64) bus.Delivery {
	t.Helper()
	got, err := b.Full.ReceiveDeferred(t.Context(), b.Queue, []int64{number})
	require.NoError(t, err)
	require.Len(t, got, 1)
	return got[0]
}

func (b FullBroker) schedule(t *testing.T, messages ...bus.Message) []int64 {
	t.Helper()
	numbers, err := b.Full.Schedule(t.Context(), b.Queue, messages)
	require.NoError(t, err)
	require.Len(t, numbers, len(messages))
	return numbers
}

// peek collects up to n messages from a sequence number on, which a broker may give in several answers.
func (b FullBroker) peek(t *testing.T, queue string, from int64, n int) []bus.Peeked {
	t.Helper()
	var peeked []bus.Peeked
	for len(peeked) < n {
		more, err := b.Full.Peek(queue, from, n-len(peeked))
		require.NoError(t, err)
		if len(more) == 0 {
			break
		}
		peeked = append(peeked, more...)
		from = more[len(more)-1].SequenceNumber + 1
	}
	return peeked
}

// later is an instant of the broker's clock, a while from now. It takes a message to tell the time by.
func (b FullBroker) later(t *testing.T) time.Time {
	t.Helper()
	b.publish(t, "what time is it")
	d := b.receive(t, b.Queue, 1)[0]
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, d))
	return d.EnqueuedAt.Add(b.LockDuration)
}

// untilLater lets the instant of later come.
func (b FullBroker) untilLater() { b.Pass(b.LockDuration + time.Second) }

func schedulesByNumber(t *testing.T, b FullBroker) {
	due := b.later(t)
	numbers := b.schedule(t, bus.Message{ID: "x", ScheduledAt: due}, bus.Message{ID: "y", ScheduledAt: due})
	require.Less(t, numbers[0], numbers[1])
	past := b.schedule(t, bus.Message{ID: "past", ScheduledAt: due.Add(-time.Hour)})
	require.Greater(t, past[0], numbers[1])
	d := b.receive(t, b.Queue, 1)[0]
	require.Equal(t, "past", d.ID)
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, d))
	b.nothing(t, b.Queue)
	b.untilLater()
	got := b.receive(t, b.Queue, 2)
	// A client over a wire may have been given the first before it asked, and have to give it back.
	require.ElementsMatch(t, []string{"x", "y"}, names(got))
	for _, d := range got {
		require.Greater(t, d.SequenceNumber, past[0], "it comes after what was active before it")
	}
}

func cancels(t *testing.T, b FullBroker) {
	due := b.later(t)
	numbers := b.schedule(t, bus.Message{ID: "cancelled", ScheduledAt: due}, bus.Message{ID: "kept", ScheduledAt: due}, bus.Message{ID: "also", ScheduledAt: due})
	require.NoError(t, b.Full.Cancel(t.Context(), b.Queue, []int64{numbers[2], numbers[0]}))
	require.ErrorIs(t, b.Full.Cancel(t.Context(), b.Queue, numbers[:1]), fault.NotFound)
	b.untilLater()
	require.Equal(t, []string{"kept"}, names(b.receive(t, b.Queue, 1)))
	b.nothing(t, b.Queue)
	require.ErrorIs(t, b.Full.Cancel(t.Context(), b.Queue, numbers[1:2]), fault.NotFound, "it is not scheduled any more")
}

func cancelsNone(t *testing.T, b FullBroker) {
	numbers := b.schedule(t, bus.Message{ID: "kept", ScheduledAt: b.later(t)})
	b.publish(t, "active")
	active := b.receive(t, b.Queue, 1)[0]
	require.ErrorIs(t, b.Full.Cancel(t.Context(), b.Queue, []int64{numbers[0], active.SequenceNumber}), fault.NotFound)
	require.ErrorIs(t, b.Full.Cancel(t.Context(), b.Queue, []int64{numbers[0], 1_000_000}), fault.NotFound)
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, active))
	b.untilLater()
	require.Equal(t, []string{"kept"}, names(b.receive(t, b.Queue, 1)))
}

func scheduledDuplicates(t *testing.T, b FullBroker) {
	due := b.later(t)
	b.schedule(t, bus.Message{ID: "a", ScheduledAt: due})
	b.publish(t, "a", "b")
	b.schedule(t, bus.Message{ID: "b", ScheduledAt: due})
	d := b.receive(t, b.Queue, 1)[0]
	require.Equal(t, "b", d.ID)
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, d))
	b.untilLater()
	require.Equal(t, []string{"a"}, names(b.receive(t, b.Queue, 1)))
	b.nothing(t, b.Queue)
}

func (b FullBroker) delete(t *testing.T, queue string, n int) []bus.Delivery {
	t.Helper()
	return collect(t, b.Full.ReceiveAndDelete, queue, n)
}

func deletes(t *testing.T, b FullBroker) {
	b.publish(t, "a", "b", "c")
	got := b.delete(t, b.Queue, 2)
	require.Equal(t, []string{"a", "b"}, names(got))
	require.Equal(t, []byte("body of a"), got[0].Body)
	require.Equal(t, 1, got[0].DeliveryCount)
	left := b.peek(t, b.Queue, 0, 10)
	require.Len(t, left, 1, "they are gone, and no more than asked for")
	require.Equal(t, "c", left[0].ID)
	b.Pass(b.LockDuration + time.Second)
	require.Equal(t, []string{"c"}, names(b.receive(t, b.Queue, 1)))
	b.nothing(t, b.Queue)
	require.Empty(t, b.peek(t, b.dead(), 0, 10))
}

func waitsToDelete(t *testing.T, b FullBroker) {
	got := make(chan []string)
	go func() {
		deliveries, err := b.Full.ReceiveAndDelete(t.Context(), b.Queue, 10)
		if err != nil {
			deliveries = nil
		}
		got <- names(deliveries)
	}()
	b.publish(t, "a")
	require.Equal(t, []string{"a"}, <-got)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	none, err := b.Full.ReceiveAndDelete(ctx, b.Queue, 10)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, none)
}

func setsAside(t *testing.T, b FullBroker) {
	number := b.aside(t, "a")
	b.nothing(t, b.Queue)
	b.Pass(b.LockDuration + time.Second)
	b.nothing(t, b.Queue)
	d := b.deferred(t, number)
	require.Equal(t, "a", d.ID)
	require.Equal(t, []byte("body of a"), d.Body)
	require.Equal(t, number, d.SequenceNumber)
	require.Equal(t, 2, d.DeliveryCount)
	require.True(t, d.LockedUntil.After(d.EnqueuedAt))
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, d))
	_, err := b.Full.ReceiveDeferred(t.Context(), b.Queue, []int64{number})
	require.ErrorIs(t, err, fault.NotFound)
	require.Empty(t, b.peek(t, b.Queue, 0, 10))
}

func deferredOrder(t *testing.T, b FullBroker) {
	first, second, third := b.aside(t, "a"), b.aside(t, "b"), b.aside(t, "c")
	got, err := b.Full.ReceiveDeferred(t.Context(), b.Queue, []int64{third, first, second})
	require.NoError(t, err)
	require.Equal(t, []string{"c", "a", "b"}, names(got))
	for _, d := range got {
		require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, d))
	}
}

func deferredNone(t *testing.T, b FullBroker) {
	free, locked := b.aside(t, "free"), b.aside(t, "locked")
	b.deferred(t, locked)
	b.publish(t, "active")
	active := b.receive(t, b.Queue, 1)[0].SequenceNumber
	for name, number := range map[string]int64{"unknown": 1_000_000, "locked": locked, "active": active} {
		_, err := b.Full.ReceiveDeferred(t.Context(), b.Queue, []int64{free, number})
		require.ErrorIs(t, err, fault.NotFound, name)
	}
	require.Equal(t, 2, b.deferred(t, free).DeliveryCount, "it was locked by none of them")
}

func deferredAbandoned(t *testing.T, b FullBroker) {
	number := b.aside(t, "a")
	d := b.deferred(t, number)
	require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, d))
	b.nothing(t, b.Queue)
	again := b.deferred(t, number)
	require.Equal(t, 3, again.DeliveryCount)
	require.NotEqual(t, d.LockToken, again.LockToken)
	require.NoError(t, b.Full.Defer(t.Context(), b.Queue, again))
	require.Equal(t, 4, b.deferred(t, number).DeliveryCount)
}

func deferredLockEnds(t *testing.T, b FullBroker) {
	number := b.aside(t, "a")
	d := b.deferred(t, number)
	b.Pass(b.LockDuration + time.Second)
	require.ErrorIs(t, b.Bus.Complete(t.Context(), b.Queue, d), fault.Conflict)
	b.nothing(t, b.Queue)
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, b.deferred(t, number)))
}

func deferredSpent(t *testing.T, b FullBroker) {
	number := b.aside(t, "spent") // its first delivery
	for n := 1; n < b.MaxDeliveryCount; n++ {
		d := b.deferred(t, number)
		require.Equal(t, n+1, d.DeliveryCount)
		require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, d))
	}
	_, err := b.Full.ReceiveDeferred(t.Context(), b.Queue, []int64{number})
	require.ErrorIs(t, err, fault.NotFound)
	dead := b.receive(t, b.dead(), 1)[0]
	require.Equal(t, "spent", dead.ID)
	require.Equal(t, bus.ReasonDeliveries, dead.DeadLetterReason)
}

func defersDeadLetters(t *testing.T, b FullBroker) {
	b.publish(t, "a")
	require.NoError(t, b.Full.DeadLetter(t.Context(), b.Queue, b.receive(t, b.Queue, 1)[0], "poison", ""))
	dead := b.receive(t, b.dead(), 1)[0]
	require.NoError(t, b.Full.Defer(t.Context(), b.dead(), dead))
	b.nothing(t, b.dead())
	got, err := b.Full.ReceiveDeferred(t.Context(), b.dead(), []int64{dead.SequenceNumber})
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, names(got))
	require.Equal(t, "poison", got[0].DeadLetterReason)
	require.NoError(t, b.Bus.Complete(t.Context(), b.dead(), got[0]))
	require.Empty(t, b.peek(t, b.dead(), 0, 10))
}

func deadLettersOutright(t *testing.T, b FullBroker) {
	number := b.aside(t, "b")
	b.publish(t, "a")
	for _, d := range []bus.Delivery{b.receive(t, b.Queue, 1)[0], b.deferred(t, number)} {
		require.NoError(t, b.Full.DeadLetter(t.Context(), b.Queue, d, "poison", "cannot be read: "+d.ID))
		require.ErrorIs(t, b.Full.DeadLetter(t.Context(), b.Queue, d, "poison", "again"), fault.Conflict)
	}
	b.nothing(t, b.Queue)
	dead := b.receive(t, b.dead(), 2)
	require.Equal(t, []string{"a", "b"}, names(dead))
	for _, d := range dead {
		require.Equal(t, []byte("body of "+d.ID), d.Body)
		require.Equal(t, "poison", d.DeadLetterReason)
		require.Equal(t, "cannot be read: "+d.ID, d.DeadLetterDetail)
		require.Equal(t, b.Queue, d.DeadLetterSource)
		require.NoError(t, b.Bus.Complete(t.Context(), b.dead(), d))
	}
}

func deletesDeadLetters(t *testing.T, b FullBroker) {
	b.publish(t, "a")
	require.NoError(t, b.Full.DeadLetter(t.Context(), b.Queue, b.receive(t, b.Queue, 1)[0], "poison", "cannot be read"))
	peeked := b.peek(t, b.dead(), 0, 10)
	require.Len(t, peeked, 1)
	require.Equal(t, "a", peeked[0].ID)
	require.Equal(t, bus.Active, peeked[0].State)
	require.Equal(t, "poison", peeked[0].DeadLetterReason)
	gone := b.delete(t, b.dead(), 1)[0]
	require.Equal(t, "a", gone.ID)
	require.Equal(t, "poison", gone.DeadLetterReason)
	require.Equal(t, "cannot be read", gone.DeadLetterDetail)
	require.Empty(t, b.peek(t, b.dead(), 0, 10))
}

func renews(t *testing.T, b FullBroker) {
	number := b.aside(t, "b")
	b.publish(t, "a")
	for _, receive := range []func() bus.Delivery{
		func() bus.Delivery { return b.receive(t, b.Queue, 1)[0] },
		func() bus.Delivery { return b.deferred(t, number) },
	} {
		d := receive()
		b.Pass(b.LockDuration * 2 / 3)
		until, err := b.Full.Renew(t.Context(), b.Queue, d)
		require.NoError(t, err)
		require.True(t, until.After(d.LockedUntil), "renewed until %v, was %v", until, d.LockedUntil)
		b.Pass(b.LockDuration * 2 / 3) // past the first lock
		require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, d))
		_, err = b.Full.Renew(t.Context(), b.Queue, d)
		require.ErrorIs(t, err, fault.Conflict)
	}
	b.publish(t, "c")
	d := b.receive(t, b.Queue, 1)[0]
	b.Pass(b.LockDuration + time.Second)
	_, err := b.Full.Renew(t.Context(), b.Queue, d)
	require.ErrorIs(t, err, fault.Conflict, "the lock ended before")
	require.Equal(t, 2, b.receive(t, b.Queue, 1)[0].DeliveryCount)
}

func timeToLive(t *testing.T, b FullBroker) {
	life := b.LockDuration / 2
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, []bus.Message{{ID: "mortal", Body: []byte("x"), TimeToLive: life}, {ID: "other"}}))
	peeked := b.peek(t, b.Queue, 0, 10)
	require.Len(t, peeked, 2)
	require.WithinDuration(t, peeked[0].EnqueuedAt.Add(life), peeked[0].ExpiresAt, time.Second)
	b.Pass(life + time.Second)
	require.Equal(t, []string{"other"}, names(b.receive(t, b.Queue, 1)))
	b.nothing(t, b.Queue)
	dead := b.receive(t, b.dead(), 1)[0]
	require.Equal(t, "mortal", dead.ID)
	require.Equal(t, []byte("x"), dead.Body)
	require.Equal(t, bus.ReasonExpired, dead.DeadLetterReason)
	require.NotEmpty(t, dead.DeadLetterDetail)
	require.Equal(t, b.Queue, dead.DeadLetterSource)
	require.NoError(t, b.Bus.Abandon(t.Context(), b.dead(), dead))
	b.Pass(life + time.Second)
	require.Equal(t, []string{"mortal"}, names(b.receive(t, b.dead(), 1)), "a dead letter does not expire")
}

func timesToLive(t *testing.T, b FullBroker) {
	life := b.LockDuration / 2
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, []bus.Message{
		{ID: "immortal"}, {ID: "long", TimeToLive: 100 * life}, {ID: "short", TimeToLive: life},
	}))
	b.Pass(life + time.Second)
	require.Equal(t, []string{"immortal", "long"}, names(b.receive(t, b.Queue, 2)))
	require.Equal(t, []string{"short"}, names(b.receive(t, b.dead(), 1)))
}

func timeToLiveHeld(t *testing.T, b FullBroker) {
	life := b.LockDuration / 2
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, []bus.Message{{ID: "completed", TimeToLive: life}, {ID: "abandoned", TimeToLive: life}}))
	got := b.receive(t, b.Queue, 2)
	b.Pass(b.LockDuration * 3 / 4)
	require.Empty(t, b.peek(t, b.dead(), 0, 10))
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, got[0]))
	require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, got[1]))
	dead := b.receive(t, b.dead(), 1)[0]
	require.Equal(t, "abandoned", dead.ID)
	require.Equal(t, bus.ReasonExpired, dead.DeadLetterReason)
	b.nothing(t, b.Queue)
}

func timeToLiveScheduled(t *testing.T, b FullBroker) {
	b.schedule(t, bus.Message{ID: "a", ScheduledAt: b.later(t), TimeToLive: b.LockDuration / 2})
	b.Pass(b.LockDuration * 3 / 4)
	require.Empty(t, b.peek(t, b.dead(), 0, 10), "it is not visible yet")
	b.Pass(b.LockDuration + time.Second)
	dead := b.receive(t, b.dead(), 1)[0]
	require.Equal(t, "a", dead.ID)
	require.Equal(t, bus.ReasonExpired, dead.DeadLetterReason)
}

func peeks(t *testing.T, b FullBroker) {
	due := b.later(t)
	b.publish(t, "locked", "deferred", "active")
	got := b.receive(t, b.Queue, 2)
	require.NoError(t, b.Full.Defer(t.Context(), b.Queue, got[1]))
	b.schedule(t, bus.Message{ID: "scheduled", ScheduledAt: due})
	for range 2 {
		all := b.peek(t, b.Queue, 0, 10)
		var ids []string
		var states []bus.State
		for _, p := range all {
			ids, states = append(ids, p.ID), append(states, p.State)
		}
		require.Equal(t, []string{"locked", "deferred", "active", "scheduled"}, ids)
		require.Equal(t, []bus.State{bus.Active, bus.Deferred, bus.Active, bus.Scheduled}, states)
		require.Equal(t, []byte("body of active"), all[2].Body)
		require.Equal(t, got[0].SequenceNumber, all[0].SequenceNumber)
	}
	active := b.receive(t, b.Queue, 1)[0]
	require.Equal(t, "active", active.ID)
	require.Equal(t, 1, active.DeliveryCount, "to peek is no delivery")
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, got[0]), "its lock is as it was")
}

func peeksPages(t *testing.T, b FullBroker) {
	ids := []string{"a", "b", "c", "d", "e"}
	b.publish(t, ids...)
	var seen []string
	from := int64(0)
	for range ids {
		page, err := b.Full.Peek(b.Queue, from, 2)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), 2)
		for _, p := range page {
			require.GreaterOrEqual(t, p.SequenceNumber, from)
			seen, from = append(seen, p.ID), p.SequenceNumber+1
		}
	}
	require.Equal(t, ids, seen)
}

func peeksNothing(t *testing.T, b FullBroker) {
	for _, queue := range []string{b.Queue, b.dead()} {
		peeked, err := b.Full.Peek(queue, 0, 10)
		require.NoError(t, err, "it does not wait")
		require.Empty(t, peeked)
	}
}

func countsNoDeferred(t *testing.T, b FullBroker) {
	number := b.aside(t, "deferred")
	b.publish(t, "active")
	active := b.receive(t, b.Queue, 1)[0]
	want := bus.Backlog{Messages: 1, Oldest: active.EnqueuedAt}
	require.Equal(t, want, b.backlog(t, b.Queue))
	b.deferred(t, number)
	require.Equal(t, want, b.backlog(t, b.Queue), "held, it is deferred all the same")
}

func settledOtherwise(t *testing.T, b FullBroker) {
	b.publish(t, "deferred", "dead")
	got := b.receive(t, b.Queue, 2)
	require.NoError(t, b.Full.Defer(t.Context(), b.Queue, got[0]))
	require.NoError(t, b.Full.DeadLetter(t.Context(), b.Queue, got[1], "poison", ""))
	for _, d := range got {
		require.ErrorIs(t, b.Bus.Complete(t.Context(), b.Queue, d), fault.Conflict)
		require.ErrorIs(t, b.Bus.Abandon(t.Context(), b.Queue, d), fault.Conflict)
		require.ErrorIs(t, b.Full.Defer(t.Context(), b.Queue, d), fault.Conflict)
		require.ErrorIs(t, b.Full.DeadLetter(t.Context(), b.Queue, d, "poison", ""), fault.Conflict)
		_, err := b.Full.Renew(t.Context(), b.Queue, d)
		require.ErrorIs(t, err, fault.Conflict)
	}
}
