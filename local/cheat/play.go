package cheat

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"liveops/core/event"
)

// Crowd is people at play, for want of a recording.
type Crowd struct {
	Seed    uint64
	Players int
	Days    int
	From    time.Time // midnight of the first day
	Board   string    // they score on
}

// Play is what a crowd does, by time: rounds in sessions, with pauses between them that are mostly short and sometimes
// long (log-normal, a minute in the middle, never below 8 s). A round gives a score, which is log-normal about what the player
// is capable of (in the middle 1,000 points, from a third to three times that), and soon after it XP. Nobody cheats.
func (c Crowd) Play() []event.Event {
	var all []event.Event
	for i := range c.Players {
		all = append(all, c.person(i)...)
	}
	slices.SortStableFunc(all, func(a, b event.Event) int { return a.OccurredAt.Compare(b.OccurredAt) })
	return all
}

func (c Crowd) person(i int) (events []event.Event) {
	rng := rand.New(rand.NewPCG(c.Seed, uint64(i)))
	name := fmt.Sprintf("player-%04d", i)
	lasting := func(median time.Duration, spread float64) time.Duration {
		return time.Duration(float64(median) * math.Exp(spread*rng.NormFloat64()))
	}
	// Skill ends somewhere: nobody is ten times as good as others at what all can do.
	skill := 1000 * math.Exp(.4*min(max(rng.NormFloat64(), -2.5), 2.5))
	eager := .4 + rng.Float64() // sessions a day
	var rested time.Time
	for day := range c.Days {
		for left := eager; left > 0; left-- {
			if left < 1 && rng.Float64() > left {
				break
			}
			at := c.From.AddDate(0, 0, day).Add(time.Duration(rng.Int64N(int64(22 * time.Hour))))
			if at.Before(rested) {
				at = rested
			}
			session := fmt.Sprintf("%s-%d", name, len(events))
			for rounds := 5 + rng.IntN(16); rounds > 0; rounds-- {
				at = at.Add(8*time.Second + lasting(time.Minute, .6))
				score := math.Floor(skill * math.Exp(.15*rng.NormFloat64()))
				add := func(after time.Duration, kind string, data map[string]any) {
					events = append(events, event.Event{
						ID: fmt.Sprintf("e%05d", len(events)), Type: kind, PlayerID: name, SessionID: session,
						OccurredAt: at.Add(after).Truncate(time.Millisecond), Data: data,
					})
				}
				add(0, event.ScoreSubmitted, map[string]any{"board": c.Board, "score": score})
				add(min(lasting(2*time.Second, .3), 7*time.Second), event.XPGained, map[string]any{"amount": 1 + math.Floor(score/20), "source": "round"})
			}
			rested = at.Add(2 * rest)
		}
	}
	return events
}
