package bus_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/bus"
	"liveops/core/bus/bustest"
	"liveops/core/fault"
)

// clock is moved by the test only.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) pass(d time.Duration) { c.ns.Add(int64(d)) }
func ids(ds []bus.Delivery) (s []string) {
	for _, d := range ds {
		s = append(s, d.ID)
	}
	return s
}

func peekedIDs(ps []bus.Peeked) (s []string) {
	for _, p := range ps {
		s = append(s, p.ID)
	}
	return s
}

func TestMemoryHoldsTheContract(t *testing.T) {
	t.Parallel()
	bustest.RunFull(t, func(t *testing.T) bustest.FullBroker {
		c := newClock()
		m := bus.NewMemory(c.now, bus.Queue{Name: "q", DuplicateWindow: 10 * time.Minute})
		return bustest.FullBroker{Full: m, Broker: bustest.Broker{Queue: "q", MaxDeliveryCount: 10, LockDuration: time.Minute, Pass: func(d time.Duration) {
			c.pass(d)
			m.Wake()
		}}}
	})
}

func TestReceiveWakesAtTheInstantSomethingIsDue(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		queue   bus.Queue
		prepare func(t *testing.T, m *bus.Memory)
		from    string
		after   time.Duration
	}{
		"lock ends": {
			prepare: func(t *testing.T, m *bus.Memory) {
				publish(t, m, "q", bus.Message{ID: "a"})
				receive(t, m, "q", 1)
			},
			from: "q", after: time.Minute,
		},
		"renewed lock ends": {
			prepare: func(t *testing.T, m *bus.Memory) {
				publish(t, m, "q", bus.Message{ID: "a"})
				d := receive(t, m, "q", 1)[0]
				time.Sleep(40 * time.Second) // in the bubble
				until, err := m.Renew(t.Context(), "q", d)
				require.NoError(t, err)
				require.Equal(t, time.Now().Add(time.Minute), until)
			},
			from: "q", after: time.Minute,
		},
		"scheduled": {
			prepare: func(t *testing.T, m *bus.Memory) {
				publish(t, m, "q", bus.Message{ID: "a", ScheduledAt: time.Now().Add(7 * time.Minute)})
			},
			from: "q", after: 7 * time.Minute,
		},
		"expired to the dead letters": {
			queue: bus.Queue{TimeToLive: 90 * time.Second},
			prepare: func(t *testing.T, m *bus.Memory) {
				publish(t, m, "q", bus.Message{ID: "a"})
			},
			from: bus.DeadLetters("q"), after: 90 * time.Second,
		},
		"last lock ends, to the dead letters": {
			queue: bus.Queue{MaxDeliveryCount: 1},
			prepare: func(t *testing.T, m *bus.Memory) {
				publish(t, m, "q", bus.Message{ID: "a"})
				receive(t, m, "q", 1)
			},
			from: bus.DeadLetters("q"), after: time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				test.queue.Name = "q"
				m := bus.NewMemory(time.Now, test.queue)
				test.prepare(t, m)
				start := time.Now()
				require.Equal(t, []string{"a"}, ids(receive(t, m, test.from, 10)))
				require.Equal(t, test.after, time.Since(start))
			})
		})
	}
}

// A receiver that already waits must learn of a lock that somebody else takes later.
func TestWaitingReceiverLearnsOfANewLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := bus.NewMemory(time.Now, bus.Queue{Name: "q", MaxDeliveryCount: 1})
		publish(t, m, "q", bus.Message{ID: "a"})
		start, got := time.Now(), make(chan []string)
		go func() {
			dead, err := m.Receive(t.Context(), bus.DeadLetters("q"), 1)
			if err != nil {
				dead = nil
			}
			got <- ids(dead)
		}()
		synctest.Wait()
		receive(t, m, "q", 1)
		require.Equal(t, []string{"a"}, <-got)
		require.Equal(t, time.Minute, time.Since(start))
	})
}

func TestExplicitDeadLetter(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(newClock().now, bus.Queue{Name: "q"})
	publish(t, m, "q", bus.Message{ID: "a", Body: []byte("x"), Properties: map[string]string{"k": "v"}})
	d := receive(t, m, "q", 1)[0]
	require.NoError(t, m.DeadLetter(t.Context(), "q", d, "poison", "cannot be read"))
	require.ErrorIs(t, m.DeadLetter(t.Context(), "q", d, "poison", "again"), fault.LockLost)
	dead := receive(t, m, bus.DeadLetters("q"), 1)[0]
	require.Equal(t, "poison", dead.DeadLetterReason)
	require.Equal(t, "cannot be read", dead.DeadLetterDetail)
	require.Equal(t, "q", dead.DeadLetterSource)
	require.Equal(t, d.Message, dead.Message)
	require.Equal(t, 2, dead.DeliveryCount)
	counts, err := m.Counts("q")
	require.NoError(t, err)
	require.Equal(t, bus.Counts{Dead: 1}, counts)
	require.ErrorIs(t, m.Publish(t.Context(), bus.DeadLetters("q"), []bus.Message{{ID: "b"}}), fault.Unavailable)
}

func TestDuplicateWindowEnds(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := bus.NewMemory(c.now, bus.Queue{Name: "q", DuplicateWindow: time.Minute}, bus.Queue{Name: "off"})
	for _, step := range []struct {
		pass time.Duration
		want int
	}{{0, 1}, {time.Minute - 1, 1}, {1, 2}, {0, 2}} {
		c.pass(step.pass)
		publish(t, m, "q", bus.Message{ID: "a"})
		counts, err := m.Counts("q")
		require.NoError(t, err)
		require.Equal(t, step.want, counts.Active)
	}
	publish(t, m, "off", bus.Message{ID: "a"}, bus.Message{ID: "a"}, bus.Message{}, bus.Message{})
	counts, err := m.Counts("off")
	require.NoError(t, err)
	require.Equal(t, 4, counts.Active)
}

func TestTimeToLiveSparesWhatIsLocked(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := bus.NewMemory(c.now, bus.Queue{Name: "q", TimeToLive: 30 * time.Second})
	publish(t, m, "q", bus.Message{ID: "held"}, bus.Message{ID: "left"})
	d := receive(t, m, "q", 1)[0]
	require.Equal(t, c.now().Add(30*time.Second), d.ExpiresAt)
	c.pass(30 * time.Second)
	counts, err := m.Counts("q")
	require.NoError(t, err)
	require.Equal(t, bus.Counts{Locked: 1, Dead: 1}, counts)
	require.NoError(t, m.Abandon(t.Context(), "q", d))
	dead := receive(t, m, bus.DeadLetters("q"), 10)
	require.Equal(t, []string{"left", "held"}, ids(dead))
	require.Equal(t, bus.ReasonExpired, dead[1].DeadLetterReason)
	require.True(t, dead[1].ExpiresAt.IsZero())
}

func TestTheShorterTimeToLiveHolds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		queue, message, want time.Duration
	}{
		"none":        {0, 0, 0},
		"queue's":     {time.Minute, 0, time.Minute},
		"message's":   {0, time.Minute, time.Minute},
		"both, queue": {time.Minute, time.Hour, time.Minute},
		"both":        {time.Hour, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			m := bus.NewMemory(c.now, bus.Queue{Name: "q", TimeToLive: test.queue, LockDuration: time.Hour})
			publish(t, m, "q", bus.Message{ID: "now", TimeToLive: test.message},
				bus.Message{ID: "later", TimeToLive: test.message, ScheduledAt: c.now().Add(time.Second)})
			c.pass(time.Second)
			for i, d := range receive(t, m, "q", 10) {
				require.Equal(t, test.message, d.TimeToLive)
				if test.want == 0 {
					require.True(t, d.ExpiresAt.IsZero())
				} else {
					require.Equal(t, c.now().Add(time.Duration(i-1)*time.Second+test.want), d.ExpiresAt, "counted from when it was visible")
				}
			}
		})
	}
}

func TestWhatExpiresFirstNeedNotBeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := bus.NewMemory(time.Now, bus.Queue{Name: "q", LockDuration: 10 * time.Second})
		publish(t, m, "q", bus.Message{ID: "deferred", TimeToLive: 3 * time.Minute})
		require.NoError(t, m.Defer(t.Context(), "q", receive(t, m, "q", 1)[0]))
		publish(t, m, "q", bus.Message{ID: "never"}, bus.Message{ID: "last", TimeToLive: 4 * time.Minute},
			bus.Message{ID: "first", TimeToLive: time.Minute}, bus.Message{ID: "second", TimeToLive: 2 * time.Minute})
		start := time.Now()
		for i, want := range []string{"first", "second", "deferred", "last"} {
			d := receive(t, m, bus.DeadLetters("q"), 1)[0]
			require.Equal(t, want, d.ID)
			require.Equal(t, bus.ReasonExpired, d.DeadLetterReason)
			require.Equal(t, time.Duration(i+1)*time.Minute, time.Since(start))
			require.NoError(t, m.Complete(t.Context(), bus.DeadLetters("q"), d))
		}
		require.Equal(t, []string{"never"}, ids(receive(t, m, "q", 10)))
	})
}

func TestEnvelopeIsCarried(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(newClock().now, bus.Queue{Name: "q"})
	envelope := &struct{ subject string }{"s"}
	publish(t, m, "q", bus.Message{ID: "a", Envelope: envelope})
	peeked, err := m.Peek("q", 0, 1)
	require.NoError(t, err)
	require.Same(t, envelope, peeked[0].Envelope)
	d := receive(t, m, "q", 1)[0]
	require.Same(t, envelope, d.Envelope)
	require.NoError(t, m.DeadLetter(t.Context(), "q", d, "poison", ""))
	gone, err := m.ReceiveAndDelete(t.Context(), bus.DeadLetters("q"), 1)
	require.NoError(t, err)
	require.Same(t, envelope, gone[0].Envelope)
}

func TestScheduleNumbers(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := bus.NewMemory(c.now, bus.Queue{Name: "q", DuplicateWindow: time.Hour, LockDuration: time.Hour})
	publish(t, m, "q", bus.Message{ID: "known"})
	later := c.now().Add(time.Minute)
	numbers, err := m.Schedule(t.Context(), "q", []bus.Message{
		{ID: "a", ScheduledAt: later}, {ID: "known"}, {ID: "b", ScheduledAt: c.now().Add(-time.Second)}, {ID: "a"}, {ID: "c", ScheduledAt: later},
	})
	require.NoError(t, err)
	require.Equal(t, []int64{2, 0, 3, 0, 4}, numbers, "0 is a duplicate")
	require.Equal(t, []string{"known", "b"}, ids(receive(t, m, "q", 10)))
	require.ErrorIs(t, m.Cancel(t.Context(), "q", []int64{2, 3}), fault.MessageNotFound)
	require.NoError(t, m.Cancel(t.Context(), "q", []int64{2, 2}))
	publish(t, m, "q", bus.Message{ID: "a"})
	c.pass(time.Minute)
	require.ErrorIs(t, m.Cancel(t.Context(), "q", []int64{4}), fault.MessageNotFound, "it is active")
	require.Equal(t, []string{"c"}, ids(receive(t, m, "q", 10)), "the id of what was cancelled stays known")
	_, err = m.Schedule(t.Context(), bus.DeadLetters("q"), []bus.Message{{ID: "d"}})
	require.ErrorIs(t, err, fault.Unavailable)
}

func TestReceiveAndDeleteLeavesNoLock(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(newClock().now, bus.Queue{Name: "q"})
	publish(t, m, "q", bus.Message{ID: "a"}, bus.Message{ID: "b"})
	gone, err := m.ReceiveAndDelete(t.Context(), "q", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, ids(gone))
	require.Equal(t, 1, gone[0].DeliveryCount)
	require.Empty(t, gone[0].LockToken)
	require.True(t, gone[0].LockedUntil.IsZero())
	require.ErrorIs(t, m.Complete(t.Context(), "q", gone[0]), fault.LockLost)
	counts, err := m.Counts("q")
	require.NoError(t, err)
	require.Equal(t, bus.Counts{Active: 1}, counts)
}

func TestQueuesAndSize(t *testing.T) {
	t.Parallel()
	own := bus.Queue{
		Name: "a", LockDuration: time.Second, MaxDeliveryCount: 2, DuplicateWindow: time.Minute, TimeToLive: time.Hour, MaxMessages: 3, MaxBytes: 4, MaxBody: 5,
	}
	m := bus.NewMemory(newClock().now, bus.Queue{Name: "b"}, own)
	require.Equal(t, []bus.Queue{
		own, {Name: "b", LockDuration: time.Minute, MaxDeliveryCount: 10, MaxMessages: 1_000_000, MaxBytes: 1 << 30, MaxBody: bus.MaxBody},
	}, m.Queues())
	publish(t, m, "a", bus.Message{ID: "1", Body: make([]byte, 1)}, bus.Message{ID: "3", Body: make([]byte, 3)})
	require.NoError(t, m.DeadLetter(t.Context(), "a", receive(t, m, "a", 1)[0], "poison", ""))
	size, err := m.Size("a")
	require.NoError(t, err)
	require.EqualValues(t, 4, size)
	_, err = m.Size("missing")
	require.ErrorIs(t, err, fault.Unavailable)
}

// What a queue holds is counted in whatever way it comes and goes, or else it would be full or endless after a while.
func TestRoomIsMadeByEveryWayOut(t *testing.T) {
	t.Parallel()
	dead := bus.DeadLetters("q")
	one := func(t *testing.T, m *bus.Memory, queue string) bus.Delivery { return receive(t, m, queue, 1)[0] }
	for name, out := range map[string]func(t *testing.T, c *clock, m *bus.Memory){
		"complete": func(t *testing.T, _ *clock, m *bus.Memory) {
			require.NoError(t, m.Complete(t.Context(), "q", one(t, m, "q")))
		},
		"receive and delete": func(t *testing.T, _ *clock, m *bus.Memory) {
			_, err := m.ReceiveAndDelete(t.Context(), "q", 1)
			require.NoError(t, err)
		},
		"complete deferred": func(t *testing.T, _ *clock, m *bus.Memory) {
			d := one(t, m, "q")
			require.NoError(t, m.Defer(t.Context(), "q", d))
			got, err := m.ReceiveDeferred(t.Context(), "q", []int64{d.SequenceNumber})
			require.NoError(t, err)
			require.NoError(t, m.Complete(t.Context(), "q", got[0]))
		},
		"expire, defer as a dead letter, complete": func(t *testing.T, c *clock, m *bus.Memory) {
			c.pass(time.Minute)
			d := one(t, m, dead)
			require.NoError(t, m.Defer(t.Context(), dead, d))
			c.pass(time.Hour)
			counts, err := m.Counts("q")
			require.NoError(t, err)
			require.Equal(t, bus.Counts{Dead: 1}, counts)
			got, err := m.ReceiveDeferred(t.Context(), dead, []int64{d.SequenceNumber})
			require.NoError(t, err)
			require.NoError(t, m.Complete(t.Context(), dead, got[0]))
		},
		"delete a dead letter": func(t *testing.T, _ *clock, m *bus.Memory) {
			require.NoError(t, m.DeadLetter(t.Context(), "q", one(t, m, "q"), "poison", ""))
			require.NoError(t, m.DeadLetter(t.Context(), dead, one(t, m, dead), "worse", ""))
			gone, err := m.ReceiveAndDelete(t.Context(), dead, 1)
			require.NoError(t, err)
			require.Equal(t, "worse", gone[0].DeadLetterReason)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			m := bus.NewMemory(c.now, bus.Queue{Name: "q", MaxMessages: 2, MaxBytes: 20})
			full := func() {
				numbers, err := m.Schedule(t.Context(), "q", []bus.Message{{ScheduledAt: c.now().Add(time.Hour), Body: make([]byte, 10)}})
				require.NoError(t, err)
				require.ErrorIs(t, m.Publish(t.Context(), "q", []bus.Message{{}}), fault.Unavailable)
				require.NoError(t, m.Cancel(t.Context(), "q", numbers))
				require.ErrorIs(t, m.Publish(t.Context(), "q", []bus.Message{{Body: make([]byte, 11)}}), fault.Unavailable)
			}
			for range 3 {
				publish(t, m, "q", bus.Message{Body: make([]byte, 10), TimeToLive: time.Minute})
				full()
				out(t, c, m)
				counts, err := m.Counts("q")
				require.NoError(t, err)
				require.Equal(t, bus.Counts{}, counts)
			}
			publish(t, m, "q", bus.Message{Body: make([]byte, 20)})
		})
	}
}

func TestFullQueueTakesNothingOfACall(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(newClock().now, bus.Queue{Name: "n", MaxMessages: 2}, bus.Queue{Name: "b", MaxBytes: 10})
	publish(t, m, "n", bus.Message{ID: "1"})
	require.ErrorIs(t, m.Publish(t.Context(), "n", []bus.Message{{ID: "2"}, {ID: "3"}}), fault.Unavailable)
	publish(t, m, "n", bus.Message{ID: "2"})
	require.ErrorIs(t, m.Publish(t.Context(), "n", []bus.Message{{ID: "3"}}), fault.Unavailable)
	require.NoError(t, m.Complete(t.Context(), "n", receive(t, m, "n", 1)[0]))
	publish(t, m, "n", bus.Message{ID: "3"})
	require.Equal(t, []string{"2", "3"}, ids(receive(t, m, "n", 10)))

	publish(t, m, "b", bus.Message{Body: make([]byte, 8)})
	require.ErrorIs(t, m.Publish(t.Context(), "b", []bus.Message{{Body: make([]byte, 3)}}), fault.Unavailable)
	require.NoError(t, m.Complete(t.Context(), "b", receive(t, m, "b", 1)[0]))
	publish(t, m, "b", bus.Message{Body: make([]byte, 10)})
}

func TestPeekSeesEveryStateAndLocksNothing(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := bus.NewMemory(c.now, bus.Queue{Name: "q"})
	publish(t, m, "q", bus.Message{ID: "locked"}, bus.Message{ID: "later", ScheduledAt: c.now().Add(time.Hour)}, bus.Message{ID: "active"})
	locked := receive(t, m, "q", 1)[0]
	for range 2 {
		all, err := m.Peek("q", 0, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"locked", "later", "active"}, peekedIDs(all))
		require.Equal(t, []bus.State{bus.Active, bus.Scheduled, bus.Active}, []bus.State{all[0].State, all[1].State, all[2].State})
		require.Empty(t, all[0].LockToken, "whoever peeks cannot settle")
	}
	rest, err := m.Peek("q", 2, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"later"}, peekedIDs(rest))
	counts, err := m.Counts("q")
	require.NoError(t, err)
	require.Equal(t, bus.Counts{Active: 1, Locked: 1, Scheduled: 1}, counts)

	require.NoError(t, m.Defer(t.Context(), "q", locked))
	for _, want := range []bus.Counts{{Active: 1, Deferred: 1, Scheduled: 1}, {Active: 1, Locked: 1, Scheduled: 1}} {
		counts, err = m.Counts("q")
		require.NoError(t, err)
		require.Equal(t, want, counts)
		all, err := m.Peek("q", 0, 1)
		require.NoError(t, err)
		require.Equal(t, bus.Deferred, all[0].State, "locked or not")
		_, err = m.ReceiveDeferred(t.Context(), "q", []int64{locked.SequenceNumber})
		if want.Locked == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, fault.MessageNotFound)
		}
	}
	none, err := m.Peek("q", 0, -1)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestScheduledMessageTakesItsPlaceWhenDue(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := bus.NewMemory(c.now, bus.Queue{Name: "q"})
	publish(t, m, "q", bus.Message{ID: "later", ScheduledAt: c.now().Add(time.Second)})
	publish(t, m, "q", bus.Message{ID: "now"})
	c.pass(time.Second)
	publish(t, m, "q", bus.Message{ID: "after"})
	require.Equal(t, []string{"now", "later", "after"}, ids(receive(t, m, "q", 10)))
}

func TestCallerMayReuseWhatItPublished(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(newClock().now, bus.Queue{Name: "q"})
	body, properties := []byte("before"), map[string]string{"k": "before"}
	publish(t, m, "q", bus.Message{ID: "a", Body: body, Properties: properties})
	copy(body, "after!")
	properties["k"] = "after"
	got := receive(t, m, "q", 1)[0]
	require.Equal(t, "before", string(got.Body))
	require.Equal(t, map[string]string{"k": "before"}, got.Properties)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	m := bus.NewMemory(newClock().now, bus.Queue{Name: "q"})
	broken := errors.New("broken")
	failOn := func(op string) {
		m.Fail(func(at, queue string) error {
			if at == op && queue == "q" {
				return broken
			}
			return nil
		})
	}
	failOn("publish")
	require.ErrorIs(t, m.Publish(t.Context(), "q", []bus.Message{{ID: "a"}}), broken)
	failOn("published")
	require.ErrorIs(t, m.Publish(t.Context(), "q", []bus.Message{{ID: "b"}}), broken)
	failOn("receive")
	_, err := m.Receive(t.Context(), "q", 1)
	require.ErrorIs(t, err, broken)
	m.Fail(nil)
	got := receive(t, m, "q", 10)
	require.Equal(t, []string{"b"}, ids(got), "a was refused before, b failed after it was taken")
	failOn("complete")
	require.ErrorIs(t, m.Complete(t.Context(), "q", got[0]), broken)
	failOn("completed")
	require.ErrorIs(t, m.Complete(t.Context(), "q", got[0]), broken)
	m.Fail(nil)
	require.ErrorIs(t, m.Complete(t.Context(), "q", got[0]), fault.LockLost)
	for op, call := range map[string]func() error{
		"schedule":           func() error { _, err := m.Schedule(t.Context(), "q", nil); return err },
		"scheduled":          func() error { _, err := m.Schedule(t.Context(), "q", nil); return err },
		"cancel":             func() error { return m.Cancel(t.Context(), "q", nil) },
		"receive-and-delete": func() error { _, err := m.ReceiveAndDelete(t.Context(), "q", 1); return err },
		"receive-deferred":   func() error { _, err := m.ReceiveDeferred(t.Context(), "q", nil); return err },
		"defer":              func() error { return m.Defer(t.Context(), "q", got[0]) },
		"dead-letter":        func() error { return m.DeadLetter(t.Context(), "q", got[0], "", "") },
		"renew":              func() error { _, err := m.Renew(t.Context(), "q", got[0]); return err },
		"peek":               func() error { _, err := m.Peek("q", 0, 1); return err },
	} {
		failOn(op)
		require.ErrorIs(t, call(), broken, op)
	}
	m.Fail(nil)
	require.ErrorIs(t, bus.Check([]bus.Message{{Body: make([]byte, bus.MaxBody+1)}}), fault.EventTooLarge)
	require.Equal(t, fault.Internal, fault.KindOf(bus.Check([]bus.Message{{ID: string(make([]byte, 129))}})))
}

// TestNothingIsLostUnderConcurrency has 64 goroutines publish, receive and settle at random; every message is completed by
// exactly one holder, or is a dead letter.
func TestNothingIsLostUnderConcurrency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const workers, each = 32, 100
		m := bus.NewMemory(time.Now, bus.Queue{Name: "q", MaxDeliveryCount: 4, LockDuration: 10 * time.Second})
		var mu sync.Mutex
		holders := map[string]string{} // token by message
		done := map[string]int{}
		ctx, stop := context.WithCancel(t.Context())
		var publishers, receivers sync.WaitGroup
		for w := range workers {
			publishers.Go(func() {
				for i := range each {
					publish(t, m, "q", bus.Message{ID: fmt.Sprintf("%d-%d", w, i)})
				}
			})
			receivers.Go(func() {
				rnd := rand.New(rand.NewPCG(1, uint64(w)))
				for {
					got, err := m.Receive(ctx, "q", 1+rnd.IntN(5))
					if err != nil {
						return
					}
					for _, d := range got {
						mu.Lock()
						require.Empty(t, holders[d.ID], "%s is delivered under two locks", d.ID)
						holders[d.ID] = d.LockToken
						mu.Unlock()
						time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond) // in the bubble
						mu.Lock()
						holders[d.ID] = ""
						if rnd.IntN(3) == 0 {
							require.NoError(t, m.Abandon(ctx, "q", d))
						} else {
							require.NoError(t, m.Complete(ctx, "q", d))
							done[d.ID]++
						}
						mu.Unlock()
					}
				}
			})
		}
		publishers.Wait()
		time.Sleep(time.Hour) // in the bubble: everything settles
		synctest.Wait()
		stop()
		receivers.Wait()
		counts, err := m.Counts("q")
		require.NoError(t, err)
		require.Equal(t, bus.Counts{Dead: workers*each - len(done)}, counts)
		require.NotZero(t, counts.Dead)
		for _, d := range receive(t, m, bus.DeadLetters("q"), counts.Dead) {
			done[d.ID]++
		}
		require.Len(t, done, workers*each)
		for id, n := range done {
			require.Equal(t, 1, n, id)
		}
	})
}

// naive is the broker as plainly as it can be written: one list, walked for everything.
type naive struct {
	now        time.Time
	main, dead []*letter
	seen       map[string]time.Time
	sequence   [2]int64
}

type letter struct {
	id                 string
	sequence           int64
	count              int
	token, reason      string
	deferred           bool
	life               time.Duration
	scheduled, expires time.Time
	until              time.Time
}

const (
	lock, window, life = 10 * time.Second, 45 * time.Second, 2 * time.Minute
	deliveries         = 3
)

func (n *naive) settle() {
	slices.SortStableFunc(n.main, func(a, b *letter) int { return a.scheduled.Compare(b.scheduled) })
	for _, l := range n.main {
		if !l.scheduled.IsZero() && !l.scheduled.After(n.now) {
			n.sequence[0]++
			l.sequence, l.expires, l.scheduled = n.sequence[0], l.scheduled.Add(l.life), time.Time{}
		}
	}
	var ended, expired []*letter
	for _, l := range slices.Concat(n.main, n.dead) {
		if l.token != "" && !l.until.After(n.now) {
			ended = append(ended, l)
		}
	}
	slices.SortFunc(ended, byInstant(func(l *letter) time.Time { return l.until }))
	for _, l := range ended {
		n.release(l)
	}
	for _, l := range n.main {
		if l.token == "" && l.scheduled.IsZero() && !l.expires.After(n.now) {
			expired = append(expired, l)
		}
	}
	slices.SortFunc(expired, byInstant(func(l *letter) time.Time { return l.expires }))
	for _, l := range expired {
		n.bury(l, bus.ReasonExpired)
	}
	slices.SortFunc(n.main, bySequence)
	slices.SortFunc(n.dead, bySequence)
}

func bySequence(a, b *letter) int { return int(a.sequence - b.sequence) }

func byInstant(instant func(*letter) time.Time) func(a, b *letter) int {
	return func(a, b *letter) int { return cmp.Or(instant(a).Compare(instant(b)), bySequence(a, b)) }
}

func (n *naive) release(l *letter) {
	l.token = ""
	if slices.Contains(n.main, l) && l.count >= deliveries {
		n.bury(l, bus.ReasonDeliveries)
	}
}

func (n *naive) bury(l *letter, reason string) {
	n.remove(l)
	n.sequence[1]++
	l.token, l.reason, l.sequence, l.deferred = "", reason, n.sequence[1], false
	n.dead = append(n.dead, l)
}

func (n *naive) remove(l *letter) {
	same := func(o *letter) bool { return o == l }
	n.main, n.dead = slices.DeleteFunc(n.main, same), slices.DeleteFunc(n.dead, same)
}

func (l *letter) state() bus.State {
	switch {
	case !l.scheduled.IsZero():
		return bus.Scheduled
	case l.deferred:
		return bus.Deferred
	}
	return bus.Active
}

func TestMemoryEqualsANaiveBroker(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		m := bus.NewMemory(c.now, bus.Queue{
			Name: "q", LockDuration: lock, MaxDeliveryCount: deliveries, DuplicateWindow: window, TimeToLive: life,
		})
		n := &naive{now: c.now(), seen: map[string]time.Time{}}
		held := map[string][]bus.Delivery{}
		queue := rapid.SampledFrom([]string{"q", "q", "q", bus.DeadLetters("q")})
		list := func(name string) []*letter {
			if name == "q" {
				return n.main
			}
			return n.dead
		}
		// pick gives a delivery that was received at some time, and its letter while the lock lasts.
		pick := func(t *rapid.T) (string, bus.Delivery, *letter) {
			name := queue.Draw(t, "queue")
			if len(held[name]) == 0 {
				t.Skip("nothing received yet")
			}
			d := rapid.SampledFrom(held[name]).Draw(t, "delivery")
			n.settle()
			for _, l := range list(name) {
				if l.token == d.LockToken {
					return name, d, l
				}
			}
			return name, d, nil
		}
		settled := func(t *rapid.T, err error, l *letter) {
			if l == nil {
				require.ErrorIs(t, err, fault.Conflict)
				return
			}
			require.NoError(t, err)
		}
		// numbered draws up to three messages by their sequence numbers, some twice; the letters are nil when one is not of the kind.
		numbered := func(t *rapid.T, queue string, kind func(*letter) bool) ([]int64, []*letter) {
			n.settle()
			var all, others []*letter // of the kind first, so that small draws find some
			for _, l := range list(queue) {
				if kind(l) {
					all = append(all, l)
				} else {
					others = append(others, l)
				}
			}
			all = append(all, others...)
			var numbers []int64
			letters := []*letter{}
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, 3), 1, 3).Draw(t, "which") {
				if i >= len(all) {
					numbers, letters = append(numbers, 1_000_000), nil
					continue
				}
				numbers = append(numbers, all[i].sequence)
				switch {
				case letters == nil || !kind(all[i]):
					letters = nil
				case !slices.Contains(letters, all[i]):
					letters = append(letters, all[i])
				}
			}
			return numbers, letters
		}
		send := func(t *rapid.T) (messages []bus.Message, numbers []int64) {
			n.settle()
			for range rapid.IntRange(1, 4).Draw(t, "n") {
				msg := bus.Message{ID: fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "id"))}
				if after := rapid.IntRange(-5, 30).Draw(t, "after"); after > 20 {
					msg.ScheduledAt = n.now.Add(time.Duration(after-20) * 7 * time.Second)
				}
				if lives := rapid.IntRange(-10, 10).Draw(t, "life"); lives > 0 {
					msg.TimeToLive = time.Duration(lives) * 20 * time.Second
				}
				messages = append(messages, msg)
				if until, ok := n.seen[msg.ID]; ok && until.After(n.now) {
					numbers = append(numbers, 0)
					continue
				}
				n.seen[msg.ID] = n.now.Add(window)
				n.sequence[0]++
				l := &letter{id: msg.ID, sequence: n.sequence[0], scheduled: msg.ScheduledAt, life: min(cmp.Or(msg.TimeToLive, life), life)}
				l.expires = n.now.Add(l.life)
				n.main = append(n.main, l)
				numbers = append(numbers, l.sequence)
			}
			return messages, numbers
		}
		given := func(t *rapid.T, want []*letter, got []bus.Delivery, locks bool) {
			require.Len(t, got, len(want))
			for i, l := range want {
				l.count++
				l.token = got[i].LockToken
				if l.until = (time.Time{}); locks {
					require.NotEmpty(t, l.token)
					l.until = n.now.Add(lock)
				}
				require.Equal(t, []any{l.id, l.sequence, l.count, l.until, l.reason},
					[]any{got[i].ID, got[i].SequenceNumber, got[i].DeliveryCount, got[i].LockedUntil, got[i].DeadLetterReason})
			}
		}
		receive := func(t *rapid.T, from string, call func(context.Context, string, int) ([]bus.Delivery, error), locks bool) (got []bus.Delivery, want []*letter) {
			most := rapid.IntRange(1, 5).Draw(t, "limit")
			n.settle()
			for _, l := range list(from) {
				if l.token == "" && l.state() == bus.Active && len(want) < most {
					want = append(want, l)
				}
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if len(want) == 0 {
				cancel()
				_, err := call(ctx, from, most)
				require.ErrorIs(t, err, context.Canceled)
				return nil, nil
			}
			got, err := call(ctx, from, most)
			require.NoError(t, err)
			given(t, want, got, locks)
			return got, want
		}
		t.Repeat(map[string]func(*rapid.T){
			"pass": func(t *rapid.T) {
				d := time.Duration(rapid.IntRange(0, 15_000).Draw(t, "ms")) * time.Millisecond
				c.pass(d)
				n.now = n.now.Add(d)
			},
			"publish": func(t *rapid.T) {
				messages, _ := send(t)
				require.NoError(t, m.Publish(context.Background(), "q", messages))
			},
			"schedule": func(t *rapid.T) {
				messages, want := send(t)
				numbers, err := m.Schedule(context.Background(), "q", messages)
				require.NoError(t, err)
				require.Equal(t, want, numbers)
			},
			"cancel": func(t *rapid.T) {
				numbers, letters := numbered(t, "q", func(l *letter) bool { return l.state() == bus.Scheduled })
				err := m.Cancel(context.Background(), "q", numbers)
				if letters == nil {
					require.ErrorIs(t, err, fault.NotFound)
					return
				}
				require.NoError(t, err)
				for _, l := range letters {
					n.remove(l)
				}
			},
			"receive": func(t *rapid.T) {
				from := queue.Draw(t, "queue")
				got, _ := receive(t, from, m.Receive, true)
				held[from] = append(held[from], got...)
			},
			"receive and delete": func(t *rapid.T) {
				_, gone := receive(t, queue.Draw(t, "queue"), m.ReceiveAndDelete, false)
				for _, l := range gone {
					n.remove(l)
				}
			},
			"receive deferred": func(t *rapid.T) {
				from := queue.Draw(t, "queue")
				numbers, letters := numbered(t, from, func(l *letter) bool { return l.state() == bus.Deferred && l.token == "" })
				got, err := m.ReceiveDeferred(context.Background(), from, numbers)
				if letters == nil {
					require.ErrorIs(t, err, fault.NotFound)
					require.Empty(t, got)
					return
				}
				require.NoError(t, err)
				given(t, letters, got, true)
				held[from] = append(held[from], got...)
			},
			"complete": func(t *rapid.T) {
				name, d, l := pick(t)
				settled(t, m.Complete(context.Background(), name, d), l)
				n.remove(l)
			},
			"abandon": func(t *rapid.T) {
				name, d, l := pick(t)
				settled(t, m.Abandon(context.Background(), name, d), l)
				if l != nil {
					n.release(l)
				}
			},
			"defer": func(t *rapid.T) {
				name, d, l := pick(t)
				settled(t, m.Defer(context.Background(), name, d), l)
				if l != nil {
					l.token, l.deferred = "", true
				}
			},
			"dead-letter": func(t *rapid.T) {
				name, d, l := pick(t)
				settled(t, m.DeadLetter(context.Background(), name, d, "poison", "again"), l)
				if l != nil {
					n.bury(l, "poison")
				}
			},
			"renew": func(t *rapid.T) {
				name, d, l := pick(t)
				until, err := m.Renew(context.Background(), name, d)
				settled(t, err, l)
				if l != nil {
					l.until = n.now.Add(lock)
					require.Equal(t, l.until, until)
				}
			},
			"": func(t *rapid.T) {
				n.settle()
				want := bus.Counts{Dead: len(n.dead)}
				for _, l := range n.main {
					switch state := l.state(); {
					case l.token != "":
						want.Locked++
					case state == bus.Scheduled:
						want.Scheduled++
					case state == bus.Deferred:
						want.Deferred++
					default:
						want.Active++
					}
				}
				counts, err := m.Counts("q")
				require.NoError(t, err)
				require.Equal(t, want, counts)
				for _, name := range []string{"q", bus.DeadLetters("q")} {
					all, err := m.Peek(name, 0, 1000)
					require.NoError(t, err)
					require.Len(t, all, len(list(name)))
					for i, l := range list(name) {
						require.Equal(t, []any{l.id, l.sequence, l.count, l.state(), l.reason},
							[]any{all[i].ID, all[i].SequenceNumber, all[i].DeliveryCount, all[i].State, all[i].DeadLetterReason})
					}
				}
			},
		})
	})
}

func publish(t testing.TB, m *bus.Memory, queue string, messages ...bus.Message) {
	t.Helper()
	require.NoError(t, m.Publish(t.Context(), queue, messages))
}

func receive(t testing.TB, m *bus.Memory, queue string, limit int) []bus.Delivery {
	t.Helper()
	got, err := m.Receive(t.Context(), queue, limit)
	require.NoError(t, err)
	return got
}

// BenchmarkMemory publishes, receives and settles, alone and before a backlog that others will not have taken.
func BenchmarkMemory(b *testing.B) {
	for name, test := range map[string]struct {
		queue   bus.Queue
		message bus.Message
		backlog int
	}{
		"plain":                {},
		"duplicates detected":  {queue: bus.Queue{DuplicateWindow: time.Second}},
		"expiring":             {queue: bus.Queue{TimeToLive: time.Hour}},
		"with properties":      {message: bus.Message{Properties: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}},
		"backlog":              {backlog: 100_000},
		"backlog and expiring": {queue: bus.Queue{TimeToLive: time.Hour}, backlog: 100_000},
	} {
		b.Run(name, func(b *testing.B) {
			test.queue.Name = "q"
			m := bus.NewMemory(time.Now, test.queue)
			test.message.Body = make([]byte, 1024)
			for range test.backlog {
				publish(b, m, "q", bus.Message{})
			}
			batch := make([]bus.Message, 200)
			n := 0
			for b.Loop() {
				for i := range batch {
					n++
					batch[i] = test.message
					batch[i].ID = fmt.Sprint(n)
				}
				publish(b, m, "q", batch...)
				for _, d := range receive(b, m, "q", len(batch)) {
					if err := m.Complete(b.Context(), "q", d); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
