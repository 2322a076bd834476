package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"liveops/core/event"
)

var handles = [...]string{
	"kestrel", "Marrow_7", "NightOwl-22", "tessa_k", "brickhaus", "Ode2Joy", "saltwater", "Quill", "vexillum", "papermoon",
	"Halcyon_9", "two-left-feet", "grum", "Isolde", "mr_pickle", "north_by_nw", "Zephyr88", "lumen", "backline_bo", "Katsu-Don",
	"rook2e4", "Aria_of_Ash", "dunklebier", "fjordling", "slow_loris", "Pixel-Priest", "tuesday", "Overlook_237", "mako", "Rainfall",
	"sir_limps", "copperhead", "Juniper_J", "null_and_void", "Ember-lynn", "wobbegong", "hexapod", "The_Usual", "ninepin", "Odalys",
}

// bosses are those of the catalog, with an XP total that has surely reached the level each requires.
var bosses = [...]struct {
	name  string
	needs int64
}{{"gate-warden", 0}, {"mire-hag", 300}, {"iron-colossus", 800}, {"twin-furies", 1500}, {"storm-tyrant", 2800}, {"ember-king", 5500}}

var (
	maps  = [...]string{"foundry", "harbor", "old-town", "canopy"}
	skins = [...]string{"skin-ash", "skin-neon", "skin-verdigris", "skin-bone", "skin-midnight"}
)

// player is one person and what was played so far. Times are relative until calendar fits the sessions into the days.
type player struct {
	*rand.Rand
	name     string
	skill    float64 // 0 to 1
	home     string  // the favourite map
	xp       int64   // of events alone: less than the game will count
	trophies int64
	held     map[string]int64
	sessions []session
}

type session struct {
	id     string
	events []event.Event
	times  []time.Duration // of the events, since the session began
	clock  time.Duration
}

func newPlayer(seed uint64, i int) *player {
	p := &player{Rand: rand.New(rand.NewPCG(seed, uint64(i))), held: map[string]int64{}}
	p.name = handles[i%len(handles)]
	if n := i / len(handles); n > 0 {
		p.name = fmt.Sprintf("%s-%d", p.name, n+1)
	}
	p.skill = min(1, max(0, 0.5+p.NormFloat64()*0.2))
	p.home = maps[p.IntN(len(maps))]
	p.trophies = 800 + int64(p.skill*600)
	return p
}

// play makes exactly n events and gives how long it took, without the time between sessions.
func (p *player) play(n int) time.Duration {
	var took time.Duration
	for made := 0; made < n; {
		s := &session{id: fmt.Sprintf("%s-%04x-%d", p.name, p.Uint32N(1<<16), len(p.sessions)+1)}
		if len(p.sessions) == 0 {
			p.tutorial(s)
		} else if p.chance(0.5) {
			p.gain(s, 10*int64(min(10, len(p.sessions))), "streak")
		}
		for rounds := 3 + p.IntN(9); rounds > 0; rounds-- {
			switch roll := p.Float64(); {
			case roll < 0.70:
				p.match(s)
			case roll < 0.88:
				p.raid(s)
			default:
				p.gauntlet(s)
			}
		}
		if over := made + len(s.events) - n; over > 0 {
			s.events, s.times = s.events[:len(s.events)-over], s.times[:len(s.times)-over]
		}
		made += len(s.events)
		took += s.clock
		p.sessions = append(p.sessions, *s)
	}
	return took
}

// calendar spreads the sessions over the time before until.
func (p *player) calendar(until time.Time, over time.Duration) []event.Event {
	idle := over
	for _, s := range p.sessions {
		idle -= s.clock
	}
	breaks, sum := make([]float64, len(p.sessions)+1), 0.0
	for i := range breaks {
		breaks[i] = 0.1 + p.ExpFloat64()
		sum += breaks[i]
	}
	var events []event.Event
	at := until.UTC().Truncate(time.Millisecond).Add(-over)
	for i, s := range p.sessions {
		at = at.Add(time.Duration(float64(idle) * breaks[i] / sum))
		for j, e := range s.events {
			e.OccurredAt = at.Add(s.times[j]).Truncate(time.Millisecond)
			events = append(events, e)
		}
		at = at.Add(s.clock)
	}
	return events
}

func (p *player) tutorial(s *session) {
	for chapter := 1; chapter <= 5; chapter++ {
		s.pass(p.between(90, 200))
		p.add(s, "tutorial_completed", map[string]any{"chapter": chapter})
		p.xp += 120
		if p.chance(0.1) {
			return // skips the rest
		}
	}
}

func (p *player) match(s *session) {
	lasts := p.between(100, 600)
	s.pass(p.between(12, 50) + lasts)
	won := p.chance(0.25 + 0.5*p.skill)
	data := map[string]any{"map": p.home, "seconds": int64(lasts / time.Second), "won": won}
	if p.chance(0.4) {
		data["map"] = maps[p.IntN(len(maps))]
	}
	if p.chance(0.3) {
		data["party"] = 2 + p.IntN(3)
	}
	p.add(s, "match_finished", data)
	p.xp += 15

	score := 2500 + 12500*p.skill + p.NormFloat64()*2200
	if won {
		score += 1500
	}
	s.pass(p.between(1, 2))
	p.score(s, "arena-score", int64(min(24_975, max(0, score)))/25*25) // the game counts in steps of 25
	step := int64(8 + p.IntN(17))
	if !won {
		step = -step * 9 / 10
	}
	p.trophies = min(5000, max(0, p.trophies+step))
	s.pass(p.between(4, 6))
	p.score(s, "trophies", p.trophies)
	amount := 20 + int64(lasts/time.Second)/12
	if won {
		amount += 30
	}
	p.gain(s, amount, "match")
	if p.chance(0.2) {
		s.pass(p.between(5, 20))
		p.gain(s, 50+25*p.Int64N(5), "quest")
	}
	if p.chance(0.35) {
		p.loot(s)
	}
}

// raid is a fight against the strongest boss the player may meet, mostly.
func (p *player) raid(s *session) {
	s.pass(p.between(90, 420))
	if p.chance(0.45 - 0.3*p.skill) {
		return // wiped
	}
	strongest := 0
	for i, b := range bosses {
		if p.xp >= b.needs {
			strongest = i
		}
	}
	if p.chance(0.4) {
		strongest = p.IntN(strongest + 1)
	}
	p.add(s, event.BossKilled, map[string]any{"boss": bosses[strongest].name})
	if p.chance(0.5) {
		p.loot(s)
	}
}

// gauntlet is a run against the clock.
func (p *player) gauntlet(s *session) {
	took := max(61_000, 430_000-290_000*p.skill+p.NormFloat64()*25_000)
	s.pass(time.Duration(took) * time.Millisecond)
	p.score(s, "gauntlet-time", int64(took))
}

func (p *player) loot(s *session) {
	s.pass(p.between(2, 9))
	item, quantity := "gold", 5+p.Int64N(21)
	switch roll := p.Float64(); {
	case roll < 0.25 && p.held["iron-ore"] < 120:
		item, quantity = "iron-ore", 1+p.Int64N(4)
	case roll < 0.35 && p.held["health-potion"] < 8:
		item, quantity = "health-potion", 1
	case roll < 0.42:
		if skin := skins[p.IntN(len(skins))]; p.held[skin] == 0 {
			item, quantity = skin, 1
		}
	}
	p.held[item] += quantity
	p.add(s, event.ItemAcquired, map[string]any{"item": item, "quantity": quantity})
}

func (p *player) gain(s *session, amount int64, source string) {
	s.pass(p.between(3, 5))
	p.add(s, event.XPGained, map[string]any{"amount": amount, "source": source})
	p.xp += amount
}

func (p *player) score(s *session, board string, score int64) {
	p.add(s, event.ScoreSubmitted, map[string]any{"board": board, "score": score})
}

func (p *player) add(s *session, kind string, data map[string]any) {
	s.events = append(s.events, event.Event{
		Type: kind, PlayerID: p.name, SessionID: s.id, Seq: int64(len(s.events) + 1), Data: data,
	})
	s.times = append(s.times, s.clock)
}

func (s *session) pass(d time.Duration) { s.clock += d }

func (p *player) chance(probability float64) bool { return p.Float64() < probability }

// between is a whole number of milliseconds from least to most seconds.
func (p *player) between(least, most float64) time.Duration {
	return time.Duration(math.Round((least+p.Float64()*(most-least))*1000)) * time.Millisecond
}
