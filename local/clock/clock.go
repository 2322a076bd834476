// Package clock is the clock of a world that is tried out: it stands still until it is moved, and never goes back. Moving the
// world along, which is more than setting its clock, is done here over HTTP; what it takes is the world's own matter, and what
// lives in it is unknown here.
package clock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrBack says that a clock was to go back.
var ErrBack = errors.New("a clock does not go back")

// Clock stands still between calls of Set. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// New makes a clock that stands at an instant.
func New(at time.Time) *Clock { return &Clock{now: plain(at)} }

// Now is where the clock stands, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set moves the clock. To where it stands already is no move; to an earlier instant is ErrBack, and it stays.
func (c *Clock) Set(to time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to.Before(c.now) {
		return fmt.Errorf("%w: it stands at %s, %s is before", ErrBack, c.now.Format(time.RFC3339Nano), to.UTC().Format(time.RFC3339Nano))
	}
	c.now = plain(to)
	return nil
}

// plain is an instant in UTC that real time does not move on.
func plain(at time.Time) time.Time { return at.Round(0).UTC() }

// Reading is what a world says of its time.
type Reading struct {
	Now  time.Time `json:"now"`
	Next time.Time `json:"next,omitzero"` // the first instant after Now at which a window ends or its grace is over; zero: there is none
}

// World is what runs on a clock that stands still.
type World interface {
	// Clock reads the clock.
	Clock(ctx context.Context) (Reading, error)

	// Move moves the world on to an instant and returns when everything that this sets off was done. What was accepted
	// before is handled before. Going back is ErrBack. A move that failed may be repeated, and makes up for what was not
	// done; moves at once are done one after the other.
	Move(ctx context.Context, to time.Time) (Reading, error)
}
