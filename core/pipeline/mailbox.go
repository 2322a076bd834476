package pipeline

import (
	"context"
	"errors"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/store"
)

// Claim is a mail that was claimed, and what it did.
type Claim struct {
	Mail    mailbox.Mail
	Entries []progression.Entry // of the ledger, the root row first
	Receipt string              // empty when nothing was granted
}

// Claim gives a player what a mail brings, once: effect, receipt and the mark on the mail are one transaction. A repeat, however late and
// wherever the one before was cut, gives the same claim. An unknown mail is fault.MailNotFound, one that was not claimed in time
// fault.MailExpired.
func (r *Rewards) Claim(ctx context.Context, player, id string) (Claim, error) {
	mail, err := r.Mailbox.Get(ctx, player, id)
	if err != nil {
		return Claim{}, err
	}
	now := r.Now()
	won := progression.Reward{Board: mail.Board, Window: mail.Window, Rank: mail.Rank, XP: mail.XP, Items: mail.Items}
	fresh := false
	_, err = r.apply(ctx, []event.Accepted{won.Event(id, player, now)}, func(tx *store.Tx) (err error) {
		mail, fresh, err = r.Mailbox.Claim(ctx, tx, player, id, now)
		return err
	})
	if err != nil {
		return Claim{}, err
	}
	if fresh {
		r.Metrics.MailsClaimed.Inc()
	}
	if err := r.Players.Forget(ctx, []string{player}); err != nil {
		return Claim{}, err
	}
	return r.claimed(ctx, mail)
}

// claimed tells from the record what a mail did: the reward may have been granted before, or by somebody else.
func (r *Rewards) claimed(ctx context.Context, mail mailbox.Mail) (Claim, error) {
	claim := Claim{Mail: mail}
	var err error
	if claim.Entries, err = r.Ledger.Entries(ctx, mail.PlayerID, mail.ID); err != nil {
		return Claim{}, err
	}
	stored, err := receipt.Get(ctx, r.Ledger.DB, mail.PlayerID, mail.ID)
	if errors.Is(err, fault.ReceiptNotFound) {
		return claim, nil
	}
	claim.Receipt = stored.Token
	return claim, err
}
