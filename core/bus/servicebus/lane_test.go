package servicebus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/bus"
	"liveops/core/fault"
)

// yard is a broker whose batches hold so many bytes of body. It remembers the batches in the order in which they were sent.
type yard struct {
	room    int
	delay   time.Duration            // until a batch is confirmed
	closed  atomic.Bool              // there are no batches
	refuses func(ids []string) error // of a batch

	mu       sync.Mutex
	sent     [][]string
	at       []time.Duration // of sent, since start
	start    time.Time
	underWay int
	peak     int
}

type crate struct {
	yard *yard
	room int
	ids  []string
}

var errBroken = errors.New("a message that cannot be written")

func (y *yard) open(context.Context) (batch, error) {
	if y.closed.Load() {
		return nil, fault.BusUnavailable.Errorf("no link")
	}
	return &crate{yard: y, room: y.room}, nil
}

func (c *crate) add(m bus.Message) error {
	if m.ContentType == "broken" {
		return errBroken
	}
	if len(m.Body) > c.room || len(c.ids) == batchMessages {
		return errFull
	}
	c.room -= len(m.Body)
	c.ids = append(c.ids, m.ID)
	return nil
}

func (c *crate) send(ctx context.Context) error {
	y := c.yard
	y.mu.Lock()
	y.sent, y.at = append(y.sent, c.ids), append(y.at, time.Since(y.start))
	y.underWay++
	y.peak = max(y.peak, y.underWay)
	y.mu.Unlock()
	defer func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		y.underWay--
	}()
	select {
	case <-time.After(y.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if y.refuses != nil {
		return y.refuses(c.ids)
	}
	return nil
}

// batches are the ids sent, as "a b|c".
func (y *yard) batches() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	lines := make([]string, len(y.sent))
	for i, ids := range y.sent {
		lines[i] = strings.Join(ids, " ")
	}
	return strings.Join(lines, "|")
}

// crew publishes to a lane.
type crew struct {
	t       *testing.T
	lane    *lane
	running *sync.WaitGroup
}

// in runs a test on a lane to y in a bubble, and sees that nothing of the lane is left after it.
func in(t *testing.T, y *yard, most int, test func(t *testing.T, c *crew)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		y.start = time.Now()
		running := &sync.WaitGroup{}
		test(t, &crew{t, &lane{open: y.open, most: most, running: running}, running})
		running.Wait()
	})
}

// publish begins a call with a message for each id, whose body is as long as its id says after a colon, and returns when
// it waits or is done.
func (c *crew) publish(ctx context.Context, ids ...string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.lane.publish(ctx, letters(ids...)) }()
	synctest.Wait()
	return done
}

func letters(ids ...string) []bus.Message {
	messages := make([]bus.Message, len(ids))
	for i, id := range ids {
		size := 1
		if _, text, ok := strings.Cut(id, ":"); ok {
			_, _ = fmt.Sscan(text, &size)
		}
		messages[i] = bus.Message{ID: id, Body: make([]byte, size)}
	}
	return messages
}

func TestALoneCallIsSentAtOnce(t *testing.T) {
	t.Parallel()
	y := &yard{room: 10, delay: time.Millisecond}
	in(t, y, 4, func(t *testing.T, c *crew) {
		for range 3 {
			require.NoError(t, c.lane.publish(t.Context(), letters("a")))
		}
		require.Equal(t, 3*time.Millisecond, time.Since(y.start))
	})
	require.Equal(t, "a|a|a", y.batches())
}

func TestCallsGatherWhileABatchIsUnderWay(t *testing.T) {
	t.Parallel()
	many := make([]string, batchMessages-1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for name, test := range map[string]struct {
		delay time.Duration
		most  int
		calls [][]string // 750 microseconds apart
		want  string
		at    []time.Duration // microseconds
	}{
		"until it is confirmed":       {1500 * time.Microsecond, 4, [][]string{{"a"}, {"b"}}, "a|b", []time.Duration{0, 1500}},
		"until they lingered":         {20 * time.Millisecond, 4, [][]string{{"a"}, {"b"}, {"c"}, {"d"}, {"e"}}, "a|b c d|e", []time.Duration{0, 2750, 5000}},
		"until as many may be sent":   {20 * time.Millisecond, 2, [][]string{{"a"}, {"b"}, {"c"}, {"d"}, {"e"}}, "a|b c d|e", []time.Duration{0, 2750, 20000}},
		"until there are many":        {20 * time.Millisecond, 4, [][]string{{"a"}, many, {"c"}}, "a|" + strings.Join(many, " ") + " c", []time.Duration{0, 1500}},
		"until they are large":        {20 * time.Millisecond, 4, [][]string{{"a"}, {"b:245760"}, {"c"}}, "a|b:245760|c", []time.Duration{0, 750, 3500}},
		"what does not fit goes next": {20 * time.Millisecond, 4, [][]string{{"a"}, {"b:245759"}, {"c:245759"}}, "a|b:245759|c:245759", []time.Duration{0, 1500, 3500}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := &yard{room: bus.MaxBody, delay: test.delay}
			in(t, y, test.most, func(t *testing.T, c *crew) {
				var calls []<-chan error
				for i, ids := range test.calls {
					if i > 0 {
						time.Sleep(750 * time.Microsecond)
					}
					calls = append(calls, c.publish(t.Context(), ids...))
				}
				for _, call := range calls {
					require.NoError(t, <-call)
				}
			})
			require.Equal(t, test.want, y.batches())
			for i, at := range y.at {
				require.Equal(t, test.at[i]*time.Microsecond, at, "batch %d", i)
			}
			require.LessOrEqual(t, y.peak, test.most)
		})
	}
}

func TestACallIsNotSplitWithoutNeed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		calls []string // ids of each call
		want  string   // after the batch that keeps them waiting
		fails []string // calls whose failure is a message too large
	}{
		"they share a batch":             {[]string{"a:3 b:3", "c:4"}, "a:3 b:3 c:4", nil},
		"the second does not fit":        {[]string{"a:6", "b:3 c:3", "d:1"}, "a:6|b:3 c:3 d:1", nil},
		"larger than a batch":            {[]string{"a:1", "b:6 c:6 d:2 e:6", "f:1"}, "a:1|b:6|c:6 d:2|e:6|f:1", nil},
		"larger, and alone":              {[]string{"a:6 b:6"}, "a:6|b:6", nil},
		"one message no batch holds":     {[]string{"a:1", "b:11", "c:1"}, "a:1|c:1", []string{"b:11"}},
		"the first no batch holds":       {[]string{"b:11", "a:1"}, "a:1", []string{"b:11"}},
		"nothing of its call is sent":    {[]string{"a:1", "b:1 c:11 d:1", "e:1"}, "a:1|e:1", []string{"b:1 c:11 d:1"}},
		"nothing of a larger one either": {[]string{"b:6 c:6 d:11"}, "", []string{"b:6 c:6 d:11"}},
		"exactly full":                   {[]string{"a:10", "b:10"}, "a:10|b:10", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := &yard{room: 10, delay: time.Millisecond}
			in(t, y, 1, func(t *testing.T, c *crew) {
				first := c.publish(t.Context(), "-")
				calls := make([]<-chan error, len(test.calls))
				for i, ids := range test.calls {
					calls[i] = c.publish(t.Context(), strings.Fields(ids)...)
				}
				require.NoError(t, <-first)
				for i, call := range calls {
					err := <-call
					if !strings.Contains(strings.Join(test.fails, "|"), test.calls[i]) {
						require.NoError(t, err)
						continue
					}
					require.ErrorIs(t, err, fault.EventTooLarge)
				}
			})
			require.Equal(t, strings.TrimSuffix("-|"+test.want, "|"), y.batches())
		})
	}
}

func TestAMessageThatCannotBeWrittenFailsAlone(t *testing.T) {
	t.Parallel()
	y := &yard{room: 10, delay: time.Millisecond}
	in(t, y, 1, func(t *testing.T, c *crew) {
		first := c.publish(t.Context(), "-")
		before := c.publish(t.Context(), "a")
		broken := make(chan error, 1)
		go func() {
			broken <- c.lane.publish(t.Context(), []bus.Message{{ID: "b"}, {ID: "c", ContentType: "broken"}})
		}()
		synctest.Wait()
		after := c.publish(t.Context(), "d")
		require.NoError(t, errors.Join(<-first, <-before, <-after))
		require.ErrorIs(t, <-broken, errBroken)
	})
	require.Equal(t, "-|a d", y.batches())
}

func TestAFailureReachesItsOwnBatch(t *testing.T) {
	t.Parallel()
	failure := errors.New("refused")
	y := &yard{room: 2, delay: 20 * time.Millisecond}
	y.refuses = func(ids []string) error {
		if ids[0] == "b" || ids[0] == "f:2" {
			return failure
		}
		return nil
	}
	in(t, y, 1, func(t *testing.T, c *crew) {
		var calls []<-chan error
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			calls = append(calls, c.publish(t.Context(), id))
		}
		calls = append(calls, c.publish(t.Context(), "f:2", "g"), c.publish(t.Context(), "h"))
		for i, want := range []error{nil, failure, failure, nil, nil, failure, nil} {
			require.ErrorIs(t, <-calls[i], want)
		}
	})
	require.Equal(t, "a|b c|d e|f:2|h", y.batches(), "after a failure the rest of a call is not sent")
}

func TestWithoutALinkEverybodyWhoWaitsFails(t *testing.T) {
	t.Parallel()
	y := &yard{room: 10, delay: 20 * time.Millisecond}
	in(t, y, 1, func(t *testing.T, c *crew) {
		first := c.publish(t.Context(), "a")
		b, d := c.publish(t.Context(), "b:6"), c.publish(t.Context(), "d:6")
		y.closed.Store(true)
		require.NoError(t, <-first)
		require.ErrorIs(t, <-b, fault.BusUnavailable)
		require.ErrorIs(t, <-d, fault.BusUnavailable)
		y.closed.Store(false)
		require.NoError(t, c.lane.publish(t.Context(), letters("e")))
	})
	require.Equal(t, "a|e", y.batches())
}

func TestACallerMayLeave(t *testing.T) {
	t.Parallel()
	y := &yard{room: 10, delay: 20 * time.Millisecond}
	in(t, y, 1, func(t *testing.T, c *crew) {
		ctx, leave := context.WithCancel(t.Context())
		sent, waits, stays := c.publish(ctx, "a"), c.publish(ctx, "b"), c.publish(t.Context(), "c")
		leave()
		require.ErrorIs(t, <-sent, context.Canceled)
		require.ErrorIs(t, <-waits, context.Canceled)
		require.Zero(t, time.Since(y.start))
		require.NoError(t, <-stays)

		require.ErrorIs(t, c.lane.publish(ctx, letters("d")), context.Canceled)
		time.Sleep(time.Second)
	})
	require.Equal(t, "a|c", y.batches())
}

func TestABatchIsNotWaitedForWithoutEnd(t *testing.T) {
	t.Parallel()
	y := &yard{room: 10, delay: time.Hour}
	in(t, y, 1, func(t *testing.T, c *crew) {
		require.ErrorIs(t, c.lane.publish(t.Context(), letters("a")), context.DeadlineExceeded)
		require.Equal(t, batchLimit, time.Since(y.start))
	})
}

func TestDrainedNothingLingers(t *testing.T) {
	t.Parallel()
	y := &yard{room: 10, delay: 20 * time.Millisecond}
	in(t, y, 3, func(t *testing.T, c *crew) {
		a, b := c.publish(t.Context(), "a"), c.publish(t.Context(), "b")
		c.lane.drain()
		synctest.Wait()
		d := c.publish(t.Context(), "d")
		c.running.Wait()
		require.Equal(t, 20*time.Millisecond, time.Since(y.start))
		require.NoError(t, errors.Join(<-a, <-b, <-d))
	})
	require.Equal(t, "a|b|d", y.batches())
}

// TestPublish compares random traffic with what Publish promises.
func TestPublish(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type plan struct {
			ids  []string
			at   time.Duration
			stay time.Duration // 0: until it is done
		}
		size := rapid.IntRange(1, 12)
		plans := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) plan {
			p := plan{
				at:   time.Duration(rapid.IntRange(0, 20).Draw(rt, "at")) * 500 * time.Microsecond,
				stay: time.Duration(rapid.IntRange(0, 8).Draw(rt, "stay")) * time.Millisecond,
			}
			for range rapid.IntRange(1, 6).Draw(rt, "messages") {
				p.ids = append(p.ids, fmt.Sprintf(":%d", size.Draw(rt, "size")))
			}
			return p
		}), 1, 30).Draw(rt, "calls")
		for i, p := range plans {
			for j := range p.ids {
				p.ids[j] = fmt.Sprintf("%d.%d%s", i, j, p.ids[j])
			}
		}
		refused := rapid.SliceOfN(rapid.Bool(), 8, 8).Draw(rt, "refused")
		most := rapid.IntRange(1, 4).Draw(rt, "most")
		y := &yard{room: 10, delay: time.Duration(rapid.IntRange(0, 6).Draw(rt, "delay")) * time.Millisecond}
		failure := errors.New("refused")
		failed := map[string]bool{} // by message
		y.refuses = func(ids []string) error {
			y.mu.Lock()
			defer y.mu.Unlock()
			n := len(y.sent)
			if !refused[n%len(refused)] {
				return nil
			}
			for _, id := range ids {
				failed[id] = true
			}
			return failure
		}
		results := make([]error, len(plans))
		in(t, y, most, func(t *testing.T, c *crew) {
			var callers sync.WaitGroup
			for i, p := range plans {
				callers.Go(func() {
					time.Sleep(p.at)
					ctx := t.Context()
					if p.stay > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, p.stay)
						defer cancel()
					}
					results[i] = c.lane.publish(ctx, letters(p.ids...))
				})
			}
			callers.Wait()
		})

		place := map[string]int{} // batch by message
		order := map[string]int{}
		for n, ids := range y.sent {
			for _, id := range ids {
				if _, twice := place[id]; twice {
					rt.Fatalf("%s was sent twice", id)
				}
				place[id], order[id] = n, len(order)
			}
		}
		if y.peak > most {
			rt.Fatalf("%d batches under way, at most %d may be", y.peak, most)
		}
		for i, p := range plans {
			sum, oversized, sent, anyFailed := 0, false, 0, false
			for j, m := range letters(p.ids...) {
				sum += len(m.Body)
				oversized = oversized || len(m.Body) > y.room
				if _, ok := place[m.ID]; ok {
					sent++
					anyFailed = anyFailed || failed[m.ID]
					if j > 0 && order[p.ids[j-1]] > order[m.ID] {
						rt.Fatalf("%v was sent out of order: %v", p.ids, y.sent)
					}
					if j > 0 && sum <= y.room && place[p.ids[j-1]] != place[m.ID] {
						rt.Fatalf("%v was split without need: %v", p.ids, y.sent)
					}
				}
			}
			err := results[i]
			switch {
			case err == nil && (sent != len(p.ids) || anyFailed):
				rt.Fatalf("%v has no error, and was not confirmed: %v", p.ids, y.sent)
			case errors.Is(err, failure) && !anyFailed:
				rt.Fatalf("%v has the failure of another batch: %v", p.ids, y.sent)
			case oversized && sent > 0:
				rt.Fatalf("%v is too large, and a part of it was sent", p.ids)
			case errors.Is(err, context.DeadlineExceeded) && p.stay > 0: // he left
			case errors.Is(err, fault.EventTooLarge) != oversized:
				rt.Fatalf("%v: %v", p.ids, err)
			case err != nil && !errors.Is(err, failure) && !oversized:
				rt.Fatalf("%v: %v", p.ids, err)
			}
		}
	})
}
