package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
)

func TestWhatIsGivenBackUnseenIsCountedOnce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	count := &tally{}
	c := &counting{tally: count, Memory: bus.NewMemory(func() time.Time { return now }, bus.Queue{Name: progressionQueue, MaxDeliveryCount: 2})}
	require.NoError(t, c.Publish(t.Context(), progressionQueue, []bus.Message{{ID: "a"}, {ID: "b"}}))
	receive := func(queue string) []bus.Delivery {
		deliveries, err := c.Receive(t.Context(), queue, 2)
		require.NoError(t, err)
		require.Len(t, deliveries, 2)
		return deliveries
	}
	each := func(deliveries []bus.Delivery, do func(bus.Delivery) error) {
		for _, d := range deliveries {
			require.NoError(t, do(d))
		}
	}
	release := func(queue string) func(bus.Delivery) error {
		return func(d bus.Delivery) error { return c.Release(t.Context(), queue, d) }
	}
	abandon := func(d bus.Delivery) error { return c.Abandon(t.Context(), progressionQueue, d) }
	counted := func(delivered, redelivered, deadLetters int64) {
		t.Helper()
		require.Equal(t, []int64{2, delivered, redelivered, delivered + redelivered, deadLetters},
			[]int64{count.published.Load(), count.delivered.Load(), count.redelivered.Load(), count.forwarded.Load(), count.deadLetters.Load()})
	}
	each(receive(progressionQueue), release(progressionQueue))
	each(receive(progressionQueue), abandon)
	counted(2, 0, 0)
	each(receive(progressionQueue), release(progressionQueue))
	each(receive(progressionQueue), abandon)
	counted(2, 2, 0)
	each(receive(bus.DeadLetters(progressionQueue)), release(bus.DeadLetters(progressionQueue)))
	each(receive(bus.DeadLetters(progressionQueue)), release(bus.DeadLetters(progressionQueue)))
	counted(2, 2, 2)
}
