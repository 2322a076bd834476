package stack

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"liveops/core/catalog"
	"liveops/core/season"
	"liveops/core/store"
	"liveops/local/clock"
)

var _ clock.World = (*Stack)(nil)

// errRealTime says that there is nothing to move.
var errRealTime = errors.New("the system runs on real time: Options.Clock was not given")

// still is a clock that stands still, and what it takes to move it.
type still struct {
	clock   *clock.Clock
	moving  chan struct{} // holds a token while a move is done
	ticked  time.Time     // the timer functions have run for every tick until then
	windows *season.Windows
	grace   time.Duration // of the catalog as it was at the start
}

func newStill(at time.Time) *still {
	c := clock.New(at)
	return &still{clock: c, moving: make(chan struct{}, 1), ticked: c.Now()}
}

// open opens the database, to read from it when windows end. A database that has seen a later time is refused.
func (s *still) open(ctx context.Context, o Options, url string) error {
	game, err := catalog.Load(o.Catalog)
	if err != nil {
		return err
	}
	db, err := store.Open(url)
	if err != nil {
		return err
	}
	s.windows, s.grace = &season.Windows{DB: db, Now: s.clock.Now}, game.Fairness.Grace.Std()
	var seen int64
	if err := db.Row(ctx, `SELECT COALESCE(MAX(changed_at), 0) FROM board_window`, nil, &seen); err != nil {
		return fmt.Errorf("read what time the database has seen: %w", err)
	}
	if last := time.UnixMilli(seen).UTC(); last.After(s.clock.Now()) {
		return fmt.Errorf("the database: %w: it has seen %s", clock.ErrBack, last.Format(time.RFC3339Nano))
	}
	return nil
}

func (s *still) close() {
	if s.windows != nil {
		_ = s.windows.DB.Close() // nothing is lost with an idle pool
	}
}

// reading tells the next instant at which an open window ends, or one that has ended takes no late events any more.
func (s *still) reading(ctx context.Context) (clock.Reading, error) {
	r := clock.Reading{Now: s.clock.Now()}
	windows, err := s.windows.Served(ctx, time.UnixMilli(math.MaxInt64)) // those ahead too: between seasons there is no other
	for _, w := range windows {
		for _, at := range []time.Time{w.Ends, w.Ends.Add(s.grace)} {
			if !w.Ends.IsZero() && at.After(r.Now) && (r.Next.IsZero() || at.Before(r.Next)) {
				r.Next = at
			}
		}
	}
	return r, err
}

// Now is the time by the system's clock.
func (s *Stack) Now() time.Time { return s.now() }

// Clock implements clock.World, for a system with Options.Clock.
func (s *Stack) Clock(ctx context.Context) (clock.Reading, error) {
	if s.still == nil {
		return clock.Reading{}, errRealTime
	}
	return s.still.reading(ctx)
}

// Move implements clock.World, for a system with Options.Clock. It waits, as long as ctx lasts, until every accepted message has
// been handled, sets the clock, by which keys in Redis and locks of messages run out, and runs the timer functions that came
// due, each once: what a tick is too late for, the next one does. Where one fails that is the error, and the same move again
// runs it again.
func (s *Stack) Move(ctx context.Context, to time.Time) (clock.Reading, error) {
	if s.still == nil {
		return clock.Reading{}, errRealTime
	}
	select {
	case s.still.moving <- struct{}{}:
		defer func() { <-s.still.moving }()
	case <-ctx.Done():
		return clock.Reading{}, ctx.Err()
	}
	if err := s.settle(ctx); err != nil {
		return clock.Reading{}, err
	}
	if err := s.still.clock.Set(to); err != nil {
		return clock.Reading{}, err
	}
	s.Redis.SetTime(s.Now()) // after the clock: a nonce that is forgotten first would be good once more
	s.Bus.Wake()
	if err := s.tick(ctx); err != nil {
		return clock.Reading{}, err
	}
	return s.still.reading(ctx)
}

// settle waits until every accepted message has been handled. Those that wait for their time do not hold it up.
func (s *Stack) settle(ctx context.Context) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		all, scheduled := s.underWay()
		if all == scheduled {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.done:
			return errors.New("the system ended")
		case <-ctx.Done():
			return fmt.Errorf("%d messages are still under way: %w", all-scheduled, ctx.Err())
		}
	}
}

// tick runs the timer functions that came due since the last time.
func (s *Stack) tick(ctx context.Context) error {
	now := s.Now()
	for _, function := range s.host.Due(s.still.ticked, now) {
		if function == "redrive" && !s.dead() {
			continue // it would watch the empty queues of dead letters for seconds of real time
		}
		if err := s.Trigger(ctx, function); err != nil {
			return fmt.Errorf("run the timer function %s: %w", function, err)
		}
	}
	s.still.ticked = now
	return nil
}

// dead says whether there is any dead letter.
func (s *Stack) dead() bool {
	for _, queue := range []string{eventsQueue, progressionQueue} {
		if counts, err := s.Bus.Counts(queue); err != nil || counts.Dead > 0 {
			return true
		}
	}
	return false
}
