package pipeline

import (
	"context"

	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/store"
)

// Reversals take back what events did, on the order of an operator. They do not touch rankings: a score that must not count is a matter of
// fairness, and what a window brought is an event that can be reversed like any other.
type Reversals struct {
	Ledger   *progression.Ledger
	Players  *progression.Cache
	Receipts func() *receipt.Keys // those in force
	Mailbox  *mailbox.Mailbox
	Metrics  *Metrics
}

// Reversal is what is on record of a reversal.
type Reversal struct {
	progression.Reversal
	Fresh     bool                // this order took the effect back, rather than an earlier one
	Entries   []progression.Entry // of the ledger, the root row first
	Receipt   string              // of the reversal
	Withdrawn []string            // ids of mails of the event that waited and cannot be claimed any more
	Claimed   []string            // ids of mails of the event that were claimed before: what they brought stands until the events of the same ids are reversed
}

// Reverse takes back what an event did, once: the compensating entries, their receipt, the mark on the event's receipt and the mails that are withdrawn are
// one transaction. A repeat, however late and wherever the one before was cut, gives the same but for Fresh; of two orders the first is
// on record. Faults are those of progression.Ledger.Reverse.
func (r *Reversals) Reverse(ctx context.Context, o progression.Order) (Reversal, error) {
	effect, err := r.Ledger.Reverse(ctx, o, func(tx *store.Tx, effect *progression.Effect) error {
		if !effect.Fresh {
			return nil
		}
		effects := []*progression.Effect{effect}
		issued, err := sign(r.Receipts(), effects)
		if err != nil {
			return err
		}
		if err := receipt.Reverse(ctx, tx, o.Player, o.EventID, effect.Event.At); err != nil {
			return err
		}
		if err := receipt.Store(ctx, tx, issued); err != nil {
			return err
		}
		if err := r.Mailbox.Withdraw(ctx, tx, o.Player, o.EventID, effect.Event.At); err != nil {
			return err
		}
		return r.Mailbox.SendIn(ctx, tx, mails(effects), r.Ledger.Catalog().Rewards.Claim.Std())
	})
	if err != nil {
		return Reversal{}, err
	}
	if effect.Fresh {
		r.Metrics.ReceiptsIssued.Inc()
		r.Metrics.Reversals.Inc()
	}
	if err := r.Players.Forget(ctx, []string{o.Player}); err != nil {
		return Reversal{}, err
	}
	return r.reversed(ctx, o, effect.Fresh)
}

// reversed tells from the record what a reversal did.
func (r *Reversals) reversed(ctx context.Context, o progression.Order, fresh bool) (Reversal, error) {
	on, err := r.Ledger.Reversal(ctx, o.Player, o.EventID)
	if err != nil {
		return Reversal{}, err
	}
	reversal := Reversal{Reversal: on, Fresh: fresh}
	if reversal.Entries, err = r.Ledger.Entries(ctx, o.Player, on.ID); err != nil {
		return Reversal{}, err
	}
	if reversal.Receipt, err = receiptOf(ctx, r.Ledger.DB, o.Player, on.ID); err != nil {
		return Reversal{}, err
	}
	sent, err := r.Mailbox.OfEvent(ctx, o.Player, o.EventID)
	for _, mail := range sent {
		switch mail.State(on.At) {
		case mailbox.Withdrawn:
			reversal.Withdrawn = append(reversal.Withdrawn, mail.ID)
		case mailbox.Claimed:
			reversal.Claimed = append(reversal.Claimed, mail.ID)
		}
	}
	return reversal, err
}
