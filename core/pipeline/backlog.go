package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"liveops/core/bus"
)

// The states of a message that is counted, as values of a label.
const (
	messageActive = "active"
	messageDead   = "dead"
)

// backlogPatience bounds the look at all queues: whoever looks has other work to do.
const backlogPatience = 10 * time.Second

// Backlog measures how much waits in queues and among their dead letters, and for how long. It changes nothing.
type Backlog struct {
	Bus     bus.Peeker
	Queues  []string
	Metrics *Metrics
	Now     func() time.Time
}

// Run measures once. Trouble with one queue does not keep it from the others; of that queue the last measure stays.
func (b *Backlog) Run(ctx context.Context) (Outcome, error) {
	ctx, stop := context.WithTimeout(ctx, backlogPatience)
	defer stop()
	var active, dead int
	var problems []error
	for _, queue := range b.Queues {
		waiting, err := b.measure(ctx, queue, queue, messageActive)
		problems = append(problems, err)
		died, err := b.measure(ctx, queue, bus.DeadLetters(queue), messageDead)
		problems = append(problems, err)
		active, dead = active+waiting, dead+died
	}
	return Outcome{slog.Int("waiting", active), slog.Int("dead", dead)}, errors.Join(problems...)
}

// measure looks at a queue, or at its dead letters.
func (b *Backlog) measure(ctx context.Context, queue, at, state string) (messages int, err error) {
	backlog, err := b.Bus.Backlog(ctx, at)
	if err != nil {
		return 0, fmt.Errorf("measure the backlog: %w", err)
	}
	age := time.Duration(0)
	if backlog.Messages > 0 {
		age = max(0, b.Now().Sub(backlog.Oldest)) // the broker's clock is another
	}
	b.Metrics.QueueMessages.WithLabelValues(queue, state).Set(float64(backlog.Messages))
	b.Metrics.QueueAge.WithLabelValues(queue, state).Set(age.Seconds())
	return backlog.Messages, nil
}
