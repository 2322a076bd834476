package fairness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

// rule is one rung of the ladder. judge gives the limits that an event breaks: what was measured, the limit, and what was
// observed. It is pure: it changes nothing and asks nobody. A version grows when judge changes its meaning.
type rule struct {
	code    fault.Code
	version int
	judge   func(v *view) []Finding
}

// rules is the ladder, from cheap to expensive. What a catalog can say of a rule stands in catalog.Rules.
func rules() []rule {
	return []rule{
		impossibleValue(),
		minimumInterval(),
		scoreVelocity(),
		ownHistory(),
		population(),
		regularTiming(),
	}
}

// Codes lists the rules of the ladder.
func Codes() []fault.Code {
	var codes []fault.Code
	for _, r := range rules() {
		codes = append(codes, r.code)
	}
	return codes
}

// Dropping lists the rules of the ladder that a catalog may let drop events.
func Dropping() []fault.Code {
	return slices.DeleteFunc(Codes(), func(c fault.Code) bool {
		return !slices.ContainsFunc(catalog.Verdicts(string(c)), func(v string) bool { return Verdict(v).drops() })
	})
}

// Ladder judges events by the rules of the catalog. What it knows of a player is bounded, see features; when that is lost, events
// are judged with less history, and one that is delivered again may be judged anew.
//
// A player's events of one batch are judged in the order in which they happened, whatever their order in the batch. Those of
// different batches are judged in the order in which the batches come; when two replicas have such batches at the same time, one
// of them judges once more with what the other found. So the order of delivery matters only to events of one player in different
// batches, and to nobody else's.
//
// A Ladder must not be copied. It is safe for concurrent use.
type Ladder struct {
	States    States
	Baselines Baselines
	Catalog   func() *catalog.Catalog
	Now       func() time.Time

	crowds crowds
}

// attempts is how often events are judged again because another replica was faster with the same player.
const attempts = 20

// Judge gives one decision for each event, in the order given. Each event is judged against those that counted before it; what
// was denied or throttled does not count. An event that was judged before changes nothing and gets the same decision, whatever the
// catalog says by now, unless it switched every rule off.
//
// However many the events are, it takes one exchange with the states to read and one to write, and one with the baselines when
// somebody has a say in them. A batch that spans several of their periods is judged period by period. A store that does not answer
// is fault.Unavailable; then judge the batch again.
func (l *Ladder) Judge(ctx context.Context, batch []event.Accepted) ([]Decision, error) {
	p := policyOf(l.Catalog())
	decisions := make([]Decision, len(batch))
	if len(p.rungs) == 0 {
		for i, e := range batch {
			decisions[i] = decide(e.Event, nil, time.Time{})
		}
		return decisions, nil
	}
	for views := p.views(batch); len(views) > 0; {
		n := 1
		for n < len(views) && views[n].period == views[0].period {
			n++
		}
		if err := l.judge(ctx, p, views[:n], decisions); err != nil {
			return nil, fmt.Errorf("judge events: %w", err)
		}
		views = views[n:]
	}
	return decisions, nil
}

// turn is a player's events, by time.
type turn struct {
	player string
	views  []*view
	votes  []vote
}

// judge judges events of one period.
func (l *Ladder) judge(ctx context.Context, p *policy, views []*view, decisions []Decision) error {
	if err := l.crowds.look(ctx, l.Baselines, p, views); err != nil {
		return err
	}
	var turns []*turn
	for _, v := range views {
		if last := len(turns) - 1; last < 0 || turns[last].player != v.PlayerID {
			turns = append(turns, &turn{player: v.PlayerID})
		}
		last := turns[len(turns)-1]
		last.views = append(last.views, v)
	}
	votes := map[Past]Histogram{}
	for range attempts {
		late, err := l.attempt(ctx, p, turns, decisions, votes)
		if err != nil {
			return err
		}
		if len(late) == 0 {
			return l.Baselines.Count(ctx, votes)
		}
		turns = late
	}
	return fault.RedisUnavailable.Errorf("%d players are being judged elsewhere again and again", len(turns))
}

// attempt judges players' events with what is known of them now. It gives those of whom more became known meanwhile.
func (l *Ladder) attempt(
	ctx context.Context, p *policy, turns []*turn, decisions []Decision, votes map[Past]Histogram,
) (late []*turn, err error) {
	players := make([]string, len(turns))
	for i, t := range turns {
		players[i] = t.player
	}
	states, err := l.States.Load(ctx, players)
	if err != nil {
		return nil, err
	}
	var changed []*turn
	var changes []Change
	for i, t := range turns {
		known, err := decode(states[i])
		if err != nil {
			return nil, fmt.Errorf("what is known of a player: %w", err)
		}
		if t.play(p, known, l.Now(), decisions) {
			changed = append(changed, t)
			changes = append(changes, Change{Player: t.player, Before: states[i], After: known.encode()})
		}
	}
	if len(changes) == 0 {
		return nil, nil
	}
	saved, err := l.States.Save(ctx, changes)
	if err != nil {
		return nil, err
	}
	for i, t := range changed {
		if !saved[i] {
			late = append(late, t)
			continue
		}
		for _, v := range t.votes {
			if votes[v.Past] == nil {
				votes[v.Past] = Histogram{}
			}
			votes[v.Past][v.bin]++
		}
	}
	return late, nil
}

// play judges a player's events one after the other. It is false when all of them were judged before.
func (t *turn) play(p *policy, known *features, now time.Time, decisions []Decision) (fresh bool) {
	t.votes = t.votes[:0]
	for _, v := range t.views {
		v.known = known
		digest := known.digest(v.ID)
		r, again := known.recall(digest)
		if !again {
			fresh = true
			r = remembered{digest: digest, at: now.UnixMilli(), version: p.game.Version, findings: p.judge(v)}
			known.remember(r, now)
		}
		d := decide(v.Event, r.findings, time.UnixMilli(r.at).UTC())
		if len(r.findings) > 0 {
			d.CatalogVersion = r.version
		}
		decisions[v.place] = d
		if again || d.Drops() {
			continue
		}
		if bin, has := known.count(v, p, r.findings); has {
			t.votes = append(t.votes, vote{Past{v.String(), v.period, p.width}, bin})
		}
	}
	return fresh
}

// vote is a player's say in a baseline.
type vote struct {
	Past
	bin int
}

// policy is what the catalog makes of the ladder.
type policy struct {
	game  *catalog.Catalog
	rungs []rung
	width int64 // minutes of a baseline's period
	// Which statistics are kept, how many intervals a look at the timing takes, and how many votes make a baseline.
	habits, compared, timed bool
	beats                   int64
	enough                  int64
}

// rung is a rule that is not off.
type rung struct {
	rule
	settings catalog.Rule
}

func policyOf(game *catalog.Catalog) *policy {
	p := &policy{game: game, width: int64(game.Fairness.Baseline.Period.Std() / time.Minute)}
	for _, r := range rules() {
		settings := game.Fairness.Rules[string(r.code)]
		if settings.Mode == off {
			continue
		}
		p.rungs = append(p.rungs, rung{r, settings})
		switch r.code { //nolint:exhaustive // the others need no statistic
		case fault.OwnHistory:
			p.habits = true
		case fault.Population:
			p.compared, p.enough = true, int64(settings.After)
		case fault.RegularTiming:
			p.timed, p.beats = true, int64(settings.After)
		}
	}
	return p
}

// views gives the events in the order in which they are judged.
func (p *policy) views(batch []event.Accepted) []*view {
	views, order := make([]view, len(batch)), make([]*view, len(batch))
	for i := range batch {
		e := &batch[i]
		views[i] = view{Accepted: e, measure: measureOf(e, p.game), game: p.game, place: i}
		if p.compared {
			views[i].period = e.At.Unix() / 60 / p.width * p.width
		}
		order[i] = &views[i]
	}
	slices.SortFunc(order, func(a, b *view) int {
		return cmp.Or(cmp.Compare(a.period, b.period), strings.Compare(a.PlayerID, b.PlayerID),
			a.At.Compare(b.At), cmp.Compare(a.Seq, b.Seq), strings.Compare(a.ID, b.ID))
	})
	return order
}

// judge climbs the ladder.
func (p *policy) judge(v *view) (findings []Finding) {
	for _, r := range p.rungs {
		v.rule = r.settings
		found := r.judge(v)
		for i := range found {
			f := &found[i]
			f.Rule, f.Version = string(r.code), r.version
			f.Mode, f.Verdict, f.Points = r.settings.Mode, Verdict(r.settings.Verdict), r.settings.Points
		}
		findings = append(findings, found...)
	}
	return strongest(findings)
}
