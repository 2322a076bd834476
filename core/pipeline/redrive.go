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

	"golang.org/x/sync/errgroup"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/rejected"
)

// A tick of the redrive takes at most RedriveBatch dead letters of a queue, and brings each back at most redriveTries times.
const (
	RedriveBatch    = 100
	redriveTries    = 3
	redriveWait     = 2 * time.Second // long enough to open a link to a real broker
	redrivePatience = time.Second     // for giving letters back
)

// redriver is the stage's name in the rejected store, and who released what it brought back.
const redriver = "redrive"

// redrives is the message property that counts how often a message came back from the dead letters.
const redrives = "liveops-redrives"

// Redrive brings dead letters back to their queue: what failed because a dependency was down deserves another run. Each one
// it takes becomes a rejection, which says why it died and stays: released when it was brought back, open when it was given up.
type Redrive struct {
	Bus interface {
		bus.Publisher
		bus.Receiver
	}
	Queues   []string
	Wait     time.Duration // how long an empty dead letter queue is watched; 0: 2 s
	Rejected redrivable
	Metrics  *Metrics
}

// redrivable is the part of the rejected store that the redrive writes. The first mark of a rejection stays.
type redrivable interface {
	rejector
	MarkBatchReleased(ctx context.Context, rejections []rejected.Rejection, queue, by string) error
}

// Redriven is what became of the dead letters of one queue.
type Redriven struct {
	Queue   string
	Back    int  // brought back to the queue
	GivenUp int  // left to an operator, in the rejected store
	More    bool // there may be more: the end of them was not seen
}

// Run handles one tick of the timer.
func (r *Redrive) Run(ctx context.Context) (Outcome, error) {
	queues, err := r.Move(ctx, RedriveBatch, r.Queues...)
	back, givenUp := 0, 0
	for _, q := range queues {
		back, givenUp = back+q.Back, givenUp+q.GivenUp
	}
	return Outcome{slog.Int("redriven", back), slog.Int("given_up", givenUp)}, err
}

// Move takes at most limit dead letters of each queue, and says for each queue what became of them, also when it fails.
// Trouble with one does not keep the others waiting. A letter that came back redriveTries times is given up.
func (r *Redrive) Move(ctx context.Context, limit int, queues ...string) ([]Redriven, error) {
	moved := make([]Redriven, len(queues))
	var problems []error
	for i, queue := range queues {
		var err error
		if moved[i], err = r.queue(ctx, queue, limit); err != nil {
			problems = append(problems, fmt.Errorf("redrive %s: %w", queue, err))
		}
		r.Metrics.DeadLetters.WithLabelValues(letterRedriven).Add(float64(moved[i].Back))
		r.Metrics.DeadLetters.WithLabelValues(letterGivenUp).Add(float64(moved[i].GivenUp))
	}
	return moved, errors.Join(problems...)
}

func (r *Redrive) queue(ctx context.Context, queue string, limit int) (Redriven, error) {
	moved := Redriven{Queue: queue, More: true}
	for taken := 0; taken < limit; { // a real broker may give fewer than it has
		letters, err := r.receive(ctx, queue, limit-taken)
		if len(letters) == 0 {
			moved.More = err != nil
			return moved, err
		}
		taken += len(letters)
		back, givenUp, err := r.batch(ctx, queue, letters)
		moved.Back, moved.GivenUp = moved.Back+back, moved.GivenUp+givenUp
		if err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// receive gives no letter and no error when there is none.
func (r *Redrive) receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	wait, stop := context.WithTimeout(ctx, cmp.Or(r.Wait, redriveWait))
	defer stop()
	letters, err := r.Bus.Receive(wait, bus.DeadLetters(queue), limit)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return letters, err
}

// batch keeps the letters, sends those that are not spent, marks them as sent and completes them all, in this order: cut
// anywhere it loses none, and doing it again adds nothing, because ids and rows are the same and the first mark stays. The
// letters it is not done with it gives back.
func (r *Redrive) batch(ctx context.Context, queue string, letters []bus.Delivery) (back, givenUp int, err error) {
	kept, spent := make([]rejected.Rejection, len(letters)), make([]bool, len(letters))
	var again []bus.Message
	var sent []rejected.Rejection
	for i, letter := range letters {
		kept[i] = died(queue, letter)
		m, try := next(letter)
		if spent[i] = try > redriveTries || bus.Check([]bus.Message{m}) != nil; spent[i] {
			continue // what no queue takes would hold up everything behind it
		}
		again, sent = append(again, m), append(sent, kept[i])
	}
	if err := r.send(ctx, queue, kept, again, sent); err != nil {
		r.giveBack(ctx, queue, letters)
		return 0, 0, err
	}
	var unfinished []bus.Delivery
	for i, failed := range each(letters, func(letter bus.Delivery) error {
		return r.Bus.Complete(ctx, bus.DeadLetters(queue), letter)
	}) {
		switch {
		case failed != nil:
			err, unfinished = failed, append(unfinished, letters[i])
		case spent[i]:
			givenUp++
		default:
			back++
		}
	}
	r.giveBack(ctx, queue, unfinished)
	return back, givenUp, err
}

func (r *Redrive) send(ctx context.Context, queue string, kept []rejected.Rejection, again []bus.Message, sent []rejected.Rejection) error {
	if err := r.Rejected.Put(ctx, kept); err != nil {
		return err
	}
	if len(again) == 0 {
		return nil
	}
	if err := r.Bus.Publish(ctx, queue, again); err != nil {
		return err
	}
	return r.Rejected.MarkBatchReleased(ctx, sent, queue, redriver)
}

// giveBack lets whoever asks next have the letters: until their locks end they would be taken for gone. ctx may have ended,
// and where this does not work either, the locks do.
func (r *Redrive) giveBack(ctx context.Context, queue string, letters []bus.Delivery) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), redrivePatience)
	defer stop()
	each(letters, func(letter bus.Delivery) error { return r.Bus.Abandon(ctx, bus.DeadLetters(queue), letter) })
}

// each settles letters, several at a time, and gives the error of each.
func each(letters []bus.Delivery, settle func(letter bus.Delivery) error) []error {
	failures := make([]error, len(letters))
	var group errgroup.Group
	group.SetLimit(16)
	for i, letter := range letters {
		group.Go(func() error {
			failures[i] = settle(letter)
			return nil
		})
	}
	_ = group.Wait() // its functions give no error
	return failures
}

// died is a dead letter as the rejected store keeps it.
func died(queue string, letter bus.Delivery) rejected.Rejection {
	r := rejected.Rejection{
		Stage: redriver, Queue: queue, MessageID: letter.ID, Code: fault.DeliveriesSpent,
		Detail: queue + ": " + letter.DeadLetterReason + ": " + letter.DeadLetterDetail, Body: letter.Body,
	}
	if e, err := event.DecodeAccepted(letter.Body); err == nil { // its own id may say no more whose it was
		r.PlayerID, r.EventID = e.PlayerID, e.ID
	}
	return r
}

// next is the message that brings a letter back, and which try it is, from 1.
func next(letter bus.Delivery) (again bus.Message, try int) {
	tries, _ := strconv.Atoi(letter.Properties[redrives])
	again, try = letter.Message, tries+1
	again.ID = redriveID(letter.Message, try)
	again.Properties = maps.Clone(letter.Properties)
	if again.Properties == nil {
		again.Properties = map[string]string{}
	}
	again.Properties[redrives] = strconv.Itoa(try)
	return again, try
}

// redriveID is another id than the message had, because duplicate detection would silently drop the same one; and the same
// one for the same try, so that a repeat after a crash is dropped. A message that has none is known by its bytes.
func redriveID(m bus.Message, try int) string {
	return derivedID("redrive", cmp.Or(m.ID, string(m.Body)), strconv.Itoa(try))
}
