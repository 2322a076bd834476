package pipeline

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/journal"
	"liveops/core/rejected"
)

// Fairness judges accepted events and forwards the fair ones.
type Fairness struct {
	Catalog   func() *catalog.Catalog
	Ladder    *fairness.Ladder
	Records   *fairness.Records
	Sanctions *Sanctions
	Rejected  rejector
	Journal   *journal.Journal
	Bus       bus.Publisher
	Queue     string
	Metrics   *Metrics
	Log       *slog.Logger
}

// Judge handles one batch of the queue "events". Everything it does may be repeated: verdicts are remembered, a decision counts
// when it is new on record, what it leads to is carried on each time, the next queue and the ledger behind it take an event once.
// An event is forwarded last, so that an unfair one is on record, and its player kept out, before anything of the batch goes on.
func (f *Fairness) Judge(ctx context.Context, batch []bus.Message) (Outcome, error) {
	events, trace, aside := decode("fairness", batch)
	unreadable := len(aside)
	var fair []bus.Message
	var meanwhile errgroup.Group // while the ladder waits for Redis
	meanwhile.Go(func() (err error) {
		fair, err = messages(events, trace)
		return err
	})
	meanwhile.Go(func() error { return f.record(ctx, events) })
	began := time.Now()
	decisions, err := f.Ladder.Judge(ctx, events)
	if err := cmp.Or(meanwhile.Wait(), err); err != nil {
		return nil, err
	}
	f.Metrics.DecisionTime.Observe(time.Since(began).Seconds())
	n := 0
	for i, d := range decisions {
		if d.Drops() {
			aside = append(aside, unfair(events[i], fair[i].Body, d))
		} else {
			fair[n] = fair[i]
			n++
		}
	}
	fair = fair[:n]
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
	if len(fair) > 0 {
		if err := publish(ctx, f.Bus, f.Queue, fair); err != nil {
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
	tell(ctx, f.Log, "judged", trace, events, func(i int) []slog.Attr {
		return []slog.Attr{slog.String("verdict", string(decisions[i].Verdict)), slog.String("rule", decisions[i].Rule)}
	})
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

// record keeps the events as they came, if the policy says so.
func (f *Fairness) record(ctx context.Context, events []event.Accepted) error {
	if f.Catalog().Fairness.Record == 0 {
		return nil
	}
	return f.Journal.Record(ctx, events)
}

func unfair(e event.Accepted, body []byte, d fairness.Decision) rejected.Rejection {
	return rejected.Rejection{
		Stage: "fairness", MessageID: e.Identity(), PlayerID: e.PlayerID, EventID: e.ID,
		Code: d.Code, Detail: d.Rule + " (decision " + d.ID + ")", Body: body,
	}
}
