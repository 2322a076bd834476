package pipeline

import (
	"context"
	"log/slog"
	"time"

	"liveops/core/bus"
	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/gate"
	"liveops/core/rejected"
)

// Fairness judges accepted events and forwards the fair ones.
type Fairness struct {
	Catalog   func() *catalog.Catalog
	Ladder    *fairness.Ladder
	Decisions *fairness.Decisions
	Blocks    *fairness.Blocks
	Gate      *gate.Gate
	Rejected  rejector
	Bus       bus.Publisher
	Queue     string
	Metrics   *Metrics
}

// Judge handles one batch of the queue "events". Everything it does may be repeated: verdicts are remembered, records have
// ids of their own, the next queue and the ledger behind it take an event once. An event is forwarded last, so that an
// unfair one is on record before anything of the batch goes on.
func (f *Fairness) Judge(ctx context.Context, batch []bus.Message) (Outcome, error) {
	events, trace, aside := decode("fairness", batch)
	decisions, err := f.Ladder.Judge(ctx, events)
	if err != nil {
		return nil, err
	}
	var fair []event.Accepted
	var notable []fairness.Decision
	var blocks []fairness.Block
	for i, d := range decisions {
		if d.Rule != "" {
			notable = append(notable, d)
		}
		if !d.Drops() {
			fair = append(fair, events[i])
			continue
		}
		aside = append(aside, unfair(events[i], d))
		if d.Verdict == fairness.Deny {
			blocks = append(blocks, fairness.Block{
				PlayerID: d.PlayerID, DecisionID: d.ID, Reason: string(d.Code),
				At: d.At, Until: d.At.Add(time.Duration(f.Catalog().Fairness.Block)),
			})
		}
	}
	if err := f.Decisions.Record(ctx, notable); err != nil {
		return nil, err
	}
	if err := f.Rejected.Put(ctx, aside); err != nil {
		return nil, err
	}
	if err := f.block(ctx, blocks); err != nil {
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
		f.Metrics.Decisions.WithLabelValues(string(d.Verdict)).Inc()
	}
	for _, d := range notable {
		f.Metrics.AnomalyFlags.WithLabelValues(d.Rule, d.Mode).Inc()
	}
	for _, r := range aside {
		f.Metrics.Dropped.WithLabelValues(string(r.Code)).Inc()
	}
	return Outcome{
		slog.Int("forwarded", len(fair)),
		slog.Int("dropped", len(aside)), slog.Int("blocked", len(blocks)),
	}, nil
}

// block records blocks and then tells the gate, which only knows a projection of them.
func (f *Fairness) block(ctx context.Context, blocks []fairness.Block) error {
	if len(blocks) == 0 {
		return nil
	}
	if err := f.Blocks.Record(ctx, blocks); err != nil {
		return err
	}
	return f.project(ctx, blocks)
}

// Restore tells the gate every block in force, because a Redis that was lost no longer knows them.
func (f *Fairness) Restore(ctx context.Context, now time.Time) error {
	blocks, err := f.Blocks.Active(ctx, now)
	if err != nil {
		return err
	}
	return f.project(ctx, blocks)
}

func (f *Fairness) project(ctx context.Context, blocks []fairness.Block) error {
	for _, b := range blocks {
		if err := f.Gate.Block(ctx, b.PlayerID, gate.Block{Reason: b.Reason, Until: b.Until, DecisionID: b.DecisionID}); err != nil {
			return err
		}
	}
	return nil
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
