// Package season is the life of a board's windows: the stretches of time a ranking is kept for, the states each passes
// through when its time is over, and the archive that remains.
//
// Windows are rows with UTC instants, made ahead of time; nothing asks a calendar while events are ranked. An archive is
// sealed, so that anybody who has the public keys can check a row, a whole archive and the chain of a board's archives without
// asking here (verify.go). The package does not know how scores are merged or ordered, nor where ranks are served from, nor what
// a reward is worth: the final order comes through Standings, and winners go to Rewards.
package season

import "time"

// The cadences a board may have.
const (
	Daily   = "daily"    // a local day of the board's zone
	Weekly  = "weekly"   // an ISO week, from local Monday
	Season  = "season"   // as listed in the catalog
	AllTime = "all_time" // one window without end
)

// State is how far a window has come. It only moves forward, one step at a time.
type State string

// The states.
const (
	Open     State = "open"     // its time has not ended, or has not even begun
	Closing  State = "closing"  // ended; late entries still count
	Frozen   State = "frozen"   // the grace is over: no entry changes any more
	Archived State = "archived" // the final order is kept in the archive
	Rewarded State = "rewarded" // the winners have what the board's tiers bring, and the entries are gone
	Purged   State = "purged"   // of the archive only the header and the hall of fame are kept
)

// States lists all, in order.
func States() []State { return []State{Open, Closing, Frozen, Archived, Rewarded, Purged} }

// Final says whether the archive answers for a window in this state.
func (s State) Final() bool { return s == Archived || s == Rewarded || s == Purged }

// Window is one stretch of a board's time, [Starts, Ends) in UTC. Ends is zero for all_time. Ids sort in time within a
// cadence: 2026-11-22, 2026-W48, the season's id, all_time.
type Window struct {
	Board   string
	ID      string
	Cadence string
	Starts  time.Time
	Ends    time.Time
	State   State
}

// Contains says whether an instant lies in the window, whatever its state.
func (w Window) Contains(at time.Time) bool {
	return !at.Before(w.Starts) && (w.Ends.IsZero() || at.Before(w.Ends))
}

// Takes says whether entries of the window may still change.
func (w Window) Takes() bool { return w.State == Open || w.State == Closing }

// Left is the time until the window ends, 0 when it has ended; false for one without end.
func (w Window) Left(now time.Time) (time.Duration, bool) {
	if w.Ends.IsZero() {
		return 0, false
	}
	return max(0, w.Ends.Sub(now)), true
}
