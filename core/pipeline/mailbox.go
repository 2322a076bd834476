package pipeline

import (
	"context"
	"strings"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/mailbox"
	"liveops/core/progression"
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
// fault.MailExpired, one that was taken back fault.MailWithdrawn. One with something that does not wholly fit, and that would have to go back into
// the mailbox, is fault.MailUnfit and waits on.
func (r *Rewards) Claim(ctx context.Context, player, id string) (Claim, error) {
	mail, err := r.Mailbox.Get(ctx, player, id)
	if err != nil {
		return Claim{}, err
	}
	now := r.Now()
	won := progression.Reward{Board: mail.Board, Window: mail.Window, Rank: mail.Rank, XP: mail.XP, Items: mail.Items}
	fresh := false
	_, err = r.apply(ctx, []event.Accepted{won.Event(id, player, now)}, func(tx *store.Tx, effects []*progression.Effect) (err error) {
		if mail, fresh, err = r.Mailbox.Claim(ctx, tx, player, id, now); err != nil {
			return err
		}
		return fits(effects[0])
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

// fits refuses what a mail would only send back into the mailbox. What levels bring that are reached on the way is not the mail's.
func fits(e *progression.Effect) error {
	for _, m := range e.Mails {
		if m.Source == progression.FromOverflow && !strings.HasPrefix(m.Ref, "level:") {
			return fault.MailUnfit.Errorf("there is no room for %s", strings.TrimPrefix(m.Ref, "item:"))
		}
	}
	return nil
}

// mails are those that fresh effects send.
func mails(effects []*progression.Effect) []mailbox.Mail {
	var mails []mailbox.Mail
	for _, e := range effects {
		for _, m := range e.Mails {
			mails = append(mails, mailbox.Mail{
				PlayerID: e.Event.PlayerID, ID: m.ID, Source: m.Source, EventID: e.Event.ID, Ref: m.Ref, Items: m.Items,
			})
		}
	}
	return mails
}

// claimed tells from the record what a mail did: the reward may have been granted before, or by somebody else.
func (r *Rewards) claimed(ctx context.Context, mail mailbox.Mail) (Claim, error) {
	claim := Claim{Mail: mail}
	var err error
	if claim.Entries, err = r.Ledger.Entries(ctx, mail.PlayerID, mail.ID); err != nil {
		return Claim{}, err
	}
	claim.Receipt, err = receiptOf(ctx, r.Ledger.DB, mail.PlayerID, mail.ID)
	return claim, err
}
