package pipeline_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/pipeline"
)

// measured gives what the backlog's metrics say now.
func (p *path) measured(t *testing.T) map[string]int {
	t.Helper()
	values := map[string]int{}
	families, err := p.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		what, known := map[string]string{"queue_messages": "messages", "queue_oldest_message_age_seconds": "age"}[family.GetName()]
		if !known {
			continue
		}
		for _, m := range family.GetMetric() {
			name := what
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = int(m.GetGauge().GetValue())
		}
	}
	return values
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	backlog := &pipeline.Backlog{Bus: p.bus, Queues: []string{"events", "progression"}, Metrics: p.redrive.Metrics, Now: p.now}
	run := func(want string) {
		t.Helper()
		outcome, err := backlog.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, pipelineOutcome(outcome).String())
	}
	empty := map[string]int{
		"messages events active": 0, "messages events dead": 0, "messages progression active": 0, "messages progression dead": 0,
		"age events active": 0, "age events dead": 0, "age progression active": 0, "age progression dead": 0,
	}
	require.Equal(t, empty, p.measured(t), "before the first tick")
	run("[waiting=0 dead=0]")
	require.Equal(t, empty, p.measured(t))

	require.NoError(t, p.bus.Publish(t.Context(), "events", batch(t, xp("ada", "x1", 5), xp("ada", "x2", 5))))
	p.bury(t, "events")
	p.at(noon.Add(90 * time.Second))
	require.NoError(t, p.bus.Publish(t.Context(), "events", batch(t, xp("ada", "x3", 5))))
	require.NoError(t, p.bus.Publish(t.Context(), "progression", batch(t, xp("ada", "x4", 5), xp("ada", "x5", 5))))
	p.at(noon.Add(2 * time.Minute))
	run("[waiting=3 dead=2]")
	full := map[string]int{
		"messages events active": 1, "messages events dead": 2, "messages progression active": 2, "messages progression dead": 0,
		"age events active": 30, "age events dead": 120, "age progression active": 30, "age progression dead": 0,
	}
	require.Equal(t, full, p.measured(t))

	// A queue that cannot be looked at keeps what was measured, and the others are looked at.
	p.bus.Fail(func(op, queue string) error {
		if op == "peek" && queue == bus.DeadLetters("events") {
			return errDown
		}
		return nil
	})
	p.at(noon.Add(3 * time.Minute))
	outcome, err := backlog.Run(t.Context())
	require.ErrorIs(t, err, errDown)
	require.Equal(t, "[waiting=3 dead=0]", pipelineOutcome(outcome).String())
	full["age events active"], full["age progression active"] = 90, 90
	require.Equal(t, full, p.measured(t))
	p.bus.Fail(nil)

	for _, queue := range []string{"events", "progression", bus.DeadLetters("events")} {
		got, err := p.bus.Receive(t.Context(), queue, 10)
		require.NoError(t, err)
		for _, d := range got {
			require.NoError(t, p.bus.Complete(t.Context(), queue, d))
		}
	}
	run("[waiting=0 dead=0]")
	require.Equal(t, empty, p.measured(t))
}

// A broker's clock that is ahead makes no message come from the future.
func TestBacklogOfAClockThatIsAhead(t *testing.T) {
	t.Parallel()
	p := redrivePath(t)
	require.NoError(t, p.bus.Publish(t.Context(), "events", batch(t, xp("ada", "x1", 5))))
	behind := func() time.Time { return noon.Add(-time.Minute) }
	backlog := &pipeline.Backlog{Bus: p.bus, Queues: []string{"events"}, Metrics: p.redrive.Metrics, Now: behind}
	_, err := backlog.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, p.measured(t)["messages events active"])
	require.Zero(t, p.measured(t)["age events active"])
}
