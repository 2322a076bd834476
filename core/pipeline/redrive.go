package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"time"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/rejected"
)

// The redrive moves at most redriveBatch dead letters of a queue per run, each at most redriveTries times.
const (
	redriveBatch = 100
	redriveTries = 3
	redriveWait  = 2 * time.Second // long enough to open a link to a real broker
)

// redrives is the message property that counts how often a message came back from the dead letters.
const redrives = "liveops-redrives"

// Redrive brings dead letters back to their queue: what failed because a dependency was down deserves another run.
type Redrive struct {
	Bus interface {
		bus.Publisher
		bus.Receiver
	}
	Queues   []string
	Wait     time.Duration // how long an empty dead letter queue is watched; 0: 2 s
	Rejected rejector
	Metrics  *Metrics
}

// Run handles one tick of the timer. A message is sent again before its dead letter is completed, so a crash between the
// two repeats it and never loses it. One that came back redriveTries times is kept in the rejected store instead. Trouble
// with one queue does not keep the others waiting.
func (r *Redrive) Run(ctx context.Context) (Outcome, error) {
	redriven, givenUp := 0, 0
	var problems []error
	for _, queue := range r.Queues {
		again, spent, err := r.queue(ctx, queue)
		redriven, givenUp = redriven+again, givenUp+spent
		if err != nil {
			problems = append(problems, fmt.Errorf("redrive %s: %w", queue, err))
		}
	}
	r.Metrics.DeadLetters.WithLabelValues("redriven").Add(float64(redriven))
	r.Metrics.DeadLetters.WithLabelValues("given-up").Add(float64(givenUp))
	return Outcome{slog.Int("redriven", redriven), slog.Int("given_up", givenUp)}, errors.Join(problems...)
}

// queue handles the dead letters of one queue, and says what became of those it was done with, also when it fails.
func (r *Redrive) queue(ctx context.Context, queue string) (redriven, givenUp int, err error) {
	dead := bus.DeadLetters(queue)
	wait, stop := context.WithTimeout(ctx, cmp.Or(r.Wait, redriveWait))
	letters, err := r.Bus.Receive(wait, dead, redriveBatch)
	stop()
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = nil // there is none
		}
		return 0, 0, err
	}
	for _, letter := range letters {
		spent, err := r.move(ctx, queue, letter)
		if err != nil {
			return redriven, givenUp, err
		}
		if err := r.Bus.Complete(ctx, dead, letter); err != nil {
			return redriven, givenUp, err
		}
		if spent {
			givenUp++
		} else {
			redriven++
		}
	}
	return redriven, givenUp, nil
}

func (r *Redrive) move(ctx context.Context, queue string, letter bus.Delivery) (spent bool, err error) {
	tries, _ := strconv.Atoi(letter.Properties[redrives])
	if tries >= redriveTries {
		given := rejected.Rejection{
			Stage: "redrive", Queue: queue, MessageID: letter.ID, Code: fault.DeliveriesSpent,
			Detail: queue + ": " + letter.DeadLetterReason + ": " + letter.DeadLetterDetail, Body: letter.Body,
		}
		if e, err := event.DecodeAccepted(letter.Body); err == nil { // its own id says no more whose it was
			given.PlayerID, given.EventID = e.PlayerID, e.ID
		}
		return true, r.Rejected.Put(ctx, []rejected.Rejection{given})
	}
	again := letter.Message
	again.ID = redriveID(letter.Message, tries+1)
	again.Properties = maps.Clone(letter.Properties)
	if again.Properties == nil {
		again.Properties = map[string]string{}
	}
	again.Properties[redrives] = strconv.Itoa(tries + 1)
	return false, r.Bus.Publish(ctx, queue, []bus.Message{again})
}

// redriveID is another id than the message had, because duplicate detection would silently drop the same one; and the same
// one for the same try, so that a repeat after a crash is dropped. A message that has none is known by its bytes.
func redriveID(m bus.Message, try int) string {
	return derivedID("redrive", cmp.Or(m.ID, string(m.Body)), strconv.Itoa(try))
}
