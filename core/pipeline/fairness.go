package pipeline

import (
	"context"
	"log/slog"
	"time"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/rejected"
)

// Fairness judges accepted events and forwards the fair ones.
type Fairness struct {
	Catalog   func() *catalog.Catalog
	Ladder    *fairness.Ladder
	Records   *fairness.Records
	Sanctions *Sanctions
	Rejected  rejector
	Bus       bus.Publisher
	Queue     string
	Metrics   *Metrics
}

// Judge handles one batch of the queue "events". Everything it does may be repeated: verdicts are remembered, a decision counts
// when it is new on record, what it leads to is carried on each time, the next queue and the ledger behind it take an event once.
// An event is forwarded last, so that an unfair one is on record, and its player kept out, before anything of the batch goes on.
func (f *Fairness) Judge(ctx context.Context, batch []bus.Message) (Outcome, error) {
	events, trace, aside := decode("fairness", batch)
	unreadable := len(aside)
	began := time.Now()
	decisions, err := f.Ladder.Judge(ctx, events)
	if err != nil {
		return nil, err
	}
	f.Metrics.DecisionTime.Observe(time.Since(began).Seconds())
	var fair []event.Accepted
	for i, d := range decisions {
		if d.Drops() {
			aside = append(aside, unfair(events[i], d))
		} else {
			fair = append(fair, events[i])
		}
	}
	recorded, err := f.Records.Record(ctx, decisions, f.Catalog().Fairness)
	if err != nil {
		return nil, err
	}
	f.count(recorded)
	if err := f.Rejected.Put(ctx, aside); err != nil {
		return nil, err
	}
	if err := f.Sanctions.Project(ctx, recorded.Players...); err != nil {
		return nil, err
	}
	out, err := messages(fair, trace)
	if err != nil {
		return nil, err
	}
	if len(out) > 0 {
		if err := f.Bus.Publish(ctx, f.Queue, out); err != nil {
			return nil, err
		}
	}
	// Only now, so that a batch that failed and comes again counts once.
	for _, d := range decisions {
		if len(d.Evidence) == 0 {
			f.Metrics.Decisions.WithLabelValues(string(d.Verdict)).Inc()
		}
	}
	for _, r := range aside[:unreadable] {
		f.Metrics.Dropped.WithLabelValues(string(r.Code)).Inc()
	}
	return Outcome{
		slog.Int("forwarded", len(fair)), slog.Int("dropped", len(aside)),
		slog.Int("blocked", recorded.Blocked), slog.Int("cases", recorded.Cases),
	}, nil
}

// count counts what is new on record, and so counts once, whatever becomes of the batch.
func (f *Fairness) count(recorded fairness.Recorded) {
	for _, d := range recorded.New {
		f.Metrics.Decisions.WithLabelValues(string(d.Verdict)).Inc()
		for _, found := range d.Evidence {
			f.Metrics.AnomalyFlags.WithLabelValues(found.Rule, found.Mode).Inc()
		}
		if d.Drops() {
			f.Metrics.Dropped.WithLabelValues(string(d.Code)).Inc()
		}
	}
	f.Metrics.CasesOpened.Add(float64(recorded.Cases))
}

func unfair(e event.Accepted, d fairness.Decision) rejected.Rejection {
	body, err := e.Encode()
	if err != nil {
		body = nil // an event that was decoded can be encoded; its ids still say which it was
	}
	return rejected.Rejection{
		Stage: "fairness", MessageID: e.Identity(), PlayerID: e.PlayerID, EventID: e.ID,
		Code: d.Code, Detail: d.Rule + " (decision " + d.ID + ")", Body: body,
	}
}
