package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"liveops/core/event"
	"liveops/core/signing"
	"liveops/local/oracle"
)

// How events are dealt to the clients.
const (
	clients = 8
	block   = 800  // events that the clients send between them before they go on to the next block
	lag     = 4    // blocks between the two times an event is sent
	backlog = 2000 // messages on the queues with which a client waits pace between two requests, with twice as many twice as long
	pace    = 200 * time.Millisecond
)

// deal is who sends what: every event once in its block and once, by another client, lag blocks later. When all blocks are
// out they come round again, as repeats.
type deal struct {
	blocks [][]oracle.Event
	first  []int // by place in the block: the client that sends it first
	second []int
}

// newDeal shuffles the events.
func newDeal(rng *rand.Rand, events []oracle.Event) *deal {
	d := &deal{first: make([]int, block), second: make([]int, block)}
	rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for len(events) > 0 {
		n := min(block, len(events))
		d.blocks, events = append(d.blocks, events[:n]), events[n:]
	}
	for i := range block {
		d.first[i] = rng.IntN(clients)
		d.second[i] = (d.first[i] + 1 + rng.IntN(clients-1)) % clients
	}
	return d
}

// batches cuts what a client sends in its turn, in an order and sizes of its own. Fresh events are left out after the last
// block.
func (d *deal) batches(rng *rand.Rand, client, turn, last int) [][]oracle.Event {
	var mine []oracle.Event
	take := func(turn int, of []int) {
		for i, e := range d.blocks[turn%len(d.blocks)] {
			if of[i] == client {
				mine = append(mine, e)
			}
		}
	}
	if turn <= last {
		take(turn, d.first)
	}
	if turn >= lag {
		take(turn-lag, d.second)
	}
	rng.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
	var cut [][]oracle.Event
	for len(mine) > 0 {
		n := min(1+rng.IntN(1+rng.IntN(1+rng.IntN(event.MaxBatch))), len(mine)) // mostly few
		cut, mine = append(cut, mine[:n]), mine[n:]
	}
	return cut
}

// answers is what the gateway said of each event.
type answers struct {
	mu     sync.Mutex
	sent   map[string]oracle.Event
	taken  map[string]bool // answered accepted or duplicate in a 202
	status map[string]int  // how often each status was given
}

func (a *answers) send(batch []oracle.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range batch {
		a.sent[e.Key()] = e
	}
}

func (a *answers) take(e oracle.Event, status string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status[status]++
	if status == "accepted" || status == "duplicate" {
		a.taken[e.Key()] = true
	}
}

// total is how many answers of a status were given.
func (a *answers) total(status string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status[status]
}

// load is the clients at work.
type load struct {
	apis    []*api // of the pods; a client asks now this one, now that
	deal    *deal
	answers *answers
	tally   *tally
	seed    uint64
	waiting func() int // messages on the queues

	mu   sync.Mutex
	last int // the last block with fresh events; grows until over
	over bool
}

// run sends until ctx of the fresh events ends and then goes on until everything that was begun is answered.
func (l *load) run(ctx, fresh context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for c := range clients {
		group.Go(func() error {
			rng := rand.New(rand.NewPCG(l.seed, uint64(c)))
			for turn := 0; ; turn++ {
				last := l.begin(turn, fresh.Err() != nil)
				if turn > last+lag {
					return nil
				}
				for _, batch := range l.deal.batches(rng, c, turn, last) {
					if err := pause(ctx, pace*time.Duration(l.waiting())/backlog); err != nil {
						return err
					}
					if err := l.send(ctx, rng, batch); err != nil {
						return fmt.Errorf("client %d: %w", c, err)
					}
					if err := l.look(ctx, rng, batch[0].PlayerID); err != nil {
						return fmt.Errorf("client %d: %w", c, err)
					}
				}
			}
		})
	}
	return group.Wait()
}

// begin gives the last block with fresh events, which is the caller's own as long as it is not over.
func (l *load) begin(turn int, over bool) (last int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = l.over || over
	if !l.over {
		l.last = max(l.last, turn)
	}
	return l.last
}

// send posts events until each is answered for good. After an error it makes the same request again or, as often, another
// one of the same events; what was throttled goes into a request of its own.
func (l *load) send(ctx context.Context, rng *rand.Rand, batch []oracle.Event) error {
	l.answers.send(batch)
	idempotency := signing.NewNonce()
	for {
		results, err := l.post(ctx, l.apis[rng.IntN(len(l.apis))], batch, idempotency)
		switch {
		case err == nil:
			var throttled []oracle.Event
			for i, r := range results {
				l.answers.take(batch[i], r.Status)
				switch r.Status {
				case "throttled":
					throttled = append(throttled, batch[i])
				case "accepted", "duplicate":
				default:
					return fmt.Errorf("event %s is %s: %s", batch[i].Key(), r.Status, r.Code)
				}
			}
			if len(throttled) == 0 {
				return nil
			}
			batch, idempotency = throttled, signing.NewNonce()
		case !errors.Is(err, errLater):
			return err
		default:
			l.tally.retried.Add(1)
			if rng.IntN(2) == 0 {
				idempotency = signing.NewNonce()
			}
		}
		if err := pause(ctx, time.Duration(50+rng.IntN(200))*time.Millisecond); err != nil {
			return err
		}
	}
}

// look reads a player, so that his state is in the cache when the next events change it.
func (l *load) look(ctx context.Context, rng *rand.Rand, player string) error {
	status, text, err := l.apis[rng.IntN(len(l.apis))].do(ctx, http.MethodGet, "/v1/players/"+player, nil, "")
	switch {
	case errors.Is(err, errLater), status == http.StatusNotFound, status == http.StatusOK: // none of his events has had its effect yet, or one has
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("player %s is answered %d: %s", player, status, text)
}

type result struct {
	EventID string `json:"event_id"`
	Status  string `json:"status"`
	Code    string `json:"code"`
}

func (l *load) post(ctx context.Context, a *api, batch []oracle.Event, idempotency string) ([]result, error) {
	body, err := json.Marshal(map[string]any{"events": batch})
	if err != nil {
		return nil, err
	}
	status, text, err := a.do(ctx, http.MethodPost, "/v1/events/batch", body, idempotency)
	if err != nil {
		l.tally.answered(status, text)
		return nil, err
	}
	if status != http.StatusAccepted {
		return nil, fmt.Errorf("a batch of %d is answered %d: %s", len(batch), status, text)
	}
	var answer struct {
		Results []result `json:"results"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	if len(answer.Results) != len(batch) {
		return nil, fmt.Errorf("%d results for %d events", len(answer.Results), len(batch))
	}
	l.tally.requests.Add(1)
	return answer.Results, nil
}
