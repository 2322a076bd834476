package gate

import (
	"slices"
	"strconv"
	"time"

	"liveops/core/catalog"
)

// rates is the policies that the players of a request fall under: burst and sustained, which are every event's, then those of
// the event types that have a rate of their own.
type rates struct {
	policies []policy
	own      map[string]int // event type → index of its policy; it has none of the types without one
}

func newRates(c *catalog.Catalog, players []Player) (rates, error) {
	burst, err := newPolicy("burst", c.Fairness.Burst)
	if err != nil {
		return rates{}, err
	}
	sustained, err := newPolicy("sustained", c.Fairness.Sustained)
	if err != nil {
		return rates{}, err
	}
	r := rates{policies: []policy{burst, sustained}}
	for _, p := range players {
		for _, e := range p.Events {
			rate := c.Events[e.Type].Rate
			if _, known := r.own[e.Type]; known || rate == (catalog.Rate{}) {
				continue
			}
			own, err := newPolicy("events."+e.Type, rate) // a type's name has no dot, so it cannot be taken for another policy
			if err != nil {
				return rates{}, err
			}
			if r.own == nil {
				r.own = map[string]int{}
			}
			r.own[e.Type] = len(r.policies)
			r.policies = append(r.policies, own)
		}
	}
	return r, nil
}

// call asks players.lua about players whose keys may be in one script.
func (r rates) call(players []Player, now time.Time) call {
	c := call{script: playersScript, args: []any{now.UnixMicro(), lead, len(r.policies)}}
	for _, p := range r.policies {
		c.args = append(c.args, p.name, p.quota, p.interval)
	}
	for _, p := range players {
		c.keys = append(c.keys, playerKey(p.ID, "block"), playerKey(p.ID, "rate"), playerKey(p.ID, "seen"))
		c.args = p.appendEvents(c.args)
		if len(r.policies) == always {
			continue
		}
		for _, e := range p.Events {
			number := 0
			if own, limited := r.own[e.Type]; limited {
				number = own + 1 // Lua counts from 1
			}
			c.args = append(c.args, number)
		}
	}
	return c
}

// ruling reads the answer of players.lua about a player.
func (r rates) ruling(p Player, answer any) (Ruling, error) {
	ruling := Ruling{Events: make([]Verdict, len(p.Events))}
	said, err := texts(answer)
	if err != nil {
		return ruling, err
	}
	if said[0] == "blocked" {
		until, err := strconv.ParseInt(said[1], 10, 64)
		ruling.Blocked = &Block{Reason: said[2], Until: time.UnixMilli(until).UTC(), DecisionID: said[3], Ban: said[4] == "ban"}
		return ruling, err
	}
	var throttled []int
	applied := map[int]bool{}
	for i, e := range p.Events {
		own := r.own[e.Type]
		applied[own] = true
		switch said[1][i] {
		case 'a':
			ruling.Events[i] = Admitted
		case 'd':
			ruling.Events[i] = Duplicate
		default:
			ruling.Events[i] = Throttled
			throttled = append(throttled, own)
		}
	}
	numbers := make([]int64, 0, 1+len(r.policies))
	for _, text := range said[2:] {
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return ruling, err
		}
		numbers = append(numbers, number)
	}
	at, wholes := numbers[0], numbers[1:]
	ruling.Limits = slices.Grow(ruling.Limits, always)
	for i, policy := range r.policies {
		if i < always || applied[i] {
			ruling.Limits = append(ruling.Limits, policy.limit(wholes[i], at))
		}
	}
	ruling.RetryAfter = retry(r.policies, wholes, at, throttled)
	return ruling, nil
}

func (p policy) limit(whole, at int64) Limit {
	return Limit{
		Policy: p.name, Quota: int(p.quota), Window: p.window,
		Remaining: int(p.room(whole, at)), Reset: time.Duration(p.from(whole, at)-at) * time.Microsecond,
	}
}
