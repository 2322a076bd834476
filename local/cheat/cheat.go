// Package cheat puts cheats into recorded play and says who they are, so that a fairness policy can be measured: what it finds,
// what it misses and whom it wrongs. It also makes up play to begin with. It knows the catalog and no rule.
package cheat

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"liveops/core/catalog"
	"liveops/core/event"
)

// Kind is a way to cheat.
type Kind string

// The kinds. All send what the gate lets through.
const (
	Speed      Kind = "speed"      // plays five times too fast
	Injection  Kind = "injection"  // every score is ten times the median of its board
	Impossible Kind = "impossible" // one event in five has a value outside of the catalog
	Macro      Kind = "macro"      // a machine: does one thing over and over, with 1 % jitter
	Ramp       Kind = "ramp"       // scores that creep up to eight times the median, or the most the catalog has
	Dirty      Kind = "dirty"      // honest play, but one score in ten is injected
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{Speed, Injection, Impossible, Macro, Ramp, Dirty} }

// Options say how much to cheat.
type Options struct {
	Seed  uint64           // the same events and options give the same cheats
	Share float64          // of the players, above 0, up to 1; at least one cheats
	Game  *catalog.Catalog // whose bounds are broken, or kept
}

// Inject has a share of the players cheat, the kinds in turn, and gives the events by time again, with the kind of each cheat.
// A kind is passed over when nobody left has play that is fit for it: too few scores, for example. The events given must be in
// order of time; they stay as they are.
func Inject(events []event.Event, o Options) ([]event.Event, Labels, error) {
	if o.Share <= 0 || o.Share > 1 {
		return nil, nil, errors.New("cheat: the share of the players must be above 0, up to 1")
	}
	c := &cheats{Rand: rand.New(rand.NewPCG(o.Seed, 0xc4ea7)), seed: o.Seed, game: o.Game, medians: medians(events)}
	plays := map[string][]event.Event{}
	for i, e := range events {
		if i > 0 && e.OccurredAt.Before(events[i-1].OccurredAt) {
			return nil, nil, fmt.Errorf("cheat: event %d happened before the one that it follows", i+1)
		}
		plays[e.PlayerID] = append(plays[e.PlayerID], e)
	}
	if len(events) == 0 {
		return nil, nil, errors.New("cheat: there are no events")
	}
	c.last = events[len(events)-1].OccurredAt
	players := slices.Sorted(maps.Keys(plays))
	c.Shuffle(len(players), func(i, j int) { players[i], players[j] = players[j], players[i] })

	labels := Labels{}
	for want, missed, turn := max(1, int(o.Share*float64(len(players))+.5)), 0, 0; len(labels) < want && missed < len(Kinds()); turn++ {
		kind := Kinds()[turn%len(Kinds())]
		missed++
		for _, player := range players {
			if labels[player] != "" {
				continue
			}
			if cheated, fit := c.play(kind, plays[player]); fit {
				plays[player], labels[player], missed = cheated, string(kind), 0
				break
			}
		}
	}
	if len(labels) == 0 {
		return nil, nil, errors.New("cheat: nobody plays enough to cheat in any way")
	}
	var all []event.Event
	for _, player := range slices.Sorted(maps.Keys(plays)) {
		all = append(all, plays[player]...)
	}
	slices.SortStableFunc(all, func(a, b event.Event) int { return a.OccurredAt.Compare(b.OccurredAt) })
	return all, labels, nil
}

type cheats struct {
	*rand.Rand
	seed    uint64
	game    *catalog.Catalog
	medians map[string]int64 // by board
	last    time.Time        // when the recording ends
}

// play is the play of one player with cheats in it, or false when it is not fit for the kind.
func (c *cheats) play(kind Kind, clean []event.Event) ([]event.Event, bool) {
	events := slices.Clone(clean)
	switch kind {
	case Speed:
		return c.speed(events)
	case Injection:
		return c.inject(events, 5, 1)
	case Impossible:
		return c.impossible(events)
	case Macro:
		return c.macro(events)
	case Ramp:
		return c.ramp(events)
	case Dirty:
		return c.inject(events, 20, 10)
	}
	return nil, false
}

// rest is the shortest pause between two sessions.
const rest = time.Hour

// speed draws every session together.
func (c *cheats) speed(events []event.Event) ([]event.Event, bool) {
	begin, longest, n := events[0].OccurredAt, 0, 0
	before := begin
	for i := range events {
		at := events[i].OccurredAt
		if at.Sub(before) > rest {
			begin, n = at, 0
		}
		n++
		longest, before = max(longest, n), at
		events[i].OccurredAt = begin.Add(at.Sub(begin) / 5).Truncate(time.Millisecond)
	}
	return events, longest >= 20
}

// inject makes every so manyth score ten times what is usual, or a tenth where less is better.
func (c *cheats) inject(events []event.Event, least, every int) ([]event.Event, bool) {
	n := 0
	for i, e := range events {
		median, board, ok := c.usual(e)
		if !ok {
			continue
		}
		if n++; n%every != 0 {
			continue
		}
		times := 10 * (.9 + .2*c.Float64())
		if board.Order == "asc" {
			times = 1 / times
		}
		events[i] = with(e, "score", float64(int64(times*float64(max(median, 1)))))
	}
	return events, n >= least
}

// impossible takes values out of their bounds.
func (c *cheats) impossible(events []event.Event) ([]event.Event, bool) {
	n := 0
	for i, e := range events {
		if forged, ok := c.forged(e); ok {
			if n%5 == 0 {
				events[i] = forged
			}
			n++
		}
	}
	return events, n >= 5
}

// forged is the event with a value that no honest game sends, in a form that the gate takes.
func (c *cheats) forged(e event.Event) (event.Event, bool) {
	const room = event.MaxInteger / 4
	if _, board, ok := c.usual(e); ok && board.Max != nil && *board.Max < room {
		return with(e, "score", float64(*board.Max+1+c.Int64N(max(*board.Max, 1)))), true
	}
	fields := c.game.Events[e.Type].Fields
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		_, there := e.Data[name]
		switch {
		case !there:
		case f.Max != nil && *f.Max < room:
			return with(e, name, float64(*f.Max+1+c.Int64N(max(*f.Max, 1)))), true
		case len(f.Enum) > 0:
			if forged := with(e, name, "forged"); c.game.Check(forged) == nil {
				return forged, true
			}
		}
	}
	return e, false
}

// beats is how often a machine does its thing.
const beats = 150

// macro replaces the play by the one thing that the player does most, done again and again.
func (c *cheats) macro(events []event.Event) ([]event.Event, bool) {
	things := map[string][]event.Event{}
	for _, e := range events {
		board, _ := e.Text("board")
		things[e.Type+"."+board] = append(things[e.Type+"."+board], e)
	}
	var most []event.Event
	for _, name := range slices.Sorted(maps.Keys(things)) {
		if len(things[name]) > len(most) {
			most = things[name]
		}
	}
	if len(most) < 10 {
		return nil, false
	}
	var gaps []time.Duration
	for i := range most[1:] {
		if gap := most[i+1].OccurredAt.Sub(most[i].OccurredAt); gap > 0 && gap < rest {
			gaps = append(gaps, gap)
		}
	}
	if len(gaps) == 0 {
		return nil, false
	}
	period := max(middle(gaps), c.game.Events[most[0].Type].Every.Std()*3/2, time.Second)
	at := most[0].OccurredAt
	if latest := c.last.Add(-(beats + 10) * period); at.After(latest) { // nothing happens after the recording
		at = latest
	}
	machine := make([]event.Event, beats)
	for i := range machine {
		machine[i] = most[i%len(most)]
		machine[i].ID, machine[i].Seq = fmt.Sprintf("macro-%x-%d", c.seed, i+1), 0
		machine[i].OccurredAt = at.Truncate(time.Millisecond)
		at = at.Add(time.Duration(float64(period) * (1 + .01*min(max(c.NormFloat64(), -3), 3))))
	}
	return machine, true
}

// ramp lets the scores on the player's main board grow by the same factor from one to the next.
func (c *cheats) ramp(events []event.Event) ([]event.Event, bool) {
	places := map[string][]int{}
	for i, e := range events {
		if _, board, ok := c.usual(e); ok && board.Order == "desc" {
			name, _ := e.Text("board")
			places[name] = append(places[name], i)
		}
	}
	main := ""
	for _, name := range slices.Sorted(maps.Keys(places)) {
		// Of boards that are fed alike, the one with more to gain.
		if d := len(places[name]) - len(places[main]); d > 0 || d == 0 && c.medians[name] > c.medians[main] {
			main = name
		}
	}
	n := len(places[main])
	if n < 30 {
		return nil, false
	}
	least := float64(max(c.medians[main], 1))
	most := 8 * least
	if bound := c.game.Boards[main].Max; bound != nil {
		most = min(most, float64(*bound))
	}
	score := least
	for _, i := range places[main] {
		events[i] = with(events[i], "score", float64(int64(min(score*(.95+.1*c.Float64()), most))))
		score *= math.Pow(most/least, 1/float64(n-1))
	}
	return events, true
}

// usual is the median of the board that a score is for.
func (c *cheats) usual(e event.Event) (int64, catalog.Board, bool) {
	if e.Type != event.ScoreSubmitted {
		return 0, catalog.Board{}, false
	}
	name, _ := e.Text("board")
	board, known := c.game.Board(name)
	return c.medians[name], board, known
}

func medians(events []event.Event) map[string]int64 {
	scores := map[string][]int64{}
	for _, e := range events {
		if score, ok := e.Int("score"); ok && e.Type == event.ScoreSubmitted {
			board, _ := e.Text("board")
			scores[board] = append(scores[board], score)
		}
	}
	medians := map[string]int64{}
	for board, all := range scores {
		medians[board] = middle(all)
	}
	return medians
}

func middle[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func with(e event.Event, field string, value any) event.Event {
	e.Data = maps.Clone(e.Data)
	e.Data[field] = value
	return e
}
