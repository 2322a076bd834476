package bus_test

import (
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
	bustest.Run(t, func(t *testing.T) bustest.Broker {
		c := newClock()
		m := bus.NewMemory(c.now, bus.Queue{Name: "q", DuplicateWindow: 10 * time.Minute})
		return bustest.Broker{Bus: m, Queue: "q", MaxDeliveryCount: 10, LockDuration: time.Minute, Pass: func(d time.Duration) {
			c.pass(d)
			m.Wake()
		}}
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
	receive(t, m, "q", 1)
	for range 2 {
		all, err := m.Peek("q", 0, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"locked", "later", "active"}, peekedIDs(all))
	}
	rest, err := m.Peek("q", 2, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"later"}, peekedIDs(rest))
	counts, err := m.Counts("q")
	require.NoError(t, err)
	require.Equal(t, bus.Counts{Active: 1, Locked: 1, Scheduled: 1}, counts)
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
			l.sequence, l.expires, l.scheduled = n.sequence[0], l.scheduled.Add(life), time.Time{}
		}
	}
	var ended []*letter
	for _, l := range slices.Concat(n.main, n.dead) {
		if l.token != "" && !l.until.After(n.now) {
			ended = append(ended, l)
		}
	}
	slices.SortFunc(ended, func(a, b *letter) int {
		if c := a.until.Compare(b.until); c != 0 {
			return c
		}
		return int(a.sequence - b.sequence)
	})
	for _, l := range ended {
		n.release(l)
	}
	slices.SortFunc(n.main, bySequence)
	for _, l := range slices.Clone(n.main) {
		if l.token == "" && l.scheduled.IsZero() && !l.expires.After(n.now) {
			n.bury(l, bus.ReasonExpired)
		}
	}
	slices.SortFunc(n.dead, bySequence)
}

func bySequence(a, b *letter) int { return int(a.sequence - b.sequence) }

func (n *naive) release(l *letter) {
	l.token = ""
	if slices.Contains(n.main, l) && l.count >= deliveries {
		n.bury(l, bus.ReasonDeliveries)
	}
}

func (n *naive) bury(l *letter, reason string) {
	n.main = slices.DeleteFunc(n.main, func(o *letter) bool { return o == l })
	n.sequence[1]++
	l.token, l.reason, l.sequence = "", reason, n.sequence[1]
	n.dead = append(n.dead, l)
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
		list := func(name string) *[]*letter {
			if name == "q" {
				return &n.main
			}
			return &n.dead
		}
		// pick gives a delivery that was received at some time, and its letter while the lock lasts.
		pick := func(t *rapid.T) (string, bus.Delivery, *letter) {
			name := queue.Draw(t, "queue")
			if len(held[name]) == 0 {
				t.Skip("nothing received yet")
			}
			d := rapid.SampledFrom(held[name]).Draw(t, "delivery")
			n.settle()
			for _, l := range *list(name) {
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
		t.Repeat(map[string]func(*rapid.T){
			"pass": func(t *rapid.T) {
				d := time.Duration(rapid.IntRange(0, 15_000).Draw(t, "ms")) * time.Millisecond
				c.pass(d)
				n.now = n.now.Add(d)
			},
			"publish": func(t *rapid.T) {
				var messages []bus.Message
				n.settle()
				for range rapid.IntRange(1, 4).Draw(t, "n") {
					msg := bus.Message{ID: fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "id"))}
					if after := rapid.IntRange(-5, 30).Draw(t, "after"); after > 20 {
						msg.ScheduledAt = n.now.Add(time.Duration(after-20) * 7 * time.Second)
					}
					messages = append(messages, msg)
					if until, ok := n.seen[msg.ID]; ok && until.After(n.now) {
						continue
					}
					n.seen[msg.ID] = n.now.Add(window)
					n.sequence[0]++
					n.main = append(n.main, &letter{id: msg.ID, sequence: n.sequence[0], scheduled: msg.ScheduledAt, expires: n.now.Add(life)})
				}
				require.NoError(t, m.Publish(context.Background(), "q", messages))
			},
			"receive": func(t *rapid.T) {
				name, most := queue.Draw(t, "queue"), rapid.IntRange(1, 5).Draw(t, "limit")
				n.settle()
				var want []*letter
				for _, l := range *list(name) {
					if l.token == "" && l.scheduled.IsZero() && len(want) < most {
						want = append(want, l)
					}
				}
				if len(want) == 0 {
					ctx, cancel := context.WithCancel(context.Background())
					cancel()
					_, err := m.Receive(ctx, name, most)
					require.ErrorIs(t, err, context.Canceled)
					return
				}
				got, err := m.Receive(context.Background(), name, most)
				require.NoError(t, err)
				require.Len(t, got, len(want))
				for i, l := range want {
					l.count++
					l.token, l.until = got[i].LockToken, n.now.Add(lock)
					require.Equal(t, []any{l.id, l.sequence, l.count, l.until, l.reason},
						[]any{got[i].ID, got[i].SequenceNumber, got[i].DeliveryCount, got[i].LockedUntil, got[i].DeadLetterReason})
				}
				held[name] = append(held[name], got...)
			},
			"complete": func(t *rapid.T) {
				name, d, l := pick(t)
				settled(t, m.Complete(context.Background(), name, d), l)
				on := list(name)
				*on = slices.DeleteFunc(*on, func(o *letter) bool { return o == l })
			},
			"abandon": func(t *rapid.T) {
				name, d, l := pick(t)
				settled(t, m.Abandon(context.Background(), name, d), l)
				if l != nil {
					n.release(l)
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
					switch {
					case l.token != "":
						want.Locked++
					case !l.scheduled.IsZero():
						want.Scheduled++
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
					sorted := slices.SortedFunc(slices.Values(*list(name)), bySequence)
					require.Len(t, all, len(sorted))
					for i, l := range sorted {
						require.Equal(t, l.id, all[i].ID)
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

func BenchmarkMemory(b *testing.B) {
	m := bus.NewMemory(time.Now, bus.Queue{Name: "q", DuplicateWindow: time.Second})
	body := make([]byte, 1024)
	batch := make([]bus.Message, 200)
	n := 0
	for b.Loop() {
		for i := range batch {
			n++
			batch[i] = bus.Message{ID: fmt.Sprint(n), Body: body}
		}
		publish(b, m, "q", batch...)
		for _, d := range receive(b, m, "q", len(batch)) {
			require.NoError(b, m.Complete(b.Context(), "q", d))
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
}
