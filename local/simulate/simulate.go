// Package simulate tries a fairness policy on events that happened: it judges them again, in the time in which they came, by
// the policy that is in force and by the one that may be, and compares what comes out. It knows the ladder by its decisions
// only. Nothing that it does has an effect.
//
// It is not the past once more. Recorded events have passed the gate, so what its rates and blocks kept out then is missing for
// both policies, and its rates are not tried at all: a client that had been told to wait would have come again later.
package simulate

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
)

// Source calls fn for every event in the order in which they were received, and ends with its error.
type Source func(ctx context.Context, fn func(event.Accepted) error) error

// Judge gives one decision for each event, in order, and remembers what it needs for later ones: a fairness.Ladder.
type Judge interface {
	Judge(ctx context.Context, events []event.Accepted) ([]fairness.Decision, error)
}

// Policy is a catalog, of which the fairness policy, the boards and the events are what matters here.
type Policy struct {
	Name string // for people: where it came from
	Game *catalog.Catalog
}

// Simulation compares two policies. Current and Candidate are required.
type Simulation struct {
	Current, Candidate Policy
	Labels             map[string]string // how players cheat, by player; whoever is not in it plays fair. Nil: nobody knows
	Batch              int               // events judged at once, at most; 0: 100. Fewer come together when the queue is short, as in play
	Examples           int               // of each rule and kind of change; 0: 3
	Thresholds         bool              // whether to find out what other limits of the statistics would give; takes half as long again
	// Ladder makes a judge that knows nobody yet and tells time by now; nil: NewLadder.
	Ladder func(game *catalog.Catalog, now func() time.Time) Judge
}

// What the simulated queue is like.
const (
	defaultBatch = 100
	lag          = 5 * time.Second // the longest that the first event of a batch waits for the last
	disorder     = time.Hour       // events may be received so much before the one that they follow
)

// Run judges all events and reports. Events that go back in time by more than an hour are an error.
func (s Simulation) Run(ctx context.Context, events Source) (*Report, error) {
	s.Batch, s.Examples = cmp.Or(s.Batch, defaultBatch), cmp.Or(s.Examples, 3)
	r := run{Simulation: s, players: map[string]bool{}}
	r.current, r.candidate = r.side(s.Current), r.side(s.Candidate)
	if s.Thresholds {
		r.probe = r.newProbe(s.Current.Game, s.Candidate.Game)
	}
	if err := events(ctx, func(e event.Accepted) error { return r.take(ctx, e) }); err != nil {
		return nil, err
	}
	if err := r.flush(ctx); err != nil {
		return nil, err
	}
	return r.report(), nil
}

// run is a simulation under way.
type run struct {
	Simulation
	now                time.Time
	batch              []event.Accepted
	events             int
	from, to           time.Time
	players            map[string]bool
	current, candidate *side
	probe              *probe
}

// judge makes a judge who lives in simulated time.
func (r *run) judge(game *catalog.Catalog) Judge {
	ladder := r.Ladder
	if ladder == nil {
		ladder = NewLadder
	}
	return ladder(game, func() time.Time { return r.now })
}

func (r *run) take(ctx context.Context, e event.Accepted) error {
	switch at := e.ReceivedAt; {
	case r.events == 0:
		r.from, r.to = at, at
	case at.Before(r.to.Add(-disorder)):
		return fmt.Errorf("event %d (%s) is of %s, long before the one that it follows: sort the events by time",
			r.events+1, e.Identity(), at.Format(time.RFC3339))
	case at.After(r.to):
		r.to = at
	}
	r.events++
	r.players[e.PlayerID] = true
	if len(r.batch) == r.Batch || len(r.batch) > 0 && e.ReceivedAt.Sub(r.batch[0].ReceivedAt) > lag {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.batch = append(r.batch, e)
	return nil
}

// flush judges what is gathered, as the stage does when it gets it from the queue.
func (r *run) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	for _, e := range r.batch {
		if e.ReceivedAt.After(r.now) {
			r.now = e.ReceivedAt
		}
	}
	if _, err := r.current.judge(ctx, r.batch); err != nil {
		return err
	}
	let, err := r.candidate.judge(ctx, r.batch)
	if err == nil && r.probe != nil {
		err = r.probe.judge(ctx, let)
	}
	r.batch = nil // judges may keep what they got
	return err
}

// side is one of the two policies at work.
type side struct {
	Policy
	judges  Judge
	conduct map[string]fairness.Conduct // by player; nobody clears a case
	tally
}

func (r *run) side(policy Policy) *side {
	return &side{Policy: policy, judges: r.judge(policy.Game), conduct: map[string]fairness.Conduct{}, tally: newTally()}
}

// judge judges a batch but for what comes from players who are blocked by now, and gives what it judged.
func (s *side) judge(ctx context.Context, batch []event.Accepted) ([]event.Accepted, error) {
	let := make([]event.Accepted, 0, len(batch))
	for _, e := range batch {
		if e.ReceivedAt.Before(s.conduct[e.PlayerID].BlockedUntil) {
			s.refused.add(e.PlayerID)
		} else {
			let = append(let, e)
		}
	}
	decisions, err := s.judges.Judge(ctx, let)
	if err != nil {
		return nil, err
	}
	if len(decisions) != len(let) {
		return nil, fmt.Errorf("%d decisions on %d events", len(decisions), len(let))
	}
	for _, d := range decisions {
		s.decided(d)
		if len(d.Evidence) == 0 {
			continue
		}
		conduct, to := s.conduct[d.PlayerID].After(d, s.Game.Fairness)
		s.conduct[d.PlayerID] = conduct
		if !to.BlockUntil.IsZero() {
			s.blocks.add(d.PlayerID)
		}
		if to.Case {
			s.cases.add(d.PlayerID)
		}
	}
	return let, nil
}
