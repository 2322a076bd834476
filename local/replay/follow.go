package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"liveops/core/event"
	"liveops/local/clock"
)

// What is sent between two moves of the clock, at most.
const (
	sliceSpan   = time.Hour // of play
	sliceEvents = 5_000
)

// Follow plays the events in order of time into a system whose clock stands still, and moves the clock along: before events are
// sent it stands where the last of them happened, at most an hour after the first, and it stops wherever a window ends, so that
// each closes when it should and no event is late. Events that happened at one instant keep their order. At the end it moves
// on to until in the same way; zero: it stays.
//
// Throttled players wait by that clock too: when nobody has anything else to send, it moves on by as much as the first of them
// was told to wait. So a gateway whose rates are those of life lets nobody through sooner than in life, but an hour that is sent
// at once meets them more often.
//
// Events before the time at which the clock stands, and an until before the last event, are errors, and nothing is played.
// Player.Now has no part in it.
func (p *Player) Follow(ctx context.Context, events []event.Event, world clock.World, until time.Time) (*Report, error) {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b event.Event) int { return a.OccurredAt.Compare(b.OccurredAt) })
	f := &follower{player: p, world: world}
	return p.timed(f.now, func(s *sender) error {
		s.follows = true
		if err := f.begin(ctx, events, until); err != nil {
			return err
		}
		for len(events) > 0 {
			if err := f.cross(ctx, events[0].OccurredAt); err != nil {
				return err
			}
			n := slice(events, f.at.Next)
			if err := f.move(ctx, events[n-1].OccurredAt); err != nil {
				return err
			}
			if err := f.send(ctx, s, events[:n]); err != nil {
				return err
			}
			events = events[n:]
		}
		return f.reach(ctx, until)
	})
}

// slice is how many of the events, which are in order of time, are sent at once: those before the boundary and within
// sliceSpan of the first one, which is always among them.
func slice(events []event.Event, boundary time.Time) int {
	n := 1
	for n < min(len(events), sliceEvents) {
		at := events[n].OccurredAt
		if at.Sub(events[0].OccurredAt) > sliceSpan || !boundary.IsZero() && !at.Before(boundary) {
			break
		}
		n++
	}
	return n
}

// follower is the clock on its way. It moves between requests, never during one.
type follower struct {
	player *Player
	world  clock.World
	at     clock.Reading
}

func (f *follower) now() time.Time { return f.at.Now }

// begin reads the clock and compares it with what is to come.
func (f *follower) begin(ctx context.Context, events []event.Event, until time.Time) (err error) {
	if f.at, err = f.world.Clock(ctx); err != nil || len(events) == 0 {
		return err
	}
	first, last := events[0].OccurredAt, events[len(events)-1].OccurredAt
	if first.Before(f.at.Now) {
		return fmt.Errorf("the first event is of %s, and the clock stands at %s already", first.Format(time.RFC3339Nano), f.at.Now.Format(time.RFC3339Nano))
	}
	if !until.IsZero() && until.Before(last) {
		return fmt.Errorf("the last event is of %s, which is after %s", last.Format(time.RFC3339Nano), until.Format(time.RFC3339Nano))
	}
	return nil
}

// send sends events, moving the clock on for as long as some of them are throttled.
func (f *follower) send(ctx context.Context, s *sender, events []event.Event) error {
	// No more lanes than it takes: the system is faster with one full batch than with four small ones.
	full := (len(events) + f.player.batch() - 1) / f.player.batch()
	lanes, err := f.player.lanes(events, min(full, f.player.concurrency()))
	if err != nil {
		return err
	}
	for _, l := range lanes {
		l.now, l.stays = f.now, true
	}
	for {
		if err := f.player.run(ctx, lanes, s); err != nil {
			return err
		}
		var first time.Time
		for _, l := range lanes {
			if until := l.until(); !until.IsZero() && (first.IsZero() || until.Before(first)) {
				first = until
			}
		}
		if first.IsZero() {
			return nil
		}
		if err := f.reach(ctx, first); err != nil {
			return err
		}
	}
}

// reach moves the clock to an instant, with a stop at every boundary before.
func (f *follower) reach(ctx context.Context, at time.Time) error {
	if err := f.cross(ctx, at); err != nil {
		return err
	}
	return f.move(ctx, at)
}

// cross moves the clock to every boundary up to an instant, one after the other.
func (f *follower) cross(ctx context.Context, at time.Time) error {
	for f.at.Next.After(f.at.Now) && !f.at.Next.After(at) {
		if err := f.move(ctx, f.at.Next); err != nil {
			return err
		}
	}
	return nil
}

// move moves the clock. An instant that has passed leaves it where it is.
func (f *follower) move(ctx context.Context, to time.Time) (err error) {
	if to.After(f.at.Now) {
		f.at, err = f.world.Move(ctx, to)
	}
	return err
}
