package replay

import (
	"context"
	"hash/fnv"
	"time"

	"liveops/core/event"
)

// queued is an event on its way.
type queued struct {
	player string
	text   []byte // JSON
}

// spread gives a player a number, the same every time.
func spread(player string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(player))
	return h.Sum32()
}

// lane is one stream of requests.
type lane struct {
	limit   int              // events a request
	now     func() time.Time // what throttled players wait by
	stays   bool             // it ends when all that is left waits: the clock stands still meanwhile
	waiting []queued
	held    map[string]*hold // players that were throttled
}

// hold keeps a throttled player's events back while others' go on.
type hold struct {
	until  time.Time
	send   int // how many to try next: as many as passed the last time, twice that when all of them do
	events []queued
}

// batch is the events of one request.
type batch struct {
	limit  int // events
	size   int // bytes, each event with the comma after it
	events []queued
}

// envelope is what a request's body has around its events.
const envelope = len(`{"events":[]}`)

// add takes an event in when there is room for it.
func (b *batch) add(e queued) bool {
	size := b.size + len(e.text) + 1
	if len(b.events) == b.limit || size+envelope > event.MaxBody && len(b.events) > 0 {
		return false
	}
	b.size, b.events = size, append(b.events, e)
	return true
}

// body is the request's body.
func (b *batch) body() []byte {
	body := append(make([]byte, 0, b.size+envelope), `{"events":[`...)
	for i, e := range b.events {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, e.text...)
	}
	return append(body, "]}"...)
}

func (l *lane) run(ctx context.Context, s *sender, progress func(int)) error {
	for {
		b, wait := l.next()
		if len(b.events) == 0 {
			if wait <= 0 || l.stays {
				return nil
			}
			if err := pause(ctx, wait); err != nil {
				return err
			}
			continue
		}
		results, err := s.send(ctx, b.body(), len(b.events))
		if err != nil {
			return err
		}
		progress(l.sort(b.events, results, s.report))
	}
}

// next gathers a batch: first what was held back long enough, then what waits. With nothing to send it says how long to
// wait, 0 when all is done.
func (l *lane) next() (b batch, wait time.Duration) {
	b.limit = l.limit
	now := l.now()
	for player, h := range l.held {
		if left := h.until.Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		n := 0
		for n < min(len(h.events), h.send) && b.add(h.events[n]) {
			n++
		}
		if n == h.send {
			h.send *= 2
		}
		if h.events = h.events[n:]; len(h.events) == 0 {
			delete(l.held, player)
		}
	}
	for len(l.waiting) > 0 {
		e := l.waiting[0]
		if h := l.held[e.player]; h != nil {
			h.events = append(h.events, e)
		} else if !b.add(e) {
			break
		}
		l.waiting = l.waiting[1:]
	}
	return b, wait
}

// until is when the first of the throttled players may go on, the zero time when there is none.
func (l *lane) until() time.Time {
	var first time.Time
	for _, h := range l.held {
		if first.IsZero() || h.until.Before(first) {
			first = h.until
		}
	}
	return first
}

// sort reports the results and holds the throttled events back, before the player's later ones.
func (l *lane) sort(sent []queued, results []result, report *Report) (settled int) {
	passed := map[string]int{}
	throttled := map[string]*hold{}
	for i, r := range results {
		player := sent[i].player
		if r.Status != "throttled" {
			settled++
			passed[player]++
			report.settled(r)
			continue
		}
		report.throttled()
		h := throttled[player]
		if h == nil {
			h = &hold{until: l.now().Add(time.Duration(max(1, r.RetryAfter)) * time.Second)}
			throttled[player] = h
		}
		h.events = append(h.events, sent[i])
	}
	for player, h := range throttled {
		h.send = max(1, passed[player])
		if later := l.held[player]; later != nil {
			h.events = append(h.events, later.events...)
		}
		l.held[player] = h
	}
	return settled
}
