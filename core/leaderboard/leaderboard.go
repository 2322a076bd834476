// Package leaderboard ranks players: the entries in SQL, which are the truth, their projection into Redis sorted sets, and
// the reads. A board is what the catalog says it is and a window is an id and nothing more: the package knows no calendar,
// no state of a window and no archive, and whoever calls it has decided that a score counts.
package leaderboard

import (
	"cmp"
	"math"
	"time"
	"unicode/utf8"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

// Score is one result of a player, for one window of one board.
type Score struct {
	Board, Window, Player string
	Score                 int64     // |Score| ≤ event.MaxInteger
	At                    time.Time // the effective time, to the millisecond
	Seq                   int64
	EventID               string
	Metadata              string // what the entry keeps of the event: a small JSON object, or ""; at most MaxMetadata characters
	Fresh                 bool   // false: the event had its effect before, and is only here so that its row is projected again
}

// Row is where a player stands in one window of one board.
type Row struct {
	Board, Window, Player string
	Score                 int64 // |Score| ≤ event.MaxInteger
	// Total is the sum before it is bounded to what a score can be, so that a bounded sum still adds up whatever order its
	// parts come in. Other operators keep the score here.
	Total      int64
	AchievedAt time.Time // UTC, to the millisecond
	Seq        int64
	EventID    string // the event that set AchievedAt
	Metadata   string // of that event
	Version    int64  // counts the changes of the row; 0: there is no row yet
}

// Merge gives the row after one more score, with a higher version if that changed it. The result does not depend on the
// order in which scores are merged. `best` and `latest` also take the same score twice; `sum` adds it every time.
func (r Row) Merge(b catalog.Board, s Score) Row {
	next := Row{
		Board: s.Board, Window: s.Window, Player: s.Player,
		Score: bounded(s.Score), Total: s.Score,
		AchievedAt: time.UnixMilli(s.At.UnixMilli()).UTC(), Seq: s.Seq, EventID: s.EventID,
		Metadata: s.Metadata, Version: r.Version + 1,
	}
	switch {
	case r.Version == 0:
		return next
	case b.Operator == "sum":
		if later(r, next) {
			next.AchievedAt, next.Seq, next.EventID, next.Metadata = r.AchievedAt, r.Seq, r.EventID, r.Metadata
		}
		next.Total = add(r.Total, s.Score)
		next.Score = bounded(next.Total)
		return next
	case b.Operator == "latest" && later(next, r):
		return next
	case b.Operator != "latest" && better(b.Order, next, r):
		return next
	}
	return r
}

// later orders by when it happened: effective time, then the sender's sequence, then event id.
func later(a, b Row) bool {
	return cmp.Or(a.AchievedAt.Compare(b.AchievedAt), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.EventID, b.EventID)) > 0
}

// better orders two results of one player: the better score, then the earlier, then the smaller event id.
func better(order string, a, b Row) bool {
	return cmp.Or(cmp.Compare(standing(order, a.Score), standing(order, b.Score)),
		a.AchievedAt.Compare(b.AchievedAt), cmp.Compare(a.EventID, b.EventID)) < 0
}

// standing is the score turned so that less is better. SQL and Redis both order by it, ascending, and then by the time the
// score was reached and by player id, so that one order of all three serves both kinds of board. It is its own inverse.
func standing(order string, score int64) int64 {
	if order == "asc" {
		return score
	}
	return -score
}

func bounded(score int64) int64 { return max(-event.MaxInteger, min(score, event.MaxInteger)) }

// add stops at the ends of int64, more than a thousand of the largest scores away from 0.
func add(a, b int64) int64 {
	switch sum := a + b; {
	case b > 0 && sum < a:
		return math.MaxInt64
	case b < 0 && sum > a:
		return math.MinInt64
	default:
		return sum
	}
}

// latestAt is the last instant whose milliseconds fit the fixed width they have in the projection: in the year 10889.
const latestAt = 1<<48 - 1

// MaxMetadata is how many characters the metadata of an entry may have.
const MaxMetadata = 1024

// check refuses what neither SQL nor the projection could hold exactly.
func (s Score) check() error {
	if s.Score != bounded(s.Score) {
		return fault.ImpossibleValue.Errorf("score %d is beyond ±%d", s.Score, int64(event.MaxInteger))
	}
	if at := s.At.UnixMilli(); at < 0 || at > latestAt {
		return fault.ImpossibleValue.Errorf("a score is reached between the years 1970 and 9999, not at %s", s.At)
	}
	if n := utf8.RuneCountInString(s.Metadata); n > MaxMetadata {
		return fault.ImpossibleValue.Errorf("metadata of %d characters, at most %d are kept", n, MaxMetadata)
	}
	return nil
}
