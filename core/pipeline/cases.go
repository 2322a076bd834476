package pipeline

import (
	"context"

	"liveops/core/fairness"
)

// Cases does what operators order about players.
type Cases struct {
	Records   *fairness.Records
	Sanctions *Sanctions
	Metrics   *Metrics
}

// Open opens a case about a player, as fairness.Records.Open does.
func (c *Cases) Open(ctx context.Context, player string, o fairness.Order) (fairness.Action, error) {
	o.Kind = fairness.ActionOpen
	done, opened, err := c.Records.Open(ctx, player, o)
	if opened {
		c.Metrics.CasesOpened.Inc()
	}
	return done, err
}

// Act does something about a case, as fairness.Records.Act does, and answers when it is enforced. Where that fails, a repeat of the order
// does the rest.
func (c *Cases) Act(ctx context.Context, id string, o fairness.Order) (fairness.Action, error) {
	done, err := c.Records.Act(ctx, id, o)
	if err != nil || done.Kind == fairness.ActionComment {
		return done, err
	}
	// What is in force by now, which may be more than this order, and less when it is an old one.
	return done, c.Sanctions.Replace(ctx, done.PlayerID)
}
