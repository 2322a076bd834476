// Package bustest holds an implementation of the bus port to its contract. It knows nothing of how the broker works, and
// asks for nothing that Azure Service Bus would not do.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/fault"
)

// Broker is one empty queue of a broker under test.
type Broker struct {
	Bus interface {
		bus.Publisher
		bus.Receiver
		bus.Peeker
	}
	Queue            string        // empty, and no other test uses it; it detects duplicates
	MaxDeliveryCount int           // of the queue
	LockDuration     time.Duration // of the queue
	// Pass lets time pass: it sleeps for a real broker and moves the clock of a simulated one.
	Pass func(time.Duration)
}

// Run runs the contract; each case takes a new Broker.
func Run(t *testing.T, broker func(t *testing.T) Broker) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Broker){
		"carries everything":                      carries,
		"keeps the order of a call":               order,
		"gives at most the limit":                 limit,
		"waits until ctx ends":                    waits,
		"wakes for a message":                     wakes,
		"gives each message to one who waits":     waiters,
		"hides what is locked":                    hides,
		"gives abandoned messages again in order": abandons,
		"gives a message again after its lock":    expires,
		"loses the lock of what was settled":      settled,
		"drops duplicates":                        duplicates,
		"schedules":                               schedules,
		"moves the spent to the dead letters":     deadLetters,
		"refuses what is too large as a whole":    tooLarge,
		"takes many at once":                      many,
		"counts what waits":                       counts,
		"counts what died":                        countsDeadLetters,
		"counts a thousand":                       countsMany,
		"counts nothing":                          countsNothing,
		"does not know every queue":               unknown,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, broker(t))
		})
	}
}

func (b Broker) publish(t *testing.T, ids ...string) {
	t.Helper()
	messages := make([]bus.Message, len(ids))
	for i, id := range ids {
		messages[i] = bus.Message{ID: id, Body: []byte("body of " + id)}
	}
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, messages))
}

func (b Broker) receive(t *testing.T, queue string, n int) []bus.Delivery {
	t.Helper()
	return collect(t, b.Bus.Receive, queue, n)
}

// collect takes n messages from a queue, which a broker may give in several answers.
func collect(t *testing.T, receive func(ctx context.Context, queue string, limit int) ([]bus.Delivery, error), queue string, n int) []bus.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []bus.Delivery
	for len(got) < n {
		more, err := receive(ctx, queue, n-len(got))
		require.NoError(t, err, "after %d of %d messages", len(got), n)
		require.NotEmpty(t, more)
		got = append(got, more...)
	}
	return got
}

// nothing says that no message can be received now.
func (b Broker) nothing(t *testing.T, queue string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	got, err := b.Bus.Receive(ctx, queue, 10)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, got)
}

func names(deliveries []bus.Delivery) []string {
	ids := make([]string, len(deliveries))
	for i, d := range deliveries {
		ids[i] = d.ID
	}
	return ids
}

func carries(t *testing.T, b Broker) {
	sent := bus.Message{
		ID: "player.event", Body: []byte{0, 1, 0xff, '"'}, ContentType: "application/json",
		Properties: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	}
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, []bus.Message{sent}))
	got := b.receive(t, b.Queue, 1)[0]
	require.Equal(t, sent.ID, got.ID)
	require.Equal(t, sent.Body, got.Body)
	require.Equal(t, sent.ContentType, got.ContentType)
	require.Equal(t, sent.Properties, got.Properties)
	require.Equal(t, 1, got.DeliveryCount)
	require.Positive(t, got.SequenceNumber)
	require.Len(t, got.LockToken, 36)
	require.Equal(t, strings.ToLower(got.LockToken), got.LockToken)
	require.False(t, got.EnqueuedAt.IsZero())
	require.True(t, got.LockedUntil.After(got.EnqueuedAt))
	require.Empty(t, got.DeadLetterReason)
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, got))
	b.Pass(b.LockDuration + time.Second)
	b.nothing(t, b.Queue)
}

func order(t *testing.T, b Broker) {
	ids := []string{"c", "a", "d", "b", "e"}
	b.publish(t, ids...)
	got := b.receive(t, b.Queue, len(ids))
	require.Equal(t, ids, names(got))
	for i := range got[1:] {
		require.Less(t, got[i].SequenceNumber, got[i+1].SequenceNumber)
	}
}

func limit(t *testing.T, b Broker) {
	b.publish(t, "a", "b", "c")
	got, err := b.Bus.Receive(t.Context(), b.Queue, 2)
	require.NoError(t, err)
	require.LessOrEqual(t, len(got), 2)
	require.NotEmpty(t, got)
}

func waits(t *testing.T, b Broker) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := b.Bus.Receive(ctx, b.Queue, 1)
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	b.publish(t, "after")
	require.Equal(t, []string{"after"}, names(b.receive(t, b.Queue, 1)), "the ended call took nothing")
}

func wakes(t *testing.T, b Broker) {
	got := make(chan []string)
	go func() {
		deliveries, err := b.Bus.Receive(t.Context(), b.Queue, 10)
		if err != nil {
			deliveries = nil
		}
		got <- names(deliveries)
	}()
	b.publish(t, "a")
	require.Equal(t, []string{"a"}, <-got)
}

// waiters has several wait while messages come one by one.
func waiters(t *testing.T, b Broker) {
	const receivers, messages = 3, 20
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	got := make(chan bus.Delivery, messages)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer stop()
	for range receivers {
		waiting.Go(func() {
			for ctx.Err() == nil {
				deliveries, _ := b.Bus.Receive(ctx, b.Queue, 10) // an error is missed below as a message
				for _, d := range deliveries {
					got <- d
				}
			}
		})
	}
	var ids []string
	for i := range messages {
		ids = append(ids, fmt.Sprint(i))
		b.publish(t, ids[i])
	}
	var came []string
	for range messages {
		select {
		case d := <-got:
			require.Equal(t, 1, d.DeliveryCount)
			came = append(came, d.ID)
		case <-ctx.Done():
			require.Failf(t, "messages are missing", "came: %v", came)
		}
	}
	require.ElementsMatch(t, ids, came)
}

func hides(t *testing.T, b Broker) {
	b.publish(t, "a", "b")
	b.receive(t, b.Queue, 1)
	require.Equal(t, []string{"b"}, names(b.receive(t, b.Queue, 1)))
	b.nothing(t, b.Queue)
}

func abandons(t *testing.T, b Broker) {
	b.publish(t, "a", "b", "c")
	got := b.receive(t, b.Queue, 2)
	for _, d := range slices.Backward(got) {
		require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, d))
	}
	again := b.receive(t, b.Queue, 3)
	require.Equal(t, []string{"a", "b", "c"}, names(again))
	require.Equal(t, []int{2, 2, 1}, []int{again[0].DeliveryCount, again[1].DeliveryCount, again[2].DeliveryCount})
	require.Equal(t, got[0].SequenceNumber, again[0].SequenceNumber)
	require.NotEqual(t, got[0].LockToken, again[0].LockToken)
}

func expires(t *testing.T, b Broker) {
	b.publish(t, "a")
	first := b.receive(t, b.Queue, 1)[0]
	b.Pass(b.LockDuration + time.Second)
	second := b.receive(t, b.Queue, 1)[0]
	require.Equal(t, "a", second.ID)
	require.Equal(t, 2, second.DeliveryCount)
	require.ErrorIs(t, b.Bus.Complete(t.Context(), b.Queue, first), fault.Conflict)
	require.ErrorIs(t, b.Bus.Abandon(t.Context(), b.Queue, first), fault.Conflict)
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, second))
}

func settled(t *testing.T, b Broker) {
	b.publish(t, "a", "b")
	got := b.receive(t, b.Queue, 2)
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, got[0]))
	require.ErrorIs(t, b.Bus.Complete(t.Context(), b.Queue, got[0]), fault.Conflict)
	require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, got[1]))
	require.ErrorIs(t, b.Bus.Complete(t.Context(), b.Queue, got[1]), fault.Conflict)
	require.Equal(t, []string{"b"}, names(b.receive(t, b.Queue, 1)))
}

func duplicates(t *testing.T, b Broker) {
	b.publish(t, "a", "b", "a")
	b.publish(t, "b")
	got := b.receive(t, b.Queue, 2)
	require.Equal(t, []string{"a", "b"}, names(got))
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, got[0]))
	b.publish(t, "a")
	b.nothing(t, b.Queue)
}

func schedules(t *testing.T, b Broker) {
	b.publish(t, "reference")
	now := b.receive(t, b.Queue, 1)[0].EnqueuedAt
	due := now.Add(b.LockDuration / 2)
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, []bus.Message{{ID: "later", ScheduledAt: due}, {ID: "past", ScheduledAt: now.Add(-time.Hour)}}))
	require.Equal(t, []string{"past"}, names(b.receive(t, b.Queue, 1)))
	b.nothing(t, b.Queue)
	b.Pass(b.LockDuration/2 + time.Second)
	later := b.receive(t, b.Queue, 1)[0]
	require.Equal(t, "later", later.ID)
	require.Equal(t, 1, later.DeliveryCount)
	require.False(t, later.EnqueuedAt.Before(due), "enqueued at %v, due at %v", later.EnqueuedAt, due)
}

func deadLetters(t *testing.T, b Broker) {
	b.publish(t, "spent", "next")
	for n := range b.MaxDeliveryCount {
		got := b.receive(t, b.Queue, 1)[0]
		require.Equal(t, "spent", got.ID)
		require.Equal(t, n+1, got.DeliveryCount)
		require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, got))
	}
	require.Equal(t, []string{"next"}, names(b.receive(t, b.Queue, 1)))
	dead := b.receive(t, bus.DeadLetters(b.Queue), 1)[0]
	require.Equal(t, "spent", dead.ID)
	require.Equal(t, []byte("body of spent"), dead.Body)
	require.Equal(t, bus.ReasonDeliveries, dead.DeadLetterReason)
	require.NotEmpty(t, dead.DeadLetterDetail)
	// Azure documents the source only for dead letters that were forwarded.
	require.Contains(t, []string{"", b.Queue}, dead.DeadLetterSource)
	require.NoError(t, b.Bus.Abandon(t.Context(), bus.DeadLetters(b.Queue), dead))
	dead = b.receive(t, bus.DeadLetters(b.Queue), 1)[0]
	require.Equal(t, "spent", dead.ID)
	require.NoError(t, b.Bus.Complete(t.Context(), bus.DeadLetters(b.Queue), dead))
	b.nothing(t, bus.DeadLetters(b.Queue))
}

func tooLarge(t *testing.T, b Broker) {
	err := b.Bus.Publish(t.Context(), b.Queue, []bus.Message{{ID: "small"}, {ID: "big", Body: make([]byte, bus.MaxBody+1)}})
	require.ErrorIs(t, err, fault.TooLarge)
	b.nothing(t, b.Queue)
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, []bus.Message{{ID: "just", Body: make([]byte, bus.MaxBody)}}))
	require.Len(t, b.receive(t, b.Queue, 1)[0].Body, bus.MaxBody)
}

// many sends more than fits one batch of any tier, from several goroutines, and settles from several.
func many(t *testing.T, b Broker) {
	const senders, each = 8, 100
	var wg sync.WaitGroup
	failures := make(chan error, senders)
	for s := range senders {
		wg.Go(func() {
			messages := make([]bus.Message, each)
			for i := range messages {
				messages[i] = bus.Message{ID: fmt.Sprintf("%d-%d", s, i), Body: make([]byte, 8<<10)}
			}
			failures <- b.Bus.Publish(t.Context(), b.Queue, messages)
		})
	}
	wg.Wait()
	for range senders {
		require.NoError(t, <-failures)
	}
	seen := map[string]bool{}
	for len(seen) < senders*each {
		got := b.receive(t, b.Queue, min(200, senders*each-len(seen)))
		settled := make(chan error, len(got))
		for _, d := range got {
			require.False(t, seen[d.ID], "%s came twice", d.ID)
			seen[d.ID] = true
			go func() { settled <- b.Bus.Complete(t.Context(), b.Queue, d) }()
		}
		var all error
		for range got {
			all = errors.Join(all, <-settled)
		}
		require.NoError(t, all)
	}
	b.nothing(t, b.Queue)
}

func (b Broker) backlog(t *testing.T, queue string) bus.Backlog {
	t.Helper()
	backlog, err := b.Bus.Backlog(t.Context(), queue)
	require.NoError(t, err)
	return backlog
}

func counts(t *testing.T, b Broker) {
	b.publish(t, "oldest")
	oldest := b.receive(t, b.Queue, 1)[0]
	b.Pass(2 * time.Second)
	b.publish(t, "next", "last")
	due := oldest.EnqueuedAt.Add(b.LockDuration / 2)
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, []bus.Message{{ID: "later", ScheduledAt: due}}))
	for range 2 {
		require.Equal(t, bus.Backlog{Messages: 3, Oldest: oldest.EnqueuedAt}, b.backlog(t, b.Queue), "who holds the oldest is not done with it")
	}
	require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, oldest))
	require.Equal(t, bus.Backlog{Messages: 3, Oldest: oldest.EnqueuedAt}, b.backlog(t, b.Queue))
	oldest = b.receive(t, b.Queue, 1)[0]
	require.Equal(t, 2, oldest.DeliveryCount, "to count is no delivery")
	require.NoError(t, b.Bus.Complete(t.Context(), b.Queue, oldest))
	backlog := b.backlog(t, b.Queue)
	require.Equal(t, 2, backlog.Messages)
	require.True(t, backlog.Oldest.After(oldest.EnqueuedAt))
	b.Pass(b.LockDuration / 2)
	require.Equal(t, 3, b.backlog(t, b.Queue).Messages, "it is later now")
	require.Equal(t, []string{"next", "last", "later"}, names(b.receive(t, b.Queue, 3)))
}

func countsDeadLetters(t *testing.T, b Broker) {
	b.publish(t, "spent", "next")
	for range b.MaxDeliveryCount {
		require.NoError(t, b.Bus.Abandon(t.Context(), b.Queue, b.receive(t, b.Queue, 1)[0]))
	}
	require.Equal(t, 1, b.backlog(t, b.Queue).Messages)
	backlog := b.backlog(t, bus.DeadLetters(b.Queue))
	require.Equal(t, 1, backlog.Messages)
	require.False(t, backlog.Oldest.IsZero())
	dead := b.receive(t, bus.DeadLetters(b.Queue), 1)[0]
	require.Equal(t, "spent", dead.ID)
	require.Equal(t, backlog.Oldest, dead.EnqueuedAt)
	require.NoError(t, b.Bus.Complete(t.Context(), bus.DeadLetters(b.Queue), dead))
	require.Zero(t, b.backlog(t, bus.DeadLetters(b.Queue)))
}

func countsMany(t *testing.T, b Broker) {
	messages := make([]bus.Message, bus.MaxBacklog+1)
	for i := range messages {
		messages[i] = bus.Message{ID: fmt.Sprint(i), Body: []byte("x")}
	}
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, messages[:bus.MaxBacklog-1]))
	require.Equal(t, bus.MaxBacklog-1, b.backlog(t, b.Queue).Messages)
	require.NoError(t, b.Bus.Publish(t.Context(), b.Queue, messages[bus.MaxBacklog-1:]))
	require.Equal(t, bus.MaxBacklog, b.backlog(t, b.Queue).Messages)
}

func countsNothing(t *testing.T, b Broker) {
	require.Zero(t, b.backlog(t, b.Queue))
	require.Zero(t, b.backlog(t, bus.DeadLetters(b.Queue)))
	_, err := b.Bus.Backlog(t.Context(), b.Queue+"-missing")
	require.ErrorIs(t, err, fault.Unavailable)
}

func unknown(t *testing.T, b Broker) {
	require.ErrorIs(t, b.Bus.Publish(t.Context(), b.Queue+"-missing", []bus.Message{{ID: "a"}}), fault.Unavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := b.Bus.Receive(ctx, b.Queue+"-missing", 1)
	require.ErrorIs(t, err, fault.Unavailable)
}
