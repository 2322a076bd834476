package servicebus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/bus/bustest"
	"liveops/core/fault"
	local "liveops/local/servicebus"
)

// site is an endpoint with one queue "q", and a Bus on it.
type site struct {
	*Bus
	server *local.Server
	memory *bus.Memory
	skew   atomic.Int64 // by which the broker's clock is ahead
}

func newSite(t *testing.T, change ...func(*Config)) *site {
	t.Helper()
	s := &site{}
	s.memory = bus.NewMemory(func() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) },
		bus.Queue{Name: "q", DuplicateWindow: 10 * time.Minute, MaxDeliveryCount: 3})
	s.server = local.New(s.memory, local.Options{})
	config := Config{ConnectionString: s.server.ConnectionString("localhost"), Connect: s.server.Dial}
	for _, change := range change {
		change(&config)
	}
	b, err := Open(config)
	require.NoError(t, err)
	s.Bus = b
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, b.Close(ctx))
		require.NoError(t, s.server.Close())
	})
	return s
}

func (s *site) pass(d time.Duration) {
	s.skew.Add(int64(d))
	s.memory.Wake()
}

// active is how many messages the queue has.
func (s *site) active(t *testing.T) int {
	t.Helper()
	counts, err := s.memory.Counts("q")
	require.NoError(t, err)
	return counts.Active
}

func TestContract(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T) bustest.Broker {
		s := newSite(t)
		return bustest.Broker{Bus: s, Queue: "q", MaxDeliveryCount: 3, LockDuration: time.Minute, Pass: s.pass}
	})
}

// TestAMessageWithoutATimeToLiveNeverExpires has a message whose end the SDK takes for its beginning.
func TestAMessageWithoutATimeToLiveNeverExpires(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, s.Publish(t.Context(), "q", []bus.Message{{ID: "ever"}, {ID: "hour", TimeToLive: time.Hour}}))
	for range 2 {
		got, err := s.Receive(t.Context(), "q", 1)
		require.NoError(t, err)
		switch d := got[0]; d.ID {
		case "ever":
			require.Zero(t, d.ExpiresAt)
		case "hour":
			require.Equal(t, d.EnqueuedAt.Add(time.Hour), d.ExpiresAt)
		}
	}
}

// fails makes the first n operations of a name go wrong.
func (s *site) fails(name string, n int, how local.Fault) *atomic.Int64 {
	asked := &atomic.Int64{}
	s.server.Fail(func(o local.Operation) local.Fault {
		if o.Name == name && asked.Add(1) <= int64(n) {
			return how
		}
		return local.Fault{}
	})
	return asked
}

// patient is how long an HTTP request waits. The SDK alone would take longer.
const patient = 10 * time.Second

func TestWhatPassesIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		operation string
		fault     local.Fault
	}{
		"the connection is refused":     {local.OpConnect, local.Fault{Kind: local.Drop}},
		"cut before the send":           {local.OpSend, local.Fault{Kind: local.Drop}},
		"cut before the confirmation":   {local.OpSend, local.Fault{Kind: local.DropAfter}},
		"the link is detached":          {local.OpSend, local.Fault{Kind: local.Detach, Condition: local.DetachForced}},
		"the broker is busy":            {local.OpSend, local.Fault{Kind: local.Refuse, Condition: local.ServerBusy}},
		"cut while the token is shown":  {local.OpAuthorize, local.Fault{Kind: local.Drop}},
		"cut while the link is opened":  {local.OpAttach, local.Fault{Kind: local.Drop}},
		"the confirmation never comes":  {local.OpSend, local.Fault{Delay: time.Hour}},
		"the greeting never comes":      {local.OpConnect, local.Fault{Delay: time.Hour}},
		"the token is never answered":   {local.OpAuthorize, local.Fault{Delay: time.Hour}},
		"the link is never there":       {local.OpAttach, local.Fault{Delay: time.Hour}},
		"busy at the end of the link":   {local.OpSend, local.Fault{Kind: local.Detach, Condition: local.ServerBusy}},
		"an internal error of the link": {local.OpSend, local.Fault{Kind: local.Detach, Condition: local.InternalError}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.fails(test.operation, 1, test.fault)
			start := time.Now()
			require.NoError(t, s.Publish(t.Context(), "q", letters("a", "b")))
			require.Equal(t, 2, s.active(t))
			require.Less(t, time.Since(start), patient)
		})
	}
}

func TestWhatDoesNotPassFailsSoon(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		operation string
		fault     local.Fault
		asked     int
	}{
		"no permission":       {local.OpAuthorize, local.Fault{Kind: local.Refuse, Condition: local.Unauthorized}, 1},
		"no such queue":       {local.OpAttach, local.Fault{Kind: local.Refuse, Condition: local.NotFound}, 1},
		"the queue is full":   {local.OpSend, local.Fault{Kind: local.Refuse, Condition: local.ResourceLimit}, 1},
		"busy for long":       {local.OpSend, local.Fault{Kind: local.Refuse, Condition: local.ServerBusy}, 3},
		"nobody is listening": {local.OpConnect, local.Fault{Kind: local.Drop}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			asked := s.fails(test.operation, 1<<30, test.fault)
			start := time.Now()
			err := s.Publish(t.Context(), "q", letters("a"))
			require.ErrorIs(t, err, fault.BusUnavailable)
			require.Less(t, time.Since(start), patient)
			require.LessOrEqual(t, asked.Load(), int64(test.asked))
			s.server.Fail(nil)
			require.NoError(t, s.Publish(t.Context(), "q", letters("a")))
		})
	}
}

// TestCutConnections publishes while connections are cut again and again: what was confirmed is there once.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var sends atomic.Int64
	s.server.Fail(func(o local.Operation) local.Fault {
		if o.Name != local.OpSend {
			return local.Fault{}
		}
		switch sends.Add(1) % 40 {
		case 7:
			return local.Fault{Kind: local.DropAfter}
		case 21:
			return local.Fault{Kind: local.Drop}
		case 33:
			return local.Fault{Kind: local.Detach, Condition: local.DetachForced}
		}
		return local.Fault{}
	})
	var confirmed, failed atomic.Int64
	var callers sync.WaitGroup
	for i := range 32 {
		callers.Go(func() {
			for j := range 40 {
				if err := s.Publish(t.Context(), "q", letters(fmt.Sprintf("%d.%d", i, j))); err != nil {
					failed.Add(1)
				} else {
					confirmed.Add(1)
				}
			}
		})
	}
	callers.Wait()
	require.LessOrEqual(t, int64(s.active(t)), confirmed.Load()+failed.Load())
	require.GreaterOrEqual(t, int64(s.active(t)), confirmed.Load())
	require.Zero(t, failed.Load())
}

func TestConnectionsAreOpenedWhenOneIsNotEnough(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.Connections = 3 })
	var connects atomic.Int64
	s.server.Fail(func(o local.Operation) local.Fault {
		switch o.Name {
		case local.OpConnect:
			connects.Add(1)
		case local.OpSend:
			return local.Fault{Delay: 300 * time.Millisecond}
		}
		return local.Fault{}
	})
	require.NoError(t, s.Publish(t.Context(), "q", letters("first")))
	require.EqualValues(t, 1, connects.Load())
	var callers sync.WaitGroup
	for i := range 200 {
		callers.Go(func() { require.NoError(t, s.Publish(t.Context(), "q", letters(fmt.Sprintf("%d:100000", i)))) })
	}
	callers.Wait()
	require.EqualValues(t, 3, connects.Load())
	require.Equal(t, 201, s.active(t))
}

func TestDeadLettersGoBack(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(s *site){
		"in quiet":                func(*site) {},
		"the connection is cut":   func(s *site) { s.server.Cut() },
		"the connection is muted": func(s *site) { s.fails(local.OpComplete, 1, local.Fault{Delay: time.Hour}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			require.NoError(t, s.Publish(t.Context(), "q", letters("a")))
			got, err := s.memory.Receive(t.Context(), "q", 1)
			require.NoError(t, err)
			require.NoError(t, s.memory.DeadLetter(t.Context(), "q", got[0], "why", "how"))

			dead, err := s.Receive(t.Context(), bus.DeadLetters("q"), 10)
			require.NoError(t, err)
			require.Equal(t, "why", dead[0].DeadLetterReason)
			until, err := s.Renew(t.Context(), bus.DeadLetters("q"), dead[0])
			require.NoError(t, err)
			require.False(t, until.Before(dead[0].LockedUntil))
			cut(s)
			start := time.Now()
			again := dead[0].Message
			again.ID = "b"
			require.NoError(t, s.Publish(t.Context(), "q", []bus.Message{again}))
			if err := s.Complete(t.Context(), bus.DeadLetters("q"), dead[0]); name != "the connection is muted" {
				require.NoError(t, err)
			}
			require.Less(t, time.Since(start), patient)
			require.ErrorIs(t, s.Complete(t.Context(), bus.DeadLetters("q"), dead[0]), fault.LockLost)
			_, err = s.Renew(t.Context(), bus.DeadLetters("q"), dead[0])
			require.ErrorIs(t, err, fault.LockLost)
			counts, err := s.memory.Counts("q")
			require.NoError(t, err)
			require.Equal(t, bus.Counts{Active: 1}, counts)
		})
	}
}

func TestACutPeekIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]local.Fault{
		"cut":              {Kind: local.Drop},
		"cut after":        {Kind: local.DropAfter},
		"busy":             {Kind: local.Refuse, Condition: local.ServerBusy},
		"without a word":   {Delay: time.Hour},
		"the link is gone": {Kind: local.Detach, Condition: local.DetachForced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			require.NoError(t, s.Publish(t.Context(), "q", letters("a", "b")))
			asked := s.fails(local.OpPeek, 1, wrong)
			backlog, err := s.Backlog(t.Context(), "q")
			require.NoError(t, err)
			require.Equal(t, 2, backlog.Messages)
			require.Greater(t, asked.Load(), int64(1))
		})
	}
}

// TestBacklogPages has more than one answer holds, and what is not counted among it.
func TestBacklogPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var messages []bus.Message
	for i := range 600 {
		m := bus.Message{ID: fmt.Sprint(i), Body: []byte("x")}
		if i%2 == 0 {
			m.ScheduledAt = time.Now().Add(time.Hour)
		}
		messages = append(messages, m)
	}
	require.NoError(t, s.Publish(t.Context(), "q", messages))
	asked := s.fails(local.OpPeek, 0, local.Fault{})
	backlog, err := s.Backlog(t.Context(), "q")
	require.NoError(t, err)
	require.Equal(t, 300, backlog.Messages)
	require.Greater(t, asked.Load(), int64(2))
	require.Equal(t, 300, s.active(t), "none is locked")
}

func TestClose(t *testing.T) { //nolint:paralleltest // it counts goroutines
	s := newSite(t)
	received := make(chan error, 1)
	go func() {
		_, err := s.Receive(context.Background(), bus.DeadLetters("q"), 1)
		received <- err
	}()
	require.NoError(t, s.Publish(t.Context(), "q", letters("first")))
	s.fails(local.OpSend, 1<<30, local.Fault{Delay: 50 * time.Millisecond})
	var callers sync.WaitGroup
	var refused atomic.Int64
	var started sync.WaitGroup
	started.Add(100)
	for i := range 100 {
		callers.Go(func() {
			started.Done()
			if err := s.Publish(t.Context(), "q", letters(fmt.Sprint(i))); errors.Is(err, fault.ShuttingDown) {
				refused.Add(1)
			} else {
				require.NoError(t, err)
			}
		})
	}
	started.Wait()
	require.NoError(t, s.Close(t.Context()))
	callers.Wait()
	require.ErrorIs(t, <-received, fault.ShuttingDown)
	require.EqualValues(t, 101-refused.Load(), s.active(t))
	require.NoError(t, s.server.Close())
	require.Eventually(t, func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left := strings.Count(string(stacks), "go-amqp") + strings.Count(string(stacks), "azservicebus.") + strings.Count(string(stacks), "(*lane)")
		return left == 0
	}, 5*time.Second, 5*time.Millisecond)
}

// TestABusyBrokerEndsALink: the SDK would go on receiving over it, and never get anything.
func TestABusyBrokerEndsALink(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fails(local.OpReceive, 1, local.Fault{Kind: local.Detach, Condition: local.ServerBusy})
	require.NoError(t, s.Publish(t.Context(), "q", letters("a")))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := s.Receive(ctx, "q", 1)
	require.ErrorIs(t, err, fault.Unavailable)
	got, err := s.Receive(ctx, "q", 1)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, 1, got[0].DeliveryCount)
	require.NoError(t, s.Complete(ctx, "q", got[0]))
}
